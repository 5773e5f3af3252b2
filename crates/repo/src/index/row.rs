//! One place of one blob, and one pack, as they are kept in an index: fixed lengths, without pointers.
//! It must never change without the version of the image that is made of it.

use lifeboat_format::{Id, IndexPack, MarkedPack, Timestamp};

/// Length of a row in bytes.
pub(crate) const ROW_BYTES: usize = 48;
/// Length of what is kept of a pack, in bytes.
pub(crate) const PACK_ROW_BYTES: usize = 80;

/// Whether a mark has a time.
const HAS_TIME: u32 = 1;
/// Whether a mark has a size.
const HAS_SIZE: u32 = 2;

/// A row, with big numbers first, so that the order of bytes is that of IDs.
pub(crate) type RowBytes = [u8; ROW_BYTES];

/// One blob in one pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: Id,
    /// The pack's number.
    pub(crate) pack: u32,
    pub(crate) offset_bytes: u32,
    pub(crate) length_bytes: u32,
    pub(crate) raw_length_bytes: u32,
}

impl Row {
    pub(crate) fn to_bytes(self) -> RowBytes {
        let mut bytes = [0; ROW_BYTES];
        let numbers = [
            self.pack,
            self.offset_bytes,
            self.length_bytes,
            self.raw_length_bytes,
        ];
        let mut rest = Fields(&mut bytes);
        rest.put(&self.id.0);
        for number in numbers {
            rest.put(&number.to_be_bytes());
        }
        bytes
    }

    pub(crate) fn of(bytes: &RowBytes) -> Self {
        let mut rest = Rest(bytes);
        Self {
            id: Id(rest.bytes()),
            pack: rest.u32(),
            offset_bytes: rest.u32(),
            length_bytes: rest.u32(),
            raw_length_bytes: rest.u32(),
        }
    }
}

/// What is kept of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackRow {
    pub(crate) id: Id,
    /// The number of the index file that names it.
    pub(crate) file: u32,
    /// Where its last blob ends, in bytes.
    pub(crate) end_bytes: u32,
    /// How many blobs it has.
    pub(crate) blobs: u32,
    /// The size that it should have by its blobs, in bytes.
    pub(crate) expected_bytes: u64,
    /// When it was marked, if it is.
    pub(crate) time: Option<Timestamp>,
    /// The size in bytes that its mark gives.
    pub(crate) size_bytes: Option<u64>,
}

impl PackRow {
    /// A pack of an index file.
    pub(crate) fn of_pack(pack: &IndexPack, file: u32) -> Self {
        let ends = pack
            .blobs
            .iter()
            .map(|blob| blob.offset_bytes.saturating_add(blob.length_bytes));
        Self {
            id: pack.id,
            file,
            end_bytes: ends.max().unwrap_or(0),
            blobs: u32::try_from(pack.blobs.len()).unwrap_or(u32::MAX),
            expected_bytes: pack.expected_bytes(),
            time: None,
            size_bytes: None,
        }
    }

    /// A pack that an index file marks, with its blobs.
    pub(crate) fn of_mark(marked: MarkedPack, file: u32) -> (Self, IndexPack) {
        let (time, size_bytes) = (marked.time, marked.size_bytes);
        let pack = marked.unmarked();
        let row = Self {
            time,
            size_bytes,
            ..Self::of_pack(&pack, file)
        };
        (row, pack)
    }

    /// Whether a listing has the pack as long as its blobs need it.
    pub(crate) fn is_there(&self, listed_bytes: Option<u64>) -> bool {
        listed_bytes.is_some_and(|size| size > u64::from(self.end_bytes))
    }

    pub(crate) fn to_bytes(self) -> [u8; PACK_ROW_BYTES] {
        let mut bytes = [0; PACK_ROW_BYTES];
        let flags = if self.time.is_some() { HAS_TIME } else { 0 }
            | if self.size_bytes.is_some() {
                HAS_SIZE
            } else {
                0
            };
        let time = self.time.unwrap_or(Timestamp::ZERO);
        let mut rest = Fields(&mut bytes);
        rest.put(&self.id.0);
        for number in [self.file, self.end_bytes, self.blobs, flags] {
            rest.put(&number.to_be_bytes());
        }
        rest.put(&self.expected_bytes.to_be_bytes());
        rest.put(&self.size_bytes.unwrap_or(0).to_be_bytes());
        rest.put(&time.seconds.to_be_bytes());
        rest.put(&time.nanoseconds.to_be_bytes());
        rest.put(&time.offset_seconds.to_be_bytes());
        bytes
    }

    pub(crate) fn of(bytes: &[u8; PACK_ROW_BYTES]) -> Self {
        let mut rest = Rest(bytes);
        let id = Id(rest.bytes());
        let [file, end_bytes, blobs, flags] = [0; 4].map(|_: u32| rest.u32());
        let expected_bytes = u64::from_be_bytes(rest.bytes());
        let size_bytes = u64::from_be_bytes(rest.bytes());
        let time = Timestamp {
            seconds: i64::from_be_bytes(rest.bytes()),
            nanoseconds: rest.u32(),
            offset_seconds: i32::from_be_bytes(rest.bytes()),
        };
        Self {
            id,
            file,
            end_bytes,
            blobs,
            expected_bytes,
            time: (flags & HAS_TIME != 0).then_some(time),
            size_bytes: (flags & HAS_SIZE != 0).then_some(size_bytes),
        }
    }
}

/// Room for fields, one after the other.
struct Fields<'a>(&'a mut [u8]);

impl Fields<'_> {
    fn put(&mut self, field: &[u8]) {
        if let Some((slot, rest)) = std::mem::take(&mut self.0).split_at_mut_checked(field.len()) {
            slot.copy_from_slice(field);
            self.0 = rest;
        }
    }
}

/// Fields that are left.
pub(crate) struct Rest<'a>(pub(crate) &'a [u8]);

impl Rest<'_> {
    /// The next bytes; zeros where there are none, which the lengths of rows exclude.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => [0; N],
        }
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_and_sort_by_id() {
        let row = |name: &[u8], pack| Row {
            id: Id::of(name),
            pack,
            offset_bytes: 1,
            length_bytes: u32::MAX,
            raw_length_bytes: 3,
        };
        let rows = [row(b"a", 7), row(b"a", 300), row(b"b", 2)];
        for one in rows {
            assert_eq!(Row::of(&one.to_bytes()), one);
            for other in rows {
                let key = |row: Row| (row.id, row.pack);
                assert_eq!(
                    one.to_bytes().cmp(&other.to_bytes()),
                    key(one).cmp(&key(other))
                );
            }
        }
    }

    #[test]
    fn packs_survive_with_their_marks() {
        let times = [None, Some(Timestamp::ZERO), Some(Timestamp::utc(-5, 7))];
        for time in times {
            for size_bytes in [None, Some(0), Some(u64::MAX)] {
                let pack = PackRow {
                    id: Id::of(b"pack"),
                    file: 1,
                    end_bytes: 2,
                    blobs: 3,
                    expected_bytes: u64::MAX - 1,
                    time,
                    size_bytes,
                };
                assert_eq!(PackRow::of(&pack.to_bytes()), pack);
            }
        }
    }
}
