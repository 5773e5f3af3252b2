//! Collects what is wrong while a fleet file is read, so that all of it is told at once.
//! It never stops at the first fault, and never grows without bound.

use crate::refusal::Refusal;
use crate::spot::Spot;

/// What is collected at most; far more than is told.
const PROBLEMS_MAX: usize = 10_000;

/// One fault, before it knows its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) spot: Spot,
    pub(crate) path: String,
    pub(crate) what: String,
    pub(crate) hint: Option<String>,
}

/// All faults so far.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    /// Notes a fault at a place.
    pub(crate) fn add(
        &mut self,
        spot: Spot,
        path: impl Into<String>,
        what: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        if self.0.len() < PROBLEMS_MAX {
            self.0.push(Problem {
                spot,
                path: path.into(),
                what: what.into(),
                hint: hint.into(),
            });
        }
    }

    /// Notes why a text was refused.
    pub(crate) fn refuse(&mut self, spot: Spot, path: &str, refusal: Refusal) {
        self.add(spot, path, refusal.what, refusal.hint);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_list(self) -> Vec<Problem> {
        self.0
    }
}

/// A text of the file as it is shown: short, in quotes, without anything that a terminal would obey.
pub(crate) fn shown(text: &str) -> String {
    /// Longer ones are cut.
    const SHOWN_MAX_CHARS: usize = 80;
    let mut short: String = text.chars().take(SHOWN_MAX_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}
