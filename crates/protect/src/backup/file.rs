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
/// What is kept allocated of a buffer, in bytes; a longer one is given back.
const BUFFER_KEEP_BYTES: usize = CHUNK_MAX_BYTES + READ_BYTES;
/// The part of the memory for chunks that may lie unused between two chunks.
const SPARE_PART: usize = 4;
/// Chunks that are hashed together, in bytes, if it is more than one.
const TOGETHER_MAX_BYTES: usize = CHUNK_MAX_BYTES;

/// What is said to be done when something was read and is damaged.
pub(crate) const VERIFYING: &str = "verify what was read";

/// What a worker keeps between jobs.
pub(super) struct Tools {
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
    /// Memory for chunks.
    spare: Vec<Vec<u8>>,
}

impl Tools {
    pub(super) fn new(ingest: &Ingest<'_>) -> Result<Self, RepoError> {
        Ok(Self {
            sealer: ingest.sealer()?,
            opener: Opener::default(),
            spare: Vec::new(),
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

/// Chunks of a file, one behind the other: one of the usual length, or many small ones.
struct Chunks {
    /// Which of the file's the first one is.
    number: usize,
    /// The chunks, and behind them whatever was there.
    buffer: Vec<u8>,
    lengths: Vec<usize>,
}

impl Chunks {
    fn each(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.buffer.as_slice();
        self.lengths.iter().map(move |length| {
            let (chunk, behind) = rest.split_at_checked(*length).unwrap_or((rest, &[]));
            rest = behind;
            chunk
        })
    }
}

/// Chunks to be stored by whoever takes them.
pub(super) struct BlobJob {
    file: Arc<OpenFile>,
    chunks: Vec<Chunks>,
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
                ReadError::Source(SourceError::Gone { .. }) => {
                    frame.forget(slot);
                    file.left_out.store(true, Ordering::Release);
                }
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
        let size_bytes = self.cut_all(file, path, content.as_mut(), tools)?;
        let read = content.finish().map_err(ReadError::Source)?;
        let changed = content.changed();
        let faults = content.faults();
        let (frame, slot) = (&file.frame, file.slot);
        frame.set(slot, |node| {
            if let Some(mut entry) = read {
                entry.name.clone_from(&node.name);
                *node = crate::node::node_of(entry);
            }
            node.size_bytes = size_bytes;
            if changed {
                "changed while it was read".clone_into(&mut node.error);
            } else if let Some(first) = faults.first() {
                first.clone_into(&mut node.error);
            }
        });
        for why in faults {
            backup.problem(Problem {
                path: path.display(),
                doing: VERIFYING.into(),
                why,
            });
        }
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
        tools: &mut Tools,
    ) -> Result<u64, ReadError> {
        let chunker = self.backup.repository.chunker();
        let rule = content.chunk_rule();
        let mut buffer = self.buffer(tools);
        let (mut chunks, mut waiting, mut number) = (Vec::new(), Amount::default(), 0);
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
            let (mut rest, mut lengths) = (buffer.get(..filled).unwrap_or_default(), Vec::new());
            while rest.len() > searched || ended {
                let Some(length) = chunker.cut(rule, rest, searched, ended) else {
                    break;
                };
                lengths.push(length);
                rest = rest.get(length..).unwrap_or_default();
                searched = 0;
            }
            if !lengths.is_empty() {
                // What lies behind the chunks goes on in another buffer.
                let mut next = self.buffer(tools);
                if next.len() < rest.len() {
                    next.resize(rest.len(), 0);
                }
                if let Some(place) = next.get_mut(..rest.len()) {
                    place.copy_from_slice(rest);
                }
                let cut_bytes = filled - rest.len();
                total += cut_bytes as u64;
                filled = rest.len();
                waiting.chunks += lengths.len();
                waiting.bytes += cut_bytes;
                let first = number;
                number += lengths.len();
                chunks.push(Chunks {
                    number: first,
                    buffer: std::mem::replace(&mut buffer, next),
                    lengths,
                });
                if waiting.chunks >= Id::at_once() || waiting.bytes >= TOGETHER_MAX_BYTES {
                    waiting = Amount::default();
                    self.hand_over(file, std::mem::take(&mut chunks), tools)
                        .map_err(ReadError::Backup)?;
                }
            }
            searched = filled;
            if ended {
                self.keep(buffer, tools);
                self.hand_over(file, chunks, tools)
                    .map_err(ReadError::Backup)?;
                return Ok(total);
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

    /// Stores chunks, or gives them to another worker that has nothing better to do.
    fn hand_over(
        &self,
        file: &Arc<OpenFile>,
        chunks: Vec<Chunks>,
        tools: &mut Tools,
    ) -> Result<(), ProtectError> {
        let others = self.backup.options.workers.saturating_sub(1);
        // Buffers may be longer than what is in them.
        let bytes = chunks.iter().map(|chunk| chunk.buffer.capacity()).sum();
        if !chunks.is_empty()
            && self.queue.wants_blob(others)
            && let Some(share) = self.budget.try_take(bytes)
        {
            file.waiting.fetch_add(1, Ordering::AcqRel);
            let job = BlobJob {
                file: file.clone(),
                chunks,
                _share: share,
            };
            return match self.queue.offer_blob(job, others) {
                None => Ok(()),
                Some(job) => self.seal_blob(job, tools),
            };
        }
        self.store_chunks(file, chunks, tools)
    }

    /// Stores chunks that came through the queue.
    pub(super) fn seal_blob(&self, job: BlobJob, tools: &mut Tools) -> Result<(), ProtectError> {
        self.store_chunks(&job.file, job.chunks, tools)?;
        self.finish_chunk(&job.file, tools)
    }

    fn store_chunks(
        &self,
        file: &OpenFile,
        chunks: Vec<Chunks>,
        tools: &mut Tools,
    ) -> Result<(), ProtectError> {
        let plain: Vec<&[u8]> = chunks.iter().flat_map(Chunks::each).collect();
        let ids = self.ingest.add_data(&plain, &mut tools.sealer)?;
        self.backup
            .counters
            .bytes_stored
            .store(self.ingest.stored_bytes(), Ordering::Relaxed);
        let mut all = file.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let numbers = chunks.iter();
        let numbers = numbers.flat_map(|chunks| (chunks.number..).take(chunks.lengths.len()));
        for (number, id) in numbers.zip(ids) {
            if all.len() <= number {
                all.resize(number + 1, Id::default());
            }
            if let Some(slot) = all.get_mut(number) {
                *slot = id;
            }
        }
        drop(all);
        for chunk in chunks {
            self.keep(chunk.buffer, tools);
        }
        Ok(())
    }

    /// Memory for a chunk.
    fn buffer(&self, tools: &mut Tools) -> Vec<u8> {
        let own = tools.spare.pop();
        own.or_else(|| self.spare().pop()).unwrap_or_default()
    }

    /// Keeps memory for the next chunk. Workers that cut have too little of it, and those that store too much.
    fn keep(&self, buffer: Vec<u8>, tools: &mut Tools) {
        if buffer.capacity() > BUFFER_KEEP_BYTES {
            return;
        }
        if tools.spare.is_empty() {
            tools.spare.push(buffer);
            return;
        }
        let mut spare = self.spare();
        let kept: usize = spare.iter().map(Vec::capacity).sum();
        if kept + buffer.capacity() <= self.backup.options.ingest.in_flight_bytes() / SPARE_PART {
            spare.push(buffer);
        }
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
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

/// What waits to be handed over.
#[derive(Default)]
struct Amount {
    chunks: usize,
    bytes: usize,
}

enum ReadError {
    Source(SourceError),
    Backup(ProtectError),
}
