//! Errors are returned: what runs over a person's backup does not end in a panic.
//! The rule is about our own shortcuts; it cannot see an index out of bounds, which fuzzing has to find.

use super::source::{Source, has_word};
use super::violation::Violation;

const CRATES: &[&str] = &[
    "fleet", "format", "flow", "plan", "audit", "render", "repo", "state", "protect", "cli",
];
const SHORTCUTS: &[&str] = &[
    ".unwrap()",
    ".unwrap_err()",
    ".expect(",
    ".expect_err(",
    "panic!",
    "todo!",
    "unimplemented!",
    "unreachable!",
];

/// Opens the reason why a shortcut is right here, at the end of its line or on a line of its own above it.
const ALLOWED: &str = "// tidy: infallible because ";

/// A panic loses the report of what was saved and what was not.
pub(super) fn errors_are_returned(source: &Source) -> Vec<Violation> {
    if !CRATES.contains(&source.layer()) {
        return Vec::new();
    }
    let found = source.shipped_lines().filter_map(|line| {
        let shortcut = SHORTCUTS
            .iter()
            .find(|shortcut| has_word(&without_parsers(&line.code), shortcut))?;
        let above = line
            .number
            .checked_sub(2)
            .and_then(|index| source.lines().get(index));
        let allowed = is_allowed(line.raw)
            || above.is_some_and(|above| {
                above.raw.trim_start().starts_with("//") && is_allowed(above.raw)
            });
        (!allowed).then(|| {
            let why = format!(
                "`{shortcut}`: return an error, or say `{ALLOWED}…` at the end of the line"
            );
            Violation::new(source.path(), line.number, why)
        })
    });
    found.collect()
}

/// A parser's own `expect` takes bytes, which is never the message of the standard library's.
fn without_parsers(code: &str) -> String {
    code.replace(".expect(b ", ".parse(b ")
}

/// Whether the line gives a reason, not merely the words that open one.
fn is_allowed(line: &str) -> bool {
    line.split_once(ALLOWED)
        .is_some_and(|(_, reason)| !reason.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::text::TextFile;
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        errors_are_returned(&Source::of(&TextFile::sample(path, text)).unwrap()).len()
    }

    #[test]
    fn every_shortcut_is_found() {
        for bad in [
            "a.unwrap()",
            "a\n  .expect(\"x\")",
            "panic!()",
            "todo!()",
            "unimplemented!()",
            "unreachable!(1)",
        ] {
            for layer in CRATES {
                assert_eq!(
                    count(&format!("crates/{layer}/src/a.rs"), bad),
                    1,
                    "{bad} in {layer}"
                );
            }
        }
        assert_eq!(
            count(
                "crates/repo/src/a.rs",
                "a.unwrap_or(1); a.unwrap_or_default(); debug_assert!(x)"
            ),
            0
        );
    }

    #[test]
    fn a_parser_may_expect_bytes() {
        let path = "crates/format/src/a.rs";
        assert_eq!(count(path, "cursor.expect(b\"-\")?;"), 0);
        assert_eq!(count(path, "cursor.expect(b\"-\").unwrap();"), 1);
    }

    #[test]
    fn a_reason_allows_and_an_empty_one_does_not() {
        let path = "crates/repo/src/a.rs";
        assert_eq!(
            count(
                path,
                "a.unwrap() // tidy: infallible because the slice is 4 bytes"
            ),
            0
        );
        assert_eq!(
            count(
                path,
                "// tidy: infallible because the slice is 4 bytes\na.unwrap()"
            ),
            0
        );
        assert_eq!(count(path, "a.unwrap() // tidy: infallible because "), 1);
        assert_eq!(
            count(path, "b.unwrap() // tidy: infallible because x\na.unwrap()"),
            1
        );
    }

    #[test]
    fn tests_may_panic() {
        assert_eq!(count("crates/repo/tests/a.rs", "a.unwrap()"), 0);
        assert_eq!(
            count(
                "crates/repo/src/a.rs",
                "#[cfg(test)]\nmod tests { fn a() { b.unwrap() } }"
            ),
            0
        );
        assert_eq!(count("crates/testkit/src/a.rs", "a.unwrap()"), 0);
    }
}
