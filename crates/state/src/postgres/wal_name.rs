//! The names of files in an archive of the write-ahead log: segments, parts of segments, histories and backup notes.
//! It must never take another name for one of these: what it lets through is given to the server in a recovery.

use std::fmt;
use std::str::FromStr;

use super::lsn::{Lsn, Timeline};
use super::piece::Piece;

/// The size of a segment in bytes: a power of two from 1 MiB to 1 GiB, chosen by `initdb --wal-segsize`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentBytes(u64);

impl SegmentBytes {
    /// 16 MiB, what nearly everybody has.
    pub const DEFAULT: Self = Self(16 << 20);

    /// From a number of bytes; `None` if no server has such segments.
    #[must_use]
    pub fn new(bytes: u64) -> Option<Self> {
        let is_possible = bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&bytes);
        is_possible.then_some(Self(bytes))
    }

    /// The number of bytes.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// Segments that share the middle part of their names.
    fn per_log(self) -> u64 {
        (1 << 32) / self.0
    }
}

/// A name in an archive. Ordered by timeline and position, as a recovery reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WalName {
    /// `TTTTTTTT.history`: where this timeline left the ones before it.
    History(Timeline),
    /// `TTTTTTTTLLLLLLLLSSSSSSSS`, a whole segment.
    Segment(SegmentName),
    /// `….partial`: the last segment of a timeline that was left in the middle of it.
    Partial(SegmentName),
    /// `….OOOOOOOO.backup`: a note of a base backup that began at this offset of the segment.
    Backup(SegmentName, u32),
    /// `….FROM-TO`: a piece of a segment that was still being written. No server asks for it.
    Piece(Piece),
}

/// The name of a segment. What its last two parts count depends on the size of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// The timeline that wrote it.
    pub timeline: Timeline,
    log: u32,
    part: u32,
}

impl WalName {
    /// The timeline that it belongs to; of a history the one that it leads to.
    #[must_use]
    pub fn timeline(self) -> Timeline {
        match self {
            Self::History(timeline) => timeline,
            Self::Segment(segment) | Self::Partial(segment) | Self::Backup(segment, _) => {
                segment.timeline
            }
            Self::Piece(piece) => piece.segment.timeline,
        }
    }
}

impl SegmentName {
    /// The segment of a timeline that holds a position.
    #[must_use]
    pub fn holding(timeline: Timeline, position: Lsn, size: SegmentBytes) -> Self {
        Self::numbered(timeline, position.0 / size.get(), size)
    }

    /// The segment of a number, counted from the beginning of the log.
    pub(super) fn numbered(timeline: Timeline, number: u64, size: SegmentBytes) -> Self {
        // Both fit: a position has 64 bits.
        let part = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            timeline,
            log: part(number / size.per_log()),
            part: part(number % size.per_log()),
        }
    }

    /// Its number, counted from the beginning of the log; `None` if there is no such segment of this size.
    #[must_use]
    pub fn number(self, size: SegmentBytes) -> Option<u64> {
        let part = u64::from(self.part);
        (part < size.per_log()).then(|| u64::from(self.log) * size.per_log() + part)
    }

    /// The position of its first byte; `None` if there is no such segment of this size.
    #[must_use]
    pub fn start(self, size: SegmentBytes) -> Option<Lsn> {
        Some(Lsn(self.number(size)? * size.get()))
    }

    /// The one after it on the same timeline; `None` after the last that there can be.
    #[must_use]
    pub fn next(self, size: SegmentBytes) -> Option<Self> {
        let next = self.number(size)?.checked_add(1)?;
        next.checked_mul(size.get())?;
        Some(Self::numbered(self.timeline, next, size))
    }

    /// The same place on another timeline.
    #[must_use]
    pub fn on(self, timeline: Timeline) -> Self {
        Self { timeline, ..self }
    }

    fn parse(text: &str) -> Option<Self> {
        if text.len() != 24 {
            return None;
        }
        Some(Self {
            timeline: Timeline(hex(text.get(..8)?)?),
            log: hex(text.get(8..16)?)?,
            part: hex(text.get(16..)?)?,
        })
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:08X}{:08X}{:08X}",
            self.timeline.0, self.log, self.part
        )
    }
}

impl fmt::Display for WalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::History(timeline) => write!(f, "{:08X}.history", timeline.0),
            Self::Segment(segment) => segment.fmt(f),
            Self::Partial(segment) => write!(f, "{segment}.partial"),
            Self::Backup(segment, offset) => write!(f, "{segment}.{offset:08X}.backup"),
            Self::Piece(piece) => piece.fmt(f),
        }
    }
}

