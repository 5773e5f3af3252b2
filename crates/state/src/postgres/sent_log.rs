//! The log that a base backup brings with it: which of its files are kept, and whether nothing is missing.
//! It must never take a segment for the one that its name says before its header was looked at.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::closing::WalFileError;
use super::lsn::{Lsn, Timeline};
use super::wal_header::{WalHeader, WalHeaderError};
use super::wal_name::{SegmentBytes, SegmentName, WalName};

/// Where a server has its log.
const WAL_DIR: &[u8] = b"pg_wal/";

/// The log that came.
#[derive(Debug)]
pub struct SentLog {
    system_id: u64,
    timeline: Timeline,
    segments: BTreeSet<SegmentName>,
}

impl SentLog {
    /// Nothing yet, of a cluster and the timeline of the backup.
    #[must_use]
    pub fn new(system_id: u64, timeline: Timeline) -> Self {
        Self {
            system_id,
            timeline,
            segments: BTreeSet::new(),
        }
    }

    /// The file of the log at a path below the data directory, if the backup needs it: a segment of its timeline, or a
    /// history that led there.
    #[must_use]
    pub fn wanted(&self, path: &[u8]) -> Option<WalName> {
        let name = std::str::from_utf8(path.strip_prefix(WAL_DIR)?).ok()?;
        match name.parse().ok()? {
            name @ WalName::Segment(segment) if segment.timeline == self.timeline => Some(name),
            name @ WalName::History(of) if of <= self.timeline => Some(name),
            _ => None,
        }
    }

    /// Takes a file that came as a whole, by its beginning and its length.
    ///
    /// # Errors
    /// When it is not what its name says.
    pub fn take(
        &mut self,
        name: WalName,
        beginning: &[u8],
        size_bytes: u64,
    ) -> Result<(), WalHeaderError> {
        if let WalName::Segment(segment) = name {
            WalHeader::parse(beginning)?.check(segment, self.system_id, size_bytes)?;
            self.segments.insert(segment);
        }
        Ok(())
    }

    /// How many segments it has from start to stop.
    ///
    /// # Errors
    /// When one is missing.
    pub fn check(&self, start: Lsn, stop: Lsn, size: SegmentBytes) -> Result<u64, WalFileError> {
        let impossible = |why| WalFileError::Impossible { start, stop, why };
        if stop <= start {
            return Err(impossible("it ends before it begins"));
        }
        // The stop is the first byte that is not needed.
        let last = SegmentName::holding(self.timeline, Lsn(stop.0.saturating_sub(1)), size);
        let mut segment = SegmentName::holding(self.timeline, start, size);
        let mut count = 1;
        loop {
            if !self.segments.contains(&segment) {
                return Err(WalFileError::Gone {
                    name: WalName::Segment(segment),
                    dir: PathBuf::from("pg_wal"),
                });
            }
            if segment == last {
                return Ok(count);
            }
            count += 1;
            segment = segment
                .next(size)
                .ok_or_else(|| impossible("there are no such segments"))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 16 << 20;

    fn beginning(position: u64) -> Vec<u8> {
        let mut header = vec![0; WalHeader::BYTES];
        header[2] = 2;
        header[4] = 3;
        header[8..16].copy_from_slice(&position.to_le_bytes());
        header[24..32].copy_from_slice(&77_u64.to_le_bytes());
        header[32..36].copy_from_slice(&u32::try_from(SIZE).expect("a size").to_le_bytes());
        header
    }

    #[test]
    fn only_what_the_backup_needs_is_wanted() {
        let log = SentLog::new(77, Timeline(3));
        let wanted = |path: &str| log.wanted(path.as_bytes()).is_some();
        assert!(wanted("pg_wal/000000030000000000000002"));
        assert!(wanted("pg_wal/00000003.history"));
        assert!(wanted("pg_wal/00000002.history"));
        for path in [
            "pg_wal/000000020000000000000002",
            "pg_wal/00000004.history",
            "pg_wal/archive_status/000000030000000000000002.done",
            "pg_wal/000000030000000000000002.partial",
            "000000030000000000000002",
            "pg_wal/",
        ] {
            assert!(!wanted(path), "{path}");
        }
    }

    #[test]
    fn a_segment_that_is_missing_or_another_one_is_named() {
        let mut log = SentLog::new(77, Timeline(3));
        let name = |number: u64| {
            WalName::Segment(SegmentName::holding(
                Timeline(3),
                Lsn(number * SIZE),
                SegmentBytes::DEFAULT,
            ))
        };
        let (start, stop) = (Lsn(2 * SIZE + 40), Lsn(4 * SIZE));
        log.take(name(2), &beginning(2 * SIZE), SIZE)
            .expect("a segment");
        let missing = log.check(start, stop, SegmentBytes::DEFAULT);
        let missing = missing.expect_err("one is missing").to_string();
        assert!(missing.contains("000000030000000000000003"), "{missing}");
        assert!(log.take(name(3), &beginning(2 * SIZE), SIZE).is_err());
        assert!(log.take(name(3), &[], SIZE).is_err());
        log.take(name(3), &beginning(3 * SIZE), SIZE)
            .expect("a segment");
        let whole = log.check(start, stop, SegmentBytes::DEFAULT);
        assert_eq!(whole.expect("all of it"), 2);
        assert!(log.check(stop, start, SegmentBytes::DEFAULT).is_err());
        assert!(
            log.check(start, Lsn(stop.0 + 1), SegmentBytes::DEFAULT)
                .is_err()
        );
    }
}
