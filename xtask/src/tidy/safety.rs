//! Where `unsafe` may be written.
//! There is one place, behind one safe interface, and no second one.

use super::source::{Source, has_word};
use super::violation::Violation;

/// Whoever reviews memory safety reads this crate and is done.
pub(super) fn unsafe_only_in_kernels(source: &Source) -> Vec<Violation> {
    if source.layer() == "kernels" {
        return Vec::new();
    }
    let found = source
        .lines()
        .iter()
        .filter(|line| has_word(&line.code, "unsafe"));
    found
        .map(|line| {
            Violation::new(
                source.path(),
                line.number,
                "`unsafe` outside the kernels crate",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::text::TextFile;
    use super::*;

    #[test]
    fn found_everywhere_but_in_kernels() {
        for (path, violations) in [
            ("crates/repo/src/a.rs", 1),
            ("crates/repo/tests/a.rs", 1),
            ("crates/kernels/src/a.rs", 0),
        ] {
            let file = TextFile::sample(path, "fn a() { unsafe { b() } }\n#![forbid(unsafe_code)]");
            assert_eq!(
                unsafe_only_in_kernels(&Source::of(&file).unwrap()).len(),
                violations,
                "{path}"
            );
        }
    }
}
