//! Fetches blobs and writes them where they belong, on several threads.
//! It must never write a byte that was not compared with its hash.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, bounded};
use lifeboat_flow::TargetError;
use lifeboat_format::{BlobKind, BlobRef, Id};
use lifeboat_repo::backend::{FileKind, FileName};
use lifeboat_repo::{Fetched, Opener, RepoError, open_blobs, read_blob};

use super::comparer::Comparer;
use super::file::FileTask;
use super::tasks::{Batch, Place, Task, Wanted, ranges};
use super::{Leftovers, Run};
use crate::backup::ProtectError;

/// Groups of tasks that may wait for a worker.
const GROUP_QUEUE_MAX: usize = 64;
/// What a worker holds, in bytes: a range, and blobs that are hashed together; or what it compares.
const WORKER_BYTES: usize = 16 * 1024 * 1024;
/// Zeros in a row that become a hole, in bytes; aligned to as much.
const HOLE_BYTES: usize = 64 * 1024;

static ZEROS: [u8; HOLE_BYTES] = [0; HOLE_BYTES];

/// What a worker keeps between tasks.
#[derive(Default)]
struct Buffers {
    opener: Opener,
    range: Vec<u8>,
    /// For a blob that had to be read again.
    second: Vec<u8>,
    existing: Comparer,
    /// What is to be fetched for the files of one group.
    differing: Vec<Wanted>,
}

