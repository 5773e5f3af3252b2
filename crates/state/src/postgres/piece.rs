//! A piece of a segment that is still being written, as a stream of the log stores it: from one offset to another.
//! It must never be taken for a whole segment, nor a row of pieces with a hole in it for the beginning of one.

use std::fmt;

use super::wal_name::{SegmentBytes, SegmentName, hex};

/// Pieces of one segment that a stream leaves at most: from then on one that is longer takes the place of several.
pub const PIECES_MAX: usize = 16;
/// How much longer than all that comes after it a piece must be to be left alone when others are joined.
const LONGER_TIMES: u64 = 2;
/// No segment is longer, in bytes.
const SEGMENT_MAX_BYTES: u32 = 1 << 30;

/// A piece of a segment. Its name is `SEGMENT.FROM-TO`, both offsets with eight hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Piece {
    /// The segment.
    pub segment: SegmentName,
    /// The offset of its first byte in the segment.
    pub from_bytes: u32,
    /// The offset behind its last byte.
    pub to_bytes: u32,
}

/// A piece that comes next, and those that it makes needless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextPiece {
    /// What is stored.
    pub piece: Piece,
    /// What is removed when that is durable.
    pub replaced: Vec<Piece>,
}

impl Piece {
    /// What stands behind the dot.
    pub(super) fn parse(segment: SegmentName, offsets: &str) -> Option<Self> {
        let (from, to) = offsets.split_once('-')?;
        let piece = Self {
            segment,
            from_bytes: hex(from)?,
            to_bytes: hex(to)?,
        };
        let is_piece = piece.from_bytes < piece.to_bytes && piece.to_bytes <= SEGMENT_MAX_BYTES;
        is_piece.then_some(piece)
    }

    /// Its length in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        u64::from(self.to_bytes.saturating_sub(self.from_bytes))
    }

    /// Whether all of the other one is in it.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.segment == other.segment
            && self.from_bytes <= other.from_bytes
            && other.to_bytes <= self.to_bytes
    }

    /// Adds its content to the beginning of its segment. Nothing is added if that is not as long as the name says, there is a
    /// hole before it, or it repeats something else than is there.
    #[must_use]
    pub fn join(self, log: &mut Vec<u8>, content: &[u8]) -> bool {
        let from = usize::try_from(self.from_bytes).unwrap_or(usize::MAX);
        let Some(known) = log.get(from..) else {
            return false;
        };
        let (again, new) = content
            .split_at_checked(known.len())
            .unwrap_or((content, &[]));
        if content.len() as u64 != self.bytes() || !known.starts_with(again) {
            return false;
        }
        log.extend_from_slice(new);
        true
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:08X}-{:08X}",
            self.segment, self.from_bytes, self.to_bytes
        )
    }
}

/// Of the pieces of one segment those that make up its beginning without a hole, as few as can be, in their order.
#[must_use]
pub fn beginning(pieces: &[Piece]) -> Vec<Piece> {
    let mut chosen: Vec<Piece> = Vec::new();
    loop {
        let reached = chosen.last().map_or(0, |last| last.to_bytes);
        let going_on = pieces
            .iter()
            .filter(|piece| piece.from_bytes <= reached && piece.to_bytes > reached);
        match going_on.max_by_key(|piece| piece.to_bytes) {
            Some(piece) => chosen.push(*piece),
            None => return chosen,
        }
    }
}

/// The beginning of a segment as a server takes it, filled with zeros to its whole length; `None` if it is longer than that.
#[must_use]
pub fn filled(mut log: Vec<u8>, size: SegmentBytes) -> Option<Vec<u8>> {
    let whole_bytes = usize::try_from(size.get()).ok()?;
    if log.len() > whole_bytes {
        return None;
    }
    log.resize(whole_bytes, 0);
    Some(log)
}

/// How a segment of which `stored` pieces are there, without a hole, is stored up to an offset. Most often it is what came
/// since; when that would be one piece too many, it is joined with the shorter ones before it.
#[must_use]
pub fn next_piece(segment: SegmentName, stored: &[Piece], to_bytes: u32) -> NextPiece {
    let from_bytes = stored.last().map_or(0, |last| last.to_bytes);
    let mut piece = Piece {
        segment,
        from_bytes,
        to_bytes,
    };
    let mut replaced = Vec::new();
    if stored.len() >= PIECES_MAX {
        // But for the last of them, a piece is stored anew only when it becomes one and a half times as long, so that each
        // byte of a segment is written a few times at most, however small its pieces are.
        for before in stored.iter().rev() {
            if !replaced.is_empty() && before.bytes() >= LONGER_TIMES * piece.bytes() {
                break;
            }
            piece.from_bytes = before.from_bytes;
            replaced.push(*before);
        }
        replaced.reverse();
    }
    NextPiece { piece, replaced }
}

#[cfg(test)]
mod tests {
    use super::super::lsn::{Lsn, Timeline};
    use super::*;

    fn segment() -> SegmentName {
        SegmentName::holding(Timeline(1), Lsn(0), SegmentBytes::DEFAULT)
    }

    fn piece(from_bytes: u32, to_bytes: u32) -> Piece {
        Piece {
            segment: segment(),
            from_bytes,
            to_bytes,
        }
    }

    #[test]
    fn what_lies_behind_a_hole_is_no_beginning() {
        assert_eq!(beginning(&[piece(1, 5)]), []);
        let pieces = [piece(0, 5), piece(5, 9), piece(10, 12)];
        assert_eq!(beginning(&pieces), pieces[..2]);
        // What was joined, and what it was joined of, when it was not all removed.
        let pieces = [piece(0, 3), piece(0, 9), piece(3, 9), piece(7, 12)];
        assert_eq!(beginning(&pieces), [piece(0, 9), piece(7, 12)]);
        assert!(piece(0, 9).covers(piece(3, 9)) && !piece(3, 9).covers(piece(0, 9)));
    }

    #[test]
    fn pieces_are_joined_only_if_they_fit() {
        let mut log = Vec::new();
        assert!(!piece(1, 3).join(&mut log, b"bc"), "a hole");
        assert!(
            !piece(0, 3).join(&mut log, b"ab"),
            "shorter than its name says"
        );
        assert!(piece(0, 3).join(&mut log, b"abc"));
        assert!(!piece(2, 5).join(&mut log, b"xde"), "something else");
        assert!(piece(2, 5).join(&mut log, b"cde"));
        assert!(piece(1, 3).join(&mut log, b"bc"), "it is there already");
        assert!(!piece(1, 3).join(&mut log, b"bx"));
        assert_eq!(log, b"abcde");
        let size = SegmentBytes::new(1 << 20).unwrap();
        let whole = filled(log, size).unwrap();
        assert_eq!((whole.len(), &whole[..6]), (1 << 20, &b"abcde\0"[..]));
        assert_eq!(filled(vec![0; (1 << 20) + 1], size), None);
    }

    #[test]
    fn there_are_never_too_many_and_little_is_written_again() {
        for step in [8, 100, 4096, 70_000] {
            let (mut stored, mut written, mut at) = (Vec::new(), 0, 0);
            while at + step < 16 << 20 {
                at += step;
                let next = next_piece(segment(), &stored, at);
                written += next.piece.bytes();
                stored.push(next.piece);
                stored.retain(|piece| !next.replaced.contains(piece));
                assert!(stored.len() <= PIECES_MAX, "{}", stored.len());
                assert_eq!(beginning(&stored), stored);
                assert_eq!(stored.last().map(|last| last.to_bytes), Some(at));
            }
            let times = written / u64::from(at);
            assert!(times < 12, "{step}: each byte is written {times} times");
        }
    }
}
