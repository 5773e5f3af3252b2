//! Reads one file, cuts it into chunks and stores them; chunks of a large file are shared among the workers.
//! It must never take a file for saved whose content ended early or changed while it was read.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lifeboat_flow::{BudgetShare, Problem, SourceError};
use lifeboat_format::Id;
use lifeboat_format::chunker::CHUNK_MAX_BYTES;
use lifeboat_repo::{Ingest, Opener, RepoError, Sealer};

use super::frame::Frame;
use super::{ProtectError, Run};

/// Bytes asked for by one read: of what lies behind the end of a chunk, so much is copied at most.
const READ_BYTES: usize = 256 * 1024;
/// What a worker keeps allocated between files, in bytes; more is given back.
const BUFFER_KEEP_BYTES: usize = CHUNK_MAX_BYTES + READ_BYTES;

/// What a worker keeps between jobs.
pub(super) struct Tools {
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
    buffer: Vec<u8>,
}

impl Tools {
    pub(super) fn new(ingest: &Ingest<'_>) -> Result<Self, RepoError> {
        Ok(Self {
            sealer: ingest.sealer()?,
            opener: Opener::default(),
            buffer: Vec::new(),
        })
    }
}

/// A file of which some chunks are still with other workers.
pub(super) struct OpenFile {
    frame: Arc<Frame>,
    slot: usize,
    is_new: bool,
    ids: Mutex<Vec<Id>>,
    waiting: AtomicUsize,
    /// Whether reading failed after some chunks were cut: the node is gone then.
    left_out: AtomicBool,
}

/// A chunk to be stored by whoever takes it.
pub(super) struct BlobJob {
    file: Arc<OpenFile>,
    number: usize,
    /// The chunk, and behind it whatever was there.
    buffer: Vec<u8>,
    length: usize,
    _share: BudgetShare,
}

