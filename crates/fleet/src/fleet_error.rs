//! What is wrong with a fleet file: each fault with its place, its key and what to do about it.
//! It never shows the value of a secret, nor breaks a line where a name from the file has a line break.

use std::fmt;

use crate::problems::Problem;
use crate::spot::Spot;

/// So many faults are told; whoever has more begins with these.
pub const ERRORS_MAX: usize = 50;

/// One fault of a fleet file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{spot}: {}{what}{}", Lead(.path), Tail(.hint.as_deref()))]
pub struct FleetError {
    /// The file, as the caller names it.
    pub file: String,
    /// Where in it.
    pub spot: Spot,
    /// The keys that lead there, as `apps.memos.volumes.assets.path`; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// The path with what sets it off from the rest.
struct Lead<'a>(&'a str);

impl fmt::Display for Lead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => Ok(()),
            path => write!(f, "{path}: "),
        }
    }
}

/// The hint, on a line of its own.
struct Tail<'a>(Option<&'a str>);

impl fmt::Display for Tail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |hint| write!(f, "\n  {hint}"))
    }
}

/// All faults of a fleet file in the order of their places, at most [`ERRORS_MAX`]; at least one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}", Lines(.told), More(*.untold))]
pub struct FleetErrors {
    /// Those that are told.
    pub told: Vec<FleetError>,
    /// How many more there are.
    pub untold: usize,
}

impl FleetErrors {
    pub(crate) fn of(file: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| (a.spot, &a.path).cmp(&(b.spot, &b.path)));
        // What one anchor says in many places is wrong once.
        problems.dedup_by(|a, b| a.spot == b.spot && a.what == b.what);
        let untold = problems.len().saturating_sub(ERRORS_MAX);
        problems.truncate(ERRORS_MAX);
        let told = problems.into_iter().map(|problem| FleetError {
            file: file.to_owned(),
            spot: problem.spot,
            path: problem.path,
            what: problem.what,
            hint: problem.hint,
        });
        Self {
            told: told.collect(),
            untold,
        }
    }
}

struct Lines<'a>(&'a [FleetError]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{error}")?;
        }
        Ok(())
    }
}

struct More(usize);

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            1 => f.write_str("\nand 1 more"),
            more => write!(f, "\nand {more} more"),
        }
    }
}
