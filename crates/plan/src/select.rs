//! Which snapshots a command works on: those that are named, or those that pass a filter.
//! It must never let a wrong name pass in silence: each is reported, and the others still count.

use std::collections::HashSet;

use lifeboat_format::Id;

use crate::facts::SnapshotFacts;
use crate::snapshot_name::{Resolution, SnapshotName, SnapshotPath, resolve_prefix};
use crate::tags::TagList;

/// What snapshots must have: `--host`, `--tag` and `--path`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotFilter {
    /// One of these hosts; any if there are none.
    pub hosts: Vec<String>,
    /// All tags of one of these lists; any if there are none.
    pub tags: Vec<TagList>,
    /// All of these paths, absolute and clean.
    pub paths: Vec<String>,
}

impl SnapshotFilter {
    /// A filter as command lines give it: one empty host stands for any, as with restic.
    #[must_use]
    pub fn new(mut hosts: Vec<String>, tags: Vec<TagList>, paths: Vec<String>) -> Self {
        if let [host] = hosts.as_slice()
            && host.is_empty()
        {
            hosts.clear();
        }
        Self { hosts, tags, paths }
    }

    /// Whether every snapshot passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.tags.is_empty() && self.paths.is_empty()
    }

    /// Whether a snapshot passes.
    #[must_use]
    pub fn passes(&self, snapshot: &SnapshotFacts) -> bool {
        (self.hosts.is_empty() || self.hosts.contains(&snapshot.hostname))
            && TagList::any_in(&self.tags, &snapshot.tags)
            && self.paths.iter().all(|path| snapshot.paths.contains(path))
    }

    /// The snapshots that pass, from old to new.
    fn sorted<'a>(&self, snapshots: &'a [SnapshotFacts]) -> Vec<&'a SnapshotFacts> {
        let mut passing: Vec<&SnapshotFacts> = snapshots
            .iter()
            .filter(|snapshot| self.passes(snapshot))
            .collect();
        passing.sort_by_key(|snapshot| snapshot.age_key());
        passing
    }
}

/// The snapshots to work on, and what was wrong with the names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection<'a> {
    /// The snapshots, each once: as they were named, or without names from old to new.
    pub chosen: Vec<&'a SnapshotFacts>,
    /// Names that mean no snapshot, and a filter that no name asks for.
    pub problems: Vec<SelectError>,
}

/// A name means no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// No ID begins like this.
    #[error(
        "no snapshot has an ID that begins with {0:?}; list the snapshots to see which there are"
    )]
    Missing(String),
    /// Several IDs begin like this.
    #[error("{prefix:?} could be any of {}; write more digits", shorten(ids))]
    Ambiguous {
        /// The digits.
        prefix: String,
        /// What they could mean, in order.
        ids: Vec<Id>,
    },
    /// Too few snapshots pass the filter for `latest~N`.
    #[error("there is no snapshot {name:?}: {}", so_many(*passing, *of))]
    NotSoMany {
        /// The name.
        name: String,
        /// How many snapshots pass.
        passing: usize,
        /// How many there are.
        of: usize,
    },
    /// A folder was named where only whole snapshots make sense.
    #[error("cannot take a folder of snapshot {0:?} here: name the snapshot alone")]
    Subfolder(String),
    /// Snapshots were named by ID, so the filter has no effect.
    #[error("the filter by host, tag or path has no effect: the snapshots were named by ID")]
    FilterUnused,
}

fn so_many(passing: usize, of: usize) -> String {
    match (passing, of) {
        (_, 0) => "the repository has no snapshots that can be read".to_owned(),
        (_, of) if passing == of => format!("the repository has {of}"),
        (0, of) => format!("none of the repository's {of} has the host, tags and paths asked for"),
        _ => format!("{passing} of the repository's {of} have the host, tags and paths asked for"),
    }
}

fn shorten(ids: &[Id]) -> String {
    /// IDs that are shown; a single digit can stand for very many.
    const SHOWN_MAX: usize = 8;
    let mut shown: Vec<String> = ids.iter().take(SHOWN_MAX).map(Id::short).collect();
    if let Some(more) = ids.len().checked_sub(SHOWN_MAX + 1) {
        shown.push(format!("{} more", more + 1));
    }
    shown.join(", ")
}

/// The snapshots that a command works on: those that are named, or all that pass the filter if none is.
///
/// The filter narrows what `latest` can mean, and nothing else that is named.
#[must_use]
pub fn select<'a>(
    names: &[SnapshotPath],
    filter: &SnapshotFilter,
    snapshots: &'a [SnapshotFacts],
) -> Selection<'a> {
    if names.is_empty() {
        return Selection {
            chosen: filter.sorted(snapshots),
            problems: Vec::new(),
        };
    }
    let mut selection = Selection::default();
    let mut seen = HashSet::new();
    for path in names {
        let found = if path.subfolder.is_empty() {
            select_one(&path.name, filter, snapshots)
        } else {
            Err(SelectError::Subfolder(path.name.to_string()))
        };
        match found {
            Ok(snapshot) if seen.insert(snapshot.id) => selection.chosen.push(snapshot),
            Ok(_) => {}
            Err(problem) => selection.problems.push(problem),
        }
    }
    let asks_filter = |path: &SnapshotPath| matches!(path.name, SnapshotName::Latest { .. });
    if !filter.is_empty() && !names.iter().any(asks_filter) {
        selection.problems.push(SelectError::FilterUnused);
    }
    selection
}

