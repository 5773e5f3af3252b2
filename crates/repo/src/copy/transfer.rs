//! Carries blobs over: fetched in large parts, verified one by one, and stored as cheaply as the two keys allow.
//! It must never store a blob that was not decrypted and compared with its hash, however it gets over.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use lifeboat_flow::{Budget, Counters};
use lifeboat_format::{IndexBlob, IndexPack};

use super::{Copier, Lost, PackPart, Wanted, Way};
use crate::backend::{FileKind, FileName};
use crate::check::split_header;
use crate::read::open_stored;
use crate::{
    Ingest, IngestStats, LockGuard, Opener, RepoError, Sealer, chain, open_blob, read_blob,
};

/// Largest part of a pack that is fetched at once, in bytes.
const RANGE_MAX_BYTES: u32 = 8 * 1024 * 1024;
/// A gap between two blobs that is fetched rather than skipped, in bytes.
const GAP_MAX_BYTES: u32 = 64 * 1024;

/// What a reader keeps between packs.
struct Tools {
    opener: Opener,
    sealer: Sealer,
    fetched: Vec<u8>,
    scratch: Vec<u8>,
    plain: Vec<u8>,
}

struct Run<'a, 'r> {
    copier: &'a Copier<'a>,
    ingest: &'a Ingest<'r>,
    way: Way,
    budget: Budget,
    counters: &'a Counters,
    lost: Mutex<Lost>,
    failed: Mutex<Option<RepoError>>,
}

impl Copier<'_> {
    /// Copies the blobs of packs; gives those that can't be read.
    pub(super) fn transfer(
        &self,
        parts: &[PackPart],
        lock: Option<&LockGuard>,
        counters: &Counters,
    ) -> Result<(Lost, IngestStats), RepoError> {
        let way = self.way()?;
        let bytes = parts.iter().flat_map(|part| &part.blobs);
        let bytes: u64 = bytes.map(|blob| u64::from(blob.place.length_bytes)).sum();
        counters.bytes_total.store(bytes, Ordering::Relaxed);
        counters
            .files_total
            .store(parts.len() as u64, Ordering::Relaxed);
        let options = self.options.ingest;
        Ingest::run(self.to, self.to_index, lock, options, |ingest| {
            let run = Run {
                copier: self,
                ingest,
                way,
                budget: Budget::new(options.in_flight_bytes()),
                counters,
                lost: Mutex::default(),
                failed: Mutex::default(),
            };
            run.all(parts)
        })
    }
}

