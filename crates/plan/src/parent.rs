//! Which snapshot a backup compares with, so that unchanged files need not be read.
//! It must never be one from the new snapshot's future: a backup dated back must not lean on what came later.

use lifeboat_format::Timestamp;

use crate::clean::clean_path;
use crate::facts::SnapshotFacts;
use crate::group::GroupBy;
use crate::select::SnapshotFilter;
use crate::tags::TagList;

/// What is known of a backup before it begins.
#[derive(Clone, Copy, Debug)]
pub struct ParentQuery<'a> {
    /// The time of the new snapshot.
    pub time: Timestamp,
    /// Its host.
    pub hostname: &'a str,
    /// What is backed up, as absolute paths.
    pub paths: &'a [String],
    /// Its tags, as they were given.
    pub tags: &'a [TagList],
    /// What a parent must have in common with it; [`GroupBy::HOST_AND_PATHS`] unless told otherwise.
    pub group_by: GroupBy,
}

impl ParentQuery<'_> {
    /// What a parent must have, but for its time.
    #[must_use]
    pub fn filter(&self) -> SnapshotFilter {
        let clean =
            |path: &String| String::from_utf8_lossy(&clean_path(path.as_bytes())).into_owned();
        let by = self.group_by;
        // Built by hand, because a backup without a host has none, which is not any.
        SnapshotFilter {
            hosts: if by.host {
                vec![self.hostname.to_owned()]
            } else {
                Vec::new()
            },
            tags: if by.tags {
                vec![TagList(TagList::flatten(self.tags))]
            } else {
                Vec::new()
            },
            paths: if by.paths {
                self.paths.iter().map(clean).collect()
            } else {
                Vec::new()
            },
        }
    }
}

/// The newest snapshot not after the backup's time that has its host, all its paths and all its tags, as far as
/// each counts.
///
/// A parent may have more paths and tags than the backup: restic's `findParentSnapshot` asks for no less, and what
/// is more does no harm.
#[must_use]
pub fn find_parent<'a>(
    query: &ParentQuery<'_>,
    snapshots: &'a [SnapshotFacts],
) -> Option<&'a SnapshotFacts> {
    let filter = query.filter();
    let candidates = snapshots
        .iter()
        .filter(|snapshot| snapshot.time <= query.time && filter.passes(snapshot));
    candidates.max_by_key(|snapshot| snapshot.age_key())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::samples::{snapshot, strings};

    fn history() -> Vec<SnapshotFacts> {
        let mut all = vec![
            snapshot(1, "2024-01-01T00:00:00Z"),
            snapshot(2, "2024-01-02T00:00:00Z"),
            snapshot(3, "2024-01-03T00:00:00Z"),
            snapshot(4, "2024-01-04T00:00:00Z"),
        ];
        all[1].tags = strings(&["a", "b"]);
        all[2].hostname = "other".to_owned();
        all[3].paths = strings(&["/p", "/q"]);
        all
    }

    fn parent(time: &str, hostname: &str, paths: &[&str], tags: &[&str], by: &str) -> Option<u8> {
        let paths = strings(paths);
        let tags: Vec<TagList> = tags.iter().map(|tags| tags.parse().unwrap()).collect();
        let query = ParentQuery {
            time: time.parse().unwrap(),
            hostname,
            paths: &paths,
            tags: &tags,
            group_by: by.parse().unwrap(),
        };
        find_parent(&query, &history()).map(|snapshot| snapshot.id.0[0])
    }

    #[test]
    fn the_newest_of_the_same_host_with_the_paths_is_taken() {
        let late = "2025-01-01T00:00:00Z";
        for (hostname, paths, tags, by, expected) in [
            ("h", &["/p"][..], &[][..], "host,paths", Some(4)),
            ("h", &["/p/"], &[], "host,paths", Some(4)),
            ("h", &["/q", "/p/x/.."], &[], "host,paths", Some(4)),
            ("h", &["/p", "/r"], &[], "host,paths", None),
            ("other", &["/p"], &[], "host,paths", Some(3)),
            ("new", &["/p"], &[], "host,paths", None),
            ("", &["/p"], &[], "host,paths", None),
            ("new", &["/p"], &[], "paths", Some(4)),
            ("other", &["/r"], &[], "host", Some(3)),
            ("new", &["/r"], &[], "", Some(4)),
            ("h", &["/p"], &["a"], "host,paths,tags", Some(2)),
            ("h", &["/p"], &["a", "b"], "host,paths,tags", Some(2)),
            ("h", &["/p"], &["a", "c"], "host,paths,tags", None),
            ("h", &["/p"], &[], "host,paths,tags", Some(4)),
            ("h", &["/p"], &[""], "host,paths,tags", Some(4)),
        ] {
            assert_eq!(
                parent(late, hostname, paths, tags, by),
                expected,
                "{hostname} {paths:?} {tags:?} {by}"
            );
        }
    }

    #[test]
    fn the_future_is_no_parent() {
        let at = |time| parent(time, "h", &["/p"], &[], "host,paths");
        assert_eq!(at("2024-01-04T00:00:00Z"), Some(4));
        assert_eq!(at("2024-01-03T23:59:59.999999999Z"), Some(2));
        assert_eq!(at("2024-01-01T23:59:59Z"), Some(1));
        assert_eq!(at("2023-12-31T23:59:59Z"), None);
        // The instant counts, not the clock's face.
        assert_eq!(at("2024-01-02T00:30:00+01:00"), Some(1));
    }
}
