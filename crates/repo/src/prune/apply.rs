//! Carries out what a plan removes, alone on the repository: index files first, packs last.
//! It must never delete a pack that an index file names, nor an index file before the one that replaces it is stored.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::{Id, IndexBlob, IndexPack, MarkedPack};

use super::facts::{Facts, PackFact};
use super::plan::{Fate, PrunePlan};
use crate::backend::{FileKind, FileName};
use crate::index_writer::{IndexWriter, remove_index_files};
use crate::{LockGuard, RepoError, Repository};

/// What was removed.
#[derive(Debug, Default)]
pub struct Removed {
    /// Packs that were marked now.
    pub marked: u64,
    /// Packs that were indexed again.
    pub recovered: u64,
    /// Packs that were deleted.
    pub deleted: u64,
    /// Their size in bytes.
    pub deleted_bytes: u64,
    /// Packs that should be deleted and could not, with why.
    pub undeleted: Vec<(Id, RepoError)>,
    /// Index files that were written.
    pub index_files_written: u64,
    /// Index files that these replace.
    pub index_files_removed: u64,
}

/// Carries out what a plan removes.
///
/// # Errors
/// When an index file can't be written or removed; then no pack was deleted. Packs that can't be deleted are told.
pub(super) fn apply(
    repository: &Repository,
    facts: &Facts,
    plan: &PrunePlan,
    lock: &LockGuard,
    threads: usize,
    counters: &Counters,
    cancel: &Cancel,
) -> Result<Removed, RepoError> {
    let mut removed = Removed::default();
    if plan.is_empty() {
        return Ok(removed);
    }
    write_index(repository, facts, plan, lock, cancel, &mut removed)?;
    let replaced = plan
        .rewrite
        .iter()
        .filter_map(|file| facts.files.get(*file));
    let replaced = replaced.map(|file| &file.id);
    removed.index_files_removed = remove_index_files(repository, replaced, Some(lock), cancel)?;
    delete_packs(
        repository,
        facts,
        plan,
        lock,
        threads,
        counters,
        cancel,
        &mut removed,
    )?;
    Ok(removed)
}

/// Writes what the index files that go say, with what becomes of their packs.
fn write_index(
    repository: &Repository,
    facts: &Facts,
    plan: &PrunePlan,
    lock: &LockGuard,
    cancel: &Cancel,
    removed: &mut Removed,
) -> Result<(), RepoError> {
    let mut writer = IndexWriter::new(repository, Some(lock), cancel);
    let homed = plan
        .rewrite
        .iter()
        .filter_map(|file| facts.files.get(*file));
    for file in homed {
        cancel.check()?;
        let mut told = Told::default();
        for number in &file.packs {
            let number = *number as usize;
            let (Some(pack), Some(fate)) = (facts.packs.get(number), plan.fates.get(number)) else {
                continue;
            };
            if matches!(fate, Fate::Delete | Fate::Forget) {
                continue;
            }
            let indexed = match facts.index_pack(pack) {
                Some(indexed) => indexed,
                None => told.pack(repository, file.id, pack)?,
            };
            let time = match fate {
                Fate::Keep | Fate::Repack | Fate::Recover => {
                    removed.recovered += u64::from(*fate == Fate::Recover);
                    writer.index(indexed)?;
                    continue;
                }
                Fate::Wait => pack.mark.and_then(|mark| mark.time),
                Fate::Mark | Fate::Remark => {
                    removed.marked += 1;
                    Some(plan.now)
                }
                Fate::Delete | Fate::Forget => continue,
            };
            writer.mark(MarkedPack {
                id: indexed.id,
                blobs: indexed.blobs,
                time,
                size_bytes: pack.mark.and_then(|mark| mark.size_bytes),
            })?;
        }
    }
    if !plan.instant_delete {
        for (id, size_bytes) in &facts.unindexed {
            removed.marked += 1;
            writer.mark(MarkedPack {
                id: *id,
                blobs: Vec::new(),
                time: Some(plan.now),
                size_bytes: Some(*size_bytes),
            })?;
        }
    }
    cancel.check()?;
    removed.index_files_written = writer.finish()?;
    Ok(())
}

