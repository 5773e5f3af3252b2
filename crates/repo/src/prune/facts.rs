//! What a prune decides on: every pack, every place of every blob, which of them snapshots need, and the index files.
//! It must never be gathered from a part: what can't be listed or read ends the prune before anything is removed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use lifeboat_flow::Cancel;
use lifeboat_format::{BlobKind, Id, IndexBlob, IndexFile, IndexPack, MarkedPack, Timestamp};

use super::needs_unknown;
use crate::blob_set::PlaceBits;
use crate::index::PackRow;
use crate::index::image::{Image, Standing};
use crate::index_image::Kept;
use crate::{Index, RepoError, Repository};

/// All that is known when a plan is made.
#[derive(Default)]
pub struct Facts {
    /// Every place of every blob, marked packs included. A pack has the number of its place in `packs`.
    pub(super) index: Index,
    /// The packs that index files name, once each.
    pub(super) packs: Vec<PackFact>,
    /// The index files.
    pub(super) files: Vec<IndexFileFact>,
    /// Packs that are in the listing and in no index file, with their sizes in bytes.
    pub(super) unindexed: Vec<(Id, u64)>,
    /// The places of blobs that snapshots need.
    pub(super) used: PlaceBits,
    /// The snapshots whose needs are known.
    pub(super) snapshots: BTreeSet<Id>,
    /// The newest of all snapshots, with its time.
    pub(super) newest_snapshot: Option<(Id, Timestamp)>,
    /// Whether the repository may hold compressed blobs.
    pub(super) compresses: bool,
    /// What this run has found out about the content of packs.
    pub(super) proof: Proof,
}

/// One pack that an index file names.
#[derive(Clone, Debug)]
pub(super) struct PackFact {
    pub(super) id: Id,
    pub(super) mark: Option<Mark>,
    /// The size that it should have, in bytes.
    pub(super) expected_bytes: u64,
    /// The size that it has, in bytes; `None` if it is not there.
    pub(super) listed_bytes: Option<u64>,
    /// How many blobs it has.
    pub(super) blobs: usize,
    /// Numbers of its data and of its tree blobs, if they lie together: not in an image, whose rows are sorted by blob.
    pub(super) places: Option<[Range<u32>; 2]>,
}

/// That a pack is to be deleted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) time: Option<Timestamp>,
    /// The size that the index file gives, for a pack without blobs.
    pub(super) size_bytes: Option<u64>,
}

/// One index file.
#[derive(Clone, Debug)]
pub(super) struct IndexFileFact {
    pub(super) id: Id,
    /// The packs that it is the home of.
    pub(super) packs: Vec<u32>,
    pub(super) blobs: usize,
    /// Whether it names a pack that another file is the home of.
    pub(super) is_dirty: bool,
}

/// The place of a blob, by names that last longer than numbers.
pub(super) type PlaceName = (Id, BlobKind, Id);

/// What a run has found out about the content of packs.
#[derive(Default)]
pub struct Proof {
    /// Packs whose blobs were copied: only what could not be copied is still theirs.
    pub(super) repacked: HashSet<Id>,
    /// Packs that this run wrote.
    pub(super) written: HashSet<Id>,
    /// Places that were read and are good.
    pub(super) good: HashSet<PlaceName>,
    /// Places that were read and are damaged.
    pub(super) damaged: HashSet<PlaceName>,
    /// Whether duplicates may only be let go of where another place was read and is good.
    pub(super) is_wanted: bool,
}

impl IndexFileFact {
    fn new(id: Id) -> Self {
        Self {
            id,
            packs: Vec::new(),
            blobs: 0,
            is_dirty: false,
        }
    }
}

impl PackFact {
    /// Whether the pack is there as the index describes it.
    pub(super) fn is_whole(&self) -> bool {
        self.listed_bytes == Some(self.expected_bytes)
    }
}

