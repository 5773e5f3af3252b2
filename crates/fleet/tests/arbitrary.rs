//! Proves that no text whatever makes the reader panic, and that what it refuses has a place in the text.

use lifeboat_fleet::Fleet;
use proptest::prelude::*;

/// Files that are fine, to be broken.
const EXAMPLES: [&str; 3] = [
    include_str!("../../../docs/examples/homelab.yaml"),
    include_str!("../../../docs/examples/stores.yaml"),
    include_str!("../../../docs/examples/infra.yaml"),
];

fn judge(text: &str) -> Result<(), TestCaseError> {
    match Fleet::parse("f", text) {
        Ok(fleet) => {
            for protection in fleet.members() {
                prop_assert!(!protection.copies.is_empty());
            }
        }
        Err(errors) => {
            prop_assert!(!errors.told.is_empty());
            let lines = text.split(['\n', '\r']).count();
            for error in &errors.told {
                prop_assert!((1..=lines + 1).contains(&error.spot.line), "{}", error);
                let lines = error.to_string().lines().count();
                prop_assert_eq!(lines, 1 + usize::from(error.hint.is_some()), "{}", error);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_text_panics(text in "\\PC{0,200}|[ -~\n\t]{0,300}|[a-c:{}\\[\\],&*<!|>#'\"?%@\n -]{0,200}") {
        judge(&text)?;
    }

    #[test]
    fn no_broken_file_panics(
        of in 0..EXAMPLES.len(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, "[ -~\n]{0,6}"), 1..6),
    ) {
        let mut text: Vec<char> = EXAMPLES[of].chars().collect();
        for (at, length, other) in cuts {
            let at = at.index(text.len().max(1)).min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, other.chars());
        }
        judge(&text.into_iter().collect::<String>())?;
    }

    #[test]
    fn no_tree_of_keys_panics(
        keys in prop::collection::vec((0..6_usize, "apps|policies|repositories|copies|keep|schedule|volumes|databases|password|url|path|to|notify|on|[a-c]", "daily|1|x|\\[\\]|\\{\\}|null|&a b|\\*a|<<|\\[\\{to: r\\}\\]"), 0..30),
    ) {
        let mut text = "version: 1\nname: t\n".to_owned();
        for (depth, key, value) in keys {
            text.push_str(&format!("{}{key}: {}\n", "  ".repeat(depth), if depth % 2 == 0 { "" } else { &value }));
        }
        judge(&text)?;
    }
}

/// A file as long as one may be is read, with every app after the next.
#[test]
fn many_apps_that_wait_for_each_other_are_read() {
    const APPS: usize = 15_000;
    let mut text = "version: 1\nname: t\napps:\n".to_owned();
    for app in 0..APPS {
        text.push_str(&format!(
            "  a{app}: {{ exempt: x, after: [a{}] }}\n",
            app + 1
        ));
    }
    let whole = format!("{text}  a{APPS}: {{ exempt: x }}\n");
    assert!(Fleet::parse("f", &whole).is_ok());
    let cycle = format!("{text}  a{APPS}: {{ exempt: x, after: [a0] }}\n");
    let errors = Fleet::parse("f", &cycle).unwrap_err();
    assert_eq!(errors.told.len(), 1);
}
