//! Copies what is used out of packs that are to go, and reads the copies that are relied on instead of others.
//! It must never copy a blob whose hash is not its ID, and never call a pack repacked of which anything could not be read.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use lifeboat_flow::{Cancel, Counters, Event, EventSink, Problem};
use lifeboat_format::{BlobKind, BlobRef, Id, PackEntry};

use super::facts::{Facts, Proof};
use super::options::PruneOptions;
use super::plan::{PlacesOfPack, PrunePlan};
use crate::backend::{BackendError, FileKind, FileName};
use crate::{
    Index, Ingest, IngestStats, LockGuard, Opener, RepoError, Repository, Sealer, chain, open_blob,
};

/// Blobs that lie closer together than this are fetched by one request, in bytes.
const GAP_MAX_BYTES: u64 = 256 * 1024;
/// One request asks for at most so much, a single blob excepted, in bytes.
const RANGE_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// What repacking did.
#[derive(Default)]
pub struct Repacked {
    /// What was written.
    pub stored: IngestStats,
    /// Packs of which something could not be read; nothing of them is removed.
    pub damaged_packs: Vec<Id>,
    pub(super) proof: Proof,
}

/// What every worker uses.
struct Run<'a, 'r> {
    repository: &'a Repository,
    facts: &'a Facts,
    ingest: &'a Ingest<'r>,
    recompresses: bool,
    counters: &'a Counters,
    events: &'a dyn EventSink,
    cancel: &'a Cancel,
    found: &'a Mutex<Found>,
}

#[derive(Default)]
struct Found {
    damaged: Vec<(Id, BlobKind, Id)>,
    good: Vec<(Id, BlobKind, Id)>,
    failed: Option<RepoError>,
}

/// One blob of a range.
#[derive(Clone, Copy)]
struct Wanted {
    kind: BlobKind,
    id: Id,
    place: BlobRef,
}

#[derive(Default)]
struct Buffers {
    opener: Opener,
    range: Vec<u8>,
    sealed: Vec<u8>,
    plain: Vec<u8>,
}

/// Repacks and reads what a plan says.
///
/// # Errors
/// When the backend fails or the lock is lost; what is damaged is told and no error.
#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one run, each used once"
)]
pub(super) fn repack(
    repository: &Repository,
    facts: &Facts,
    plan: &PrunePlan,
    options: &PruneOptions,
    lock: &LockGuard,
    counters: &Counters,
    events: &dyn EventSink,
    cancel: &Cancel,
) -> Result<Repacked, RepoError> {
    count(facts, plan, counters);
    // Nothing of the index: what is to be copied is known there, in the very packs that go.
    let index = RwLock::new(Index::new());
    let found = Mutex::new(Found::default());
    let ((), stored) = Ingest::run(repository, &index, Some(lock), options.ingest, |ingest| {
        let run = Run {
            repository,
            facts,
            ingest,
            recompresses: options.repack_uncompressed,
            counters,
            events,
            cancel,
            found: &found,
        };
        let affordable = options.ingest.in_flight_bytes() / RANGE_MAX_BYTES as usize;
        let readers = repository.readers(options.threads).min(affordable);
        run.all(plan, readers.max(options.threads))
    })?;
    let written = index.into_inner().unwrap_or_else(PoisonError::into_inner);
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let damaged_packs: HashSet<Id> = found.damaged.iter().map(|(pack, ..)| *pack).collect();
    let id = |places: &PlacesOfPack| facts.packs.get(places.pack as usize).map(|pack| pack.id);
    let repacked = plan.repack.iter().filter_map(id);
    Ok(Repacked {
        stored,
        proof: Proof {
            repacked: repacked.collect(),
            written: written.packs().map(|(id, _)| id).collect(),
            good: found.good.into_iter().collect(),
            damaged: found.damaged.into_iter().collect(),
            is_wanted: true,
        },
        damaged_packs: {
            let mut packs: Vec<Id> = damaged_packs.into_iter().collect();
            packs.sort();
            packs
        },
    })
}

/// Totals for whoever watches.
fn count(facts: &Facts, plan: &PrunePlan, counters: &Counters) {
    let all = plan.repack.iter().chain(&plan.prove);
    let bytes = all
        .clone()
        .flat_map(|pack| &pack.places)
        .filter_map(|(kind, number)| {
            let (_, _, place) = facts.index.place_at(*kind, *number)?;
            Some(u64::from(place.length_bytes))
        });
    counters.bytes_total.store(bytes.sum(), Ordering::Relaxed);
    counters
        .files_total
        .store(all.count() as u64, Ordering::Relaxed);
}

