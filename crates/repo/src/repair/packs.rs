//! Repairs packs: saves every good blob of damaged ones, fetches lost ones from a copy of the repository, drops the rest.
//! It must never remove a pack before its good blobs are stored and indexed elsewhere and its bytes are kept by the caller.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::RwLock;
use std::sync::atomic::Ordering;

use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::{BlobKind, BlobRef, Id, NodeKind, PackEntry, Tree};

use super::{PackFacts, sure};
use crate::backend::{FileKind, FileName};
use crate::check::split_header;
use crate::index_writer::{FileRewrite, IndexRewritten, ensure, rewrite_index};
use crate::lock::LockGuard;
use crate::read::read_place;
use crate::{
    BlobReader, ByPack, Index, Ingest, IngestOptions, Opener, PackListing, RepoError, Repository,
    Sealer, TreeRoot, UsedBlobs, open_blob, read_blob,
};

/// Longest pack that is read whole, in bytes.
const PACK_MAX_BYTES: u64 = u32::MAX as u64;

/// Keeps the bytes of a damaged pack before it is removed.
pub type KeepPack<'k> = &'k mut dyn FnMut(Id, &[u8]) -> Result<(), RepoError>;

/// A blob by its kind and ID.
type Blob = (BlobKind, Id);

/// Another repository that may hold what is lost here: a copy, or one that the same data went to.
#[derive(Clone, Copy)]
pub struct OtherRepository<'o> {
    /// The repository, with any key.
    pub repository: &'o Repository,
    /// Its index.
    pub index: &'o Index,
}

/// What is to be done with one pack.
#[derive(Clone, Debug, Default)]
pub struct PackPlan {
    /// The pack.
    pub id: Id,
    /// Its size in bytes; `None` if it is not there.
    pub size_bytes: Option<u64>,
    /// Good blobs that lie nowhere else, with where they lie in it.
    pub save: Vec<(BlobKind, Id, BlobRef)>,
    /// How many of its blobs lie in another pack too, and are good there.
    pub elsewhere: u64,
    /// Blobs that can't be read from it, nor from any other pack.
    pub lost: Vec<Blob>,
}

impl PackPlan {
    /// Adds what another reading of the same pack found good: what was garbled on the way the one time may not have been
    /// the other time.
    fn join(&mut self, again: Self) {
        let known: HashSet<Blob> = self.save.iter().map(|(kind, id, _)| (*kind, *id)).collect();
        let more = again.save.into_iter();
        self.save
            .extend(more.filter(|(kind, id, _)| !known.contains(&(*kind, *id))));
        // What lies elsewhere is in neither list.
        self.lost.retain(|blob| again.lost.contains(blob));
    }
}

/// What is to be done with packs and lost blobs.
#[derive(Clone, Debug, Default)]
pub struct PacksPlan {
    /// The damaged packs.
    pub packs: Vec<PackPlan>,
    /// Blobs that are lost here and that the other repository has.
    pub fetch: Vec<Blob>,
    /// Blobs that stay lost.
    pub lost: Vec<Blob>,
    /// Packs that the index names and that are not there.
    pub missing: BTreeSet<Id>,
    /// Snapshots that are damaged, so that what they need was not looked for in the other repository.
    pub unread: Vec<Id>,
}

impl PacksPlan {
    /// Whether nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty() && self.fetch.is_empty() && self.missing.is_empty()
    }

    /// The packs that the index should no longer name.
    fn dropped(&self) -> BTreeSet<Id> {
        let packs = self.packs.iter().map(|pack| pack.id);
        packs.chain(self.missing.iter().copied()).collect()
    }
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct PacksRepaired {
    /// Blobs that were saved from damaged packs.
    pub saved: u64,
    /// Blobs that came from the other repository.
    pub fetched: u64,
    /// Blobs that are lost: also those that the other repository could not give after all.
    pub lost: Vec<Blob>,
    /// Packs that were removed.
    pub removed: u64,
    /// Index files that were written and removed.
    pub index: IndexRewritten,
}

