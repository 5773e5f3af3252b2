//! One place where a rule does not hold, printed so that an editor can jump to it.
//! It has no severity: a rule that may be broken is not a rule.

use std::fmt;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    path: PathBuf,
    /// Counted from 1.
    line: usize,
    why: String,
}

impl Violation {
    pub(super) fn new(path: &Path, line: usize, why: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            why: why.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.path.display(), self.line, self.why)
    }
}
