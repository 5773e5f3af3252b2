//! Who may print: the command line and the chores.
//! A library never touches the terminal, so that it can serve a scheduler and a dashboard as well.

use super::source::{Source, has_word};
use super::violation::Violation;

const PRINTERS: &[&str] = &["cli", "xtask"];
const MACROS: &[&str] = &["print!", "println!", "eprint!", "eprintln!"];

/// Tests may print (a seed to repeat them by); nobody commits a `dbg!`.
pub(super) fn only_the_edge_prints(source: &Source) -> Vec<Violation> {
    if PRINTERS.contains(&source.layer()) {
        return Vec::new();
    }
    let prints = source.shipped_lines().filter_map(|line| {
        let name = MACROS.iter().find(|name| has_word(&line.code, name))?;
        let why = format!("`{name}` outside the command line: give an event to whoever called");
        Some(Violation::new(source.path(), line.number, why))
    });
    let debugs = source
        .lines()
        .iter()
        .filter(|line| has_word(&line.code, "dbg!"));
    let debugs = debugs.map(|line| {
        Violation::new(
            source.path(),
            line.number,
            "`dbg!` is for the moment, not for a commit",
        )
    });
    prints.chain(debugs).collect()
}

#[cfg(test)]
mod tests {
    use super::super::text::TextFile;
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        only_the_edge_prints(&Source::of(&TextFile::sample(path, text)).unwrap()).len()
    }

    #[test]
    fn libraries_are_silent() {
        for bad in [
            "print!(1)",
            "println!(\"x\")",
            "std::eprintln!()",
            "eprint!(\"x\")",
            "dbg!(x)",
        ] {
            assert_eq!(count("crates/repo/src/a.rs", bad), 1, "{bad}");
        }
        assert_eq!(count("crates/cli/src/a.rs", "println!(1)"), 0);
        assert_eq!(
            count("crates/repo/src/a.rs", "// println!(1)\nlog(\"println!\")"),
            0
        );
    }

    #[test]
    fn tests_may_print_their_seed_and_nothing_for_debugging() {
        assert_eq!(count("crates/repo/tests/a.rs", "eprintln!(seed)"), 0);
        assert_eq!(count("crates/repo/tests/a.rs", "dbg!(seed)"), 1);
    }
}
