//! How long a file may be.
//! About 200 lines is usual; the limit is an alarm and never a goal.

use super::source::Source;
use super::violation::Violation;

const LINES_MAX: usize = 800;

/// A file with one noun fits in a head; one that does not has swallowed a second noun.
pub(super) fn fits_in_a_head(source: &Source) -> Vec<Violation> {
    let lines = source.file.text.lines().count();
    if lines <= LINES_MAX {
        return Vec::new();
    }
    let why = format!("{lines} lines; at most {LINES_MAX}: split it by nouns");
    vec![Violation::new(source.path(), LINES_MAX + 1, why)]
}

#[cfg(test)]
mod tests {
    use super::super::text::TextFile;
    use super::*;

    #[test]
    fn the_line_after_the_last_allowed_one_is_too_many() {
        for (lines, violations) in [(LINES_MAX, 0), (LINES_MAX + 1, 1)] {
            let file = TextFile::sample("crates/repo/src/a.rs", &"x\n".repeat(lines));
            assert_eq!(
                fits_in_a_head(&Source::of(&file).unwrap()).len(),
                violations,
                "{lines} lines"
            );
        }
    }
}