impl Facts {
    /// Numbers of all places, those of an image in the order of blobs: to be looked at one after the other, because of a
    /// large index only a part is in memory.
    pub(super) fn places(&self) -> impl Iterator<Item = (BlobKind, u32)> + '_ {
        let kinds = [BlobKind::Data, BlobKind::Tree].into_iter();
        kinds.flat_map(|kind| {
            let count = u32::try_from(self.index.len(kind)).unwrap_or(u32::MAX);
            (0..count).map(move |number| (kind, number))
        })
    }

    /// A pack with its blobs, as an index file has it; none if only that file can tell them.
    pub(super) fn index_pack(&self, pack: &PackFact) -> Option<IndexPack> {
        let [data, trees] = pack.places.clone()?;
        let data = data.map(|number| (BlobKind::Data, number));
        let all = data.chain(trees.map(|number| (BlobKind::Tree, number)));
        let mut blobs: Vec<IndexBlob> = all
            .filter_map(|(kind, number)| {
                let (id, _, place) = self.index.place_at(kind, number)?;
                Some(IndexBlob {
                    id,
                    kind,
                    offset_bytes: place.offset_bytes,
                    length_bytes: place.length_bytes,
                    raw_length_bytes: place.raw_length_bytes,
                })
            })
            .collect();
        blobs.sort_by_key(|blob| blob.offset_bytes);
        Some(IndexPack { id: pack.id, blobs })
    }

    /// Everything but what is used.
    ///
    /// # Errors
    /// When a listing fails, an index file can't be read, or index files contradict each other.
    pub(super) fn gather(repository: &Repository, cancel: &Cancel) -> Result<Self, RepoError> {
        let files = repository.listed_index_files()?;
        let listed = repository.listed_packs()?;
        let (image, damaged) = repository.index_image(&files, Kept::MadeAnew, cancel)?;
        refuse_damaged(damaged)?;
        let ids: Vec<Id> = files.into_keys().collect();
        let compresses = repository.compresses();
        let mut gathering = Gathering::new(listed, compresses);
        if let Some(image) = image
            && gathering.take_image(&image)?
        {
            let known: HashSet<Id> = image.files().collect();
            let others: Vec<Id> = ids
                .iter()
                .copied()
                .filter(|id| !known.contains(id))
                .collect();
            load_files(repository, &others, cancel, &mut gathering)?;
            if !gathering.contradicts_image() {
                return gathering.finish();
            }
        }
        let mut gathering = Gathering::new(gathering.listed, compresses);
        load_files(repository, &ids, cancel, &mut gathering)?;
        gathering.finish()
    }
}

fn load_files(
    repository: &Repository,
    ids: &[Id],
    cancel: &Cancel,
    gathering: &mut Gathering,
) -> Result<(), RepoError> {
    let gathering = Mutex::new(gathering);
    let damaged = repository.each_index_file(ids, cancel, |id, file| {
        let mut gathering = gathering.lock().unwrap_or_else(PoisonError::into_inner);
        gathering.take(id, file)
    })?;
    refuse_damaged(damaged)
}

fn refuse_damaged(damaged: Vec<(Id, RepoError)>) -> Result<(), RepoError> {
    match damaged.into_iter().next() {
        None => Ok(()),
        Some((id, cause)) => Err(needs_unknown(format!("index file {id}"), cause)),
    }
}

/// Facts that index files are added to.
pub(super) struct Gathering {
    listed: HashMap<Id, u64>,
    facts: Facts,
    numbers: HashMap<Id, u32>,
    /// They are taken last: a pack that any file names without a mark is not marked.
    marks: Vec<(usize, MarkedPack)>,
    /// Packs that an image brought.
    of_image: u32,
    /// Whether an index file beside the image names a pack that it has.
    is_contradicted: bool,
}

impl Gathering {
    pub(super) fn new(listed: HashMap<Id, u64>, compresses: bool) -> Self {
        Self {
            listed,
            facts: Facts {
                compresses,
                ..Facts::default()
            },
            numbers: HashMap::new(),
            marks: Vec::new(),
            of_image: 0,
            is_contradicted: false,
        }
    }

