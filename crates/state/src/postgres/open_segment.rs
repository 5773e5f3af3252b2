//! The segment of the log that is being received: what came of it, what of that is stored, and what is stored next.
//! It must never let through log that is not where the last one ended, or is not what was stored of it before.

use super::lsn::Lsn;
use super::piece::{Piece, beginning, next_piece};
use super::wal_header::WalHeader;
use super::wal_name::{SegmentBytes, SegmentName, WalName};

/// A segment that is being received.
#[derive(Clone, Debug)]
pub struct OpenSegment {
    name: SegmentName,
    start: Lsn,
    whole_bytes: usize,
    /// What came.
    log: Vec<u8>,
    /// What was stored before this began; it comes once more.
    known: Vec<u8>,
    /// The pieces that make up what is stored.
    stored: Vec<Piece>,
    /// All others that are there.
    others: Vec<Piece>,
    /// How long the first piece must be.
    first_bytes: usize,
}

/// What is to be stored next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// Its name: a piece, or the whole segment.
    pub name: WalName,
    /// The log.
    pub content: Vec<u8>,
    /// What is not needed any more when it is durable.
    pub replaced: Vec<Piece>,
    /// The position behind it.
    pub to: Lsn,
}

/// What came does not belong there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenSegmentError {
    /// It is from elsewhere in the log.
    #[error("the server sent the log from {found} on, and {expected} was to come")]
    Place {
        /// Where the last one ended.
        expected: Lsn,
        /// Where it begins.
        found: Lsn,
    },
    /// It was another one before.
    #[error(
        "what the server sends of {segment} is not what is archived of it: another server archives here as well"
    )]
    Different {
        /// The segment.
        segment: SegmentName,
    },
}

