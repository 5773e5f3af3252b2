//! Repairs the index: what it should say is decided from the packs that are there, the index files and pack headers.
//! It must never drop what the index says of a pack that is there before the pack's own header says something else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::{BlobKind, BlobRef, Id, IndexBlob, IndexPack};

use super::sure;
use crate::backend::FileKind;
use crate::by_pack::pack_bytes;
use crate::index_writer::{FileRewrite, IndexRewritten, rewrite_index};
use crate::lock::LockGuard;
use crate::{RepoError, Repository, chain};

/// What is there, as far as the index is concerned.
#[derive(Clone, Debug, Default)]
pub struct IndexFacts {
    /// The packs in the backend's listing with their sizes in bytes.
    pub listed: BTreeMap<Id, u64>,
    /// Index files that can be read, sorted.
    pub files: Vec<FileFacts>,
    /// Index files that are damaged, and how.
    pub damaged_files: Vec<(Id, String)>,
    /// Headers that were read: the packs as they describe themselves, or what is wrong with the header.
    pub headers: BTreeMap<Id, Result<IndexPack, String>>,
}

/// What one index file says; its blobs only as far as decisions need them, or millions would be held twice.
#[derive(Clone, Debug)]
pub struct FileFacts {
    /// The file.
    pub id: Id,
    /// The packs that it names.
    pub packs: Vec<PackFacts>,
    /// The packs that it says should be deleted.
    pub marked: Vec<Id>,
}

/// What an index file says of a pack.
#[derive(Clone, Copy, Debug)]
pub struct PackFacts {
    /// The pack.
    pub id: Id,
    /// The size that it should have, in bytes.
    pub bytes: u64,
    /// A hash of all that is said of its blobs.
    pub digest: Id,
}

impl PackFacts {
    /// The facts of a pack.
    #[must_use]
    pub fn of(pack: &IndexPack) -> Self {
        let mut blobs: Vec<(BlobKind, Id, BlobRef)> = pack
            .blobs
            .iter()
            .map(|blob| {
                let place = BlobRef {
                    pack: pack.id,
                    offset_bytes: blob.offset_bytes,
                    length_bytes: blob.length_bytes,
                    raw_length_bytes: blob.raw_length_bytes,
                };
                (blob.kind, blob.id, place)
            })
            .collect();
        blobs.sort_unstable_by_key(|(kind, id, place)| (place.offset_bytes, *kind, *id));
        let mut text = Vec::with_capacity(blobs.len() * 45);
        for (kind, id, place) in &blobs {
            text.push(u8::from(*kind == BlobKind::Tree));
            text.extend_from_slice(&id.0);
            for number in [
                place.offset_bytes,
                place.length_bytes,
                place.raw_length_bytes,
            ] {
                text.extend_from_slice(&number.to_le_bytes());
            }
        }
        Self {
            id: pack.id,
            bytes: pack_bytes(&blobs),
            digest: Id::of(&text),
        }
    }
}

/// What is to be done with the index.
#[derive(Clone, Debug, Default)]
pub struct IndexPlan {
    /// Index files that can't be read and are removed, and what is wrong with them.
    pub damaged_files: Vec<(Id, String)>,
    /// Index files that are replaced.
    pub rewrites: Vec<FileRewrite>,
    /// Packs that are indexed as their headers say.
    pub add: Vec<IndexPack>,
    /// Packs that the index names and that are not there: what they held is lost, unless it lies elsewhere too.
    pub missing: BTreeSet<Id>,
    /// Packs whose headers say something else than the index; they are in `add`.
    pub corrected: BTreeSet<Id>,
    /// Packs that index files name more than once, of which one is left.
    pub repeated: BTreeSet<Id>,
    /// Packs whose headers can't be read, and why: they are left as they are, also in the index.
    pub unreadable: Vec<(Id, String)>,
}

impl IndexFacts {
    /// The packs whose headers decide, with their sizes: those that the index does not know, knows in two ways or with
    /// another size, or all of them.
    #[must_use]
    pub fn packs_to_read(&self, all: bool) -> Vec<(Id, u64)> {
        let mut said: BTreeMap<Id, (PackFacts, bool)> = BTreeMap::new();
        for pack in self.files.iter().flat_map(|file| &file.packs) {
            let (first, differs) = said.entry(pack.id).or_insert((*pack, false));
            *differs |= first.digest != pack.digest;
        }
        // A prune decides what becomes of these.
        let marked: BTreeSet<&Id> = self.files.iter().flat_map(|file| &file.marked).collect();
        let is_doubtful = |id: &Id, size: u64| match said.get(id) {
            Some((pack, differs)) => *differs || pack.bytes != size,
            None => !marked.contains(id),
        };
        let listed = self.listed.iter().map(|(id, size)| (*id, *size));
        listed
            .filter(|(id, size)| is_doubtful(id, *size) || all && said.contains_key(id))
            .collect()
    }
}

