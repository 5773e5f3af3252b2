//! Fetches blobs and writes them where they belong, on several threads.
//! It must never write a byte that was not compared with its hash.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, bounded};
use lifeboat_flow::TargetError;
use lifeboat_format::{BlobKind, Id};
use lifeboat_repo::backend::{FileKind, FileName};
use lifeboat_repo::{Opener, RepoError, open_blob, read_blob};

use super::file::FileTask;
use super::tasks::{Batch, Place, Task, Wanted, ranges};
use super::{Leftovers, Run};
use crate::backup::ProtectError;

/// Tasks that may wait for a worker.
const TASK_QUEUE_MAX: usize = 256;
/// Requests at once at most, whatever a backend is worth: with their ranges and blobs 16 MiB each or so.
const REQUESTS_MAX: usize = 16;
/// Zeros in a row that become a hole, in bytes; aligned to as much.
const HOLE_BYTES: usize = 64 * 1024;

static ZEROS: [u8; HOLE_BYTES] = [0; HOLE_BYTES];

/// What a worker keeps between tasks.
#[derive(Default)]
struct Buffers {
    opener: Opener,
    range: Vec<u8>,
    plain: Vec<u8>,
    /// For a blob that had to be read again.
    second: Vec<u8>,
    existing: Vec<u8>,
}

