//! What decisions look at in a snapshot.
//! It must never grow to hold what no decision asks for: thousands of these are held at once.

use lifeboat_format::{Id, Snapshot, Timestamp};

/// What decisions look at in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFacts {
    /// The snapshot's ID.
    pub id: Id,
    /// The point in time that it stands for, with the offset it was written with.
    pub time: Timestamp,
    /// The host.
    pub hostname: String,
    /// The paths that were backed up.
    pub paths: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
}

impl SnapshotFacts {
    /// The facts of a snapshot.
    #[must_use]
    pub fn of(id: Id, snapshot: &Snapshot) -> Self {
        Self {
            id,
            time: snapshot.time,
            hostname: snapshot.hostname.clone(),
            paths: snapshot.paths.clone(),
            tags: snapshot.tags.clone(),
        }
    }

    /// What orders snapshots from old to new; the ID decides between those of one instant, so that every machine
    /// takes the same one for the newest.
    #[must_use]
    pub fn age_key(&self) -> (Timestamp, Id) {
        (self.time, self.id)
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    /// A snapshot of host `h` and path `/p` at a time, with an ID made from its number.
    pub(crate) fn snapshot(number: u8, time: &str) -> SnapshotFacts {
        SnapshotFacts {
            id: Id([number; Id::BYTES]),
            time: time.parse().unwrap(),
            hostname: "h".to_owned(),
            paths: vec!["/p".to_owned()],
            tags: Vec::new(),
        }
    }

    pub(crate) fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }
}