impl IndexPlan {
    /// Decides.
    #[must_use]
    pub fn decide(facts: &IndexFacts) -> Self {
        let mut plan = Self {
            damaged_files: facts.damaged_files.clone(),
            ..Self::default()
        };
        let headers: BTreeMap<Id, Id> = facts
            .headers
            .iter()
            .filter_map(|(id, header)| Some((*id, PackFacts::of(header.as_ref().ok()?).digest)))
            .collect();
        // What stays in the index, with what is said of it: two files may say different things of a pack whose header
        // nobody can read, and then both may be of use. The file is the one that goes on to say it.
        let mut kept: BTreeMap<(Id, Id), Id> = BTreeMap::new();
        for file in &facts.files {
            let mut drop = BTreeSet::new();
            let mut repeats_itself = false;
            for pack in &file.packs {
                let said = (pack.id, pack.digest);
                if !facts.listed.contains_key(&pack.id) {
                    plan.missing.insert(pack.id);
                    drop.insert(said);
                } else if headers
                    .get(&pack.id)
                    .is_some_and(|digest| *digest != pack.digest)
                {
                    plan.corrected.insert(pack.id);
                    drop.insert(said);
                } else if let Some(home) = kept.get(&said) {
                    plan.repeated.insert(pack.id);
                    if *home == file.id {
                        // To drop it would drop both.
                        repeats_itself = true;
                    } else {
                        drop.insert(said);
                    }
                } else {
                    kept.insert(said, file.id);
                }
            }
            if !drop.is_empty() || repeats_itself {
                let file = file.id;
                plan.rewrites.push(FileRewrite { file, drop });
            }
        }
        for (id, header) in &facts.headers {
            match header {
                Ok(pack)
                    if !kept.contains_key(&(*id, headers.get(id).copied().unwrap_or_default())) =>
                {
                    plan.add.push(pack.clone());
                }
                Ok(_) => {}
                Err(why) => plan.unreadable.push((*id, why.clone())),
            }
        }
        plan
    }

    /// Whether nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.damaged_files.is_empty() && self.rewrites.is_empty() && self.add.is_empty()
    }
}

impl Repository {
    /// Finds out what is there and decides what the index should say. The lock that `repair_index` needs must be held.
    ///
    /// # Errors
    /// When a listing fails, or something is out of reach, so that nobody knows whether it is damaged.
    pub fn plan_index_repair(
        &self,
        read_all_packs: bool,
        counters: &Counters,
        cancel: &Cancel,
    ) -> Result<IndexPlan, RepoError> {
        let mut facts = self.index_facts(cancel)?;
        let read = facts.packs_to_read(read_all_packs);
        counters
            .files_total
            .store(read.len() as u64, Ordering::Relaxed);
        facts.headers = in_threads(&read, self.loaders(), cancel, |(id, size)| {
            let header = match sure(|| self.pack_header(*id, *size)) {
                Ok(blobs) => Ok(index_pack(*id, &blobs)),
                Err(error) if error.is_damage() => Err(chain(&error)),
                Err(error) => return Err(error),
            };
            counters.files_done.fetch_add(1, Ordering::Relaxed);
            Ok((*id, header))
        })?
        .into_iter()
        .collect();
        let plan = IndexPlan::decide(&facts);
        if facts.listed.is_empty() && !plan.missing.is_empty() {
            return Err(RepoError::NoPacks {
                location: self.backend().location(),
                needed: format!("the index names {}", plan.missing.len()),
            });
        }
        Ok(plan)
    }