impl Run<'_> {
    /// Reads the file in a slot of a directory.
    pub(super) fn read_file(
        &self,
        frame: &Arc<Frame>,
        slot: usize,
        is_new: bool,
        tools: &mut Tools,
    ) -> Result<(), ProtectError> {
        let Some(name) = frame.get(slot, |node| node.name.clone()) else {
            return Ok(());
        };
        let path = frame.path.join(&name);
        let file = Arc::new(OpenFile {
            frame: frame.clone(),
            slot,
            is_new,
            ids: Mutex::default(),
            waiting: AtomicUsize::new(1),
            left_out: AtomicBool::new(false),
        });
        if let Err(error) = self.read_content(&file, &path, tools) {
            match error {
                ReadError::Backup(error) => return Err(error),
                ReadError::Source(error @ SourceError::Fatal { .. }) => return Err(error.into()),
                ReadError::Source(error) => {
                    let problem = Problem::from_error(&path.display(), "read file", &error);
                    frame.leave_out(slot, &problem.why);
                    file.left_out.store(true, Ordering::Release);
                    self.backup.problem(problem);
                }
            }
        }
        self.finish_chunk(&file, tools)
    }

    fn read_content(
        &self,
        file: &Arc<OpenFile>,
        path: &lifeboat_flow::EntryPath,
        tools: &mut Tools,
    ) -> Result<(), ReadError> {
        let backup = self.backup;
        let mut content = backup.source.open(path).map_err(ReadError::Source)?;
        let mut buffer = std::mem::take(&mut tools.buffer);
        let result = self.cut_all(file, path, content.as_mut(), &mut buffer, tools);
        if buffer.capacity() > BUFFER_KEEP_BYTES {
            buffer = Vec::new();
        }
        tools.buffer = buffer;
        let size_bytes = result?;
        let read = content.finish().map_err(ReadError::Source)?;
        let changed = content.changed();
        let (frame, slot) = (&file.frame, file.slot);
        frame.set(slot, |node| {
            if let Some(mut entry) = read {
                entry.name.clone_from(&node.name);
                *node = crate::node::node_of(entry);
            }
            node.size_bytes = size_bytes;
            if changed {
                "changed while it was read".clone_into(&mut node.error);
            }
        });
        if changed {
            backup.problem(Problem {
                path: path.display(),
                doing: "read file".into(),
                why: "it changed while it was read; what was read is saved".into(),
            });
        }
        Ok(())
    }

    /// Reads to the end, chunk by chunk, and gives the number of bytes.
    fn cut_all(
        &self,
        file: &Arc<OpenFile>,
        path: &lifeboat_flow::EntryPath,
        content: &mut dyn lifeboat_flow::Content,
        buffer: &mut Vec<u8>,
        tools: &mut Tools,
    ) -> Result<u64, ReadError> {
        let chunker = self.backup.repository.chunker();
        let (mut filled, mut searched, mut total, mut ended) = (0usize, 0usize, 0u64, false);
        // The first read asks for the size that the listing gave and one byte, so that a small file takes two calls.
        let expected = file
            .frame
            .get(file.slot, |node| node.size_bytes)
            .unwrap_or(0);
        let mut ask = usize::try_from(expected)
            .unwrap_or(READ_BYTES)
            .saturating_add(1)
            .clamp(4096, READ_BYTES);
        loop {
            self.backup
                .cancel
                .check()
                .map_err(|e| ReadError::Backup(e.into()))?;
            if filled > searched || ended {
                let data = buffer.get(..filled).unwrap_or_default();
                match chunker.cut(data, searched, ended) {
                    Some(end) => {
                        total += end as u64;
                        self.take_chunk(file, buffer, end, filled, tools)
                            .map_err(ReadError::Backup)?;
                        filled -= end;
                        searched = 0;
                        continue;
                    }
                    None if ended => return Ok(total),
                    None => searched = filled,
                }
            }
            if buffer.len() < filled + ask {
                buffer.resize(filled + ask, 0);
            }
            match content.read(buffer.get_mut(filled..filled + ask).unwrap_or_default()) {
                Ok(0) => ended = true,
                Ok(got) => {
                    filled += got;
                    self.backup
                        .counters
                        .bytes_done
                        .fetch_add(got as u64, Ordering::Relaxed);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(cause) => {
                    return Err(ReadError::Source(SourceError::Unreadable {
                        doing: "read",
                        path: path.display(),
                        cause,
                    }));
                }
            }
            ask = READ_BYTES;
        }
    }

    /// Stores the chunk at the beginning of the buffer, or gives it to another worker that has nothing better to do. What
    /// was read behind it is at the beginning of the buffer then.
    fn take_chunk(
        &self,
        file: &Arc<OpenFile>,
        buffer: &mut Vec<u8>,
        length: usize,
        filled: usize,
        tools: &mut Tools,
    ) -> Result<(), ProtectError> {
        let number = {
            let mut ids = file.ids.lock().unwrap_or_else(PoisonError::into_inner);
            ids.push(Id::default());
            ids.len() - 1
        };
        let others = self.backup.options.workers.saturating_sub(1);
        if self.queue.wants_blob(others)
            && let Some(share) = self.budget.try_take(length)
        {
            let mut next = self.spare().pop().unwrap_or_default();
            let rest = buffer.get(length..filled).unwrap_or_default();
            if next.len() < rest.len() {
                next.resize(rest.len(), 0);
            }
            if let Some(place) = next.get_mut(..rest.len()) {
                place.copy_from_slice(rest);
            }
            file.waiting.fetch_add(1, Ordering::AcqRel);
            let job = BlobJob {
                file: file.clone(),
                number,
                buffer: std::mem::replace(buffer, next),
                length,
                _share: share,
            };
            return match self.queue.offer_blob(job, others) {
                None => Ok(()),
                Some(job) => self.seal_blob(job, tools),
            };
        }
        let chunk = buffer.get(..length).unwrap_or_default();
        self.store_chunk(file, number, chunk, tools)?;
        buffer.copy_within(length..filled, 0);
        Ok(())
    }

    /// Stores a chunk that came through the queue.
    pub(super) fn seal_blob(&self, job: BlobJob, tools: &mut Tools) -> Result<(), ProtectError> {
        let chunk = job.buffer.get(..job.length).unwrap_or_default();
        self.store_chunk(&job.file, job.number, chunk, tools)?;
        let mut spare = self.spare();
        if spare.len() <= self.backup.options.workers {
            spare.push(job.buffer);
        }
        drop(spare);
        self.finish_chunk(&job.file, tools)
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store_chunk(
        &self,
        file: &OpenFile,
        number: usize,
        chunk: &[u8],
        tools: &mut Tools,
    ) -> Result<(), ProtectError> {
        let (id, _) = self.ingest.add_data(chunk, &mut tools.sealer)?;
        self.backup
            .counters
            .bytes_stored
            .store(self.ingest.stored_bytes(), Ordering::Relaxed);
        if let Some(slot) = file
            .ids
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_mut(number)
        {
            *slot = id;
        }
        Ok(())
    }

    /// One of the things that a file waits for is done; after the last its node is complete.
    fn finish_chunk(&self, file: &Arc<OpenFile>, tools: &mut Tools) -> Result<(), ProtectError> {
        if file.waiting.fetch_sub(1, Ordering::AcqRel) != 1 {
            return Ok(());
        }
        if !file.left_out.load(Ordering::Acquire) {
            let ids = std::mem::take(&mut *file.ids.lock().unwrap_or_else(PoisonError::into_inner));
            file.frame.set(file.slot, |node| {
                let (counter, action) = if file.is_new {
                    (&self.stats.files_new, "new")
                } else {
                    (&self.stats.files_changed, "modified")
                };
                self.count_file(counter, action, &file.frame, node);
                node.content = Some(ids);
            });
        }
        self.finish_one(file.frame.clone(), tools)
    }
}

enum ReadError {
    Source(SourceError),
    Backup(ProtectError),
}
