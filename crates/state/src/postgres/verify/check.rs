//! What a check of a recovered cluster found.
//! It must never pass where it could not look: that is an answer of its own.

use serde::Serialize;

/// Findings of one check that are told; more are only counted.
const FINDINGS_MAX: usize = 50;

/// A check that was made, or was to be made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// Its name: `amcheck`, `checksums` or `baseline`.
    pub name: &'static str,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// What it found.
    pub found: Found,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// All is as it should be.
    Nothing,
    /// Something is not.
    Wrong {
        /// What, in a line each.
        findings: Vec<String>,
        /// How many there are beyond those.
        more: u64,
    },
    /// It could not be made, and this is why.
    Unknown(String),
}

/// Findings while they are gathered.
#[derive(Debug, Default)]
pub(super) struct Findings {
    told: Vec<String>,
    more: u64,
}

impl Findings {
    /// One more.
    pub(super) fn add(&mut self, finding: impl FnOnce() -> String) {
        if self.told.len() < FINDINGS_MAX {
            self.told.push(finding());
        } else {
            self.more += 1;
        }
    }

    /// Others that nobody kept.
    pub(super) fn add_uncounted(&mut self, more: u64) {
        self.more += more;
    }

    pub(super) fn found(self) -> Found {
        if self.told.is_empty() {
            return Found::Nothing;
        }
        Found::Wrong {
            findings: self.told,
            more: self.more,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_counted_beyond_those_that_are_told() {
        assert_eq!(Findings::default().found(), Found::Nothing);
        let mut findings = Findings::default();
        (0..FINDINGS_MAX + 3).for_each(|number| findings.add(|| number.to_string()));
        let Found::Wrong { findings, more } = findings.found() else {
            panic!("nothing found");
        };
        assert_eq!((findings.len(), more), (FINDINGS_MAX, 3));
    }
}