/// A name that does not belong into an archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a WAL segment, a timeline history or a backup note")]
pub struct WalNameError(pub String);

impl FromStr for WalName {
    type Err = WalNameError;

    fn from_str(text: &str) -> Result<Self, WalNameError> {
        parse(text).ok_or_else(|| WalNameError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<WalName> {
    let mut parts = text.split('.');
    let (first, second, third) = (parts.next()?, parts.next(), parts.next());
    if parts.next().is_some() {
        return None;
    }
    Some(match (second, third) {
        (None, None) => WalName::Segment(SegmentName::parse(first)?),
        (Some("partial"), None) => WalName::Partial(SegmentName::parse(first)?),
        (Some("history"), None) if first.len() == 8 => WalName::History(Timeline(hex(first)?)),
        (Some(offset), Some("backup")) if offset.len() == 8 => {
            WalName::Backup(SegmentName::parse(first)?, hex(offset)?)
        }
        (Some(offsets), None) => WalName::Piece(Piece::parse(SegmentName::parse(first)?, offsets)?),
        _ => return None,
    })
}

/// As the server writes them: eight digits, letters large.
pub(super) fn hex(text: &str) -> Option<u32> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
    let is_number = text.len() == 8 && text.bytes().all(is_digit);
    is_number
        .then(|| u32::from_str_radix(text, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: SegmentBytes = SegmentBytes::DEFAULT;

    fn segment(text: &str) -> SegmentName {
        match text.parse() {
            Ok(WalName::Segment(segment)) => segment,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn names_come_back_and_all_others_are_refused() {
        for name in [
            "000000010000000000000001",
            "0000000A00000016000000FE",
            "000000010000000000000003.partial",
            "00000002.history",
            "000000010000000000000002.00000028.backup",
            "000000010000000000000003.00000000-00A3F028",
        ] {
            assert_eq!(name.parse::<WalName>().expect(name).to_string(), name);
        }
        for wrong in [
            "",
            "000000010000000000000001.",
            "00000001000000000000001",
            "00000001000000000000000a",
            "0000000100000000000000+1",
            "000000010000000000000001.gz",
            "000000010000000000000001.partial.partial",
            "0000002.history",
            "../00000002.history",
            "000000010000000000000002.28.backup",
            "000000010000000000000003.00000100-00000100",
            "000000010000000000000003.00000000-7FFFFFFF",
            "000000010000000000000003.00000000-00000100.partial",
            "RECOVERYXLOG",
            "archive_status",
        ] {
            assert!(wrong.parse::<WalName>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn segments_follow_each_other_across_the_parts_of_their_names() {
        let last = segment("0000000100000000000000FF");
        assert_eq!(last.next(SIZE), Some(segment("000000010000000100000000")));
        assert_eq!(last.start(SIZE), Some(Lsn(0xFF00_0000)));
        assert_eq!(segment("000000010000000000000100").start(SIZE), None);
        assert_eq!(
            segment("0000000100000000000000FF").on(Timeline(3)),
            segment("0000000300000000000000FF")
        );
        let end = segment("00000001FFFFFFFF000000FF");
        assert_eq!(end.next(SIZE), None);
        for size in [1 << 20, 16 << 20, 64 << 20, 1 << 30] {
            let size = SegmentBytes::new(size).expect("a size");
            for position in [0, 1, size.get(), (1 << 32) - 1, 1 << 32, 0x16_B374_D848] {
                let name = SegmentName::holding(Timeline(1), Lsn(position), size);
                let start = name.start(size).expect("of this size").0;
                assert!(
                    (start..start + size.get()).contains(&position),
                    "{name} {position:X}"
                );
                let next = name.next(size).expect("one more");
                assert_eq!(next.start(size), Some(Lsn(start + size.get())));
            }
        }
    }

    #[test]
    fn sizes_that_no_server_has_are_refused() {
        for wrong in [0, 1, 1 << 19, (16 << 20) + 1, 1 << 31] {
            assert_eq!(SegmentBytes::new(wrong), None);
        }
    }

    #[test]
    fn a_history_comes_before_the_segments_of_its_timeline() {
        let mut names: Vec<WalName> = ["000000020000000000000003", "00000002.history"]
            .map(|name| name.parse().expect(name))
            .to_vec();
        names.sort();
        assert_eq!(names[0].to_string(), "00000002.history");
    }
}