impl Run<'_, '_> {
    fn all(self, parts: &[PackPart]) -> Result<Lost, RepoError> {
        let next = AtomicUsize::new(0);
        let readers = self.copier.options.readers.max(1).min(parts.len());
        std::thread::scope(|scope| {
            for _ in 0..readers {
                scope.spawn(|| {
                    if let Err(error) = self.read(parts, &next) {
                        self.failed
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .get_or_insert(error);
                        next.store(parts.len(), Ordering::Relaxed);
                    }
                });
            }
        });
        let failed = self.failed.into_inner();
        match failed.unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(self
                .lost
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner)),
        }
    }

    fn read(&self, parts: &[PackPart], next: &AtomicUsize) -> Result<(), RepoError> {
        let mut tools = Tools {
            opener: Opener::default(),
            sealer: self.ingest.sealer()?,
            fetched: Vec::new(),
            scratch: Vec::new(),
            plain: Vec::new(),
        };
        while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
            self.copier.cancel.check()?;
            let is_stored = match part.whole_bytes {
                Some(size_bytes) => self.whole(part, size_bytes, &mut tools)?,
                None => false,
            };
            if !is_stored {
                for range in ranges(&part.blobs) {
                    self.copier.cancel.check()?;
                    self.range(range, &mut tools)?;
                }
            }
            self.counters.files_done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Stores a pack as it is; `false` if it is not what it should be, so that its blobs have to go one by one.
    fn whole(
        &self,
        part: &PackPart,
        size_bytes: u64,
        tools: &mut Tools,
    ) -> Result<bool, RepoError> {
        let (Some(first), Ok(len)) = (part.blobs.first(), usize::try_from(size_bytes)) else {
            return Ok(false);
        };
        let _share = self.budget.take(len);
        let from = self.copier.from;
        let (id, pack) = (first.place.pack, &mut tools.fetched);
        // Not cleared before: every byte is read over, or an error.
        pack.resize(len, 0);
        let name = FileName::new(FileKind::Pack, id);
        match from
            .backend()
            .load_at(name, 0, pack)
            .map_err(RepoError::from)
        {
            Ok(()) => {}
            Err(error) if error.is_damage() => return Ok(false),
            Err(error) => return Err(error),
        }
        let is_named_right = lifeboat_format::Id::of(pack) == id;
        let header = split_header(from, id, pack).unwrap_or_default();
        let wanted = part
            .blobs
            .iter()
            .map(|blob| (blob.kind, blob.id, blob.place));
        if !is_named_right || !wanted.eq(header) {
            return Ok(false);
        }
        for blob in &part.blobs {
            let begin = blob.place.offset_bytes as usize;
            let sealed = pack.get(begin..begin + blob.place.length_bytes as usize);
            tools.scratch.clear();
            tools.scratch.extend_from_slice(sealed.unwrap_or_default());
            let (scratch, plain) = (&mut tools.scratch, &mut tools.plain);
            let opened = open_blob(from, blob.id, blob.place, scratch, &mut tools.opener, plain);
            if opened.is_err() {
                return Ok(false);
            }
        }
        let blobs = part.blobs.iter().map(|blob| IndexBlob {
            id: blob.id,
            kind: blob.kind,
            offset_bytes: blob.place.offset_bytes,
            length_bytes: blob.place.length_bytes,
            raw_length_bytes: blob.place.raw_length_bytes,
        });
        let indexed = IndexPack {
            id,
            blobs: blobs.collect(),
        };
        self.ingest.add_pack(indexed, pack)?;
        part.blobs.iter().for_each(|blob| self.done(blob));
        Ok(true)
    }

    /// Fetches blobs that lie close together, and stores them.
    fn range(&self, range: &[Wanted], tools: &mut Tools) -> Result<(), RepoError> {
        let (Some(first), Some(last)) = (range.first(), range.last()) else {
            return Ok(());
        };
        let start = first.place.offset_bytes;
        let len = end_of(last).saturating_sub(start) as usize;
        let _share = self.budget.take(len);
        let mut fetched = std::mem::take(&mut tools.fetched);
        // Not cleared before: every byte is read over, or an error.
        fetched.resize(len, 0);
        let name = FileName::new(FileKind::Pack, first.place.pack);
        let backend = self.copier.from.backend();
        let got = backend.load_at(name, u64::from(start), &mut fetched);
        let got = match got.map_err(RepoError::from) {
            Err(error) if !error.is_damage() => return Err(error),
            got => got,
        };
        for blob in range {
            let begin = (blob.place.offset_bytes - start) as usize;
            let sealed = fetched.get_mut(begin..begin + blob.place.length_bytes as usize);
            let is_stored = match sealed {
                Some(sealed) if got.is_ok() => self.store(blob, sealed, tools)?,
                _ => false,
            };
            if !is_stored {
                // Alone and from wherever else it lies, before it counts as lost.
                self.store_from_elsewhere(blob, tools)?;
            }
            self.done(blob);
        }
        tools.fetched = fetched;
        Ok(())
    }

    /// Verifies and stores a blob; `false` if it is damaged.
    fn store(
        &self,
        blob: &Wanted,
        sealed: &mut [u8],
        tools: &mut Tools,
    ) -> Result<bool, RepoError> {
        let Tools {
            opener,
            sealer,
            scratch,
            plain,
            ..
        } = tools;
        let from = self.copier.from;
        if self.way == Way::Sealed {
            scratch.clear();
            scratch.extend_from_slice(sealed);
            if open_blob(from, blob.id, blob.place, scratch, opener, plain).is_err() {
                return Ok(false);
            }
            self.ingest.add_sealed(blob.entry(), sealed)?;
            return Ok(true);
        }
        let Ok(opened) = open_stored(from, blob.id, blob.place, sealed, opener, plain) else {
            return Ok(false);
        };
        let raw_length_bytes = blob.place.raw_length_bytes;
        if self.way == Way::Frames && raw_length_bytes != 0 {
            let (kind, id) = (blob.kind, blob.id);
            self.ingest
                .add_compressed(kind, id, opened.stored, raw_length_bytes, sealer)?;
        } else {
            self.ingest.add(blob.kind, blob.id, opened.plain, sealer)?;
        }
        Ok(true)
    }

    fn store_from_elsewhere(&self, blob: &Wanted, tools: &mut Tools) -> Result<(), RepoError> {
        let (from, index) = (self.copier.from, self.copier.from_index);
        let (opener, plain) = (&mut tools.opener, &mut tools.plain);
        match read_blob(from, index, blob.kind, blob.id, opener, plain) {
            Ok(()) => {
                self.ingest
                    .add(blob.kind, blob.id, plain, &mut tools.sealer)?;
            }
            Err(error) if error.is_damage() => {
                let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
                lost.insert((blob.kind, blob.id), chain(&error));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn done(&self, blob: &Wanted) {
        let length_bytes = u64::from(blob.place.length_bytes);
        self.counters
            .bytes_done
            .fetch_add(length_bytes, Ordering::Relaxed);
        let stored_bytes = self.ingest.stored_bytes();
        self.counters
            .bytes_stored
            .store(stored_bytes, Ordering::Relaxed);
    }
}

fn end_of(blob: &Wanted) -> u32 {
    let place = blob.place;
    place.offset_bytes.saturating_add(place.length_bytes)
}

/// Splits the blobs of one pack, in order of their places, into parts to be fetched at once.
fn ranges(sorted: &[Wanted]) -> impl Iterator<Item = &[Wanted]> {
    let mut start = None;
    sorted.chunk_by(move |before, after| {
        let start_bytes = *start.get_or_insert(before.place.offset_bytes);
        let gap_bytes = after.place.offset_bytes.checked_sub(end_of(before));
        let joins = gap_bytes.is_some_and(|gap| gap <= GAP_MAX_BYTES)
            && end_of(after) - start_bytes <= RANGE_MAX_BYTES;
        if !joins {
            start = None;
        }
        joins
    })
}
