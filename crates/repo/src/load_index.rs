//! Reads all index files into memory, compared with the packs that are really there.
//! It must never take a damaged index file for an empty one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use lifeboat_flow::Cancel;
use lifeboat_format::{Id, IndexBlob, IndexFile, IndexPack};

use crate::at_once::at_once;
use crate::backend::{FileKind, FileName};
use crate::index::PackRow;
use crate::index::image::{Image, Standing};
use crate::index_image::Kept;
use crate::{Index, RepoError, Repository};

/// What loading the index brought to light.
#[derive(Default)]
pub struct IndexReport {
    /// Index files that can't be read.
    pub damaged: Vec<(Id, RepoError)>,
    /// Packs that the index names and the listing does not have, or that are too short for what they should hold.
    pub missing_packs: Vec<Id>,
    /// Packs in the listing with their sizes in bytes, if it was asked for.
    pub listed_packs: HashMap<Id, u64>,
    /// Packs that index files say should be deleted, by a prune in two phases. Nothing new may rely on them.
    pub marked_packs: Vec<Id>,
}

impl IndexReport {
    /// Why nobody can say what is lost, if an index file could not be read.
    #[must_use]
    pub fn index_first(&self) -> Option<RepoError> {
        let (id, error) = self.damaged.first()?;
        let is = if error.is_damage() {
            "is damaged"
        } else {
            "can't be read"
        };
        Some(RepoError::IndexFirst(format!(
            "index file {} {is}",
            id.short()
        )))
    }
}

/// How thorough loading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackListing {
    /// Believe the index: enough to read.
    Skip,
    /// Compare with the backend's listing: needed before anything is written that relies on what is there.
    Compare,
}

impl Repository {
    /// The index of the repository.
    ///
    /// # Errors
    /// When the backend's listings fail. Damaged index files are in the report.
    pub fn load_index(
        &self,
        listing: PackListing,
        cancel: &Cancel,
    ) -> Result<(Index, IndexReport), RepoError> {
        let files = self.listed_index_files()?;
        let listed = OnceLock::new();
        let loaded = std::thread::scope(|scope| {
            // After the listing of the index: a pack that is indexed was stored before, so this listing must have it.
            scope.spawn(|| {
                // Others wait for it, whatever happens.
                let _told = OnPanic(&listed);
                listed.get_or_init(|| match listing {
                    PackListing::Compare => self.listed_packs(),
                    PackListing::Skip => Ok(HashMap::new()),
                })
            });
            let (image, mut damaged) = self.index_image(&files, Kept::Taken, cancel)?;
            // What can't be listed is told below.
            let Ok(packs) = listed.wait() else {
                return Ok((Index::new(), IndexReport::default()));
            };
            let packs = (listing == PackListing::Compare).then_some(packs);
            let mut index = Index::new();
            let mut report = IndexReport::default();
            let mut known: HashSet<Id> = damaged.iter().map(|(id, _)| *id).collect();
            if let Some(image) = image {
                known.extend(image.files());
                take_image(&mut index, &mut report, &image, packs);
            }
            let others = files.keys().filter(|id| !known.contains(id)).copied();
            let shared = Mutex::new((&mut index, &mut report));
            let more = self.each_index_file(&others.collect::<Vec<Id>>(), cancel, |_, file| {
                let mut shared = lock(&shared);
                let (index, report) = &mut *shared;
                take(index, report, file, packs);
                Ok(())
            })?;
            damaged.extend(more);
            report.damaged = damaged;
            Ok::<_, RepoError>((index, report))
        });
        cancel.check()?;
        let listed = listed.into_inner().unwrap_or_else(|| Ok(HashMap::new()))?;
        let (index, mut report) = loaded?;
        report.missing_packs.sort();
        report.missing_packs.dedup();
        report.listed_packs = listed;
        Ok((index, report))
    }

    /// The index files in the backend's listing with their sizes in bytes.
    pub(crate) fn listed_index_files(&self) -> Result<BTreeMap<Id, u64>, RepoError> {
        let mut files = BTreeMap::new();
        self.backend().list(FileKind::Index, &mut |id, size| {
            files.insert(id, size);
        })?;
        Ok(files)
    }

    /// Reads index files, several at once, and gives each to `take`; those that can't be read are given back.
    pub(crate) fn each_index_file(
        &self,
        ids: &[Id],
        cancel: &Cancel,
        take: impl Fn(Id, IndexFile) -> Result<(), RepoError> + Sync,
    ) -> Result<Vec<(Id, RepoError)>, RepoError> {
        let damaged = Mutex::new(Vec::new());
        at_once(self.loaders(), ids, cancel, |id| {
            match self.load_index_file(*id) {
                Ok(file) => take(*id, file)?,
                Err(error) if error.ends_all() => return Err(error),
                Err(error) => lock(&damaged).push((*id, error)),
            }
            Ok(())
        })?;
        Ok(damaged.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// The packs in the backend's listing with their sizes in bytes.
    pub(crate) fn listed_packs(&self) -> Result<HashMap<Id, u64>, RepoError> {
        let mut packs = HashMap::new();
        self.backend().list(FileKind::Pack, &mut |id, size| {
            packs.insert(id, size);
        })?;
        Ok(packs)
    }

    /// One index file.
    ///
    /// # Errors
    /// When it can't be read or is damaged.
    pub fn load_index_file(&self, id: Id) -> Result<IndexFile, RepoError> {
        let name = FileName::new(FileKind::Index, id);
        IndexFile::from_json(&self.load_json(name)?).map_err(|cause| self.damaged(name, cause))
    }
}

/// Says that there is no listing, if none was made.
struct OnPanic<'a>(&'a OnceLock<Result<HashMap<Id, u64>, RepoError>>);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        let _ = self.0.get_or_init(|| {
            Err(RepoError::WriterFailed(
                "the listing of packs was broken off".into(),
            ))
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take_image(
    index: &mut Index,
    report: &mut IndexReport,
    image: &Arc<Image>,
    packs: Option<&HashMap<Id, u64>>,
) {
    let is_there =
        |pack: &PackRow| packs.is_none_or(|packs| pack.is_there(packs.get(&pack.id).copied()));
    index.take_image(image, Standing::Stays, |pack| {
        let present = is_there(pack);
        if !present {
            report.missing_packs.push(pack.id);
        }
        present
    });
    if image.packs(Standing::Marked).next().is_some() {
        index.take_marked_image(image, |pack| {
            report.marked_packs.push(pack.id);
            is_there(pack)
        });
    }
}

fn take(
    index: &mut Index,
    report: &mut IndexReport,
    file: IndexFile,
    packs: Option<&HashMap<Id, u64>>,
) {
    for pack in &file.packs {
        let present = is_present(packs, pack);
        if !present {
            report.missing_packs.push(pack.id);
        }
        index.insert(pack, present);
    }
    for marked in file.packs_to_delete {
        report.marked_packs.push(marked.id);
        let pack = marked.unmarked();
        index.insert_marked(&pack, is_present(packs, &pack));
    }
}

/// Whether a pack is in the listing, if there is one.
fn is_present(packs: Option<&HashMap<Id, u64>>, pack: &IndexPack) -> bool {
    let Some(packs) = packs else {
        return true;
    };
    let ends = |blob: &IndexBlob| u64::from(blob.offset_bytes) + u64::from(blob.length_bytes);
    let needed = pack.blobs.iter().map(ends).max().unwrap_or(0);
    packs.get(&pack.id).is_some_and(|size| *size > needed)
}
