//! A snapshot: which tree was what, where and when.
//! It must never be written before everything that its tree names is stored and indexed.

use serde::Deserialize;

use crate::go_json::{push_number, push_string};
use crate::{FormatError, Id, Timestamp};

/// What a snapshot file says.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Snapshot {
    /// The point in time that it stands for.
    pub time: Timestamp,
    /// The snapshot that it was compared with.
    #[serde(default)]
    pub parent: Option<Id>,
    /// Its root.
    pub tree: Id,
    /// The paths that were backed up.
    #[serde(default, deserialize_with = "list")]
    pub paths: Vec<String>,
    /// The host.
    #[serde(default)]
    pub hostname: String,
    /// The user who ran the backup.
    #[serde(default)]
    pub username: String,
    /// The user's number.
    #[serde(default)]
    pub uid: u32,
    /// The group's number.
    #[serde(default)]
    pub gid: u32,
    /// Patterns that were excluded.
    #[serde(default, deserialize_with = "list")]
    pub excludes: Vec<String>,
    /// Tags.
    #[serde(default, deserialize_with = "list")]
    pub tags: Vec<String>,
    /// The snapshot that this one was made from by changing tags or content.
    #[serde(default)]
    pub original: Option<Id>,
    /// The program that wrote it, as `restic 0.19.1`.
    #[serde(default)]
    pub program_version: String,
    /// What the backup did.
    #[serde(default)]
    pub summary: Option<SnapshotSummary>,
    /// Ours alone: what was to be saved and what was to be left out, as a hash, if nothing of it is missing. A later backup
    /// of the same may take unchanged directories over without looking at them. Other programs ignore the field, and drop
    /// it when they change a snapshot.
    #[serde(default, rename = "lifeboat_whole", deserialize_with = "lenient_id")]
    pub whole: Option<Id>,
}

/// What a backup did. Every field may be missing in snapshots of older programs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SnapshotSummary {
    /// When it began.
    pub backup_start: Option<Timestamp>,
    /// When it ended.
    pub backup_end: Option<Timestamp>,
    /// Files that the parent does not have.
    pub files_new: u64,
    /// Files that differ from the parent's.
    pub files_changed: u64,
    /// Files that are as in the parent.
    pub files_unmodified: u64,
    /// Directories that the parent does not have.
    pub dirs_new: u64,
    /// Directories that differ from the parent's.
    pub dirs_changed: u64,
    /// Directories that are as in the parent.
    pub dirs_unmodified: u64,
    /// Data blobs that were added.
    pub data_blobs: i64,
    /// Tree blobs that were added.
    pub tree_blobs: i64,
    /// Plaintext bytes that were added.
    pub data_added: u64,
    /// Bytes that were added to packs.
    pub data_added_packed: u64,
    /// All files of the snapshot.
    pub total_files_processed: u64,
    /// All bytes of the snapshot's files.
    pub total_bytes_processed: u64,
}

/// Go writes a list that is not there as null.
fn list<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default())
}

impl Snapshot {
    /// Reads it.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn from_json(json: &[u8]) -> Result<Self, FormatError> {
        serde_json::from_slice(json).map_err(|cause| FormatError::Json {
            what: "snapshot",
            cause,
        })
    }

    /// As restic writes it.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(900);
        out.extend_from_slice(b"{\"time\":");
        push_string(&mut out, &self.time.confined().to_string());
        push_id(&mut out, "parent", self.parent);
        push_id(&mut out, "tree", Some(self.tree));
        push_key(&mut out, "paths");
        push_strings(&mut out, &self.paths);
        push_text(&mut out, "hostname", &self.hostname);
        push_text(&mut out, "username", &self.username);
        for (key, value) in [("uid", self.uid), ("gid", self.gid)] {
            if value != 0 {
                push_key(&mut out, key);
                push_number(&mut out, u64::from(value));
            }
        }
        for (key, texts) in [("excludes", &self.excludes), ("tags", &self.tags)] {
            if !texts.is_empty() {
                push_key(&mut out, key);
                push_strings(&mut out, texts);
            }
        }
        push_id(&mut out, "original", self.original);
        push_text(&mut out, "program_version", &self.program_version);
        if let Some(summary) = &self.summary {
            push_key(&mut out, "summary");
            summary.push(&mut out);
        }
        push_id(&mut out, "lifeboat_whole", self.whole);
        out.push(b'}');
        out
    }
}