    fn index_facts(&self, cancel: &Cancel) -> Result<IndexFacts, RepoError> {
        let mut facts = IndexFacts::default();
        let ids = self.ids(FileKind::Index)?;
        // After the index: a pack that is indexed was stored before, so this listing must have it.
        facts.listed = self.packs()?;
        let loaded = in_threads(&ids, self.loaders(), cancel, |id| {
            match sure(|| self.load_index_file(*id)) {
                Ok(file) => Ok((
                    *id,
                    Ok(FileFacts {
                        id: *id,
                        packs: file.packs.iter().map(PackFacts::of).collect(),
                        marked: file.packs_to_delete.iter().map(|pack| pack.id).collect(),
                    }),
                )),
                Err(error) if error.is_damage() => Ok((*id, Err(chain(&error)))),
                Err(error) => Err(error),
            }
        })?;
        for (id, file) in loaded {
            match file {
                Ok(file) => facts.files.push(file),
                Err(why) => facts.damaged_files.push((id, why)),
            }
        }
        facts.files.sort_by_key(|file| file.id);
        facts.damaged_files.sort();
        // The index would forget what is there because a listing was not whole.
        let named = facts.files.iter().flat_map(|file| &file.packs);
        let unlisted: BTreeSet<Id> = named
            .map(|pack| pack.id)
            .filter(|id| !facts.listed.contains_key(id))
            .collect();
        let unlisted: Vec<Id> = unlisted.into_iter().collect();
        let sizes = in_threads(&unlisted, self.loaders(), cancel, |id| {
            Ok((*id, self.size_if_there(*id)?))
        })?;
        let there = sizes.into_iter().filter_map(|(id, size)| Some((id, size?)));
        facts.listed.extend(there);
        Ok(facts)
    }

    /// Carries out a plan: new index files first, then the old ones go. An exclusive lock must be held.
    ///
    /// # Errors
    /// When something can't be written or removed; the index is valid then too, and the next run completes it.
    pub fn repair_index(
        &self,
        plan: &IndexPlan,
        lock: Option<&LockGuard>,
        cancel: &Cancel,
    ) -> Result<IndexRewritten, RepoError> {
        let damaged: Vec<Id> = plan.damaged_files.iter().map(|(id, _)| *id).collect();
        rewrite_index(self, &plan.add, &plan.rewrites, &damaged, lock, cancel)
    }
}

/// A pack as its header describes it.
pub(super) fn index_pack(id: Id, blobs: &[(BlobKind, Id, BlobRef)]) -> IndexPack {
    let blobs = blobs.iter().map(|(kind, id, place)| IndexBlob {
        id: *id,
        kind: *kind,
        offset_bytes: place.offset_bytes,
        length_bytes: place.length_bytes,
        raw_length_bytes: place.raw_length_bytes,
    });
    IndexPack {
        id,
        blobs: blobs.collect(),
    }
}

