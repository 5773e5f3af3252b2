//! The words that a file opens with: what it is, and what it must never do.
//! This checks that both are said, and cannot check that they are true.

use super::source::Source;
use super::violation::Violation;

/// Words by which a header draws a line.
const LIMITS: &[&str] = &[
    "never", "not", "nothing", "no", "none", "neither", "nor", "cannot", "without",
];

/// A reader who knows what a file must not do can judge a change without reading the rest. A test file says what
/// it proves, and one sentence is enough for that.
pub(super) fn says_what_and_what_not(source: &Source) -> Vec<Violation> {
    let header = header(source);
    let first_line = |why: &str| vec![Violation::new(source.path(), 1, why)];
    if header.is_empty() {
        return first_line("open the file with `//!`: say what it is and what it must never do");
    }
    let wanted = if source.is_test_file() { 1 } else { 2 };
    if sentences(&header) < wanted {
        return first_line(
            "the `//!` header is too short: one sentence for what the file is, one for what it must never do",
        );
    }
    if wanted == 2 && !draws_a_line(&header) {
        return first_line("the `//!` header draws no line: say what the file must never do");
    }
    Vec::new()
}

fn header(source: &Source) -> String {
    let lines = source.lines().iter().map(|line| line.raw.trim());
    lines
        .map_while(|line| line.strip_prefix("//!"))
        .collect::<Vec<_>>()
        .join("\n")
        .trim()
        .to_owned()
}

fn sentences(text: &str) -> usize {
    let ends = |word: &str| {
        word.trim_end_matches(['`', ')', '*', '"'])
            .ends_with(['.', '!', '?'])
    };
    text.split_whitespace().filter(|word| ends(word)).count()
}

fn draws_a_line(text: &str) -> bool {
    let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '\'');
    words.any(|word| LIMITS.contains(&word.to_lowercase().as_str()) || word.ends_with("n't"))
}

#[cfg(test)]
mod tests {
    use super::super::text::TextFile;
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        says_what_and_what_not(&Source::of(&TextFile::sample(path, text)).unwrap()).len()
    }

    #[test]
    fn both_sentences_are_wanted() {
        let path = "crates/repo/src/index.rs";
        assert_eq!(
            count(
                path,
                "//! Where blobs lie.\n//! It never reads a pack.\nfn a() {}"
            ),
            0
        );
        assert_eq!(
            count(
                path,
                "//! Where blobs lie; it is never\n//! wrong. Really (so `x`.)\n"
            ),
            0
        );
        assert_eq!(count(path, "fn a() {}"), 1);
        assert_eq!(count(path, "// Where blobs lie. Never more.\n"), 1);
        assert_eq!(count(path, "//! Never where blobs lie.\n"), 1);
        assert_eq!(count(path, "//! Where blobs lie. It notes them.\n"), 1);
        assert_eq!(count(path, "\n//! Where blobs lie. Never more.\n"), 1);
    }

    #[test]
    fn a_test_file_says_what_it_proves() {
        assert_eq!(
            count(
                "crates/repo/tests/crash.rs",
                "//! Killed anywhere, the repository is valid.\n"
            ),
            0
        );
        assert_eq!(count("crates/repo/tests/crash.rs", "//! Crashes\n"), 1);
        assert_eq!(count("crates/repo/tests/crash.rs", "#[test]\n"), 1);
    }
}
