//! Takes blobs into a repository: deduplicates, compresses, encrypts, packs, stores, and indexes what was stored.
//! It must never index a pack that is not stored, and never call a blob stored before it is indexed.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use lifeboat_format::chunker::CHUNK_MAX_BYTES;
use lifeboat_format::{
    BlobKind, CompressionMode, Compressor, HEADER_MAX_BYTES, Id, IndexBlob, IndexFile, IndexPack,
    NONCE_BYTES, OVERHEAD_BYTES, PackEntry, encode_header, header_bytes,
};

use crate::backend::{Backend, FileKind, FileName};
use crate::index_writer::INDEX_MAX_BLOBS;
use crate::lock::LockGuard;
use crate::{Index, RepoError, Repository, chain, random};

/// Memory for packs that uploaders hold while a backend takes them, in bytes: beyond it a backend that is worth more
/// connections gets no more uploaders.
const UPLOADS_MAX_BYTES: usize = 256 * 1024 * 1024;
/// Age at which an index file is written if nobody says otherwise.
const INDEX_MAX_AGE: Duration = Duration::from_secs(60);
/// How often the age of the index is looked at.
const INDEX_AGE_POLL: Duration = Duration::from_secs(1);
/// Packs that may wait for an uploader; more would only take memory.
const PACK_QUEUE_MAX: usize = 1;
/// What is set aside for a pack's header and the encryption of a blob, in bytes; memory that is not touched costs nothing.
const HEADER_ROOM_BYTES: usize = 1024 * 1024;
/// Blobs in one pack at most, so that its header stays far below its limit.
const PACK_MAX_BLOBS: usize = (HEADER_MAX_BYTES as usize / 41) / 4;
/// Smallest pack size that may be asked for, in bytes (restic's).
pub const PACK_SIZE_MIN_BYTES: usize = 4 * 1024 * 1024;
/// Largest pack size that may be asked for, in bytes (restic's).
pub const PACK_SIZE_MAX_BYTES: usize = 128 * 1024 * 1024;
/// Pack size if nobody asks, in bytes (restic's).
pub const PACK_SIZE_DEFAULT_BYTES: usize = 16 * 1024 * 1024;

/// How to store.
#[derive(Clone, Copy, Debug)]
pub struct IngestOptions {
    /// Compression of data blobs.
    pub compression: CompressionMode,
    /// Size at which a pack is full, in bytes.
    pub pack_size_bytes: usize,
    /// Threads that store packs.
    pub uploaders: usize,
    /// An index file is written when it is this old, so that a run that is killed loses no more of what it stored.
    pub index_max_age: Duration,
    /// Do everything but store.
    pub dry_run: bool,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            compression: CompressionMode::Auto,
            pack_size_bytes: PACK_SIZE_DEFAULT_BYTES,
            uploaders: 2,
            index_max_age: INDEX_MAX_AGE,
            dry_run: false,
        }
    }
}

impl IngestOptions {
    /// As many uploaders as a backend is worth, within the memory that their packs may take.
    #[must_use]
    pub fn uploaders_for(mut self, backend: &dyn Backend) -> Self {
        let pack_bytes = self.pack_size_bytes + CHUNK_MAX_BYTES + HEADER_ROOM_BYTES;
        let affordable = (UPLOADS_MAX_BYTES / pack_bytes).max(self.uploaders);
        self.uploaders = backend.connections().clamp(self.uploaders, affordable);
        self
    }
}

/// What adding a blob did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    /// Whether it was not there yet.
    pub is_new: bool,
    /// Bytes that it takes in its pack; 0 if it was there.
    pub stored_bytes: u64,
}

impl Added {
    /// It was there.
    const KNOWN: Self = Self {
        is_new: false,
        stored_bytes: 0,
    };
}

/// Numbers of what was stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IngestStats {
    /// New data blobs.
    pub data_blobs: u64,
    /// New tree blobs.
    pub tree_blobs: u64,
    /// Their plaintext, in bytes.
    pub plain_bytes: u64,
    /// What they take in packs, in bytes.
    pub stored_bytes: u64,
    /// Packs that were stored.
    pub packs: u64,
}

/// What a thread that adds blobs keeps between them.
pub struct Sealer {
    data: Compressor,
    sealed: Vec<u8>,
}

struct OpenPack {
    kind: BlobKind,
    bytes: Vec<u8>,
    entries: Vec<PackEntry>,
}

impl OpenPack {
    fn new(kind: BlobKind) -> Self {
        Self {
            kind,
            bytes: Vec::new(),
            entries: Vec::new(),
        }
    }
}

