//! The entries of an index in the order of their packs: what each pack holds, in 4 bytes a blob beside the index.
//! It must never copy an entry: for a repository of millions of blobs that would double its memory.

use lifeboat_format::{BlobKind, BlobRef, Id, PackEntry, header_bytes};

use crate::Index;

const KINDS: [BlobKind; 2] = [BlobKind::Data, BlobKind::Tree];

/// What each pack of an index holds. A pack that several index files name counts once.
pub struct ByPack<'i> {
    index: &'i Index,
    /// Distinct packs, sorted.
    packs: Vec<Id>,
    /// What their entries add up to, in the same order.
    sums: Vec<Sums>,
    /// Per kind: where a pack's entries begin in `numbers`, and one more for the end.
    starts: [Vec<u32>; 2],
    /// Per kind: the numbers of entries, pack after pack.
    numbers: [Vec<u32>; 2],
}

/// What the entries of a pack add up to.
#[derive(Clone, Copy, Default)]
struct Sums {
    /// How often index files name the pack.
    named: u32,
    /// Length of all blobs, in bytes.
    blob_bytes: u64,
    /// Where the last blob ends, in bytes.
    end_bytes: u64,
    /// Length of their entries in the header, in bytes.
    entry_bytes: u64,
}

impl Sums {
    fn add(&mut self, kind: BlobKind, id: Id, place: &BlobRef) {
        let entry = PackEntry {
            kind,
            id,
            length_bytes: place.length_bytes,
            raw_length_bytes: place.raw_length_bytes,
        };
        let length_bytes = u64::from(place.length_bytes);
        self.blob_bytes += length_bytes;
        self.end_bytes = self
            .end_bytes
            .max(u64::from(place.offset_bytes) + length_bytes);
        self.entry_bytes += header_bytes(&[entry]) - header_bytes(&[]);
    }
}

impl<'i> ByPack<'i> {
    /// Sorts the entries of an index by pack.
    #[must_use]
    pub fn new(index: &'i Index) -> Self {
        let mut packs: Vec<Id> = index.packs().map(|(id, _)| id).collect();
        packs.sort_unstable();
        packs.dedup();
        packs.shrink_to_fit();
        // The rank of each pack number: a pack that was inserted twice has two numbers and one rank.
        let ranks: Vec<u32> = index
            .packs()
            .map(|(id, _)| packs.binary_search(&id).unwrap_or(0) as u32)
            .collect();
        let mut sums = vec![Sums::default(); packs.len()];
        for rank in &ranks {
            if let Some(sums) = sums.get_mut(*rank as usize) {
                sums.named += 1;
            }
        }
        let mut starts: [Vec<u32>; 2] = Default::default();
        let mut numbers: [Vec<u32>; 2] = Default::default();
        for (kind, (starts, numbers)) in KINDS.into_iter().zip(starts.iter_mut().zip(&mut numbers))
        {
            let count = index.len(kind) as u32;
            let rank_of = |number: u32| {
                let pack = index.pack_number(kind, number)?;
                ranks.get(pack as usize).map(|rank| *rank as usize)
            };
            starts.resize(packs.len() + 1, 0);
            for number in 0..count {
                let (Some(rank), Some((id, place))) = (rank_of(number), index.entry(kind, number))
                else {
                    continue;
                };
                if let (Some(next), Some(sums)) = (starts.get_mut(rank + 1), sums.get_mut(rank)) {
                    *next += 1;
                    sums.add(kind, id, &place);
                }
            }
            let mut sum = 0;
            for start in starts.iter_mut() {
                sum += *start;
                *start = sum;
            }
            numbers.resize(count as usize, 0);
            let mut at = starts.clone();
            for number in 0..count {
                let slot = rank_of(number).and_then(|rank| at.get_mut(rank));
                if let Some(slot) = slot {
                    if let Some(place) = numbers.get_mut(*slot as usize) {
                        *place = number;
                    }
                    *slot += 1;
                }
            }
        }
        Self {
            index,
            packs,
            sums,
            starts,
            numbers,
        }
    }

    /// The packs, sorted by ID.
    #[must_use]
    pub fn packs(&self) -> &[Id] {
        &self.packs
    }

    /// Whether the index names a pack.
    #[must_use]
    pub fn contains(&self, pack: &Id) -> bool {
        self.packs.binary_search(pack).is_ok()
    }

    /// Whether a pack of this size holds exactly what the index names: without a look at each of its entries, which lie
    /// far from each other in a large index. False if only these can tell.
    #[must_use]
    pub fn is_plainly(&self, pack: &Id, size_bytes: u64) -> bool {
        let rank = self.packs.binary_search(pack).ok();
        let sums = rank.and_then(|rank| self.sums.get(rank));
        sums.is_some_and(|sums| {
            // Blob after blob, each named once.
            sums.named == 1
                && sums.blob_bytes == sums.end_bytes
                && sums.blob_bytes + sums.entry_bytes + header_bytes(&[]) == size_bytes
        })
    }