impl Repository {
    /// Reads damaged packs and decides what becomes of them. With another repository, every blob that a snapshot needs and
    /// that is not there is looked for in it, and packs that are gone count as lost. An exclusive lock must be held.
    ///
    /// # Errors
    /// [`RepoError::IndexFirst`] if an index file is damaged; others when something is out of reach.
    pub fn plan_packs_repair(
        &self,
        packs: &BTreeSet<Id>,
        other: Option<OtherRepository<'_>>,
        threads: usize,
        counters: &Counters,
        cancel: &Cancel,
    ) -> Result<PacksPlan, RepoError> {
        // Snapshots before the index: what a snapshot names was indexed before it was written.
        let mut snapshots = self.snapshots()?;
        let mut plan = PacksPlan::default();
        for (id, _) in std::mem::take(&mut snapshots.damaged) {
            // Once more: what such a snapshot needs would not be looked for.
            match sure(|| self.snapshot(id)) {
                Ok(snapshot) => snapshots.all.push((id, snapshot)),
                // Forgotten meanwhile.
                Err(error) if error.is_missing() => {}
                Err(error) if error.is_damage() => plan.unread.push(id),
                Err(error) => return Err(error),
            }
        }
        let (mut index, loaded) = self.load_index(PackListing::Compare, cancel)?;
        if let Some(error) = loaded.index_first() {
            return Err(error);
        }
        index.distrust(packs);
        let planner = Planner {
            repository: self,
            index: &index,
            by_pack: ByPack::new(&index),
            distrusted: packs,
            cancel,
        };
        counters
            .files_total
            .store(packs.len() as u64, Ordering::Relaxed);
        let mut saved = HashSet::new();
        for id in packs {
            cancel.check()?;
            let size_bytes = match loaded.listed_packs.get(id) {
                Some(size_bytes) => Some(*size_bytes),
                // It would be dropped with all that is good in it because a listing was not whole.
                None => self.size_if_there(*id)?,
            };
            let mut pack = planner.pack(*id, size_bytes)?;
            if !pack.lost.is_empty() && size_bytes.is_some() {
                // What was garbled on the way once is not lost.
                pack.join(planner.pack(*id, size_bytes)?);
            }
            saved.extend(pack.save.iter().map(|(kind, id, _)| (*kind, *id)));
            plan.packs.push(pack);
            counters.files_done.fetch_add(1, Ordering::Relaxed);
        }
        // What is broken in one damaged pack may be whole in the next.
        let mut lost: BTreeSet<Blob> = BTreeSet::new();
        for pack in &mut plan.packs {
            pack.lost.retain(|blob| !saved.contains(blob));
            lost.extend(pack.lost.iter().copied());
        }
        if let Some(other) = other {
            for id in &loaded.missing_packs {
                cancel.check()?;
                let is_named = loaded.listed_packs.contains_key(id) || packs.contains(id);
                if !is_named && self.size_if_there(*id)?.is_none() {
                    plan.missing.insert(*id);
                }
            }
            let roots: Vec<TreeRoot> = snapshots
                .all
                .iter()
                .map(|(id, snapshot)| TreeRoot {
                    snapshot: *id,
                    tree: snapshot.tree,
                })
                .collect();
            let readers = self.readers(threads);
            let unread = planner.needed(&roots, other, readers, &saved, &mut lost)?;
            // A tree that came over after all would hide that nobody looked for what is below it.
            let has = |(kind, id): &Blob| {
                let is_unread = *kind == BlobKind::Tree && unread.contains(id);
                !is_unread && other.index.find(*kind, id).is_some()
            };
            (plan.fetch, plan.lost) = lost.into_iter().partition(has);
            // In the order in which they lie there.
            plan.fetch
                .sort_by_cached_key(|(kind, id)| other.index.find(*kind, id));
        } else {
            plan.lost = lost.into_iter().collect();
        }
        Ok(plan)
    }

