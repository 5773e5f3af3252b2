//! The index in memory: for every blob of the repository the packs that hold it, in at most 64 bytes a blob.
//! It must never say that a blob is there on the word of a pack that is not.

pub(crate) mod builder;
pub(crate) mod image;
mod row;
pub(crate) mod store;
mod table;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lifeboat_format::{BlobKind, BlobRef, Id, IndexBlob, IndexPack};

use image::{Image, Standing};
pub(crate) use row::PackRow;
use row::Row;
use table::Table;

/// A pack that the index knows.
struct KnownPack {
    id: Id,
    /// Whether the backend's listing confirms it.
    present: bool,
}

/// The index.
#[derive(Default)]
pub struct Index {
    data: Table,
    trees: Table,
    packs: Vec<KnownPack>,
    /// One bit a pack: whether something that is being written relies on it.
    relied: Vec<AtomicU64>,
    /// Memory of images that other parts of the index share, in bytes.
    image_bytes: usize,
    /// Packs that a prune has marked for deletion: the last resort of readers, and never relied on by writers.
    marked: Option<Box<Index>>,
}

impl Index {
    /// An index of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn table(&self, kind: BlobKind) -> &Table {
        match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        }
    }

    /// Takes the packs of an image that have a standing, with their blobs, before anything else is taken. `is_there` says
    /// of each pack whether the backend's listing confirms it.
    pub(crate) fn take_image(
        &mut self,
        image: &Arc<Image>,
        standing: Standing,
        mut is_there: impl FnMut(&PackRow) -> bool,
    ) {
        if standing == Standing::Stays {
            self.image_bytes += image.memory_bytes();
        }
        let first_pack = self.packs.len();
        for pack in image.packs(standing) {
            let present = is_there(&pack);
            self.add_pack(pack.id, present);
        }
        let Ok(first_pack) = u32::try_from(first_pack) else {
            return;
        };
        for (kind, table) in [
            (BlobKind::Data, &mut self.data),
            (BlobKind::Tree, &mut self.trees),
        ] {
            table.take_image(image, image::section(standing, kind), first_pack);
        }
    }

    /// The same, of packs that are marked for deletion.
    pub(crate) fn take_marked_image(
        &mut self,
        image: &Arc<Image>,
        is_there: impl FnMut(&PackRow) -> bool,
    ) {
        let marked = self.marked.get_or_insert_default();
        marked.take_image(image, Standing::Marked, is_there);
    }

    fn add_pack(&mut self, id: Id, present: bool) {
        self.packs.push(KnownPack { id, present });
        if self.relied.len() * 64 < self.packs.len() {
            self.relied.push(AtomicU64::new(0));
        }
    }

    /// Takes a pack with its blobs. A pack that comes twice is kept twice, which costs memory and nothing else.
    pub fn insert(&mut self, pack: &IndexPack, present: bool) {
        let Ok(number) = u32::try_from(self.packs.len()) else {
            return;
        };
        self.add_pack(pack.id, present);
        for blob in &pack.blobs {
            let row = Row {
                id: blob.id,
                pack: number,
                offset_bytes: blob.offset_bytes,
                length_bytes: blob.length_bytes,
                raw_length_bytes: blob.raw_length_bytes,
            };
            let table = match blob.kind {
                BlobKind::Data => &mut self.data,
                BlobKind::Tree => &mut self.trees,
            };
            table.push(row);
        }
    }

    /// Takes a pack that was stored now: what is being written relies on it.
    pub fn insert_stored(&mut self, pack: &IndexPack) {
        let number = self.packs.len();
        self.insert(pack, true);
        self.note_relied(number);
    }

    fn note_relied(&self, number: usize) {
        if let Some(word) = self.relied.get(number / 64) {
            word.fetch_or(1 << (number % 64), Ordering::Relaxed);
        }
    }

    /// Takes a pack that is marked for deletion. Its blobs are found where nothing else holds them, and not counted.
    pub fn insert_marked(&mut self, pack: &IndexPack, present: bool) {
        self.marked.get_or_insert_default().insert(pack, present);
    }

    /// The packs that are marked for deletion and there, as index files describe them, but for those that others name
    /// without a mark. Of a mark that tells no blobs nothing is known here.
    pub(crate) fn marked_packs(&self) -> Vec<IndexPack> {
        let Some(marked) = &self.marked else {
            return Vec::new();
        };
        let of = |index: &Self| -> HashSet<Id> {
            let packs = index.packs().filter(|(_, present)| *present);
            packs.map(|(id, _)| id).collect()
        };
        let (there, unmarked) = (of(marked), of(self));
        let mut packs: BTreeMap<Id, BTreeMap<u32, IndexBlob>> = BTreeMap::new();
        marked.each(|kind, id, place| {
            if there.contains(&place.pack) && !unmarked.contains(&place.pack) {
                let blob = IndexBlob {
                    id,
                    kind,
                    offset_bytes: place.offset_bytes,
                    length_bytes: place.length_bytes,
                    raw_length_bytes: place.raw_length_bytes,
                };
                let pack = packs.entry(place.pack).or_default();
                pack.insert(place.offset_bytes, blob);
            }
        });
        packs
            .into_iter()
            .map(|(id, blobs)| IndexPack {
                id,
                blobs: blobs.into_values().collect(),
            })
            .collect()
    }

    /// Where a blob lies; of several places the first whose pack is there, and of those one that is not to be deleted.
    #[must_use]
    pub fn find(&self, kind: BlobKind, id: &Id) -> Option<BlobRef> {
        let (present, absent) = self.first(kind, id);
        let marked = || self.marked.as_ref().map(|marked| marked.first(kind, id));
        present.or_else(|| match marked() {
            Some((present, other)) => present.or(absent).or(other),
            None => absent,
        })
    }

    /// Where a blob lies if only packs that are marked for deletion hold it.
    #[must_use]
    pub fn find_marked(&self, kind: BlobKind, id: &Id) -> Option<BlobRef> {
        let marked = self.marked.as_ref()?;
        match self.table(kind).all(id).next() {
            Some(_) => None,
            None => marked.find(kind, id),
        }
    }

    /// All places of a blob, those whose pack is there first, and those in packs that are to be deleted last.
    #[must_use]
    pub fn find_all(&self, kind: BlobKind, id: &Id) -> Vec<BlobRef> {
        let mut found: Vec<(bool, BlobRef)> = self
            .entries(kind, id)
            .map(|(entry, pack)| (!pack.present, place(&entry, pack)))
            .collect();
        found.sort();
        found.dedup();
        let marked = self.marked.as_ref().map(|marked| marked.find_all(kind, id));
        let own = found.into_iter().map(|(_, place)| place);
        own.chain(marked.unwrap_or_default()).collect()
    }

    /// The first place whose pack is there, and the first whose pack is not.
    fn first(&self, kind: BlobKind, id: &Id) -> (Option<BlobRef>, Option<BlobRef>) {
        let mut absent = None;
        for (entry, pack) in self.entries(kind, id) {
            let place = place(&entry, pack);
            if pack.present {
                return (Some(place), absent);
            }
            absent = absent.or(Some(place));
        }
        (None, absent)
    }

    /// Whether a blob lies in a pack that is there; if so, that pack is noted as relied on.
    #[must_use]
    pub fn rely(&self, kind: BlobKind, id: &Id) -> Option<u64> {
        let table = self.table(kind);
        for entry in table.all(id) {
            let number = entry.pack as usize;
            let Some(pack) = self.packs.get(number).filter(|pack| pack.present) else {
                continue;
            };
            self.note_relied(number);
            return Some(place(&entry, pack).plain_bytes());
        }
        None
    }

    /// Whether a blob lies in a pack that is there and stays.
    #[must_use]
    pub fn has(&self, kind: BlobKind, id: &Id) -> bool {
        self.entries(kind, id).any(|(_, pack)| pack.present)
    }

    /// Whether a blob lies in a pack that is there, be it marked for deletion.
    #[must_use]
    pub fn can_read(&self, kind: BlobKind, id: &Id) -> bool {
        let marked = || {
            self.marked
                .as_ref()
                .is_some_and(|marked| marked.has(kind, id))
        };
        self.has(kind, id) || marked()
    }

    /// Believes no longer that these packs are there.
    pub fn distrust(&mut self, packs: &std::collections::BTreeSet<Id>) {
        for pack in &mut self.packs {
            pack.present &= !packs.contains(&pack.id);
        }
        if let Some(marked) = &mut self.marked {
            marked.distrust(packs);
        }
    }

    /// The packs that were relied on.
    #[must_use]
    pub fn relied_packs(&self) -> Vec<Id> {
        let is_relied = |number: usize| {
            self.relied
                .get(number / 64)
                .is_some_and(|word| word.load(Ordering::Relaxed) >> (number % 64) & 1 == 1)
        };
        self.packs
            .iter()
            .enumerate()
            .filter(|(number, _)| is_relied(*number))
            .map(|(_, pack)| pack.id)
            .collect()
    }

    /// Length of a blob's plaintext in bytes.
    #[must_use]
    pub fn plain_bytes(&self, kind: BlobKind, id: &Id) -> Option<u64> {
        self.find(kind, id).map(|place| place.plain_bytes())
    }

    /// Number of blobs of a kind, each place counted.
    #[must_use]
    pub fn len(&self, kind: BlobKind) -> usize {
        self.table(kind).len()
    }

    /// Whether it knows no blob.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.data.len() + self.trees.len() == 0
    }

    /// Every blob with every place.
    pub fn each(&self, mut visit: impl FnMut(BlobKind, Id, BlobRef)) {
        for kind in [BlobKind::Data, BlobKind::Tree] {
            for entry in self.table(kind).rows() {
                if let Some(pack) = self.packs.get(entry.pack as usize) {
                    visit(kind, entry.id, place(&entry, pack));
                }
            }
        }
    }

    /// A place by its number: the blob, the number of its pack in the order of insertion, and where it lies there.
    pub(crate) fn place_at(&self, kind: BlobKind, number: u32) -> Option<(Id, u32, BlobRef)> {
        let entry = self.table(kind).row(number)?;
        let pack = self.packs.get(entry.pack as usize)?;
        Some((entry.id, entry.pack, place(&entry, pack)))
    }

    /// The numbers of a blob's places: each place of a kind has one, below [`len`](Index::len). They stay the same
    /// while nothing is inserted.
    pub fn numbers<'a>(&'a self, kind: BlobKind, id: &'a Id) -> impl Iterator<Item = u32> + 'a {
        self.table(kind).all_numbers(id)
    }

    /// The blob and place of a number.
    #[must_use]
    pub fn entry(&self, kind: BlobKind, number: u32) -> Option<(Id, BlobRef)> {
        let entry = self.table(kind).row(number)?;
        Some((
            entry.id,
            place(&entry, self.packs.get(entry.pack as usize)?),
        ))
    }

    /// The number of the pack that a place is in, in the order of [`packs`](Index::packs).
    #[must_use]
    pub fn pack_number(&self, kind: BlobKind, number: u32) -> Option<u32> {
        Some(self.table(kind).row(number)?.pack)
    }

    /// Packs that the index names, each with whether the backend's listing has it.
    pub fn packs(&self) -> impl Iterator<Item = (Id, bool)> + '_ {
        self.packs.iter().map(|pack| (pack.id, pack.present))
    }

    /// Memory that it takes, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.data.memory_bytes()
            + self.trees.memory_bytes()
            + self.image_bytes
            + self.packs.capacity() * size_of::<KnownPack>()
            + self.relied.capacity() * 8
            + self
                .marked
                .as_ref()
                .map_or(0, |marked| marked.memory_bytes())
    }

    fn entries<'a>(
        &'a self,
        kind: BlobKind,
        id: &'a Id,
    ) -> impl Iterator<Item = (Row, &'a KnownPack)> + 'a {
        self.table(kind)
            .all(id)
            .filter_map(|entry| Some((entry, self.packs.get(entry.pack as usize)?)))
    }
}

