//! Blanks at the end of a line.
//! Nobody sees them and every diff shows them, so there are none.

use super::text::TextFile;
use super::violation::Violation;

/// Markdown's hard break by two blanks is no exception: nobody can see it either.
pub(super) fn none_trails(file: &TextFile) -> Vec<Violation> {
    let found = file
        .lines()
        .filter(|(_, line)| line.ends_with([' ', '\t', '\r']));
    found
        .map(|(number, _)| Violation::new(&file.path, number, "blanks at the end of the line"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_tabs_and_carriage_returns_are_found() {
        let bad = TextFile::sample("README.md", "a \nb\t\nc\r\nd\n e\n");
        assert_eq!(none_trails(&bad).len(), 3);
    }
}
