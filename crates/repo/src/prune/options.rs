//! What the user wants of a prune.
//! It must never hold anything that the repository says: that is facts.

use std::time::Duration;

use crate::IngestOptions;

/// How long a marked pack waits if nobody says otherwise: rustic's time, a day less an hour for the run itself.
pub const KEEP_DELETE_DEFAULT: Duration = Duration::from_secs(23 * 60 * 60);
/// How much may stay unused if nobody says otherwise, in percent (restic's).
pub const MAX_UNUSED_DEFAULT_PERCENT: f64 = 5.0;

/// How much may stay unused, because to repack it costs more than it is worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaxUnused {
    /// Anything: only packs without any used blob go.
    Unlimited,
    /// So many bytes.
    Bytes(u64),
    /// So much of what the repository has afterwards, in percent below 100.
    Percent(f64),
}

impl MaxUnused {
    /// The limit in bytes for so many bytes that are used.
    #[must_use]
    pub fn bytes(self, used_bytes: u64) -> u64 {
        match self {
            Self::Unlimited => u64::MAX,
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => {
                let percent = percent.clamp(0.0, 99.999);
                (percent / (100.0 - percent) * used_bytes as f64) as u64
            }
        }
    }
}

/// What the user wants of a prune.
#[derive(Clone, Copy, Debug)]
pub struct PruneOptions {
    /// How much may stay unused.
    pub max_unused: MaxUnused,
    /// Packs of at most so many bytes together are repacked.
    pub max_repack_bytes: u64,
    /// Packs smaller than this are repacked, in bytes. Otherwise those are that are much smaller than the others.
    pub small_pack_bytes: Option<u64>,
    /// Repack what is not compressed.
    pub repack_uncompressed: bool,
    /// Repack nothing that holds data.
    pub repack_cacheable_only: bool,
    /// How long a marked pack waits before it is deleted.
    pub keep_delete: Duration,
    /// Delete at once what no snapshot needs. Whatever works on the repository without a lock may lose data by that.
    pub instant_delete: bool,
    /// How to store what is repacked.
    pub ingest: IngestOptions,
    /// Threads that read trees and packs.
    pub threads: usize,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self {
            max_unused: MaxUnused::Percent(MAX_UNUSED_DEFAULT_PERCENT),
            max_repack_bytes: u64::MAX,
            small_pack_bytes: None,
            repack_uncompressed: false,
            repack_cacheable_only: false,
            keep_delete: KEEP_DELETE_DEFAULT,
            instant_delete: false,
            ingest: IngestOptions::default(),
            threads: 2,
        }
    }
}
