//! Sets of blobs that take one bit for each entry of the index: what is used, which copy is chosen.
//! They must never grow after they were made: a number beyond the end is nobody's.

use std::sync::atomic::{AtomicU64, Ordering};

use lifeboat_format::{BlobKind, Id};

use crate::Index;

/// A set of blobs of an index.
pub struct BlobSet<'i> {
    index: &'i Index,
    bits: PlaceBits,
}

impl<'i> BlobSet<'i> {
    /// The empty set.
    #[must_use]
    pub fn new(index: &'i Index) -> Self {
        Self {
            index,
            bits: PlaceBits::of(index),
        }
    }

    /// Puts a blob in, with all its places, and says whether it is new; `None` if the index does not know it.
    pub fn insert(&self, kind: BlobKind, id: &Id) -> Option<bool> {
        self.bits.insert(self.index, kind, id)
    }

    /// Whether a blob is in it.
    #[must_use]
    pub fn contains(&self, kind: BlobKind, id: &Id) -> bool {
        self.index
            .numbers(kind, id)
            .min()
            .is_some_and(|number| self.has_entry(kind, number))
    }

    /// Whether the blob of an entry is in it, by the entry's number in the index.
    #[must_use]
    pub fn has_entry(&self, kind: BlobKind, number: u32) -> bool {
        self.bits.has(kind, number)
    }

    /// Calls `each` with every blob in it once, and its number.
    pub fn each(&self, mut each: impl FnMut(BlobKind, Id, u32)) {
        for kind in [BlobKind::Data, BlobKind::Tree] {
            for number in 0..self.index.len(kind) as u32 {
                if !self.has_entry(kind, number) {
                    continue;
                }
                if let Some((id, _)) = self.index.entry(kind, number)
                    && self.index.numbers(kind, &id).min() == Some(number)
                {
                    each(kind, id, number);
                }
            }
        }
    }

    /// Memory that it takes, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.bits.memory_bytes()
    }
}

/// A bit for each place of both kinds, that several threads may set. It does not hold the index that it is of, which is
/// named again where blobs are meant.
#[derive(Debug, Default)]
pub(crate) struct PlaceBits {
    data: Vec<AtomicU64>,
    trees: Vec<AtomicU64>,
}

impl PlaceBits {
    /// For all places of an index, none set.
    pub(crate) fn of(index: &Index) -> Self {
        let words = |kind| {
            let words = index.len(kind).div_ceil(64);
            (0..words).map(|_| AtomicU64::new(0)).collect()
        };
        Self {
            data: words(BlobKind::Data),
            trees: words(BlobKind::Tree),
        }
    }

    fn words(&self, kind: BlobKind) -> &[AtomicU64] {
        match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        }
    }

    /// Sets the bits of all places of a blob and says whether it is new; `None` if the index does not know it.
    pub(crate) fn insert(&self, index: &Index, kind: BlobKind, id: &Id) -> Option<bool> {
        // Of several places the one with the lowest number decides which of two threads was first.
        let first = index.numbers(kind, id).min()?;
        let is_new = self.set(kind, first);
        if is_new {
            for number in index.numbers(kind, id) {
                self.set(kind, number);
            }
        }
        Some(is_new)
    }

    /// Sets the bit of a place and says whether it was not set before.
    pub(crate) fn set(&self, kind: BlobKind, number: u32) -> bool {
        let bit = 1 << (number % 64);
        self.words(kind)
            .get(number as usize / 64)
            .is_some_and(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
    }

    /// Whether the bit of a place is set.
    pub(crate) fn has(&self, kind: BlobKind, number: u32) -> bool {
        self.words(kind)
            .get(number as usize / 64)
            .is_some_and(|word| word.load(Ordering::Relaxed) >> (number % 64) & 1 == 1)
    }

    fn memory_bytes(&self) -> usize {
        (self.data.capacity() + self.trees.capacity()) * size_of::<AtomicU64>()
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_format::{IndexBlob, IndexPack};

    use super::*;

    #[test]
    fn a_blob_is_in_the_set_with_all_its_places_and_counts_once() {
        let id = |number: u32| Id::of(&number.to_le_bytes());
        let pack = |name: u32, blobs: &[u32]| IndexPack {
            id: id(1000 + name),
            blobs: blobs
                .iter()
                .map(|blob| IndexBlob {
                    id: id(*blob),
                    kind: BlobKind::Data,
                    offset_bytes: 0,
                    length_bytes: 40,
                    raw_length_bytes: 0,
                })
                .collect(),
        };
        let mut index = Index::new();
        index.insert(&pack(1, &[1, 2, 3]), true);
        index.insert(&pack(2, &[2, 4]), false);
        let set = BlobSet::new(&index);
        assert_eq!(set.insert(BlobKind::Data, &id(2)), Some(true));
        assert_eq!(set.insert(BlobKind::Data, &id(2)), Some(false));
        assert_eq!(set.insert(BlobKind::Data, &id(9)), None);
        assert_eq!(set.insert(BlobKind::Tree, &id(2)), None);
        let set_entries: Vec<u32> = (0..5)
            .filter(|n| set.has_entry(BlobKind::Data, *n))
            .collect();
        assert_eq!(set_entries, [1, 3]);
        assert!(set.contains(BlobKind::Data, &id(2)) && !set.contains(BlobKind::Data, &id(1)));
        let mut all = Vec::new();
        set.each(|_, blob, number| all.push((blob, number)));
        assert_eq!(all, [(id(2), 1)]);
    }
}
