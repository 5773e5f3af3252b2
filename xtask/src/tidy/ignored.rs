//! Tests that are switched off.
//! A test either runs in `make test` or is not in the repository: nobody comes back for an ignored one.

use super::source::Source;
use super::violation::Violation;

/// Long matrices are sampled by a printed seed and run whole by `make soak`; that needs no `#[ignore]`.
pub(super) fn every_test_runs(source: &Source) -> Vec<Violation> {
    let is_ignored = |code: &str| {
        let squeezed: String = code.split_whitespace().collect();
        squeezed.contains("#[ignore]")
            || squeezed.contains("#[ignore=")
            || (squeezed.contains("cfg_attr(") && squeezed.contains(",ignore"))
    };
    let found = source.lines().iter().filter(|line| is_ignored(&line.code));
    found
        .map(|line| {
            Violation::new(
                source.path(),
                line.number,
                "an ignored test: sample it, or delete it",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::text::TextFile;
    use super::*;

    #[test]
    fn every_spelling_is_found() {
        for (text, violations) in [
            ("#[test]\n#[ignore]\nfn a() {}", 1),
            ("#[ignore = \"slow\"]", 1),
            ("#[cfg_attr(miri, ignore)]", 1),
            ("// #[ignore]\nlet s = \"#[ignore]\";", 0),
        ] {
            let file = TextFile::sample("crates/repo/tests/a.rs", text);
            assert_eq!(
                every_test_runs(&Source::of(&file).unwrap()).len(),
                violations,
                "{text}"
            );
        }
    }
}