/// What one index file says of its packs, read when it is asked for: of an index that is too large to be in memory.
#[derive(Default)]
struct Told(Option<HashMap<Id, Vec<IndexBlob>>>);

impl Told {
    fn pack(
        &mut self,
        repository: &Repository,
        file: Id,
        pack: &PackFact,
    ) -> Result<IndexPack, RepoError> {
        let packs = match &mut self.0 {
            Some(packs) => packs,
            None => {
                let file = repository.load_index_file(file)?;
                let marked = file.packs_to_delete.into_iter().map(MarkedPack::unmarked);
                let all = file.packs.into_iter().chain(marked);
                self.0
                    .insert(all.map(|pack| (pack.id, pack.blobs)).collect())
            }
        };
        let blobs = packs.remove(&pack.id);
        match blobs.filter(|blobs| blobs.len() == pack.blobs) {
            Some(mut blobs) => {
                blobs.sort_by_key(|blob| blob.offset_bytes);
                Ok(IndexPack { id: pack.id, blobs })
            }
            None => Err(RepoError::Refused(format!(
                "index file {file} says something else of pack {} than was decided on; nothing was removed",
                pack.id
            ))),
        }
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one run, each used once"
)]
fn delete_packs(
    repository: &Repository,
    facts: &Facts,
    plan: &PrunePlan,
    lock: &LockGuard,
    threads: usize,
    counters: &Counters,
    cancel: &Cancel,
    removed: &mut Removed,
) -> Result<(), RepoError> {
    let deleted = plan
        .changes(facts)
        .filter(|(_, fate, _)| *fate == Fate::Delete);
    let mut packs: Vec<(Id, u64)> = deleted.map(|(id, _, bytes)| (id, bytes)).collect();
    packs.sort();
    let sizes = packs.iter().map(|(_, bytes)| *bytes);
    let bytes = sizes.fold(0, u64::saturating_add);
    counters.bytes_done.store(0, Ordering::Relaxed);
    counters.files_done.store(0, Ordering::Relaxed);
    counters.bytes_total.store(bytes, Ordering::Relaxed);
    counters
        .files_total
        .store(packs.len() as u64, Ordering::Relaxed);
    let next = AtomicUsize::new(0);
    let result = Mutex::new((removed, Ok::<(), RepoError>(())));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1).min(packs.len()) {
            scope.spawn(|| {
                while let Some((id, bytes)) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if cancel.is_cancelled() {
                        return;
                    }
                    let name = FileName::new(FileKind::Pack, *id);
                    let allowed = lock.ensure();
                    let done = match &allowed {
                        Ok(()) => repository.backend().remove(name).map_err(RepoError::from),
                        Err(_) => Ok(()),
                    };
                    let mut result = result.lock().unwrap_or_else(PoisonError::into_inner);
                    let (removed, ended) = &mut *result;
                    if let Err(error) = allowed {
                        *ended = Err(error);
                    } else if let Err(error) = done {
                        if error.ends_all() {
                            *ended = Err(error);
                            return;
                        }
                        // A place that does not allow it once will not allow it for the others.
                        let is_final =
                            matches!(&error, RepoError::Backend(cause) if cause.is_refusal());
                        removed.undeleted.push((*id, error));
                        if is_final {
                            next.store(packs.len(), Ordering::Relaxed);
                        }
                    } else {
                        removed.deleted += 1;
                        removed.deleted_bytes = removed.deleted_bytes.saturating_add(*bytes);
                        counters.files_done.fetch_add(1, Ordering::Relaxed);
                        counters.bytes_done.fetch_add(*bytes, Ordering::Relaxed);
                    }
                    if ended.is_err() {
                        return;
                    }
                }
            });
        }
    });
    result
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .1?;
    cancel.check()?;
    Ok(())
}