impl Run<'_> {
    /// Restores everything below a tree.
    pub(super) fn all(&self, tree: Id) -> Result<(), ProtectError> {
        let (sender, tasks) = bounded(TASK_QUEUE_MAX);
        let left: Result<Leftovers, ProtectError> = std::thread::scope(|scope| {
            for _ in 0..self.workers() {
                let tasks = tasks.clone();
                scope.spawn(move || self.work(&tasks));
            }
            drop(tasks);
            let mut batch = Batch::new(self, sender);
            let left = self.walk(tree, &mut batch)?;
            batch.flush()?;
            Ok(left)
        });
        if let Some(error) = self
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            return Err(error);
        }
        self.restore.cancel.check()?;
        self.finish(left?)
    }

    /// Threads: enough for all cores, and for as many requests as the backend is worth. Each holds a range of a pack and
    /// a blob or two.
    fn workers(&self) -> usize {
        let requests = self.restore.repository.backend().connections();
        self.restore
            .options
            .workers
            .max(1)
            .max(requests.min(REQUESTS_MAX))
    }

    /// Whether to go on.
    pub(super) fn check(&self) -> Result<(), ProtectError> {
        self.restore.cancel.check()?;
        match self
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
        {
            // The first error is reported; this one only ends the walk.
            true => Err(lifeboat_flow::Cancelled.into()),
            false => Ok(()),
        }
    }

    fn work(&self, tasks: &Receiver<Task>) {
        let mut buffers = Buffers::default();
        for task in tasks {
            let done = self.check().and_then(|()| match task {
                Task::Whole(file) => self.part_done(&file),
                Task::Range(range) => self.fetch(range, &mut buffers),
                Task::Delta(file, from, to, offset) => {
                    self.delta(&file, from, to, offset, &mut buffers)?;
                    self.part_done(&file)
                }
            });
            if let Err(error) = done {
                self.failed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get_or_insert(error);
                // Receiving goes on in a drain, so that the walk is never left waiting.
                tasks.iter().for_each(drop);
                return;
            }
        }
    }

    /// Fetches a part of a pack and writes its blobs.
    fn fetch(&self, range: Vec<Wanted>, buffers: &mut Buffers) -> Result<(), ProtectError> {
        let (Some(first), Some(last)) = (range.first(), range.last()) else {
            return Ok(());
        };
        let start = first.at.offset_bytes;
        let len = last
            .at
            .offset_bytes
            .saturating_add(last.at.length_bytes)
            .saturating_sub(start);
        let mut sealed = std::mem::take(&mut buffers.range);
        // Not cleared before: every byte is read over, or an error.
        sealed.resize(len as usize, 0);
        let name = FileName::new(FileKind::Pack, first.at.pack);
        let fetched = self
            .restore
            .repository
            .backend()
            .load_at(name, u64::from(start), &mut sealed)
            .map_err(RepoError::from);
        let is_fetched = match fetched {
            // Where nothing answers any more, blob by blob would not do better.
            Err(error) if error.ends_all() => return Err(error.into()),
            fetched => fetched.is_ok(),
        };
        for wanted in range {
            self.check()?;
            let from = (wanted.at.offset_bytes - start) as usize;
            let opened = match sealed.get_mut(from..from + wanted.at.length_bytes as usize) {
                Some(sealed) if is_fetched => open_blob(
                    self.restore.repository,
                    wanted.id,
                    wanted.at,
                    sealed,
                    &mut buffers.opener,
                    &mut buffers.plain,
                )
                .map_err(RepoError::from),
                _ => Err(RepoError::BlobUnknown {
                    kind: BlobKind::Data,
                    id: wanted.id,
                }),
            };
            // A second look, blob by blob: it may lie in another pack too, and the error names the pack.
            let opened = opened.or_else(|_| {
                read_blob(
                    self.restore.repository,
                    self.restore.index,
                    BlobKind::Data,
                    wanted.id,
                    &mut buffers.opener,
                    &mut buffers.second,
                )
                .map(|()| buffers.second.as_slice())
            });
            let opened = match opened {
                Err(error) if error.ends_all() => return Err(error.into()),
                opened => opened,
            };
            for place in wanted.places {
                match &opened {
                    Ok(plain) => self.put(&place, plain)?,
                    Err(error) => self.damaged(&place.file, error),
                }
                self.part_done(&place.file)?;
            }
        }
        buffers.range = sealed;
        Ok(())
    }

    /// Writes a blob to one place of a file.
    fn put(&self, place: &Place, plain: &[u8]) -> Result<(), ProtectError> {
        let written = self.open(&place.file).and_then(|file| {
            let mut at = 0;
            // Runs of zeros stay holes: the file gets its full length in the end.
            while at < plain.len() {
                let aligned =
                    HOLE_BYTES - ((place.offset + at as u64) % HOLE_BYTES as u64) as usize;
                let mut end = (at + aligned).min(plain.len());
                let is_hole = |from: usize, to: usize| {
                    // What is in a file that was there before is not zero.
                    !place.file.is_delta
                        && to - from == HOLE_BYTES
                        && plain.get(from..to) == Some(&ZEROS[..])
                };
                if is_hole(at, end) {
                    place.file.leave_hole();
                    at = end;
                    continue;
                }
                while end < plain.len() && !is_hole(end, (end + HOLE_BYTES).min(plain.len())) {
                    end = (end + HOLE_BYTES).min(plain.len());
                }
                file.write_at(
                    plain.get(at..end).unwrap_or_default(),
                    place.offset + at as u64,
                )?;
                at = end;
            }
            Ok(())
        });
        self.restore
            .counters
            .bytes_done
            .fetch_add(plain.len() as u64, Ordering::Relaxed);
        self.written(&place.file, written)
    }

    fn written(
        &self,
        file: &FileTask,
        result: Result<(), TargetError>,
    ) -> Result<(), ProtectError> {
        match result {
            Ok(()) => Ok(()),
            Err(error) if error.is_full() => Err(error.into()),
            Err(error) => {
                self.damaged(file, &error);
                Ok(())
            }
        }
    }

    /// Compares a part of a file that is there, and fetches and writes only what differs.
    fn delta(
        &self,
        file: &std::sync::Arc<FileTask>,
        from: usize,
        to: usize,
        offset: u64,
        buffers: &mut Buffers,
    ) -> Result<(), ProtectError> {
        let open = match self.open(file) {
            Ok(open) => open,
            Err(error) => return self.written(file, Err(error)),
        };
        let mut differing = Vec::new();
        let mut at_offset = offset;
        for id in file.content.get(from..to).unwrap_or_default() {
            self.check()?;
            let Some(at) = self.restore.index.find(BlobKind::Data, id) else {
                continue;
            };
            let len = usize::try_from(at.plain_bytes()).unwrap_or(usize::MAX);
            buffers.existing.resize(len, 0);
            let is_same = match open.read_at(&mut buffers.existing, at_offset) {
                Ok(got) => got == len && Id::of(&buffers.existing) == *id,
                Err(error) => return self.written(file, Err(error)),
            };
            if is_same {
                self.restore
                    .counters
                    .bytes_done
                    .fetch_add(len as u64, Ordering::Relaxed);
            } else {
                differing.push(Wanted {
                    id: *id,
                    at,
                    places: vec![Place {
                        file: file.clone(),
                        offset: at_offset,
                    }],
                    order: differing.len(),
                });
            }
            at_offset += len as u64;
        }
        differing.sort_by_key(|wanted| (wanted.at.pack, wanted.at.offset_bytes));
        file.wait_for_more(differing.len() as u64);
        for range in ranges(differing) {
            self.fetch(range, buffers)?;
        }
        Ok(())
    }
}