/// The snapshot of a name.
///
/// # Errors
/// [`SelectError`] when there is none or the name could mean several.
pub fn select_one<'a>(
    name: &SnapshotName,
    filter: &SnapshotFilter,
    snapshots: &'a [SnapshotFacts],
) -> Result<&'a SnapshotFacts, SelectError> {
    match name {
        SnapshotName::Latest { back } => {
            let passing = filter.sorted(snapshots);
            let not_so_many = || SelectError::NotSoMany {
                name: name.to_string(),
                passing: passing.len(),
                of: snapshots.len(),
            };
            passing
                .iter()
                .rev()
                .nth(*back)
                .copied()
                .ok_or_else(not_so_many)
        }
        SnapshotName::Prefix(prefix) => {
            let missing = || SelectError::Missing(prefix.clone());
            match resolve_prefix(prefix, snapshots.iter().map(|snapshot| snapshot.id)) {
                Resolution::Unique(id) => snapshots
                    .iter()
                    .find(|snapshot| snapshot.id == id)
                    .ok_or_else(missing),
                Resolution::Ambiguous(ids) => Err(SelectError::Ambiguous {
                    prefix: prefix.clone(),
                    ids,
                }),
                Resolution::Missing => Err(missing()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::samples::{snapshot, strings};

    fn history() -> Vec<SnapshotFacts> {
        let mut all = vec![
            snapshot(0x33, "2024-01-03T00:00:00Z"),
            snapshot(0x11, "2024-01-01T00:00:00Z"),
            snapshot(0x12, "2024-01-02T00:00:00Z"),
        ];
        all[0].hostname = "other".to_owned();
        all[1].tags = strings(&["a", "b"]);
        all[2].paths = strings(&["/p", "/q"]);
        all
    }

    fn names(texts: &[&str]) -> Vec<SnapshotPath> {
        texts
            .iter()
            .map(|text| SnapshotPath::parse(text.as_bytes()).unwrap())
            .collect()
    }

    fn filter(hosts: &[&str], tags: &[&str], paths: &[&str]) -> SnapshotFilter {
        let tags = tags.iter().map(|tags| tags.parse().unwrap()).collect();
        SnapshotFilter::new(strings(hosts), tags, strings(paths))
    }

    fn numbers(selection: &Selection<'_>) -> Vec<u8> {
        selection
            .chosen
            .iter()
            .map(|snapshot| snapshot.id.0[0])
            .collect()
    }

    #[test]
    fn filters_narrow_by_host_tags_and_paths() {
        let history = history();
        for (filter, expected) in [
            (filter(&[], &[], &[]), vec![0x11, 0x12, 0x33]),
            (filter(&[""], &[], &[]), vec![0x11, 0x12, 0x33]),
            (filter(&["h"], &[], &[]), vec![0x11, 0x12]),
            (filter(&["h", "other"], &[], &[]), vec![0x11, 0x12, 0x33]),
            (filter(&["", "other"], &[], &[]), vec![0x33]),
            (filter(&[], &["a"], &[]), vec![0x11]),
            (filter(&[], &["a,c", "b"], &[]), vec![0x11]),
            (filter(&[], &[""], &[]), vec![0x12, 0x33]),
            (filter(&[], &[], &["/p"]), vec![0x11, 0x12, 0x33]),
            (filter(&[], &[], &["/q", "/p"]), vec![0x12]),
            (filter(&["other"], &["a"], &[]), vec![]),
        ] {
            let selection = select(&[], &filter, &history);
            assert_eq!(numbers(&selection), expected, "{filter:?}");
            assert_eq!(selection.problems, []);
        }
    }

    #[test]
    fn names_are_taken_one_by_one() {
        let history = history();
        let none = SnapshotFilter::default();
        let selection = select(&names(&["33", "latest", "12", "3"]), &none, &history);
        assert_eq!(numbers(&selection), [0x33, 0x12]);
        assert_eq!(selection.problems, []);
        let selection = select(
            &names(&["latest~2", "1", "99", "latest~3", "33:/x", "12:"]),
            &none,
            &history,
        );
        assert_eq!(numbers(&selection), [0x11, 0x12]);
        let problems: Vec<String> = selection.problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "\"1\" could be any of 11111111, 12121212; write more digits",
                "no snapshot has an ID that begins with \"99\"; list the snapshots to see which there are",
                "there is no snapshot \"latest~3\": the repository has 3",
                "cannot take a folder of snapshot \"33\" here: name the snapshot alone",
            ]
        );
    }

    #[test]
    fn a_filter_is_for_latest_alone() {
        let history = history();
        let host = filter(&["h"], &[], &[]);
        assert_eq!(
            numbers(&select(&names(&["latest"]), &host, &history)),
            [0x12]
        );
        assert_eq!(
            numbers(&select(&names(&["latest~1"]), &host, &history)),
            [0x11]
        );
        let selection = select(&names(&["33"]), &host, &history);
        assert_eq!(numbers(&selection), [0x33]);
        assert_eq!(selection.problems, [SelectError::FilterUnused]);
        assert_eq!(
            select(&names(&["33", "latest"]), &host, &history).problems,
            []
        );
    }

    #[test]
    fn long_lists_of_candidates_are_cut() {
        let ids: Vec<Id> = (0..20).map(|number| Id([number; 32])).collect();
        let error = SelectError::Ambiguous {
            prefix: "0".to_owned(),
            ids,
        };
        assert!(
            error
                .to_string()
                .ends_with("07070707, 12 more; write more digits"),
            "{error}"
        );
        let ids: Vec<Id> = (0..8).map(|number| Id([number; 32])).collect();
        let error = SelectError::Ambiguous {
            prefix: "0".to_owned(),
            ids,
        };
        assert!(
            error.to_string().ends_with("07070707; write more digits"),
            "{error}"
        );
    }
}