impl SnapshotSummary {
    fn push(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"backup_start\":");
        push_string(
            out,
            &self
                .backup_start
                .unwrap_or(Timestamp::ZERO)
                .confined()
                .to_string(),
        );
        push_key(out, "backup_end");
        push_string(
            out,
            &self
                .backup_end
                .unwrap_or(Timestamp::ZERO)
                .confined()
                .to_string(),
        );
        for (key, value) in self.numbers() {
            push_key(out, key);
            out.extend_from_slice(value.to_string().as_bytes());
        }
        out.push(b'}');
    }

    /// The numbers under the names and in the order that restic gives them.
    #[must_use]
    pub fn numbers(&self) -> [(&'static str, i128); 12] {
        [
            ("files_new", self.files_new.into()),
            ("files_changed", self.files_changed.into()),
            ("files_unmodified", self.files_unmodified.into()),
            ("dirs_new", self.dirs_new.into()),
            ("dirs_changed", self.dirs_changed.into()),
            ("dirs_unmodified", self.dirs_unmodified.into()),
            ("data_blobs", self.data_blobs.into()),
            ("tree_blobs", self.tree_blobs.into()),
            ("data_added", self.data_added.into()),
            ("data_added_packed", self.data_added_packed.into()),
            ("total_files_processed", self.total_files_processed.into()),
            ("total_bytes_processed", self.total_bytes_processed.into()),
        ]
    }
}

/// An ID that costs only time if it is none.
fn lenient_id<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Id>, D::Error> {
    let value = Option::<serde_json::Value>::deserialize(from)?;
    Ok(value.and_then(|value| value.as_str()?.parse().ok()))
}

fn push_key(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

fn push_text(out: &mut Vec<u8>, key: &str, text: &str) {
    if !text.is_empty() {
        push_key(out, key);
        push_string(out, text);
    }
}

fn push_id(out: &mut Vec<u8>, key: &str, id: Option<Id>) {
    if let Some(id) = id {
        push_key(out, key);
        push_string(out, &id.to_string());
    }
}

fn push_strings(out: &mut Vec<u8>, texts: &[String]) {
    out.push(b'[');
    for (at, text) in texts.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        push_string(out, text);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_of_restic_survive_unchanged() {
        let id = "3ec79977ef0cf5de7b08cd12b874cd0f62bbaf7f07f3497a5b1bbcc8cb39b1ce";
        for json in [
            format!(
                r#"{{"time":"2015-01-02T18:10:50.895208559+01:00","tree":"{id}","paths":["/tmp/testdata"],"hostname":"kasimir","username":"fd0","uid":1000,"gid":100,"tags":["NL"]}}"#
            ),
            format!(
                r#"{{"time":"2024-01-02T18:10:50Z","parent":"{id}","tree":"{id}","paths":["/a\u003cb","/c"],"hostname":"h","username":"root","excludes":["*.tmp"],"tags":["a","b"],"original":"{id}","program_version":"restic 0.19.1","summary":{{"backup_start":"2024-01-02T18:10:50Z","backup_end":"2024-01-02T18:10:51.5Z","files_new":1,"files_changed":2,"files_unmodified":3,"dirs_new":4,"dirs_changed":5,"dirs_unmodified":6,"data_blobs":7,"tree_blobs":8,"data_added":9,"data_added_packed":10,"total_files_processed":11,"total_bytes_processed":12}}}}"#
            ),
        ] {
            assert_eq!(
                String::from_utf8(Snapshot::from_json(json.as_bytes()).unwrap().to_json()).unwrap(),
                json
            );
        }
    }

    #[test]
    fn missing_fields_are_fine_but_for_time_and_tree() {
        let id = "3ec79977ef0cf5de7b08cd12b874cd0f62bbaf7f07f3497a5b1bbcc8cb39b1ce";
        let json = format!(
            r#"{{"time":"2024-01-02T18:10:50Z","tree":"{id}","paths":null,"summary":{{"files_new":1}},"new_field":{{}}}}"#
        );
        assert_eq!(
            Snapshot::from_json(json.as_bytes())
                .unwrap()
                .summary
                .map(|s| s.files_new),
            Some(1)
        );
        assert!(Snapshot::from_json(b"{}").is_err());
    }
}
