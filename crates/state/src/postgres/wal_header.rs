//! The header that every segment of the log begins with: whose it is, and where it belongs.
//! It must never let a segment of another cluster or another place through as the one that its name says.

use super::bytes::{u16_at, u32_at, u64_at};
use super::lsn::{Lsn, Timeline};
use super::wal_name::{SegmentBytes, SegmentName};

/// The flag of the long header that only the first page of a segment has.
const IS_LONG: u16 = 2;

/// What a segment says of itself (PostgreSQL source, `access/xlog_internal.h`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalHeader {
    /// A number for the version of the log's form; each major version of the server has another.
    pub magic: u16,
    /// The timeline that wrote its first page.
    pub timeline: Timeline,
    /// The position of its first byte.
    pub start: Lsn,
    /// The cluster that it belongs to.
    pub system_id: u64,
    /// The size of segments there.
    pub segment_bytes: SegmentBytes,
}

/// It is not the segment that it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalHeaderError {
    /// It has no header.
    #[error("it does not begin as a WAL segment does")]
    NoHeader,
    /// It was written by another cluster.
    #[error("it belongs to the cluster with system identifier {found}, not to {expected}")]
    System {
        /// The one that should have written it.
        expected: u64,
        /// The one that did.
        found: u64,
    },
    /// It belongs elsewhere.
    #[error("it holds the log from {found} on, and its name says from {expected} on")]
    Place {
        /// By its name.
        expected: Lsn,
        /// By its header.
        found: Lsn,
    },
    /// It is on a timeline that its name does not know.
    #[error("it was written on timeline {found}, and its name says timeline {expected}")]
    Timeline {
        /// By its name.
        expected: Timeline,
        /// By its header.
        found: Timeline,
    },
    /// It is longer or shorter than the segments of its cluster.
    #[error("it has {found_bytes} bytes, and the segments of its cluster have {expected_bytes}")]
    Length {
        /// Of the segments of the cluster.
        expected_bytes: u64,
        /// Of this one.
        found_bytes: u64,
    },
}

impl WalHeader {
    /// Bytes of the header; nothing behind it is looked at.
    pub const BYTES: usize = 40;

    /// Reads the beginning of a segment.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(segment: &[u8]) -> Result<Self, WalHeaderError> {
        let header = segment.get(..Self::BYTES).and_then(|header| {
            let is_long = u16_at(header, 2)? & IS_LONG != 0;
            let found = Self {
                magic: u16_at(header, 0)?,
                timeline: Timeline(u32_at(header, 4)?),
                start: Lsn(u64_at(header, 8)?),
                system_id: u64_at(header, 24)?,
                segment_bytes: SegmentBytes::new(u32_at(header, 32)?.into())?,
            };
            let is_start = found.start.0.is_multiple_of(found.segment_bytes.get());
            (is_long && is_start).then_some(found)
        });
        header.ok_or(WalHeaderError::NoHeader)
    }

    /// Whether a file of this length is the segment of this name in this cluster.
    ///
    /// # Errors
    /// What is different.
    pub fn check(
        &self,
        name: SegmentName,
        system_id: u64,
        bytes: u64,
    ) -> Result<(), WalHeaderError> {
        let expected_bytes = self.segment_bytes.get();
        if self.system_id != system_id {
            return Err(WalHeaderError::System {
                expected: system_id,
                found: self.system_id,
            });
        }
        // The first segment of a timeline begins with pages of the one before it, copied.
        if self.timeline > name.timeline {
            return Err(WalHeaderError::Timeline {
                expected: name.timeline,
                found: self.timeline,
            });
        }
        let start = name.start(self.segment_bytes);
        if start != Some(self.start) {
            return Err(WalHeaderError::Place {
                expected: start.unwrap_or_default(),
                found: self.start,
            });
        }
        if bytes != expected_bytes {
            return Err(WalHeaderError::Length {
                expected_bytes,
                found_bytes: bytes,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> [u8; WalHeader::BYTES] {
        let mut header = [0; WalHeader::BYTES];
        header[..2].copy_from_slice(&0xD110_u16.to_le_bytes());
        header[2] = 2;
        header[4] = 3;
        header[8..16].copy_from_slice(&0x0500_0000_u64.to_le_bytes());
        header[24..32].copy_from_slice(&77_u64.to_le_bytes());
        header[32..36].copy_from_slice(&(16_u32 << 20).to_le_bytes());
        header
    }

    fn name(timeline: u32, position: u64) -> SegmentName {
        SegmentName::holding(Timeline(timeline), Lsn(position), SegmentBytes::DEFAULT)
    }

    #[test]
    fn a_segment_is_the_one_of_its_name_and_no_other() {
        let header = WalHeader::parse(&header()).expect("a header");
        assert_eq!((header.magic, header.system_id), (0xD110, 77));
        let bytes = 16 << 20;
        assert_eq!(header.check(name(3, 0x0500_0000), 77, bytes), Ok(()));
        assert_eq!(header.check(name(4, 0x0500_0000), 77, bytes), Ok(()));
        let wrong = [
            header.check(name(2, 0x0500_0000), 77, bytes),
            header.check(name(3, 0x0600_0000), 77, bytes),
            header.check(name(3, 0x0500_0000), 78, bytes),
            header.check(name(3, 0x0500_0000), 77, bytes - 1),
        ];
        let texts = wrong.map(|wrong| wrong.expect_err("another").to_string());
        assert_eq!(
            texts,
            [
                "it was written on timeline 3, and its name says timeline 2",
                "it holds the log from 0/5000000 on, and its name says from 0/6000000 on",
                "it belongs to the cluster with system identifier 77, not to 78",
                "it has 16777215 bytes, and the segments of its cluster have 16777216",
            ]
        );
    }

    #[test]
    fn what_is_no_segment_is_refused() {
        let mut short = header();
        short[2] = 0;
        let mut inside = header();
        inside[8] = 1;
        let mut size = header();
        size[32] = 1;
        for wrong in [&[][..], &[0; 8192], &header()[..39], &short, &inside, &size] {
            assert_eq!(WalHeader::parse(wrong), Err(WalHeaderError::NoHeader));
        }
    }
}
