//! Stores files that come one after the other, in an order that others choose: one thread cuts them, all others store the chunks.
//! It must never hold more of their contents than its budget, nor call a file stored before all of its chunks are.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use crossbeam_channel::{Receiver, Sender, bounded};
use lifeboat_flow::{Budget, BudgetShare, ChunkRule, Counters};
use lifeboat_format::Id;
use lifeboat_repo::{Index, Ingest, IngestStats, LockGuard, RepoError, Repository};

use crate::ProtectError;
use crate::backup::BackupOptions;
use crate::grown_tree::GrownTree;

/// Chunks that are stored together, in bytes, if it is more than one.
const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// Batches that wait for each thread that stores.
const WAITING_MAX: usize = 4;
/// Buffers that are kept for the next batches.
const SPARE_MAX: usize = 8;

/// Chunks of a file, one behind the other.
struct Batch {
    /// Which file.
    file: usize,
    /// Which of its chunks the first one is.
    first: usize,
    buffer: Vec<u8>,
    lengths: Vec<usize>,
    _share: BudgetShare,
}

/// What the threads share.
#[derive(Default)]
struct Shared {
    /// The chunks of each file.
    contents: Mutex<Vec<Vec<Id>>>,
    spare: Mutex<Vec<Vec<u8>>>,
    failed: Mutex<Option<RepoError>>,
    has_failed: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes files in while [`Intake::run`] lasts.
pub(crate) struct Intake<'a> {
    repository: &'a Repository,
    shared: &'a Shared,
    batches: Sender<Batch>,
    budget: Budget,
    counters: &'a Counters,
}

/// A file that was taken in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TakenFile {
    /// Which of all.
    pub(crate) number: usize,
    /// Its length.
    pub(crate) size_bytes: u64,
}

/// What an intake stored.
pub(crate) struct TakenIn<T> {
    /// The tree.
    pub(crate) tree: Id,
    /// What was stored.
    pub(crate) stored: IngestStats,
    /// What the work gave.
    pub(crate) value: T,
}

impl<'a> Intake<'a> {
    /// Runs `work`, which takes files in and puts them into a tree; when all of them are stored, that is too.
    ///
    /// # Errors
    /// The error of `work`, or that of storing.
    pub(crate) fn run<T, E: From<RepoError> + From<ProtectError>>(
        repository: &Repository,
        index: &RwLock<Index>,
        lock: Option<&LockGuard>,
        options: &BackupOptions,
        counters: &Counters,
        work: impl FnOnce(&Intake<'_>) -> Result<(GrownTree, T), E>,
    ) -> Result<TakenIn<T>, E> {
        let ((tree, value), stored) =
            Ingest::run(repository, index, lock, options.ingest, |ingest| {
                let shared = Shared::default();
                let workers = options.workers.max(1);
                let grown = std::thread::scope(|scope| {
                    let (batches, waiting) = bounded(workers * WAITING_MAX);
                    for _ in 0..workers {
                        let waiting = waiting.clone();
                        scope.spawn(|| shared.store_all(ingest, waiting, counters));
                    }
                    // Only workers may hold it: when none is left, nobody waits for them.
                    drop(waiting);
                    let intake = Intake {
                        repository,
                        shared: &shared,
                        batches,
                        budget: Budget::new(options.ingest.in_flight_bytes()),
                        counters,
                    };
                    work(&intake)
                });
                // What stopped the workers is the cause of whatever `work` says of it.
                if let Some(cause) = locked(&shared.failed).take() {
                    return Err(cause.into());
                }
                let (grown, value) = grown?;
                let contents = std::mem::take(&mut *locked(&shared.contents));
                let tree = grown.store(ingest, contents)?;
                Ok::<_, E>((tree, value))
            })?;
        Ok(TakenIn {
            tree,
            stored,
            value,
        })
    }

    /// Begins a file, which is cut by a rule and is about so long.
    pub(crate) fn file(&'a self, rule: ChunkRule, size_bytes: u64) -> OpenIntake<'a> {
        let mut contents = locked(&self.shared.contents);
        contents.push(Vec::new());
        let buffer = match size_bytes >= BATCH_BYTES as u64 {
            true => self.shared.buffer(),
            false => Vec::new(),
        };
        OpenIntake {
            intake: self,
            rule,
            number: contents.len() - 1,
            buffer,
            cut_bytes: 0,
            searched: 0,
            lengths: Vec::new(),
            chunks: 0,
            size_bytes: 0,
        }
    }

    /// Takes a file in that is in memory.
    ///
    /// # Errors
    /// When storing failed.
    pub(crate) fn bytes(&self, content: &[u8]) -> Result<TakenFile, ProtectError> {
        let mut file = self.file(ChunkRule::Restic, content.len() as u64);
        file.write(content)?;
        file.finish()
    }
}

/// A file that is being taken in.
pub(crate) struct OpenIntake<'a> {
    intake: &'a Intake<'a>,
    rule: ChunkRule,
    number: usize,
    buffer: Vec<u8>,
    /// What of the buffer is cut into chunks.
    cut_bytes: usize,
    /// Where behind that no chunk ends, as far as was looked.
    searched: usize,
    lengths: Vec<usize>,
    chunks: usize,
    size_bytes: u64,
}

impl OpenIntake<'_> {
    /// Takes what comes next.
    ///
    /// # Errors
    /// When storing failed, for this or an earlier file.
    pub(crate) fn write(&mut self, data: &[u8]) -> Result<(), ProtectError> {
        self.buffer.extend_from_slice(data);
        self.size_bytes += data.len() as u64;
        let counters = self.intake.counters;
        counters
            .bytes_done
            .fetch_add(data.len() as u64, Ordering::Relaxed);
        self.cut(false);
        match self.cut_bytes >= BATCH_BYTES {
            true => {
                let next = self.intake.shared.buffer();
                self.send(next)
            }
            false => Ok(()),
        }
    }