    /// Takes an image before anything else, and says whether it could: one that names a pack twice is not taken, because
    /// then it depends on their blobs what that means.
    pub(super) fn take_image(&mut self, image: &Arc<Image>) -> Result<bool, RepoError> {
        let mut seen = HashSet::new();
        let mut all = Standing::ALL
            .into_iter()
            .flat_map(|standing| image.packs(standing));
        if !all.all(|pack| seen.insert(pack.id)) {
            return Ok(false);
        }
        drop(seen);
        image.expect_order();
        self.facts.files = image.files().map(IndexFileFact::new).collect();
        for standing in Standing::ALL {
            for row in image.packs(standing) {
                self.add_row(standing, &row)?;
            }
            let facts = &mut self.facts;
            let mut packs = facts.packs.iter().skip(facts.index.packs().count());
            facts.index.take_image(image, standing, |_| {
                let pack = packs.next();
                pack.is_some_and(|pack| pack.mark.is_none() && pack.is_whole())
            });
        }
        counts(&self.facts.index)?;
        self.of_image = u32::try_from(self.facts.packs.len()).map_err(|_| too_many())?;
        Ok(true)
    }

    /// Takes what an image says of a pack.
    fn add_row(&mut self, standing: Standing, row: &PackRow) -> Result<(), RepoError> {
        let mark = (standing == Standing::Marked).then_some(Mark {
            time: row.time,
            size_bytes: row.size_bytes,
        });
        let listed_bytes = self.listed.get(&row.id).copied();
        let blobs = row.blobs as usize;
        let number = u32::try_from(self.facts.packs.len()).map_err(|_| too_many())?;
        self.facts.packs.push(PackFact {
            id: row.id,
            mark,
            expected_bytes: expected_bytes(mark, blobs, listed_bytes, row.expected_bytes),
            listed_bytes,
            blobs,
            places: None,
        });
        if let Some(file) = self.facts.files.get_mut(row.file as usize) {
            file.packs.push(number);
            file.blobs += blobs;
        }
        self.numbers.insert(row.id, number);
        Ok(())
    }

    /// Whether what was taken beside an image says something of a pack that is in it. Then all index files are to be taken
    /// one by one.
    pub(super) fn contradicts_image(&self) -> bool {
        let is_of_image = |id| {
            self.numbers
                .get(id)
                .is_some_and(|number| *number < self.of_image)
        };
        self.is_contradicted || self.marks.iter().any(|(_, mark)| is_of_image(&mark.id))
    }

