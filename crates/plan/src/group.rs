//! Snapshots that are judged together: those of one host and one set of paths, unless told otherwise.
//! It must never mix two chains of backups: retention would thin out one by the snapshots of the other.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::facts::SnapshotFacts;

/// What must be equal in the snapshots of a group; nothing makes one group of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupBy {
    /// The host.
    pub host: bool,
    /// The set of paths.
    pub paths: bool,
    /// The set of tags.
    pub tags: bool,
}

impl GroupBy {
    /// All snapshots are one group.
    pub const NOTHING: Self = Self {
        host: false,
        paths: false,
        tags: false,
    };
    /// What restic groups by unless told otherwise, to forget and to find a parent.
    pub const HOST_AND_PATHS: Self = Self {
        host: true,
        paths: true,
        tags: false,
    };
}

/// A text doesn't say what to group by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot group snapshots by {0:?}: write host, paths or tags, several of them with commas, or nothing for one group of all"
)]
pub struct GroupByError(String);

impl FromStr for GroupBy {
    type Err = GroupByError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut by = Self::NOTHING;
        for word in text.split(',') {
            match word {
                "host" | "hosts" => by.host = true,
                "path" | "paths" => by.paths = true,
                "tag" | "tags" => by.tags = true,
                "" => {}
                _ => return Err(GroupByError(word.chars().take(80).collect())),
            }
        }
        Ok(by)
    }
}

impl fmt::Display for GroupBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            (self.host, "host"),
            (self.paths, "paths"),
            (self.tags, "tags"),
        ];
        let words: Vec<&str> = words
            .into_iter()
            .filter(|(wanted, _)| *wanted)
            .map(|(_, word)| word)
            .collect();
        f.write_str(&words.join(","))
    }
}

/// What is equal in the snapshots of a group. As JSON it is what restic gives, where an empty list is `null`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct GroupKey {
    /// The host; empty when it doesn't count.
    pub hostname: String,
    /// The paths in order; empty when they don't count.
    #[serde(serialize_with = "null_if_empty")]
    pub paths: Vec<String>,
    /// The tags in order; empty when they don't count.
    #[serde(serialize_with = "null_if_empty")]
    pub tags: Vec<String>,
}

fn null_if_empty<S: Serializer>(texts: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    (!texts.is_empty()).then_some(texts).serialize(serializer)
}

impl GroupKey {
    fn of(snapshot: &SnapshotFacts, by: GroupBy) -> Self {
        let sorted = |wanted: bool, texts: &[String]| {
            let mut texts = if wanted { texts.to_vec() } else { Vec::new() };
            texts.sort_unstable();
            texts
        };
        Self {
            hostname: if by.host {
                snapshot.hostname.clone()
            } else {
                String::new()
            },
            paths: sorted(by.paths, &snapshot.paths),
            tags: sorted(by.tags, &snapshot.tags),
        }
    }
}

impl fmt::Display for GroupKey {
    /// As restic's headings: `host h, path [/a /b], tags [x y]`, without the parts that don't count.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.hostname.is_empty() {
            parts.push(format!("host {}", self.hostname));
        }
        if !self.paths.is_empty() {
            parts.push(format!("path [{}]", self.paths.join(" ")));
        }
        if !self.tags.is_empty() {
            parts.push(format!("tags [{}]", self.tags.join(" ")));
        }
        f.write_str(&parts.join(", "))
    }
}

/// Snapshots of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// What is equal in them.
    pub key: GroupKey,
    /// The snapshots in the order in which they came.
    pub snapshots: Vec<&'a SnapshotFacts>,
}

/// Sorts snapshots into groups, which come in the order of their keys.
///
/// The order of paths and tags in a snapshot does not count, but a path or tag given twice does, as with restic.
#[must_use]
pub fn group<'a>(
    snapshots: impl IntoIterator<Item = &'a SnapshotFacts>,
    by: GroupBy,
) -> Vec<Group<'a>> {
    let mut groups: BTreeMap<GroupKey, Vec<&SnapshotFacts>> = BTreeMap::new();
    for snapshot in snapshots {
        groups
            .entry(GroupKey::of(snapshot, by))
            .or_default()
            .push(snapshot);
    }
    groups
        .into_iter()
        .map(|(key, snapshots)| Group { key, snapshots })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::samples::{snapshot, strings};

    fn by(text: &str) -> GroupBy {
        text.parse().unwrap()
    }

    #[test]
    fn words_are_read_as_by_restic() {
        assert_eq!(by("host,paths"), GroupBy::HOST_AND_PATHS);
        assert_eq!(by("paths,hosts"), GroupBy::HOST_AND_PATHS);
        assert_eq!(by(""), GroupBy::NOTHING);
        assert_eq!(by("tag,path,,").to_string(), "paths,tags");
        assert!("host, paths".parse::<GroupBy>().is_err());
        assert_eq!(
            "user".parse::<GroupBy>().unwrap_err().to_string(),
            "cannot group snapshots by \"user\": write host, paths or tags, several of them with commas, or nothing for one group of all"
        );
    }

    #[test]
    fn only_what_was_asked_for_tells_groups_apart() {
        let mut first = snapshot(1, "2024-01-01T00:00:00Z");
        first.paths = strings(&["/b", "/a"]);
        first.tags = strings(&["y", "x"]);
        let mut second = first.clone();
        second.paths.reverse();
        second.tags.reverse();
        let mut third = first.clone();
        third.hostname = "other".to_owned();
        third.tags.clear();
        let all = [first, second, third];
        let sizes = |by: GroupBy| {
            group(&all, by)
                .iter()
                .map(|group| group.snapshots.len())
                .collect::<Vec<_>>()
        };
        assert_eq!(sizes(GroupBy::NOTHING), [3]);
        assert_eq!(sizes(by("paths")), [3]);
        assert_eq!(sizes(by("host")), [2, 1]);
        assert_eq!(sizes(by("tags")), [1, 2]);
        let groups = group(&all, by("host,paths,tags"));
        assert_eq!(
            groups[0].key.to_string(),
            "host h, path [/a /b], tags [x y]"
        );
        assert_eq!(
            serde_json::to_string(&groups[1].key).unwrap(),
            r#"{"hostname":"other","paths":["/a","/b"],"tags":null}"#
        );
        assert_eq!(
            serde_json::to_string(&group(&all, GroupBy::NOTHING)[0].key).unwrap(),
            r#"{"hostname":"","paths":null,"tags":null}"#
        );
    }
}