struct NewIndex {
    file: IndexFile,
    blobs: usize,
    since: Instant,
}

impl NewIndex {
    fn new() -> Self {
        Self {
            file: IndexFile::default(),
            blobs: 0,
            since: Instant::now(),
        }
    }
}

#[derive(Default)]
struct Totals {
    data_blobs: AtomicU64,
    tree_blobs: AtomicU64,
    plain_bytes: AtomicU64,
    stored_bytes: AtomicU64,
    packs: AtomicU64,
}

/// Takes blobs into a repository while [`Ingest::run`] lasts.
pub struct Ingest<'r> {
    repository: &'r Repository,
    index: &'r RwLock<Index>,
    lock: Option<&'r LockGuard>,
    options: IngestOptions,
    /// Blobs that a thread has begun to add: the second one that finds the same content leaves it to the first.
    claimed: Mutex<HashSet<(BlobKind, Id)>>,
    open: [Mutex<OpenPack>; 2],
    queue: Sender<OpenPack>,
    new_index: Mutex<NewIndex>,
    /// Empty packs to be filled again: a fresh allocation costs a page fault for each 4 KiB.
    spare: Mutex<Vec<Vec<u8>>>,
    /// The first error of an uploader: the one that [`Ingest::run`] ends with.
    failed: Mutex<Option<RepoError>>,
    totals: Totals,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'r> Ingest<'r> {
    /// Runs `work`, which adds blobs; when this returns well, all of them are stored and indexed.
    /// When `work` fails, what was stored so far is indexed nevertheless: the next run need not store it again.
    ///
    /// # Errors
    /// The error of `work`, or that of storing.
    pub fn run<T, E: From<RepoError>>(
        repository: &'r Repository,
        index: &'r RwLock<Index>,
        lock: Option<&'r LockGuard>,
        options: IngestOptions,
        work: impl FnOnce(&Ingest<'r>) -> Result<T, E>,
    ) -> Result<(T, IngestStats), E> {
        let (queue, packs) = bounded(PACK_QUEUE_MAX);
        let ingest = Ingest {
            repository,
            index,
            lock,
            options,
            claimed: Mutex::default(),
            open: [
                Mutex::new(OpenPack::new(BlobKind::Data)),
                Mutex::new(OpenPack::new(BlobKind::Tree)),
            ],
            queue,
            new_index: Mutex::new(NewIndex::new()),
            spare: Mutex::default(),
            failed: Mutex::default(),
            totals: Totals::default(),
        };
        std::thread::scope(|scope| {
            let uploaders: Vec<_> = (0..options.uploaders.max(1))
                .map(|_| {
                    let packs = packs.clone();
                    let ingest = &ingest;
                    scope.spawn(move || ingest.upload(&packs))
                })
                .collect();
            drop(packs);
            // A panic in `work` must not leave the uploaders waiting: hanging up is done by a guard.
            let hang_up = HangUp(&ingest);
            let result = work(&ingest);
            let flushed = if result.is_ok() {
                ingest.flush()
            } else {
                Ok(())
            };
            drop(hang_up);
            for uploader in uploaders {
                if uploader.join().is_err() {
                    let why = "a thread that stores packs panicked".to_owned();
                    ingest.fail(RepoError::WriterFailed(why));
                }
            }
            let indexed = ingest.write_index();
            // What stopped the uploaders is the cause of whatever `work` says of it.
            if let Some(cause) = locked(&ingest.failed).take() {
                return Err(cause.into());
            }
            let value = result?;
            flushed?;
            indexed?;
            Ok((value, ingest.stats()))
        })
    }

    /// What a thread needs to add blobs.
    ///
    /// # Errors
    /// When the compressor can't be made.
    pub fn sealer(&self) -> Result<Sealer, RepoError> {
        let data = Compressor::new(self.options.compression)
            .map_err(|e| RepoError::WriterFailed(e.to_string()))?;
        Ok(Sealer {
            data,
            sealed: Vec::new(),
        })
    }

    /// Length of a blob's plaintext if it is in the repository already; what is found is relied on from now on.
    #[must_use]
    pub fn known(&self, kind: BlobKind, id: &Id) -> Option<u64> {
        self.index
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .rely(kind, id)
    }

    /// Adds a blob as it lies in another pack of the same master key. The caller has opened it and compared its hash.
    ///
    /// # Errors
    /// When storing failed, for this blob or an earlier one.
    pub fn add_sealed(&self, entry: PackEntry, sealed: &[u8]) -> Result<Added, RepoError> {
        if !self.claim(entry.kind, entry.id) {
            return Ok(Added::KNOWN);
        }
        self.check()?;
        let plain_bytes = match entry.raw_length_bytes {
            0 => sealed.len().saturating_sub(OVERHEAD_BYTES) as u64,
            raw => u64::from(raw),
        };
        let stored_bytes = self.count(entry, plain_bytes);
        if !self.options.dry_run {
            self.append(entry, sealed)?;
        }
        Ok(Added {
            is_new: true,
            stored_bytes,
        })
    }

    /// Adds a blob under its ID, which the caller has computed from `plain`.
    ///
    /// # Errors
    /// When storing failed, for this blob or an earlier one.
    pub fn add(
        &self,
        kind: BlobKind,
        id: Id,
        plain: &[u8],
        sealer: &mut Sealer,
    ) -> Result<Added, RepoError> {
        if !self.claim(kind, id) {
            return Ok(Added::KNOWN);
        }
        self.check()?;
        let sealed = &mut sealer.sealed;
        sealed.clear();
        sealed.resize(NONCE_BYTES, 0);
        let mut raw_length_bytes = 0;
        let compress = self.repository.compresses()
            && !plain.is_empty()
            && (kind == BlobKind::Tree || self.options.compression != CompressionMode::Off);
        if compress {
            sealer
                .data
                .append(plain, sealed)
                .map_err(|e| RepoError::WriterFailed(e.to_string()))?;
            if sealed.len() - NONCE_BYTES < plain.len() {
                raw_length_bytes = u32::try_from(plain.len()).map_err(|_| {
                    RepoError::WriterFailed(format!(
                        "a blob of {} bytes is too large for the format",
                        plain.len()
                    ))
                })?;
            }
        }
        if raw_length_bytes == 0 {
            sealed.truncate(NONCE_BYTES);
            sealed.extend_from_slice(plain);
        }
        self.seal_and_append(kind, id, raw_length_bytes, plain.len() as u64, sealed)
    }

    /// Adds a blob whose plaintext is compressed already, as it was in another repository, and encrypts it anew. The
    /// caller has decompressed it and compared its hash; `raw_length_bytes` is the length of its plaintext.
    ///
    /// # Errors
    /// [`RepoError::Refused`] if this repository can't hold compressed blobs; others when storing failed, for this
    /// blob or an earlier one.
    pub fn add_compressed(
        &self,
        kind: BlobKind,
        id: Id,
        frame: &[u8],
        raw_length_bytes: u32,
        sealer: &mut Sealer,
    ) -> Result<Added, RepoError> {
        if !self.repository.compresses() {
            return Err(RepoError::Refused(
                "a repository of version 1 can't hold compressed blobs".into(),
            ));
        }
        if !self.claim(kind, id) {
            return Ok(Added::KNOWN);
        }
        self.check()?;
        let sealed = &mut sealer.sealed;
        sealed.clear();
        sealed.resize(NONCE_BYTES, 0);
        sealed.extend_from_slice(frame);
        self.seal_and_append(
            kind,
            id,
            raw_length_bytes,
            u64::from(raw_length_bytes),
            sealed,
        )
    }

    /// Stores a whole pack as it lies in another repository of the same master key. The caller has compared its hash,
    /// its header and every blob; none of its blobs may be added in another way meanwhile.
    ///
    /// # Errors
    /// When storing failed.
    pub fn add_pack(&self, pack: IndexPack, bytes: &[u8]) -> Result<(), RepoError> {
        self.check()?;
        for blob in &pack.blobs {
            let entry = PackEntry {
                kind: blob.kind,
                id: blob.id,
                length_bytes: blob.length_bytes,
                raw_length_bytes: blob.raw_length_bytes,
            };
            let plain_bytes = match blob.raw_length_bytes {
                0 => u64::from(blob.length_bytes).saturating_sub(OVERHEAD_BYTES as u64),
                raw => u64::from(raw),
            };
            self.count(entry, plain_bytes);
        }
        if self.options.dry_run {
            return Ok(());
        }
        self.save_pack(pack, bytes)?;
        self.write_index_if_due()
    }

    /// Whether this thread is to add a blob: it is not there, and nobody else is at it.
    fn claim(&self, kind: BlobKind, id: Id) -> bool {
        if self.known(kind, &id).is_some() || !locked(&self.claimed).insert((kind, id)) {
            return false;
        }
        // Between the two it may have been stored and let go.
        let is_known = self.known(kind, &id).is_some();
        if is_known {
            locked(&self.claimed).remove(&(kind, id));
        }
        !is_known
    }

    /// Encrypts what lies behind the room for a nonce, and appends it to a pack.
    fn seal_and_append(
        &self,
        kind: BlobKind,
        id: Id,
        raw_length_bytes: u32,
        plain_bytes: u64,
        sealed: &mut Vec<u8>,
    ) -> Result<Added, RepoError> {
        self.repository
            .master()
            .seal(&random::nonce()?, sealed)
            .map_err(|e| RepoError::Random(e.to_string()))?;
        let length_bytes = u32::try_from(sealed.len()).map_err(|_| {
            RepoError::WriterFailed(format!(
                "a blob of {} bytes is too large for the format",
                sealed.len()
            ))
        })?;
        let entry = PackEntry {
            kind,
            id,
            length_bytes,
            raw_length_bytes,
        };
        let stored_bytes = self.count(entry, plain_bytes);
        if !self.options.dry_run {
            self.append(entry, sealed)?;
        }
        Ok(Added {
            is_new: true,
            stored_bytes,
        })
    }

    /// Bytes that new blobs take in packs so far.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.totals.stored_bytes.load(Ordering::Relaxed)
    }

    /// Counts a new blob and gives what it takes in its pack, in bytes.
    fn count(&self, entry: PackEntry, plain_bytes: u64) -> u64 {
        let stored_bytes =
            u64::from(entry.length_bytes) + header_bytes(&[entry]) - header_bytes(&[]);
        let add = |total: &AtomicU64, number| total.fetch_add(number, Ordering::Relaxed);
        add(&self.totals.plain_bytes, plain_bytes);
        add(&self.totals.stored_bytes, stored_bytes);
        match entry.kind {
            BlobKind::Data => add(&self.totals.data_blobs, 1),
            BlobKind::Tree => add(&self.totals.tree_blobs, 1),
        };
        stored_bytes
    }

    fn append(&self, entry: PackEntry, sealed: &[u8]) -> Result<(), RepoError> {
        let [data, tree] = &self.open;
        let mut pack = locked(if entry.kind == BlobKind::Data {
            data
        } else {
            tree
        });
        if pack.bytes.capacity() == 0 {
            let spare = if entry.kind == BlobKind::Data {
                locked(&self.spare).pop()
            } else {
                None
            };
            // Room for the blob that overfills it and for the header: growing would double it, and copy it.
            let room = match entry.kind {
                BlobKind::Data => {
                    self.options.pack_size_bytes + CHUNK_MAX_BYTES + HEADER_ROOM_BYTES
                }
                BlobKind::Tree => 0,
            };
            pack.bytes = spare.unwrap_or_else(|| Vec::with_capacity(room));
        }
        pack.bytes.extend_from_slice(sealed);
        pack.entries.push(entry);
        if pack.bytes.len() < self.options.pack_size_bytes && pack.entries.len() < PACK_MAX_BLOBS {
            return Ok(());
        }
        let full = std::mem::replace(&mut *pack, OpenPack::new(entry.kind));
        drop(pack);
        self.send(full)
    }

    fn send(&self, pack: OpenPack) -> Result<(), RepoError> {
        self.queue
            .send(pack)
            .map_err(|_| RepoError::WriterFailed("its uploaders have ended".into()))
    }

    fn flush(&self) -> Result<(), RepoError> {
        for open in &self.open {
            let mut pack = locked(open);
            let kind = pack.kind;
            let rest = std::mem::replace(&mut *pack, OpenPack::new(kind));
            if !rest.entries.is_empty() {
                self.send(rest)?;
            }
        }
        Ok(())
    }

    /// The work of an uploader: stores packs until nobody can send any more.
    fn upload(&self, packs: &Receiver<OpenPack>) {
        loop {
            let stored = match packs.recv_timeout(INDEX_AGE_POLL) {
                Ok(pack) if pack.entries.is_empty() => return,
                Ok(pack) => self.store(pack),
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if let Err(error) = stored.and_then(|()| self.write_index_if_due()) {
                self.fail(error);
            }
        }
    }

    fn store(&self, mut pack: OpenPack) -> Result<(), RepoError> {
        self.check()?;
        let id = finish_pack(self.repository, &mut pack.bytes, &pack.entries)?;
        let mut offset_bytes = 0u32;
        let blobs = pack.entries.iter().map(|entry| {
            let blob = IndexBlob {
                id: entry.id,
                kind: entry.kind,
                offset_bytes,
                length_bytes: entry.length_bytes,
                raw_length_bytes: entry.raw_length_bytes,
            };
            offset_bytes = offset_bytes.saturating_add(entry.length_bytes);
            blob
        });
        let indexed = IndexPack {
            id,
            blobs: blobs.collect(),
        };
        self.save_pack(indexed, &pack.bytes)?;
        if pack.kind == BlobKind::Data {
            pack.bytes.clear();
            let mut spare = locked(&self.spare);
            if spare.len() < self.options.uploaders {
                spare.push(pack.bytes);
            }
        }
        Ok(())
    }

    /// Stores a pack, and notes it for the index when it is stored.
    fn save_pack(&self, indexed: IndexPack, bytes: &[u8]) -> Result<(), RepoError> {
        self.ensure_lock()?;
        self.repository
            .backend()
            .save(FileName::new(FileKind::Pack, indexed.id), &[bytes])?;
        self.totals.packs.fetch_add(1, Ordering::Relaxed);
        self.index
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert_stored(&indexed);
        let mut claimed = locked(&self.claimed);
        for blob in &indexed.blobs {
            claimed.remove(&(blob.kind, blob.id));
        }
        drop(claimed);
        let mut new_index = locked(&self.new_index);
        if new_index.blobs == 0 {
            new_index.since = Instant::now();
        }
        new_index.blobs += indexed.blobs.len();
        new_index.file.packs.push(indexed);
        Ok(())
    }

    fn write_index_if_due(&self) -> Result<(), RepoError> {
        let new_index = locked(&self.new_index);
        let due = new_index.blobs >= INDEX_MAX_BLOBS
            || (new_index.blobs > 0 && new_index.since.elapsed() >= self.options.index_max_age);
        drop(new_index);
        if due { self.write_index() } else { Ok(()) }
    }

    fn write_index(&self) -> Result<(), RepoError> {
        let new_index = std::mem::replace(&mut *locked(&self.new_index), NewIndex::new());
        if new_index.file.packs.is_empty() {
            return Ok(());
        }
        let written = self.ensure_lock().and_then(|()| {
            let json = new_index.file.to_json();
            self.repository.save_json(FileKind::Index, &json)
        });
        if let Err(error) = written {
            // The last index file, written when all ends, is one more chance for these packs.
            let mut later = locked(&self.new_index);
            later.blobs += new_index.blobs;
            later.since = new_index.since;
            later.file.packs.extend(new_index.file.packs);
            return Err(error);
        }
        Ok(())
    }

    fn ensure_lock(&self) -> Result<(), RepoError> {
        self.lock.map_or(Ok(()), LockGuard::ensure)
    }

    fn fail(&self, error: RepoError) {
        locked(&self.failed).get_or_insert(error);
    }

    fn check(&self) -> Result<(), RepoError> {
        locked(&self.failed)
            .as_ref()
            .map_or(Ok(()), |error| Err(RepoError::WriterFailed(chain(error))))
    }

    fn stats(&self) -> IngestStats {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        IngestStats {
            data_blobs: of(&self.totals.data_blobs),
            tree_blobs: of(&self.totals.tree_blobs),
            plain_bytes: of(&self.totals.plain_bytes),
            stored_bytes: of(&self.totals.stored_bytes),
            packs: of(&self.totals.packs),
        }
    }
}

/// Puts the header behind the blobs of a pack, and gives its ID.
pub(crate) fn finish_pack(
    repository: &Repository,
    bytes: &mut Vec<u8>,
    entries: &[PackEntry],
) -> Result<Id, RepoError> {
    let mut header = vec![0; NONCE_BYTES];
    header.extend_from_slice(&encode_header(entries));
    repository
        .master()
        .seal(&random::nonce()?, &mut header)
        .map_err(|e| RepoError::Random(e.to_string()))?;
    let length = u32::try_from(header.len())
        .map_err(|_| RepoError::WriterFailed("a pack header grew too large".into()))?;
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(&length.to_le_bytes());
    Ok(Id::of(bytes))
}

/// Tells every uploader to end, by an empty pack each: the channel itself lives as long as the ingest.
struct HangUp<'a, 'r>(&'a Ingest<'r>);

impl Drop for HangUp<'_, '_> {
    fn drop(&mut self) {
        for _ in 0..self.0.options.uploaders.max(1) {
            // An uploader never ends before it is told, so there is always one to receive this.
            let _ = self.0.queue.send(OpenPack::new(BlobKind::Data));
        }
    }
}
