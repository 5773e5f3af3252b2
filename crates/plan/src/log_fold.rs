//! Which files of an archived database log are folded into a snapshot, and which of those that are in one expire.
//! It must never fold the newest segments: a server that did not hear of success archives those once more.

use std::collections::{BTreeMap, BTreeSet};

use crate::log_expiry::{LogBound, LogFile};

/// What is decided on.
#[derive(Clone, Debug, Default)]
pub struct FoldFacts {
    /// The names of files in the log.
    pub log: BTreeSet<String>,
    /// The names of files in folds.
    pub folded: BTreeSet<String>,
    /// What the captures of the cluster need; `None` without captures, and then everything is needed.
    pub bound: Option<LogBound>,
    /// How many of the newest segments of each timeline stay in the log.
    pub unfolded: usize,
}

/// What is folded. All lists are ordered by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoldPlan {
    /// Files of the log that are new in the fold.
    pub add: Vec<String>,
    /// Files of the log that are in a fold already: they are compared, and go.
    pub again: Vec<String>,
    /// Files of folds that no capture needs any more.
    pub expire: Vec<String>,
    /// Files of folds that stay.
    pub keep: Vec<String>,
}

impl FoldPlan {
    /// Whether the fold would be as the one that is there.
    #[must_use]
    pub fn is_the_same(&self) -> bool {
        self.add.is_empty() && self.expire.is_empty()
    }
}

/// Whether a file is the history of a timeline. Those stay in the log too: each recovery asks for them.
#[must_use]
pub fn is_history(name: &str) -> bool {
    LogFile::parse(name).is_some_and(|file| file.place.is_none())
}

/// Decides what is folded.
#[must_use]
pub fn fold(facts: &FoldFacts) -> FoldPlan {
    let is_past = |name: &str| facts.bound.is_some_and(|bound| bound.is_past(name));
    let mut segments: BTreeMap<u32, Vec<(u32, u32)>> = BTreeMap::new();
    for file in facts.log.iter().filter_map(|name| LogFile::parse(name)) {
        if let Some(place) = file.place.filter(|_| file.name.len() == 24) {
            segments.entry(file.timeline).or_default().push(place);
        }
    }
    let stays = |file: &LogFile<'_>| {
        file.place.is_some_and(|place| {
            let of_timeline = segments.get(&file.timeline).map_or(&[][..], Vec::as_slice);
            // A set gives them in order.
            let newest = of_timeline.iter().rev().take(facts.unfolded);
            newest.min().is_some_and(|first| place >= *first)
        })
    };
    let mut plan = FoldPlan::default();
    for name in &facts.log {
        let Some(file) = LogFile::parse(name) else {
            continue;
        };
        if facts.folded.contains(name) {
            plan.again.push(name.clone());
        } else if !is_past(name) && !stays(&file) {
            plan.add.push(name.clone());
        }
    }
    for name in &facts.folded {
        match is_past(name) {
            true => plan.expire.push(name.clone()),
            false => plan.keep.push(name.clone()),
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery_window::samples::capture;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn all_but_the_newest_of_each_timeline_is_folded_and_what_expired_is_not() {
        let mut needs = capture(1, 1);
        needs.start = 3 << 24;
        let facts = FoldFacts {
            log: names(&[
                "00000002.history",
                "000000010000000000000002",
                "000000010000000000000003",
                "000000010000000000000004",
                "000000010000000000000005",
                "000000010000000000000005.00000028.backup",
                "000000010000000000000006",
                "000000010000000000000006.partial",
                "000000020000000000000006",
                "unknown",
            ]),
            folded: names(&[
                "000000010000000000000001",
                "000000010000000000000003",
                "00000001.history",
            ]),
            bound: LogBound::of([&needs]),
            unfolded: 2,
        };
        let plan = fold(&facts);
        assert_eq!(plan.add, ["000000010000000000000004", "00000002.history"]);
        assert_eq!(plan.again, ["000000010000000000000003"]);
        assert_eq!(plan.expire, ["000000010000000000000001"]);
        assert_eq!(plan.keep, ["00000001.history", "000000010000000000000003"]);
        let all = fold(&FoldFacts {
            unfolded: 0,
            bound: None,
            ..facts
        });
        assert_eq!((all.add.len(), all.expire.len()), (8, 0));
        assert!(is_history("00000002.history") && !is_history("000000010000000000000004"));
    }
}