    /// Ends it.
    ///
    /// # Errors
    /// When storing failed, for this or an earlier file.
    pub(crate) fn finish(mut self) -> Result<TakenFile, ProtectError> {
        self.cut(true);
        if !self.lengths.is_empty() {
            self.send(Vec::new())?;
        }
        let counters = self.intake.counters;
        counters.files_done.fetch_add(1, Ordering::Relaxed);
        Ok(TakenFile {
            number: self.number,
            size_bytes: self.size_bytes,
        })
    }

    fn cut(&mut self, is_end: bool) {
        let chunker = self.intake.repository.chunker();
        loop {
            let rest = self.buffer.get(self.cut_bytes..).unwrap_or_default();
            if rest.len() <= self.searched && !is_end {
                return;
            }
            let Some(length) = chunker.cut(self.rule, rest, self.searched, is_end) else {
                self.searched = rest.len();
                return;
            };
            self.lengths.push(length);
            self.cut_bytes += length;
            self.searched = 0;
        }
    }

    /// Gives what is cut to whoever stores it; what lies behind goes on in another buffer.
    fn send(&mut self, mut next: Vec<u8>) -> Result<(), ProtectError> {
        let shared = self.intake.shared;
        let stopped = || RepoError::WriterFailed("a thread that stores has ended".into());
        if shared.has_failed.load(Ordering::Acquire) {
            return Err(stopped().into());
        }
        next.extend_from_slice(self.buffer.get(self.cut_bytes..).unwrap_or_default());
        let buffer = std::mem::replace(&mut self.buffer, next);
        let batch = Batch {
            file: self.number,
            first: self.chunks,
            _share: self.intake.budget.take(buffer.capacity()),
            buffer,
            lengths: std::mem::take(&mut self.lengths),
        };
        self.chunks += batch.lengths.len();
        self.cut_bytes = 0;
        let sent = self.intake.batches.send(batch);
        sent.map_err(|_| stopped().into())
    }
}

impl Shared {
    /// Memory for chunks.
    fn buffer(&self) -> Vec<u8> {
        locked(&self.spare).pop().unwrap_or_default()
    }

    /// Stores batches until no more come. After an error they are let go of, so that nobody waits.
    fn store_all(&self, ingest: &Ingest<'_>, waiting: Receiver<Batch>, counters: &Counters) {
        let mut sealer = ingest.sealer();
        for batch in waiting {
            if self.has_failed.load(Ordering::Acquire) {
                continue;
            }
            let stored = match &mut sealer {
                Ok(sealer) => {
                    let mut rest = batch.buffer.as_slice();
                    let cut = |length: &usize| {
                        let (chunk, behind) = rest.split_at_checked(*length).unwrap_or((rest, &[]));
                        rest = behind;
                        chunk
                    };
                    let chunks: Vec<&[u8]> = batch.lengths.iter().map(cut).collect();
                    ingest.add_data(&chunks, sealer)
                }
                Err(error) => Err(RepoError::WriterFailed(error.to_string())),
            };
            match stored {
                Ok(ids) => self.note(batch, ids),
                Err(error) => {
                    locked(&self.failed).get_or_insert(error);
                    self.has_failed.store(true, Ordering::Release);
                }
            }
            counters
                .bytes_stored
                .store(ingest.stored_bytes(), Ordering::Relaxed);
        }
    }

    fn note(&self, batch: Batch, ids: Vec<Id>) {
        let mut contents = locked(&self.contents);
        if let Some(all) = contents.get_mut(batch.file) {
            let end = batch.first + ids.len();
            if all.len() < end {
                all.resize(end, Id::default());
            }
            for (slot, id) in all.iter_mut().skip(batch.first).zip(ids) {
                *slot = id;
            }
        }
        drop(contents);
        let mut buffer = batch.buffer;
        let mut spare = locked(&self.spare);
        if spare.len() < SPARE_MAX && buffer.capacity() <= 2 * BATCH_BYTES {
            buffer.clear();
            spare.push(buffer);
        }
    }
}
