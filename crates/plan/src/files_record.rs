//! What `member.json` says of a capture of files: a volume, or what a command printed.
//! It must never change its meaning under one version number: captures of years ago are read by it.

use lifeboat_format::Timestamp;
use serde::{Deserialize, Serialize};

use crate::guard::{Extent, Flag};

/// The version of the record that is written.
pub const FILES_VERSION: u32 = 1;
/// Faults that are kept in it; their number is.
pub const FILES_FAULTS_KEPT_MAX: usize = 100;

/// The record of one capture of files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesRecord {
    /// [`FILES_VERSION`] of its time.
    pub version: u32,
    /// The app that it belongs to.
    pub app: String,
    /// Its name in the app.
    pub member: String,
    /// The UUID of the fleet, if it belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<String>,
    /// When reading began: what was written later may be missing.
    pub instant: Timestamp,
    /// Always `files`.
    pub kind: FilesKind,
    /// What it is of.
    pub engine: FilesEngine,
    /// Where it lay, or what printed it.
    pub origin: String,
    /// Files of the capture.
    pub files: u64,
    /// Their content, in bytes.
    pub bytes: u64,
    /// What could not be read; empty for a good capture.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
    /// How many faults there are, with those that are not kept.
    #[serde(default)]
    pub faults_count: u64,
    /// What is suspicious about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flag: Option<Flag>,
}

/// The kind of such a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FilesKind {
    /// Files as they are.
    Files,
}

/// What a capture of files is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FilesEngine {
    /// A directory and all that is in it.
    Volume,
    /// What a command printed, as one file.
    Command,
}

impl FilesEngine {
    /// Its name in records and recovery points.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Volume => "volume",
            Self::Command => "command",
        }
    }
}

/// The record can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FilesRecordError {
    /// It is no such record.
    #[error("member.json is no record of a capture of files")]
    Form(#[source] serde_json::Error),
    /// It was written by a later program.
    #[error("member.json has version {0}, and this program knows {FILES_VERSION}: use a newer one")]
    Version(u32),
}

impl FilesRecord {
    /// How much it holds.
    #[must_use]
    pub fn extent(&self) -> Extent {
        Extent {
            files: self.files,
            bytes: self.bytes,
        }
    }

    /// Reads the record.
    ///
    /// # Errors
    /// When it is none, or none that is known.
    pub fn parse(json: &[u8]) -> Result<Self, FilesRecordError> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let head: Head = serde_json::from_slice(json).map_err(FilesRecordError::Form)?;
        if head.version != FILES_VERSION {
            return Err(FilesRecordError::Version(head.version));
        }
        serde_json::from_slice(json).map_err(FilesRecordError::Form)
    }

    /// Writes the record.
    ///
    /// # Errors
    /// Never for a record that was made here.
    pub fn to_json(&self) -> Result<Vec<u8>, FilesRecordError> {
        let mut json = serde_json::to_vec_pretty(self).map_err(FilesRecordError::Form)?;
        json.push(b'\n');
        Ok(json)
    }
}