fn place(entry: &Row, pack: &KnownPack) -> BlobRef {
    BlobRef {
        pack: pack.id,
        offset_bytes: entry.offset_bytes,
        length_bytes: entry.length_bytes,
        raw_length_bytes: entry.raw_length_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::IndexBlob;

    fn pack(name: u32, blobs: impl Iterator<Item = (BlobKind, u32)>) -> IndexPack {
        let blobs = blobs
            .enumerate()
            .map(|(at, (kind, blob))| IndexBlob {
                id: Id::of(&blob.to_le_bytes()),
                kind,
                offset_bytes: at as u32 * 100,
                length_bytes: 100,
                raw_length_bytes: 0,
            })
            .collect();
        IndexPack {
            id: Id::of(format!("pack {name}").as_bytes()),
            blobs,
        }
    }

    #[test]
    fn a_blob_takes_at_most_64_bytes() {
        for blobs in [14_400u32, 20_000, 28_700, 115_000, 500_000] {
            let mut index = Index::new();
            for name in 0..blobs / 20 {
                index.insert(
                    &pack(name, (0..20).map(|b| (BlobKind::Data, name * 20 + b))),
                    true,
                );
            }
            assert_eq!(index.len(BlobKind::Data), blobs as usize);
            let each = index.memory_bytes() as f64 / f64::from(blobs);
            assert!(each <= 64.0, "{blobs} blobs take {each} bytes each");
        }
    }

    #[test]
    fn duplicates_are_kept_and_absent_packs_come_last() {
        let mut index = Index::new();
        index.insert(&pack(1, [(BlobKind::Data, 7)].into_iter()), false);
        index.insert(
            &pack(2, [(BlobKind::Data, 8), (BlobKind::Data, 7)].into_iter()),
            true,
        );
        let id = Id::of(&7u32.to_le_bytes());
        assert_eq!(index.find_all(BlobKind::Data, &id).len(), 2);
        assert_eq!(
            index.find(BlobKind::Data, &id).map(|b| b.offset_bytes),
            Some(100)
        );
        assert_eq!(index.find(BlobKind::Tree, &id), None);
    }

    #[test]
    fn marked_packs_are_a_last_resort_for_readers_alone() {
        let mut index = Index::new();
        index.insert_marked(
            &pack(
                1,
                [
                    (BlobKind::Data, 1),
                    (BlobKind::Data, 2),
                    (BlobKind::Data, 3),
                ]
                .into_iter(),
            ),
            true,
        );
        index.insert(&pack(2, [(BlobKind::Data, 2)].into_iter()), true);
        index.insert(&pack(3, [(BlobKind::Data, 3)].into_iter()), false);
        let ids = [1, 2, 3].map(|number: u32| Id::of(&number.to_le_bytes()));
        let (one, two, three) = (&ids[0], &ids[1], &ids[2]);
        let found = |id| index.find(BlobKind::Data, id).map(|place| place.pack);
        assert_eq!(found(one), Some(Id::of(b"pack 1")));
        assert_eq!(found(two), Some(Id::of(b"pack 2")));
        assert_eq!(found(three), Some(Id::of(b"pack 1")));
        assert_eq!(index.find_all(BlobKind::Data, two).len(), 2);
        assert!(index.find_marked(BlobKind::Data, one).is_some());
        assert_eq!(index.find_marked(BlobKind::Data, two), None);
        assert_eq!(index.rely(BlobKind::Data, one), None);
        assert_eq!((index.len(BlobKind::Data), index.packs().count()), (2, 2));
    }

    #[test]
    fn only_present_packs_are_relied_on() {
        let mut index = Index::new();
        index.insert(&pack(1, [(BlobKind::Data, 1)].into_iter()), false);
        index.insert(&pack(2, [(BlobKind::Data, 2)].into_iter()), true);
        assert_eq!(
            index.rely(BlobKind::Data, &Id::of(&1u32.to_le_bytes())),
            None
        );
        assert!(
            index
                .rely(BlobKind::Data, &Id::of(&2u32.to_le_bytes()))
                .is_some()
        );
        assert_eq!(index.relied_packs(), [Id::of(b"pack 2")]);
    }
}
