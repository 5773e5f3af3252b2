//! What is wrong with a pattern, and where it was written.
//! It must never leave the reader to search: it names the pattern, its file and line, and the way to mend it.

use std::fmt;

/// A pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot use the pattern {pattern:?}{}: {fault}", Place(origin.as_ref()))]
pub struct PatternError {
    /// The pattern as it was written; bytes that are no UTF-8 are shown as U+FFFD.
    pub pattern: String,
    /// Where it was written, if in a file.
    pub origin: Option<PatternOrigin>,
    /// What is wrong with it.
    pub fault: PatternFault,
}

/// A line of a pattern file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternOrigin {
    /// The file, as it was named.
    pub file: String,
    /// The line, counted from one.
    pub line: usize,
}

/// What can be wrong with a pattern. The grammar is that of Go's `filepath.Match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternFault {
    /// It has no characters.
    #[error("it is empty and would match nothing; leave it out")]
    Empty,
    /// It ends in a backslash.
    #[error("a backslash at the end of a name escapes nothing; write \"\\\\\" for a backslash")]
    DanglingEscape,
    /// A `[` without its `]` in the same path component.
    #[error(
        "\"[\" opens a class that is not closed before the next \"/\"; close it with \"]\", or write \"\\[\" for the character itself"
    )]
    UnclosedClass,
    /// `[]` or `[^]`.
    #[error(
        "a class needs at least one character; write \"\\]\" where the character \"]\" is meant"
    )]
    EmptyClass,
    /// A `-` that is not between two characters of a class.
    #[error(
        "\"-\" in a class must stand between two characters; write \"\\-\" for the character itself"
    )]
    StrayHyphen,
    /// A byte in a class that is no part of UTF-8, which has no place in an order of characters.
    #[error("a class can only hold characters in UTF-8; use \"?\" where any byte may stand")]
    ClassNotUtf8,
    /// A line that is longer than the limit, in bytes.
    #[error(
        "the line is longer than {0} bytes; split it, or check that this is a file of patterns"
    )]
    LineTooLong(usize),
}

impl PatternError {
    pub(crate) fn new(pattern: &[u8], fault: PatternFault) -> Self {
        Self {
            pattern: String::from_utf8_lossy(pattern).into_owned(),
            origin: None,
            fault,
        }
    }

    pub(crate) fn at(mut self, file: &str, line: usize) -> Self {
        self.origin = Some(PatternOrigin {
            file: file.to_owned(),
            line,
        });
        self
    }
}

struct Place<'a>(Option<&'a PatternOrigin>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(PatternOrigin { file, line }) => write!(f, " in line {line} of {file}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_pattern_place_and_remedy() {
        let error = PatternError::new(b"a[", PatternFault::UnclosedClass);
        assert_eq!(
            error.to_string(),
            r#"cannot use the pattern "a[": "[" opens a class that is not closed before the next "/"; close it with "]", or write "\[" for the character itself"#
        );
        let error = PatternError::new(b"x\\", PatternFault::DanglingEscape).at("ex.txt", 7);
        assert_eq!(
            error.to_string(),
            r#"cannot use the pattern "x\\" in line 7 of ex.txt: a backslash at the end of a name escapes nothing; write "\\" for a backslash"#
        );
    }
}