impl Run<'_, '_> {
    fn all(&self, plan: &PrunePlan, threads: usize) -> Result<(), RepoError> {
        // What is only read comes first: it is little, and tells early whether something is wrong.
        let prove = plan.prove.iter().map(|pack| (pack, false));
        let jobs: Vec<(&PlacesOfPack, bool)> = prove
            .chain(plan.repack.iter().map(|pack| (pack, true)))
            .collect();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..threads.min(jobs.len()) {
                scope.spawn(|| {
                    let mut buffers = Buffers::default();
                    let mut sealer = match self.ingest.sealer() {
                        Ok(sealer) => sealer,
                        Err(error) => return self.fail(error),
                    };
                    while let Some((pack, copies)) = jobs.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        if self.found().failed.is_some() {
                            return;
                        }
                        if let Err(error) = self.pack(pack, *copies, &mut sealer, &mut buffers) {
                            return self.fail(error);
                        }
                        self.counters.files_done.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        self.cancel.check()?;
        self.found().failed.take().map_or(Ok(()), Err)
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, error: RepoError) {
        self.found().failed.get_or_insert(error);
    }

    fn pack(
        &self,
        pack: &PlacesOfPack,
        copies: bool,
        sealer: &mut Sealer,
        buffers: &mut Buffers,
    ) -> Result<(), RepoError> {
        let wanted = pack.places.iter().filter_map(|(kind, number)| {
            let (id, _, place) = self.facts.index.place_at(*kind, *number)?;
            Some(Wanted {
                kind: *kind,
                id,
                place,
            })
        });
        for range in ranges(wanted) {
            self.cancel.check()?;
            if self.fetch(&range, buffers)? {
                self.range(&range, copies, sealer, buffers)?;
                continue;
            }
            // The pack is shorter than it should be, or a part of it can't be read: each blob on its own.
            for blob in range {
                if self.fetch(&[blob], buffers)? {
                    self.range(&[blob], copies, sealer, buffers)?;
                } else {
                    self.damaged(blob, "it can't be fetched");
                }
            }
        }
        Ok(())
    }

    /// Fetches from the start of the first blob to the end of the last; false if the pack has no such bytes.
    fn fetch(&self, range: &[Wanted], buffers: &mut Buffers) -> Result<bool, RepoError> {
        let Some(first) = range.first() else {
            return Ok(false);
        };
        let start = u64::from(first.place.offset_bytes);
        let end = range
            .iter()
            .map(|blob| end(&blob.place))
            .max()
            .unwrap_or(start);
        // Not cleared before: every byte is read over, or an error.
        buffers
            .range
            .resize(usize::try_from(end - start).unwrap_or(0), 0);
        let name = FileName::new(FileKind::Pack, first.place.pack);
        match self
            .repository
            .backend()
            .load_at(name, start, &mut buffers.range)
        {
            Ok(()) => Ok(true),
            Err(BackendError::Short { .. } | BackendError::Missing { .. }) => Ok(false),
            // A disk that can't read a sector says so for good; a server that is away is another thing.
            Err(BackendError::Io { cause, .. }) if cause.raw_os_error() == Some(EIO) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn range(
        &self,
        range: &[Wanted],
        copies: bool,
        sealer: &mut Sealer,
        buffers: &mut Buffers,
    ) -> Result<(), RepoError> {
        let start = range
            .first()
            .map_or(0, |blob| u64::from(blob.place.offset_bytes));
        for blob in range {
            let from = usize::try_from(u64::from(blob.place.offset_bytes) - start).unwrap_or(0);
            let to = from + blob.place.length_bytes as usize;
            let Some(stored) = buffers.range.get(from..to) else {
                continue;
            };
            buffers.sealed.clear();
            buffers.sealed.extend_from_slice(stored);
            let opened = open_blob(
                self.repository,
                blob.id,
                blob.place,
                &mut buffers.sealed,
                &mut buffers.opener,
                &mut buffers.plain,
            );
            match opened {
                Err(error) => self.damaged(*blob, &chain(&error)),
                Ok(_) if !copies => {
                    let place = (blob.place.pack, blob.kind, blob.id);
                    self.found().good.push(place);
                }
                Ok(plain) if self.is_recompressed(blob) => {
                    self.ingest.add(blob.kind, blob.id, plain, sealer)?;
                }
                Ok(_) => {
                    let entry = PackEntry {
                        kind: blob.kind,
                        id: blob.id,
                        length_bytes: blob.place.length_bytes,
                        raw_length_bytes: blob.place.raw_length_bytes,
                    };
                    self.ingest.add_sealed(entry, stored)?;
                }
            }
            let bytes = u64::from(blob.place.length_bytes);
            self.counters.bytes_done.fetch_add(bytes, Ordering::Relaxed);
            let stored = self.ingest.stored_bytes();
            self.counters.bytes_stored.store(stored, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Trees are always compressed where the repository can.
    fn is_recompressed(&self, blob: &Wanted) -> bool {
        blob.place.raw_length_bytes == 0
            && self.repository.compresses()
            && (self.recompresses || blob.kind == BlobKind::Tree)
    }

    fn damaged(&self, blob: Wanted, why: &str) {
        self.counters.problems.fetch_add(1, Ordering::Relaxed);
        self.events.event(Event::Problem(Problem {
            path: format!("pack {}", blob.place.pack),
            doing: format!("read the {} blob {}", blob.kind.word(), blob.id),
            why: format!("{why}; it stays where it is"),
        }));
        let place = (blob.place.pack, blob.kind, blob.id);
        self.found().damaged.push(place);
    }
}

/// The error number of a disk that can't read, as all systems have it.
const EIO: i32 = 5;

fn end(place: &BlobRef) -> u64 {
    u64::from(place.offset_bytes) + u64::from(place.length_bytes)
}

/// Blobs in the order of their places, parted where the gap or the whole would be too large.
fn ranges(wanted: impl Iterator<Item = Wanted>) -> Vec<Vec<Wanted>> {
    let mut ranges: Vec<Vec<Wanted>> = Vec::new();
    for blob in wanted {
        let start = u64::from(blob.place.offset_bytes);
        let joins = |range: &Vec<Wanted>| {
            let (first, last) = (range.first()?, range.last()?);
            let gap = start.checked_sub(end(&last.place))?;
            let whole = end(&blob.place) - u64::from(first.place.offset_bytes);
            Some(gap <= GAP_MAX_BYTES && whole <= RANGE_MAX_BYTES)
        };
        match ranges.last_mut().filter(|range| joins(range) == Some(true)) {
            Some(range) => range.push(blob),
            None => ranges.push(vec![blob]),
        }
    }
    ranges
}