    pub(super) fn take(&mut self, id: Id, file: IndexFile) -> Result<(), RepoError> {
        let home = self.facts.files.len();
        self.facts.files.push(IndexFileFact::new(id));
        for pack in file.packs {
            match self.numbers.get(&pack.id) {
                Some(number) if *number < self.of_image => self.is_contradicted = true,
                Some(number) if self.is_same(*number, &pack) => self.mark_dirty(home),
                Some(_) => {
                    return Err(RepoError::Refused(format!(
                        "index files name different blobs in pack {}; nothing is removed while it is not known which of them are there",
                        pack.id
                    )));
                }
                None => self.add(home, &pack, None)?,
            }
        }
        let marks = file.packs_to_delete.into_iter();
        self.marks.extend(marks.map(|mark| (home, mark)));
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Facts, RepoError> {
        let mut marks = std::mem::take(&mut self.marks);
        // Of two marks of a pack the one that knows its blobs comes first, else that of the later time.
        marks.sort_by_key(|(home, mark)| {
            (
                mark.id,
                mark.blobs.is_empty(),
                std::cmp::Reverse(mark.time),
                *home,
            )
        });
        for (home, marked) in marks {
            let mark = Mark {
                time: marked.time,
                size_bytes: marked.size_bytes,
            };
            let known = self.numbers.get(&marked.id).copied();
            match known.and_then(|number| self.facts.packs.get_mut(number as usize)) {
                // Everybody could see it unmarked until now, so that its time does not count.
                Some(PackFact { mark: None, .. }) => self.mark_dirty(home),
                Some(PackFact {
                    mark: Some(first), ..
                }) => {
                    first.time = first.time.max(mark.time);
                    self.mark_dirty(home);
                }
                None => self.add(home, &marked.unmarked(), Some(mark))?,
            }
        }
        let Self {
            listed,
            mut facts,
            numbers,
            ..
        } = self;
        let unknown = listed
            .into_iter()
            .filter(|(id, _)| !numbers.contains_key(id));
        facts.unindexed = unknown.collect();
        facts.unindexed.sort();
        facts.used = PlaceBits::of(&facts.index);
        Ok(facts)
    }

    fn mark_dirty(&mut self, file: usize) {
        if let Some(file) = self.facts.files.get_mut(file) {
            file.is_dirty = true;
        }
    }

    fn add(&mut self, home: usize, pack: &IndexPack, mark: Option<Mark>) -> Result<(), RepoError> {
        let facts = &mut self.facts;
        let number = u32::try_from(facts.packs.len()).map_err(|_| too_many())?;
        let listed_bytes = self.listed.get(&pack.id).copied();
        let blobs = pack.blobs.len();
        let expected_bytes = expected_bytes(mark, blobs, listed_bytes, pack.expected_bytes());
        let is_whole = listed_bytes == Some(expected_bytes);
        let before = counts(&facts.index)?;
        facts.index.insert(pack, mark.is_none() && is_whole);
        let after = counts(&facts.index)?;
        let [data, trees] = [0, 1].map(|kind: usize| before[kind]..after[kind]);
        if data.len() + trees.len() != pack.blobs.len() {
            return Err(too_many());
        }
        facts.packs.push(PackFact {
            id: pack.id,
            mark,
            expected_bytes,
            listed_bytes,
            blobs,
            places: Some([data, trees]),
        });
        if let Some(file) = facts.files.get_mut(home) {
            file.packs.push(number);
            file.blobs += blobs;
        }
        self.numbers.insert(pack.id, number);
        Ok(())
    }

    /// Whether a pack that is known was named with the same blobs.
    fn is_same(&self, number: u32, pack: &IndexPack) -> bool {
        let known = self.facts.packs.get(number as usize);
        let Some(known) = known.and_then(|known| self.facts.index_pack(known)) else {
            return false;
        };
        let mut known = known.blobs;
        let mut named = pack.blobs.clone();
        let key = |blob: &IndexBlob| (blob.offset_bytes, blob.kind, blob.id, blob.length_bytes);
        for blobs in [&mut known, &mut named] {
            blobs.sort_by_key(key);
        }
        known.iter().map(key).eq(named.iter().map(key))
    }
}

fn too_many() -> RepoError {
    RepoError::Refused("the index names more than this program can count".into())
}

/// The size that a pack should have, in bytes.
fn expected_bytes(
    mark: Option<Mark>,
    blobs: usize,
    listed_bytes: Option<u64>,
    bytes_of_blobs: u64,
) -> u64 {
    match mark.and_then(|mark| mark.size_bytes) {
        Some(size_bytes) => size_bytes,
        // Nothing is known of a pack that was in no index file.
        None if mark.is_some() && blobs == 0 => listed_bytes.unwrap_or(0),
        None => bytes_of_blobs,
    }
}

fn counts(index: &Index) -> Result<[u32; 2], RepoError> {
    let count = |kind| {
        u32::try_from(index.len(kind)).map_err(|_| {
            RepoError::Refused("the index names more blobs than this program can count".into())
        })
    };
    Ok([count(BlobKind::Data)?, count(BlobKind::Tree)?])
}