    /// Carries out a plan: gives the bytes of each damaged pack to `keep`, stores and indexes what is good, then drops the
    /// packs from the index, then removes them. An exclusive lock must be held; `memory_bytes` bounds what is on its way.
    ///
    /// # Errors
    /// When `keep` fails, before anything is changed, or when something can't be read, written or removed. The repository is
    /// no worse then, and the next run completes it.
    pub fn repair_packs(
        &self,
        plan: &PacksPlan,
        other: Option<OtherRepository<'_>>,
        memory_bytes: usize,
        keep: KeepPack<'_>,
        lock: Option<&LockGuard>,
        cancel: &Cancel,
    ) -> Result<PacksRepaired, RepoError> {
        let there = || plan.packs.iter().filter(|pack| pack.size_bytes.is_some());
        for pack in there() {
            cancel.check()?;
            let name = FileName::new(FileKind::Pack, pack.id);
            keep(pack.id, &self.backend().load(name, PACK_MAX_BYTES)?)?;
        }
        let mut done = PacksRepaired {
            lost: plan.lost.clone(),
            ..PacksRepaired::default()
        };
        // An index of nothing: the plan has decided what is to be stored, wherever else it may seem to lie.
        let nothing = RwLock::new(Index::new());
        let options = IngestOptions {
            memory_bytes,
            ..IngestOptions::default()
        };
        let options = options.uploaders_for(&**self.backend());
        let work = |ingest: &Ingest<'_>| -> Result<(), RepoError> {
            for pack in there() {
                done.saved += self.save_blobs(pack, ingest, cancel)?;
            }
            if let Some(other) = other {
                let mut sealer = ingest.sealer()?;
                for blob in &plan.fetch {
                    cancel.check()?;
                    match fetch(*blob, other, ingest, &mut sealer) {
                        Ok(()) => done.fetched += 1,
                        Err(error) if error.is_damage() => done.lost.push(*blob),
                        Err(error) => return Err(error),
                    }
                }
            }
            Ok(())
        };
        Ingest::run(self, &nothing, lock, options, work)?;
        let dropped = plan.dropped();
        let rewrites = self.files_that_name(&dropped, cancel)?;
        done.index = rewrite_index(self, &[], &rewrites, &[], lock, cancel)?;
        for pack in there() {
            cancel.check()?;
            ensure(lock)?;
            self.backend()
                .remove(FileName::new(FileKind::Pack, pack.id))?;
            done.removed += 1;
        }
        Ok(done)
    }

    /// The size of a pack in bytes, whatever listings say.
    pub(super) fn size_if_there(&self, pack: Id) -> Result<Option<u64>, RepoError> {
        match self.backend().size(FileName::new(FileKind::Pack, pack)) {
            Ok(size_bytes) => Ok(Some(size_bytes)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Stores the good blobs of a damaged pack anew; each is opened and compared once more.
    fn save_blobs(
        &self,
        pack: &PackPlan,
        ingest: &Ingest<'_>,
        cancel: &Cancel,
    ) -> Result<u64, RepoError> {
        if pack.save.is_empty() {
            return Ok(0);
        }
        let name = FileName::new(FileKind::Pack, pack.id);
        let content = self.backend().load(name, PACK_MAX_BYTES)?;
        let (mut opener, mut plain, mut saved) = (Opener::default(), Vec::new(), 0);
        for (kind, id, place) in &pack.save {
            cancel.check()?;
            let sealed = slice(&content, *place).unwrap_or_default();
            let mut copy = sealed.to_vec();
            open_blob(self, *id, *place, &mut copy, &mut opener, &mut plain)
                .map_err(|cause| self.damaged(name, cause))?;
            let entry = PackEntry {
                kind: *kind,
                id: *id,
                length_bytes: place.length_bytes,
                raw_length_bytes: place.raw_length_bytes,
            };
            saved += u64::from(ingest.add_sealed(entry, sealed)?.is_new);
        }
        Ok(saved)
    }

    /// The index files that name one of these packs.
    fn files_that_name(
        &self,
        packs: &BTreeSet<Id>,
        cancel: &Cancel,
    ) -> Result<Vec<FileRewrite>, RepoError> {
        let mut rewrites = Vec::new();
        for file in self.ids(FileKind::Index)? {
            cancel.check()?;
            let named = self.load_index_file(file)?.packs;
            let drop: BTreeSet<(Id, Id)> = named
                .iter()
                .filter(|pack| packs.contains(&pack.id))
                .map(|pack| (pack.id, PackFacts::of(pack).digest))
                .collect();
            if !drop.is_empty() {
                rewrites.push(FileRewrite { file, drop });
            }
        }
        Ok(rewrites)
    }
}

fn slice(pack: &[u8], place: BlobRef) -> Option<&[u8]> {
    let from = place.offset_bytes as usize;
    pack.get(from..from.checked_add(place.length_bytes as usize)?)
}

/// Brings one blob over; what the other repository gives is compared with its hash.
fn fetch(
    (kind, id): Blob,
    other: OtherRepository<'_>,
    ingest: &Ingest<'_>,
    sealer: &mut Sealer,
) -> Result<(), RepoError> {
    let (mut opener, mut plain) = (Opener::default(), Vec::new());
    let (repository, index) = (other.repository, other.index);
    read_blob(repository, index, kind, id, &mut opener, &mut plain)?;
    ingest.add(kind, id, &plain, sealer)?;
    Ok(())
}

struct Planner<'p> {
    repository: &'p Repository,
    index: &'p Index,
    by_pack: ByPack<'p>,
    distrusted: &'p BTreeSet<Id>,
    cancel: &'p Cancel,
}

impl Planner<'_> {
    /// What is good in a pack and what is not, by its header and by the index: either may be what is damaged.
    fn pack(&self, id: Id, size_bytes: Option<u64>) -> Result<PackPlan, RepoError> {
        let mut plan = PackPlan {
            id,
            size_bytes,
            ..PackPlan::default()
        };
        let mut places: Vec<(BlobKind, Id, BlobRef)> = self.by_pack.blobs(&id);
        let mut content = Vec::new();
        if size_bytes.is_some() {
            let name = FileName::new(FileKind::Pack, id);
            content = self.repository.backend().load(name, PACK_MAX_BYTES)?;
            places.extend(split_header(self.repository, id, &content).unwrap_or_default());
            places.sort_unstable();
            places.dedup();
        }
        let mut good: BTreeMap<Blob, Option<BlobRef>> = BTreeMap::new();
        let (mut opener, mut plain) = (Opener::default(), Vec::new());
        for (kind, blob, place) in places {
            let found = good.entry((kind, blob)).or_insert(None);
            if found.is_some() {
                continue;
            }
            let mut sealed = slice(&content, place).unwrap_or_default().to_vec();
            let opened = open_blob(
                self.repository,
                blob,
                place,
                &mut sealed,
                &mut opener,
                &mut plain,
            );
            if opened.is_ok() {
                *found = Some(place);
            }
        }
        for ((kind, blob), place) in good {
            self.cancel.check()?;
            if self.lies_elsewhere(kind, blob, &mut opener, &mut plain)? {
                plan.elsewhere += 1;
            } else if let Some(place) = place {
                plan.save.push((kind, blob, place));
            } else {
                plan.lost.push((kind, blob));
            }
        }
        Ok(plan)
    }

    /// Whether another pack holds a blob, read to be sure.
    fn lies_elsewhere(
        &self,
        kind: BlobKind,
        id: Id,
        opener: &mut Opener,
        plain: &mut Vec<u8>,
    ) -> Result<bool, RepoError> {
        let places = self.index.find_all(kind, &id);
        for place in places
            .into_iter()
            .filter(|place| !self.distrusted.contains(&place.pack))
        {
            match read_place(self.repository, kind, id, place, opener, plain) {
                Ok(()) => return Ok(true),
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Adds to `lost` every blob that a snapshot needs and that neither a pack nor `saved` holds; trees that are lost here
    /// are read from the other repository to go on below them. Gives those that can't be read there either.
    fn needed(
        &self,
        roots: &[TreeRoot],
        other: OtherRepository<'_>,
        threads: usize,
        saved: &HashSet<Blob>,
        lost: &mut BTreeSet<Blob>,
    ) -> Result<BTreeSet<Id>, RepoError> {
        let mut lost_trees = BTreeSet::new();
        let reader = BlobReader::new(self.repository, self.index);
        let used = UsedBlobs::find(&reader, roots, threads, self.cancel)?;
        let others = BlobReader::new(other.repository, other.index);
        // What only a marked pack holds is not lost: prune indexes it again.
        let is_lost =
            |kind, id: &Id| !self.index.can_read(kind, id) && !saved.contains(&(kind, *id));
        let missing = used.missing.iter().filter(|id| is_lost(BlobKind::Data, id));
        lost.extend(missing.map(|id| (BlobKind::Data, *id)));
        let mut todo = Vec::new();
        for unread in used.unread {
            if !unread.error.is_damage() {
                return Err(unread.error);
            }
            todo.push(unread.id);
        }
        let mut seen: HashSet<Id> = todo.iter().copied().collect();
        while let Some(id) = todo.pop() {
            self.cancel.check()?;
            let tree: Tree = match sure(|| reader.tree(id)) {
                Ok(tree) => tree,
                Err(error) if error.is_damage() => {
                    lost.insert((BlobKind::Tree, id));
                    match sure(|| others.tree(id)) {
                        Ok(tree) => tree,
                        Err(error) if error.is_damage() => {
                            lost_trees.insert(id);
                            continue;
                        }
                        Err(error) => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            };
            for node in &tree.nodes {
                if let (NodeKind::Dir, Some(subtree)) = (&node.kind, node.subtree) {
                    let is_known = used.blobs.insert(BlobKind::Tree, &subtree) == Some(false);
                    if !is_known && seen.insert(subtree) {
                        todo.push(subtree);
                    }
                }
                let is_file = node.kind == NodeKind::File;
                for blob in node.content.iter().flatten().filter(|_| is_file) {
                    if used.blobs.insert(BlobKind::Data, blob).is_none()
                        && is_lost(BlobKind::Data, blob)
                    {
                        lost.insert((BlobKind::Data, *blob));
                    }
                }
            }
        }
        used.blobs.each(|kind, id, _| {
            if is_lost(kind, &id) {
                lost.insert((kind, id));
            }
        });
        Ok(lost_trees)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_of_two_readings_found_good_is_saved() {
        let id = |number| Id([number; 32]);
        let place = BlobRef {
            pack: id(0),
            offset_bytes: 0,
            length_bytes: 1,
            raw_length_bytes: 0,
        };
        let read = |save: &[u8], lost: &[u8]| PackPlan {
            save: save
                .iter()
                .map(|n| (BlobKind::Data, id(*n), place))
                .collect(),
            lost: lost.iter().map(|n| (BlobKind::Data, id(*n))).collect(),
            ..PackPlan::default()
        };
        // 1 is good, 2 and 3 were each garbled once, 4 is damaged.
        let mut plan = read(&[1, 2], &[3, 4]);
        plan.join(read(&[1, 3], &[2, 4]));
        let saved: Vec<Id> = plan.save.iter().map(|(_, id, _)| *id).collect();
        assert_eq!(saved, [id(1), id(2), id(3)]);
        assert_eq!(plan.lost, [(BlobKind::Data, id(4))]);
    }
}
