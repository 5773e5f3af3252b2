//! Why a text is not what it should be, with a hint of what to write instead.
//! It knows no place, and never holds a text that could be a secret unless whoever makes it is sure that it is none.

use crate::problems::shown;

/// A text is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Refusal {
    /// What is wrong with it.
    pub what: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Refusal {
    pub(crate) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            hint: Some(hint.into()),
        }
    }

    /// `text` is no `what`.
    pub(crate) fn unlike(text: &str, what: &str, hint: &str) -> Self {
        Self::new(format!("{} is no {what}", shown(text)), hint)
    }
}
