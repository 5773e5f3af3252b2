//! What `global/pg_control` says of a cluster: who it is, where it stands, how its files are made.
//! It must never believe a file whose checksum does not fit, for it may have been read while the server wrote it.

use super::bytes::{u32_at, u64_at};
use super::lsn::{Lsn, Timeline};
use super::wal_name::SegmentBytes;

/// Where the checksum of the structure may lie, in bytes: its length differs between versions of the server.
const CHECKSUM_FROM: usize = 200;
const CHECKSUM_TO: usize = 512;
/// The first `pg_control_version` that has the signedness of `char` beside the nonce (PostgreSQL 18).
const WITH_CHAR_SIGN: u32 = 1800;
/// The versions of `pg_control` of servers that are known, PostgreSQL 13 to 18.
const VERSIONS: std::ops::RangeInclusive<u32> = 1300..=1800;

/// What a cluster was doing when the file was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// It was shut down as it should be.
    ShutDown,
    /// The same, a standby.
    ShutDownInRecovery,
    /// It replays the log after a crash.
    InCrashRecovery,
    /// It replays an archive, or follows another server.
    InArchiveRecovery,
    /// It runs, or did when the machine stopped.
    InProduction,
    /// It is starting or stopping.
    Between,
}

/// How much a server was set up for, where one that replays its log must be set up for as much (PostgreSQL manual,
/// "Hot Standby Parameter Reference").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// `max_connections`.
    pub connections: u32,
    /// `max_worker_processes`.
    pub worker_processes: u32,
    /// `max_wal_senders`.
    pub wal_senders: u32,
    /// `max_prepared_transactions`.
    pub prepared_transactions: u32,
    /// `max_locks_per_transaction`.
    pub locks_per_transaction: u32,
}

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// The number that tells this cluster from all others; its copies have it too.
    pub system_id: u64,
    /// The version of this structure.
    pub control_version: u32,
    /// The version of the catalog: a part of the names in tablespaces.
    pub catalog_version: u32,
    /// What the cluster was doing.
    pub state: ClusterState,
    /// The last checkpoint.
    pub checkpoint: Lsn,
    /// Where a recovery from it begins to read.
    pub redo: Lsn,
    /// The timeline of it.
    pub timeline: Timeline,
    /// How far a recovery of these files must go at least; 0/0 for those of a primary.
    pub minimum_recovery: Lsn,
    /// On which timeline that is, or 0.
    pub minimum_recovery_timeline: Timeline,
    /// Bytes of a page of a relation.
    pub page_bytes: u32,
    /// Pages in one file of a relation.
    pub file_pages: u32,
    /// Bytes of a segment of the log.
    pub segment_bytes: SegmentBytes,
    /// Whether pages have checksums.
    pub has_checksums: bool,
    /// What its server was set up for.
    pub limits: ServerLimits,
}

/// The file says nothing that can be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// It is damaged, was read while it was written, or is no such file.
    #[error(
        "no checksum fits what is in it: it is damaged, or the server wrote it in the same moment"
    )]
    Checksum,
    /// A server that is not known.
    #[error("its version {0} is none of {from} to {to} (PostgreSQL 13 to 18)", from = VERSIONS.start(), to = VERSIONS.end())]
    Version(u32),
    /// The checksum fits, and yet something in it can't be.
    #[error("its {0} can't be: is the server built for another processor?")]
    Impossible(&'static str),
}

impl Control {
    /// Reads the content of the file.
    ///
    /// # Errors
    /// When it can't be believed; if a server runs, another try may go well.
    pub fn parse(file: &[u8]) -> Result<Self, ControlError> {
        let end = checksum_at(file).ok_or(ControlError::Checksum)?;
        let number = |at: usize| u32_at(file, at).ok_or(ControlError::Checksum);
        let position = |at: usize| u64_at(file, at).map(Lsn).ok_or(ControlError::Checksum);
        let control_version = number(8)?;
        if !VERSIONS.contains(&control_version) {
            return Err(ControlError::Version(control_version));
        }
        // Behind the last checkpoint, whose length differs, what is needed is counted from the end.
        let checksums = end
            - if control_version < WITH_CHAR_SIGN {
                36
            } else {
                40
            };
        let segment_bytes = SegmentBytes::new(number(checksums - 24)?.into());
        let page_bytes = number(checksums - 36)?;
        if !page_bytes.is_power_of_two() {
            return Err(ControlError::Impossible("size of pages"));
        }
        Ok(Self {
            system_id: position(0)?.0,
            control_version,
            catalog_version: number(12)?,
            state: match number(16)? {
                0 | 3 => ClusterState::Between,
                1 => ClusterState::ShutDown,
                2 => ClusterState::ShutDownInRecovery,
                4 => ClusterState::InCrashRecovery,
                5 => ClusterState::InArchiveRecovery,
                6 => ClusterState::InProduction,
                _ => return Err(ControlError::Impossible("state")),
            },
            checkpoint: position(32)?,
            redo: position(40)?,
            timeline: Timeline(number(48)?),
            page_bytes,
            file_pages: number(checksums - 32)?,
            segment_bytes: segment_bytes.ok_or(ControlError::Impossible("size of segments"))?,
            has_checksums: number(checksums)? != 0,
            minimum_recovery: position(checksums - 116)?,
            minimum_recovery_timeline: Timeline(number(checksums - 108)?),
            limits: ServerLimits {
                connections: number(checksums - 72)?,
                worker_processes: number(checksums - 68)?,
                wal_senders: number(checksums - 64)?,
                prepared_transactions: number(checksums - 60)?,
                locks_per_transaction: number(checksums - 56)?,
            },
        })
    }
}

/// Where the checksum lies that fits all before it.
fn checksum_at(file: &[u8]) -> Option<usize> {
    let mut sum = crc32c::crc32c(file.get(..CHECKSUM_FROM)?);
    for at in (CHECKSUM_FROM..CHECKSUM_TO).step_by(4) {
        if u32_at(file, at)? == sum {
            return Some(at);
        }
        sum = crc32c::crc32c_append(sum, file.get(at..at + 4)?);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_control_file_is_refused() {
        assert_eq!(Control::parse(&[]), Err(ControlError::Checksum));
        assert_eq!(Control::parse(&[0; 8192]), Err(ControlError::Checksum));
        assert_eq!(Control::parse(&[7; 100]), Err(ControlError::Checksum));
        let mut file = [1_u8; 8192];
        let sum = crc32c::crc32c(&file[..288]);
        file[288..292].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(
            Control::parse(&file),
            Err(ControlError::Version(0x0101_0101))
        );
    }
}
