//! What a prune decides on: every pack, every place of every blob, which of them snapshots need, and the index files.
//! It must never be gathered from a part: what can't be listed or read ends the prune before anything is removed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use lifeboat_flow::Cancel;
use lifeboat_format::{BlobKind, Id, IndexBlob, IndexFile, IndexPack, MarkedPack, Timestamp};

use super::needs_unknown;
use crate::backend::FileKind;
use crate::blob_set::PlaceBits;
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
    /// Numbers of its data and of its tree blobs.
    pub(super) places: [Range<u32>; 2],
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

impl PackFact {
    /// Whether the pack is there as the index describes it.
    pub(super) fn is_whole(&self) -> bool {
        self.listed_bytes == Some(self.expected_bytes)
    }

    /// Numbers of all its places.
    pub(super) fn all_places(&self) -> impl Iterator<Item = (BlobKind, u32)> + '_ {
        let [data, trees] = &self.places;
        let data = data.clone().map(|number| (BlobKind::Data, number));
        data.chain(trees.clone().map(|number| (BlobKind::Tree, number)))
    }
}

impl Facts {
    /// A pack with its blobs, as an index file has it.
    pub(super) fn index_pack(&self, pack: &PackFact) -> IndexPack {
        let mut blobs: Vec<IndexBlob> = pack
            .all_places()
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
        IndexPack { id: pack.id, blobs }
    }

    /// Everything but what is used.
    ///
    /// # Errors
    /// When a listing fails, an index file can't be read, or index files contradict each other.
    pub(super) fn gather(repository: &Repository, cancel: &Cancel) -> Result<Self, RepoError> {
        let ids = repository.ids(FileKind::Index)?;
        let mut listed = HashMap::new();
        repository
            .backend()
            .list(FileKind::Pack, &mut |id, size_bytes| {
                listed.insert(id, size_bytes);
            })?;
        let mut gathering = Gathering::new(listed, repository.compresses());
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
    let next = AtomicUsize::new(0);
    let shared = Mutex::new((gathering, Ok(())));
    std::thread::scope(|scope| {
        for _ in 0..repository.loaders().min(ids.len()) {
            scope.spawn(|| {
                while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if cancel.is_cancelled() {
                        return;
                    }
                    let file = repository.load_index_file(*id);
                    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    let (gathering, result) = &mut *shared;
                    let taken = file
                        .map_err(|cause| needs_unknown(format!("index file {id}"), cause))
                        .and_then(|file| gathering.take(*id, file));
                    if let Err(error) = taken {
                        *result = Err(error);
                        return;
                    }
                    if result.is_err() {
                        return;
                    }
                }
            });
        }
    });
    cancel.check()?;
    shared
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .1
}

/// Facts that index files are added to.
pub(super) struct Gathering {
    listed: HashMap<Id, u64>,
    facts: Facts,
    numbers: HashMap<Id, u32>,
    /// They are taken last: a pack that any file names without a mark is not marked.
    marks: Vec<(usize, MarkedPack)>,
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
        }
    }

    pub(super) fn take(&mut self, id: Id, file: IndexFile) -> Result<(), RepoError> {
        let home = self.facts.files.len();
        self.facts.files.push(IndexFileFact {
            id,
            packs: Vec::new(),
            blobs: 0,
            is_dirty: false,
        });
        for pack in file.packs {
            match self.numbers.get(&pack.id) {
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
        let too_many =
            || RepoError::Refused("the index names more than this program can count".into());
        let number = u32::try_from(facts.packs.len()).map_err(|_| too_many())?;
        let listed_bytes = self.listed.get(&pack.id).copied();
        let told = mark.and_then(|mark| mark.size_bytes);
        let expected_bytes = match told {
            Some(size_bytes) => size_bytes,
            // Nothing is known of a pack that was in no index file.
            None if mark.is_some() && pack.blobs.is_empty() => listed_bytes.unwrap_or(0),
            None => pack.expected_bytes(),
        };
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
            places: [data, trees],
        });
        if let Some(file) = facts.files.get_mut(home) {
            file.packs.push(number);
            file.blobs += pack.blobs.len();
        }
        self.numbers.insert(pack.id, number);
        Ok(())
    }

    /// Whether a pack that is known was named with the same blobs.
    fn is_same(&self, number: u32, pack: &IndexPack) -> bool {
        let Some(known) = self.facts.packs.get(number as usize) else {
            return false;
        };
        let mut known = self.facts.index_pack(known).blobs;
        let mut named = pack.blobs.clone();
        let key = |blob: &IndexBlob| (blob.offset_bytes, blob.kind, blob.id, blob.length_bytes);
        for blobs in [&mut known, &mut named] {
            blobs.sort_by_key(key);
        }
        known.iter().map(key).eq(named.iter().map(key))
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