impl Run<'_> {
    /// Restores everything below a tree.
    pub(super) fn all(&self, tree: Id) -> Result<(), ProtectError> {
        let (sender, tasks) = bounded(GROUP_QUEUE_MAX);
        let left: Result<Leftovers, ProtectError> = std::thread::scope(|scope| {
            for _ in 0..self.workers() {
                let tasks = tasks.clone();
                scope.spawn(move || self.work(&tasks));
            }
            drop(tasks);
            let mut batch = Batch::new(self, sender);
            let left = self.walk(tree, &mut batch)?;
            batch.end()?;
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

    /// Threads: enough for all cores, and for as many requests as the backend is worth, as far as memory allows.
    fn workers(&self) -> usize {
        let requests = self.restore.repository.backend().connections();
        let options = &self.restore.options;
        let affordable = options.memory_bytes / WORKER_BYTES;
        options.workers.max(requests).min(affordable).max(1)
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

    fn work(&self, groups: &Receiver<Vec<Task>>) {
        let mut buffers = Buffers::default();
        for group in groups {
            let mut group = group.into_iter();
            let done = group.try_for_each(|task| self.work_on(task, &mut buffers));
            if let Err(error) = done.and_then(|()| self.fetch_differing(&mut buffers)) {
                self.failed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get_or_insert(error);
                // Receiving goes on in a drain, so that the walk is never left waiting.
                groups.iter().for_each(drop);
                return;
            }
        }
    }

    fn work_on(&self, task: Task, buffers: &mut Buffers) -> Result<(), ProtectError> {
        self.check()?;
        match task {
            Task::Whole(file) => self.part_done(&file),
            Task::Range(range) => self.fetch(range, buffers),
            Task::Delta(file, from, to, offset) => {
                self.delta(&file, from, to, offset, buffers)?;
                self.part_done(&file)
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
        let Buffers {
            opener,
            range: sealed,
            second,
            ..
        } = buffers;
        // Not cleared before: every byte is read over, or an error.
        sealed.resize(len as usize, 0);
        let name = FileName::new(FileKind::Pack, first.at.pack);
        let fetched = self
            .restore
            .repository
            .backend()
            .load_at(name, u64::from(start), sealed)
            .map_err(RepoError::from);
        let is_fetched = match fetched {
            // Where nothing answers any more, blob by blob would not do better.
            Err(error) if error.ends_all() => return Err(error.into()),
            fetched => fetched.is_ok(),
        };
        let (mut there, mut again) = (Vec::new(), Vec::new());
        let (mut rest, mut rest_at) = (sealed.as_mut_slice(), start);
        for wanted in range {
            let skip = wanted.at.offset_bytes.checked_sub(rest_at);
            let length = wanted.at.length_bytes as usize;
            let carved = skip.filter(|_| is_fetched).and_then(|skip| {
                let behind = std::mem::take(&mut rest).split_at_mut_checked(skip as usize);
                let (sealed, behind) = behind?.1.split_at_mut_checked(length)?;
                (rest, rest_at) = (behind, wanted.at.offset_bytes + wanted.at.length_bytes);
                Some(sealed)
            });
            match carved {
                Some(sealed) => there.push((wanted, sealed)),
                None => again.push(wanted),
            }
        }
        let (wanted, sealed): (Vec<Wanted>, Vec<&mut [u8]>) = there.into_iter().unzip();
        let blobs = wanted.iter().zip(sealed).map(|(wanted, sealed)| Fetched {
            id: wanted.id,
            place: wanted.at,
            sealed,
        });
        let repository = self.restore.repository;
        open_blobs(
            repository,
            blobs.collect(),
            opener,
            |number, opened| match (wanted.get(number), opened) {
                (Some(wanted), Ok(plain)) => self.put_all(wanted, plain),
                (Some(wanted), Err(_)) => self.second_look(wanted, second),
                (None, _) => Ok(()),
            },
        )?;
        let mut again = again.iter();
        again.try_for_each(|wanted| self.second_look(wanted, second))
    }

    /// Reads a blob by itself: it may lie in another pack too, and the error names the pack.
    fn second_look(&self, wanted: &Wanted, plain: &mut Vec<u8>) -> Result<(), ProtectError> {
        let (repository, index) = (self.restore.repository, self.restore.index);
        let (kind, mut opener) = (BlobKind::Data, Opener::default());
        match read_blob(repository, index, kind, wanted.id, &mut opener, plain) {
            Ok(()) => self.put_all(wanted, plain),
            Err(error) if error.ends_all() => Err(error.into()),
            Err(error) => {
                for place in &wanted.places {
                    self.damaged(&place.file, &error);
                    self.part_done(&place.file)?;
                }
                Ok(())
            }
        }
    }

    /// Writes a blob to all its places.
    fn put_all(&self, wanted: &Wanted, plain: &[u8]) -> Result<(), ProtectError> {
        self.check()?;
        for place in &wanted.places {
            self.put(place, plain)?;
            self.part_done(&place.file)?;
        }
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
        if file.is_damaged() {
            return Ok(());
        }
        let existing = match self.existing(file) {
            Ok(existing) => existing,
            Err(error) => return self.written(file, Err(error)),
        };
        let ids = file.content.get(from..to).unwrap_or_default();
        let places = ids.iter().filter_map(|id| {
            let place = self.restore.index.find(BlobKind::Data, id)?;
            Some((*id, place))
        });
        let places: Vec<(Id, BlobRef)> = places.collect();
        let mut differing = Vec::new();
        let mut offset = offset;
        let mut rest = places.as_slice();
        while !rest.is_empty() {
            self.check()?;
            let parts = rest.iter().map(|(id, at)| (*id, at.plain_bytes()));
            let same = buffers.existing.compare(&*existing, offset, parts);
            let same = match same {
                Ok(same) => same,
                Err(error) => return self.written(file, Err(error)),
            };
            let (compared, others) = rest.split_at(same.len().min(rest.len()));
            rest = others;
            for ((id, at), is_same) in compared.iter().zip(same) {
                let len = at.plain_bytes();
                if is_same {
                    let done = &self.restore.counters.bytes_done;
                    done.fetch_add(len, Ordering::Relaxed);
                } else {
                    differing.push(Wanted {
                        id: *id,
                        at: *at,
                        places: vec![Place {
                            file: file.clone(),
                            offset,
                        }],
                        order: differing.len(),
                    });
                }
                offset += len;
            }
        }
        // What can't be written need not be fetched.
        if !differing.is_empty()
            && let Err(error) = self.open(file)
        {
            return self.written(file, Err(error));
        }
        file.wait_for_more(differing.len() as u64);
        buffers.differing.append(&mut differing);
        Ok(())
    }

    /// Fetches what differs in the files of a group: from one pack at once, and what several of them miss only once.
    fn fetch_differing(&self, buffers: &mut Buffers) -> Result<(), ProtectError> {
        let mut differing = std::mem::take(&mut buffers.differing);
        if differing.is_empty() {
            return Ok(());
        }
        // Its memory is needed for what comes.
        buffers.existing = Comparer::default();
        differing.sort_by_key(|wanted| (wanted.at.pack, wanted.at.offset_bytes));
        differing.dedup_by(|next, kept| {
            let is_same =
                (next.at.pack, next.at.offset_bytes) == (kept.at.pack, kept.at.offset_bytes);
            if is_same {
                kept.places.append(&mut next.places);
            }
            is_same
        });
        for range in ranges(differing) {
            self.fetch(range, buffers)?;
        }
        Ok(())
    }
}