impl OpenSegment {
    /// A segment of which nothing came yet, but `known` is stored in `pieces`. If its timeline began in it, at `begins`, it
    /// is stored first when it goes beyond that: until then the timeline before has more, and a server asks for the newer.
    #[must_use]
    pub fn new(
        name: SegmentName,
        size: SegmentBytes,
        known: Vec<u8>,
        pieces: &[Piece],
        begins: Option<Lsn>,
    ) -> Self {
        let start = name.start(size).unwrap_or_default();
        let whole_bytes = usize::try_from(size.get()).unwrap_or(usize::MAX);
        let stored = match known.is_empty() {
            true => Vec::new(),
            false => beginning(pieces),
        };
        let others = pieces.iter().filter(|piece| !stored.contains(piece));
        let begins = begins.map_or(0, |begins| begins.0.saturating_sub(start.0));
        Self {
            name,
            start,
            whole_bytes,
            log: Vec::with_capacity(whole_bytes),
            known,
            others: others.copied().collect(),
            stored,
            first_bytes: usize::try_from(begins)
                .unwrap_or(usize::MAX)
                .max(WalHeader::BYTES),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> SegmentName {
        self.name
    }

    /// The position up to which it came.
    #[must_use]
    pub fn came(&self) -> Lsn {
        self.position(self.log.len())
    }

    /// The position up to which what came was stored before this began.
    #[must_use]
    pub fn known(&self) -> Lsn {
        self.position(self.log.len().min(self.known.len()))
    }

    /// Whether all of it came.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.log.len() == self.whole_bytes
    }

    /// Takes what comes next, and gives back what is beyond this segment.
    ///
    /// # Errors
    /// When it does not belong there.
    pub fn take<'a>(&mut self, at: Lsn, log: &'a [u8]) -> Result<&'a [u8], OpenSegmentError> {
        if at != self.came() {
            return Err(OpenSegmentError::Place {
                expected: self.came(),
                found: at,
            });
        }
        let room = self.whole_bytes - self.log.len();
        let (mine, beyond) = log.split_at_checked(room).unwrap_or((log, &[]));
        let known = self.known.get(self.log.len()..).unwrap_or_default();
        if known.iter().zip(mine).any(|(before, now)| before != now) {
            return Err(OpenSegmentError::Different { segment: self.name });
        }
        self.log.extend_from_slice(mine);
        Ok(beyond)
    }

    /// What is to be stored of it now, if there is anything; it is taken for stored from then on.
    pub fn next_parcel(&mut self) -> Option<Parcel> {
        let stored = self.stored.last().map_or(0, |last| last.to_bytes) as usize;
        if self.log.len() <= stored || self.log.len() < self.first_bytes {
            return None;
        }
        let next = next_piece(self.name, &self.stored, u32::try_from(self.log.len()).ok()?);
        let piece = next.piece;
        let content = self.log.get(piece.from_bytes as usize..)?.to_vec();
        self.stored.retain(|piece| !next.replaced.contains(piece));
        self.stored.push(piece);
        Some(Parcel {
            name: WalName::Piece(piece),
            content,
            replaced: next.replaced,
            to: self.came(),
        })
    }

    /// The whole segment, when [all of it came](Self::is_whole).
    #[must_use]
    pub fn into_parcel(mut self) -> Parcel {
        self.others.append(&mut self.stored);
        Parcel {
            name: WalName::Segment(self.name),
            to: self.came(),
            replaced: self.others,
            content: self.log,
        }
    }

    fn position(&self, offset: usize) -> Lsn {
        Lsn(self.start.0.saturating_add(offset as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::super::lsn::Timeline;
    use super::*;

    const SIZE: u64 = 1 << 20;

    fn open(known: &[u8], pieces: &[&str], begins: Option<u64>) -> OpenSegment {
        let size = SegmentBytes::new(SIZE).expect("a size");
        let name = SegmentName::holding(Timeline(1), Lsn(3 * SIZE), size);
        let pieces = pieces.iter().map(|offsets| {
            match format!("{name}.{offsets}").parse().expect("a name") {
                WalName::Piece(piece) => piece,
                other => panic!("{other}"),
            }
        });
        let pieces: Vec<Piece> = pieces.collect();
        OpenSegment::new(name, size, known.to_vec(), &pieces, begins.map(Lsn))
    }

    fn offsets(parcel: &Parcel) -> (u32, u32) {
        match parcel.name {
            WalName::Piece(piece) => (piece.from_bytes, piece.to_bytes),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_came_is_stored_once_and_in_the_end_as_a_whole() {
        let mut segment = open(&[], &[], None);
        assert_eq!(segment.take(Lsn(3 * SIZE), &[1; 30]), Ok(&[][..]));
        assert_eq!(segment.next_parcel(), None, "no header yet");
        segment.take(Lsn(3 * SIZE + 30), &[1; 70]).expect("goes on");
        let first = segment.next_parcel().expect("a piece");
        assert_eq!((offsets(&first), first.to), ((0, 100), segment.came()));
        assert_eq!(segment.next_parcel(), None);
        let found = segment.take(Lsn(3 * SIZE + 99), &[1]);
        assert!(matches!(found, Err(OpenSegmentError::Place { .. })));
        let rest = vec![2; SIZE as usize];
        let beyond = segment.take(Lsn(3 * SIZE + 100), &rest).expect("goes on");
        assert!(segment.is_whole() && beyond.len() == 100);
        let whole = segment.into_parcel();
        assert_eq!(
            (whole.content.len() as u64, whole.to),
            (SIZE, Lsn(4 * SIZE))
        );
        assert_eq!(whole.replaced.len(), 1);
    }

    #[test]
    fn what_was_stored_before_is_compared_and_not_stored_again() {
        let pieces = ["00000000-00000064", "00000032-00000064"];
        let mut segment = open(&[1; 100], &pieces, None);
        segment.take(Lsn(3 * SIZE), &[1; 60]).expect("the same");
        assert_eq!(
            (segment.known(), segment.next_parcel()),
            (Lsn(3 * SIZE + 60), None)
        );
        let mut other = segment.clone();
        let found = other.take(Lsn(3 * SIZE + 60), &[2]);
        assert!(matches!(found, Err(OpenSegmentError::Different { .. })));
        segment.take(Lsn(3 * SIZE + 60), &[1; 60]).expect("goes on");
        assert_eq!(segment.known(), Lsn(3 * SIZE + 100));
        let next = segment.next_parcel().expect("a piece");
        assert_eq!(offsets(&next), (100, 120));
        let rest = vec![2; SIZE as usize - 120];
        segment.take(Lsn(3 * SIZE + 120), &rest).expect("goes on");
        assert_eq!(
            segment.into_parcel().replaced.len(),
            3,
            "what was joined too"
        );
    }

    #[test]
    fn a_new_timeline_is_stored_when_it_is_longer_than_the_old_one() {
        let mut segment = open(&[], &[], Some(3 * SIZE + 500));
        segment
            .take(Lsn(3 * SIZE), &[1; 499])
            .expect("the old part");
        assert_eq!(segment.next_parcel(), None);
        segment
            .take(Lsn(3 * SIZE + 499), &[1; 101])
            .expect("goes on");
        assert_eq!(
            segment.next_parcel().map(|next| offsets(&next)),
            Some((0, 600))
        );
    }
}
