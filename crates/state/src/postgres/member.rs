//! What `member.json` says of a physical capture: which cluster, from where to where, and what a recovery of it needs.
//! It must never change its meaning under one version number: captures of years ago are read by it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lifeboat_flow::Timestamp;
use serde::{Deserialize, Serialize};

use super::lsn::Lsn;
use super::verify::Baseline;

/// The version of the record that is written.
pub const MEMBER_VERSION: u32 = 1;
/// The engine's name in it.
pub const ENGINE: &str = "postgresql";
/// Damaged blocks and other faults that are kept in it; their number is.
pub const FAULTS_KEPT_MAX: usize = 100;
/// A longer record is none.
pub const MEMBER_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The record of one capture of one member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// [`MEMBER_VERSION`] of its time.
    pub version: u32,
    /// The app that it belongs to.
    pub app: String,
    /// Its name in the app.
    pub member: String,
    /// The UUID of the fleet, if it belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<String>,
    /// The state that comes back is the one of this instant.
    pub instant: Timestamp,
    /// What kind of capture it is.
    pub kind: CaptureKind,
    /// The engine, here [`ENGINE`].
    pub engine: String,
    /// Its version, such as 15.18.
    pub engine_version: String,
    /// Files of the capture.
    pub files: u64,
    /// Their content, in bytes.
    pub bytes: u64,
    /// What is wrong with what was read, such as damaged blocks; empty for a good capture.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
    /// How many faults there are, with those that are not kept.
    #[serde(default)]
    pub faults_count: u64,
    /// What PostgreSQL says of it.
    pub postgres: PhysicalCapture,
    /// What was in it, so that a restore can be judged without the original.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
}

/// What a capture holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaptureKind {
    /// The files of the server, with the log that makes them consistent.
    Physical,
    /// What the server tells as SQL.
    Logical,
}

/// A physical capture of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhysicalCapture {
    /// The number that tells the cluster from all others. A text: many readers of JSON round numbers of this size.
    pub system_id: String,
    /// The timeline of the capture.
    pub timeline: u32,
    /// Where its log begins.
    pub start_lsn: String,
    /// The position that a recovery must reach.
    pub stop_lsn: String,
    /// When the capture began, by our clock.
    pub started: Timestamp,
    /// Whether a standby was read.
    pub standby: bool,
    /// Bytes of a segment of the log.
    pub segment_bytes: u64,
    /// Whether pages have checksums, which the capture has compared.
    pub page_checksums: bool,
    /// Bytes of the chunks that relations are cut into; the next capture of the member cuts as this one.
    pub chunk_bytes: u64,
    /// Where the data directory was.
    pub data_directory: PathBuf,
    /// Tablespaces, and where they were.
    #[serde(default)]
    pub tablespaces: Vec<SpaceRecord>,
    /// Files of configuration from outside the data directory: where they were, and where they are in the capture.
    #[serde(default)]
    pub config_files: Vec<ConfigRecord>,
    /// The superuser that `initdb` made; empty in records from before it was noted.
    #[serde(default)]
    pub superuser: String,
    /// Settings that a recovery needs.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

/// A tablespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceRecord {
    /// Its number.
    pub oid: u32,
    /// Where it was.
    pub location: PathBuf,
}

/// A file of configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigRecord {
    /// Where it was.
    pub path: PathBuf,
    /// Where it is in the capture.
    pub stored: String,
}

/// The record can't be used.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// It is no such record.
    #[error("member.json is no record of a capture")]
    Form(#[source] serde_json::Error),
    /// It was written by a later program.
    #[error(
        "member.json has version {0}, and this program knows {MEMBER_VERSION}: use a newer one"
    )]
    Version(u32),
    /// It is of another engine.
    #[error("member.json is of {0}, not of {ENGINE}")]
    Engine(String),
    /// It is of a capture that has no files of a server.
    #[error("this is a logical capture: it has dumps, and neither a data directory nor a log")]
    Logical,
}

impl PhysicalCapture {
    /// Where the log begins that is not in the capture: its own goes to the end of a segment.
    #[must_use]
    pub fn log_after(&self) -> Option<Lsn> {
        let stop: Lsn = self.stop_lsn.parse().ok()?;
        let last = stop.0.checked_sub(1)? / self.segment_bytes.max(1);
        Some(Lsn((last + 1).checked_mul(self.segment_bytes)?))
    }
}

/// What every version has.
#[derive(Deserialize)]
pub(super) struct Beginning {
    version: u32,
    engine: String,
    pub(super) kind: CaptureKind,
}

impl Beginning {
    /// Reads it, if the rest is known.
    pub(super) fn parse(json: &[u8]) -> Result<Self, MemberError> {
        let beginning: Self = serde_json::from_slice(json).map_err(MemberError::Form)?;
        if beginning.version != MEMBER_VERSION {
            return Err(MemberError::Version(beginning.version));
        }
        if beginning.engine != ENGINE {
            return Err(MemberError::Engine(beginning.engine));
        }
        Ok(beginning)
    }
}

impl Member {
    /// Reads the record.
    ///
    /// # Errors
    /// When it is none, or none that is known.
    pub fn parse(json: &[u8]) -> Result<Self, MemberError> {
        if Beginning::parse(json)?.kind == CaptureKind::Logical {
            return Err(MemberError::Logical);
        }
        serde_json::from_slice(json).map_err(MemberError::Form)
    }

    /// The record as it is stored.
    ///
    /// # Errors
    /// When a path in it is no UTF-8.
    pub fn to_json(&self) -> Result<Vec<u8>, MemberError> {
        let mut json = serde_json::to_vec_pretty(self).map_err(MemberError::Form)?;
        json.push(b'\n');
        Ok(json)
    }
}