    /// The numbers of a pack's entries of a kind; several may be the same blob at the same place.
    #[must_use]
    pub fn numbers(&self, kind: BlobKind, pack: &Id) -> &[u32] {
        let slot = usize::from(kind == BlobKind::Tree);
        let Some((starts, numbers)) = self.starts.get(slot).zip(self.numbers.get(slot)) else {
            return &[];
        };
        let range =
            self.packs.binary_search(pack).ok().and_then(|rank| {
                Some(*starts.get(rank)? as usize..*starts.get(rank + 1)? as usize)
            });
        range
            .and_then(|range| numbers.get(range))
            .unwrap_or_default()
    }

    /// The blobs of a pack by their places, each once.
    #[must_use]
    pub fn blobs(&self, pack: &Id) -> Vec<(BlobKind, Id, BlobRef)> {
        let mut blobs = Vec::new();
        for kind in KINDS {
            blobs.extend(self.numbers(kind, pack).iter().filter_map(|number| {
                let (id, place) = self.index.entry(kind, *number)?;
                Some((kind, id, place))
            }));
        }
        blobs.sort_unstable_by_key(|(kind, id, place)| {
            (
                place.offset_bytes,
                *kind,
                *id,
                place.length_bytes,
                place.raw_length_bytes,
            )
        });
        blobs.dedup();
        blobs
    }

    /// Memory that it takes beside the index, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let numbers = self.starts.iter().chain(&self.numbers);
        self.packs.capacity() * size_of::<Id>()
            + self.sums.capacity() * size_of::<Sums>()
            + numbers
                .map(|n| n.capacity() * size_of::<u32>())
                .sum::<usize>()
    }
}

/// The size of a pack that holds exactly these blobs, in bytes.
#[must_use]
pub fn pack_bytes(blobs: &[(BlobKind, Id, BlobRef)]) -> u64 {
    let entries: Vec<PackEntry> = blobs
        .iter()
        .map(|(kind, id, place)| PackEntry {
            kind: *kind,
            id: *id,
            length_bytes: place.length_bytes,
            raw_length_bytes: place.raw_length_bytes,
        })
        .collect();
    let content: u64 = entries.iter().map(|e| u64::from(e.length_bytes)).sum();
    content + header_bytes(&entries)
}

#[cfg(test)]
mod tests {
    use lifeboat_format::{IndexBlob, IndexPack};

    use super::*;

    fn pack(name: &str, blobs: &[(BlobKind, u32)]) -> IndexPack {
        let blobs = blobs
            .iter()
            .enumerate()
            .map(|(at, (kind, blob))| IndexBlob {
                id: Id::of(&blob.to_le_bytes()),
                kind: *kind,
                offset_bytes: at as u32 * 100,
                length_bytes: 100,
                raw_length_bytes: 0,
            });
        IndexPack {
            id: Id::of(name.as_bytes()),
            blobs: blobs.collect(),
        }
    }

    #[test]
    fn each_pack_has_its_blobs_once_however_often_it_is_named() {
        use BlobKind::{Data, Tree};
        let mut index = Index::new();
        index.insert(&pack("a", &[(Data, 1), (Data, 2)]), true);
        index.insert(&pack("b", &[(Tree, 3), (Data, 1)]), false);
        index.insert(&pack("a", &[(Data, 1), (Data, 2), (Tree, 9)]), true);
        index.insert(&pack("empty", &[]), true);
        let by_pack = ByPack::new(&index);
        assert_eq!(by_pack.packs().len(), 3);
        let seen = |name: &str| -> Vec<(BlobKind, u32)> {
            by_pack
                .blobs(&Id::of(name.as_bytes()))
                .iter()
                .map(|(kind, _, place)| (*kind, place.offset_bytes))
                .collect()
        };
        assert_eq!(seen("a"), [(Data, 0), (Data, 100), (Tree, 200)]);
        assert_eq!(seen("b"), [(Tree, 0), (Data, 100)]);
        assert_eq!(seen("empty"), []);
        assert_eq!(seen("unknown"), []);
        for name in ["a", "b", "empty", "unknown"] {
            let id = Id::of(name.as_bytes());
            let exact = pack_bytes(&by_pack.blobs(&id));
            let is_sure = by_pack.is_plainly(&id, exact);
            assert_eq!(is_sure, name == "b" || name == "empty", "{name}");
            assert!(!by_pack.is_plainly(&id, exact + 1) && !by_pack.is_plainly(&id, exact - 1));
        }
        assert_eq!(by_pack.numbers(Data, &Id::of(b"a")).len(), 4);
    }
}