/// The results for all items, in no particular order; the first error ends it.
fn in_threads<I: Sync, T: Send>(
    items: &[I],
    loaders: usize,
    cancel: &Cancel,
    work: impl Fn(&I) -> Result<T, RepoError> + Sync,
) -> Result<Vec<T>, RepoError> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Ok(Vec::with_capacity(items.len())));
    std::thread::scope(|scope| {
        for _ in 0..loaders.min(items.len()) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if cancel.is_cancelled() {
                        return;
                    }
                    let result = work(item);
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    match (&mut *done, result) {
                        (Ok(all), Ok(one)) => all.push(one),
                        (Ok(_), Err(error)) => {
                            *done = Err(error);
                            return;
                        }
                        (Err(_), _) => return,
                    }
                }
            });
        }
    });
    cancel.check()?;
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(name: &str, blobs: &[&str]) -> IndexPack {
        let blobs = blobs.iter().enumerate().map(|(at, blob)| IndexBlob {
            id: Id::of(blob.as_bytes()),
            kind: BlobKind::Data,
            offset_bytes: at as u32 * 100,
            length_bytes: 100,
            raw_length_bytes: 0,
        });
        IndexPack {
            id: Id::of(name.as_bytes()),
            blobs: blobs.collect(),
        }
    }

    fn file(name: &str, packs: &[&IndexPack]) -> FileFacts {
        FileFacts {
            id: Id::of(name.as_bytes()),
            packs: packs.iter().map(|pack| PackFacts::of(pack)).collect(),
            marked: Vec::new(),
        }
    }

    fn said_of(pack: &IndexPack) -> (Id, Id) {
        (pack.id, PackFacts::of(pack).digest)
    }

    fn listed(packs: &[&IndexPack]) -> BTreeMap<Id, u64> {
        packs
            .iter()
            .map(|pack| (pack.id, PackFacts::of(pack).bytes))
            .collect()
    }

    #[test]
    fn a_sound_index_needs_nothing_even_when_all_headers_are_read() {
        let (a, b) = (pack("a", &["1", "2"]), pack("b", &["3"]));
        let mut facts = IndexFacts {
            listed: listed(&[&a, &b]),
            files: vec![file("x", &[&a]), file("y", &[&b])],
            ..IndexFacts::default()
        };
        assert_eq!(facts.packs_to_read(false), []);
        assert_eq!(facts.packs_to_read(true).len(), 2);
        facts.headers = [(a.id, Ok(a.clone())), (b.id, Ok(b))].into();
        assert!(IndexPlan::decide(&facts).is_empty());
    }

    #[test]
    fn what_is_there_rules() {
        let (a, b, gone) = (pack("a", &["1"]), pack("b", &["2"]), pack("gone", &["3"]));
        let (new, short) = (pack("new", &["4"]), pack("short", &["5", "6"]));
        let marked = pack("marked", &["7"]);
        let mut facts = IndexFacts {
            listed: listed(&[&a, &b, &new, &marked]),
            files: vec![file("x", &[&a, &gone, &short]), file("y", &[&a, &b])],
            damaged_files: vec![(Id::of(b"z"), "broken".into())],
            ..IndexFacts::default()
        };
        facts.listed.insert(short.id, 20);
        facts.files[1].marked.push(marked.id);
        let read: BTreeSet<Id> = facts
            .packs_to_read(false)
            .iter()
            .map(|(id, _)| *id)
            .collect();
        assert_eq!(read, BTreeSet::from([new.id, short.id]));
        facts.headers = [
            (new.id, Ok(new.clone())),
            (short.id, Err("it ends too early".into())),
        ]
        .into();
        let plan = IndexPlan::decide(&facts);
        assert_eq!(plan.damaged_files.len(), 1);
        assert_eq!(plan.missing, BTreeSet::from([gone.id]));
        assert_eq!(plan.repeated, BTreeSet::from([a.id]));
        assert_eq!(
            plan.unreadable,
            [(short.id, "it ends too early".to_owned())]
        );
        assert_eq!(plan.add.iter().map(|p| p.id).collect::<Vec<_>>(), [new.id]);
        let rewrites: Vec<_> = plan
            .rewrites
            .iter()
            .map(|r| (r.file, r.drop.clone()))
            .collect();
        assert_eq!(
            rewrites,
            [
                (Id::of(b"x"), BTreeSet::from([said_of(&gone)])),
                (Id::of(b"y"), BTreeSet::from([said_of(&a)]))
            ]
        );
        assert!(plan.corrected.is_empty());
    }

    #[test]
    fn a_header_that_can_be_read_corrects_the_index() {
        let (said, is) = (pack("a", &["1"]), pack("a", &["1", "2"]));
        let mut facts = IndexFacts {
            listed: listed(&[&is]),
            files: vec![file("x", &[&said])],
            ..IndexFacts::default()
        };
        assert_eq!(facts.packs_to_read(false).len(), 1);
        facts.headers = [(is.id, Ok(is.clone()))].into();
        let plan = IndexPlan::decide(&facts);
        assert_eq!(plan.corrected, BTreeSet::from([is.id]));
        assert_eq!(plan.add[0].blobs.len(), 2);
        assert_eq!(plan.rewrites[0].drop, BTreeSet::from([said_of(&said)]));
    }

    #[test]
    fn of_what_one_file_says_twice_one_stays() {
        let (right, wrong) = (pack("a", &["1", "2"]), pack("a", &["2", "1"]));
        let mut facts = IndexFacts {
            listed: listed(&[&right]),
            files: vec![file("x", &[&right, &right])],
            ..IndexFacts::default()
        };
        let plan = IndexPlan::decide(&facts);
        assert_eq!(plan.repeated, BTreeSet::from([right.id]));
        assert_eq!((plan.rewrites.len(), plan.add.len()), (1, 0));
        assert_eq!(plan.rewrites[0].drop, BTreeSet::new());
        facts.files = vec![file("x", &[&wrong, &right])];
        facts.headers = [(right.id, Ok(right.clone()))].into();
        let plan = IndexPlan::decide(&facts);
        assert_eq!(plan.corrected, BTreeSet::from([right.id]));
        assert_eq!((plan.rewrites.len(), plan.add.len()), (1, 0));
        assert_eq!(plan.rewrites[0].drop, BTreeSet::from([said_of(&wrong)]));
    }
}
