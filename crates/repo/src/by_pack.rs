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
    /// Per kind: where a pack's entries begin in `numbers`, and one more for the end.
    starts: [Vec<u32>; 2],
    /// Per kind: the numbers of entries, pack after pack.
    numbers: [Vec<u32>; 2],
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
            for rank in (0..count).filter_map(rank_of) {
                if let Some(next) = starts.get_mut(rank + 1) {
                    *next += 1;
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
        assert_eq!(by_pack.numbers(Data, &Id::of(b"a")).len(), 4);
    }
}
