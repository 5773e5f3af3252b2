//! Takes blobs into a repository: deduplicates, compresses, encrypts, packs, stores, and indexes what was stored.
//! It must never index a pack that is not stored, and never call a blob stored before it is indexed.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use lifeboat_format::{
    BlobKind, CompressionMode, Compressor, Id, IndexFile, IndexPack, OVERHEAD_BYTES, PackEntry,
    header_bytes,
};

use crate::backend::{Backend, FileKind, FileName};
use crate::index_writer::INDEX_MAX_BLOBS;
use crate::lock::LockGuard;
use crate::open_pack::{ClosedPack, OpenPack};
use crate::pack_pool::{PackPool, usual_bytes};
use crate::{Index, RepoError, Repository, chain};

/// Memory for data on its way if nobody says otherwise, in bytes.
pub const MEMORY_DEFAULT_BYTES: usize = 160 * 1024 * 1024;
/// The least of it, in bytes: room for some of the largest chunks, and for packs.
pub const MEMORY_MIN_BYTES: usize = 32 * 1024 * 1024;
/// Uploaders at least: while one waits for a disk, another one writes.
const UPLOADERS_MIN: usize = 2;
/// Age at which an index file is written if nobody says otherwise.
const INDEX_MAX_AGE: Duration = Duration::from_secs(60);
/// How often the age of the index is looked at.
const INDEX_AGE_POLL: Duration = Duration::from_secs(1);
/// Packs that may wait for an uploader; more would only take memory.
const PACK_QUEUE_MAX: usize = 1;
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
    /// Memory for data on its way, in bytes: two fifths for what is to be packed, the others for packs that are filled
    /// or sent. One pack is always possible.
    pub memory_bytes: usize,
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
            uploaders: UPLOADERS_MIN,
            memory_bytes: MEMORY_DEFAULT_BYTES,
            index_max_age: INDEX_MAX_AGE,
            dry_run: false,
        }
    }
}

impl IngestOptions {
    /// Packs that may be filled or sent at once.
    fn packs_max(&self) -> usize {
        (self.memory_bytes / 5 * 3 / usual_bytes(self.pack_size_bytes)).max(1)
    }

    /// Memory for what is to be packed, in bytes.
    #[must_use]
    pub fn in_flight_bytes(&self) -> usize {
        self.memory_bytes / 5 * 2
    }

    /// As many uploaders as a backend is worth, within the memory that their packs may take. How many of them work at a
    /// time follows from how fast the backend is: a pack is taken by the next one that is free.
    #[must_use]
    pub fn uploaders_for(mut self, backend: &dyn Backend) -> Self {
        let affordable = self.packs_max().max(UPLOADERS_MIN);
        self.uploaders = backend.connections().clamp(UPLOADERS_MIN, affordable);
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
    compressor: Compressor,
    /// One blob, where no pack is free to be filled.
    scratch: OpenPack,
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

/// A pack on its way to an uploader.
struct Sent {
    pack: ClosedPack,
    /// Whether its memory is one of the pool's.
    is_pooled: bool,
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
    /// Packs for data: each thread fills one of its own while there are enough.
    pool: PackPool,
    /// The pack for trees.
    trees: Mutex<OpenPack>,
    /// Packs to be stored; `None` tells one uploader to end.
    queue: Sender<Option<Sent>>,
    new_index: Mutex<NewIndex>,
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
            pool: PackPool::new(options.packs_max(), options.pack_size_bytes),
            trees: Mutex::default(),
            queue,
            new_index: Mutex::new(NewIndex::new()),
            failed: Mutex::default(),
            totals: Totals::default(),
        };
        std::thread::scope(|scope| {
            let uploaders: Vec<_> = (0..options.uploaders.max(1))
                .map(|_| {
                    let packs = packs.clone();
                    let ingest = &ingest;
                    scope.spawn(move || {
                        // Without uploaders, packs would be waited for in vain.
                        let _close = CloseOnPanic(&ingest.pool);
                        ingest.upload(&packs);
                    })
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
        let compressor = Compressor::new(self.options.compression)
            .map_err(|e| RepoError::WriterFailed(e.to_string()))?;
        Ok(Sealer {
            compressor,
            scratch: OpenPack::default(),
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
            self.fill(entry.kind, |pack| pack.append(entry, sealed))?;
        }
        Ok(Added {
            is_new: true,
            stored_bytes,
        })
    }

    /// Adds blobs of data, and gives their IDs. Several together cost less.
    ///
    /// # Errors
    /// When storing failed, for these blobs or an earlier one.
    pub fn add_data(&self, blobs: &[&[u8]], sealer: &mut Sealer) -> Result<Vec<Id>, RepoError> {
        let _close = CloseOnPanic(&self.pool);
        let mut ids = Vec::with_capacity(blobs.len());
        let mut left = blobs;
        while let Some((first, others)) = left.split_first() {
            // Two hashes at once cost less than one after the other: a blob's beside that of the pack, as long as enough
            // of the pack is not hashed yet, and otherwise those of several blobs.
            let is_worthwhile =
                |pack: &OpenPack| others.is_empty() || pack.due_bytes() >= first.len() / 2;
            match self.own_pack() {
                Some(mut pack) if is_worthwhile(&pack) => {
                    let id = pack.id_of(first);
                    self.add_to(pack, id, first, sealer)?;
                    ids.push(id);
                    left = others;
                }
                own => {
                    if let Some(pack) = own {
                        self.pool.put(pack);
                    }
                    let found = Id::of_each(left);
                    for (id, plain) in found.iter().zip(left) {
                        self.add(BlobKind::Data, *id, plain, sealer)?;
                    }
                    ids.extend(found);
                    break;
                }
            }
        }
        Ok(ids)
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
        if kind == BlobKind::Data
            && let Some(pack) = self.own_pack()
        {
            return self.add_to(pack, id, plain, sealer);
        }
        if !self.claim(kind, id) {
            return Ok(Added::KNOWN);
        }
        self.check()?;
        let Sealer {
            compressor,
            scratch,
        } = sealer;
        let compressor = self.worthwhile(kind, plain, compressor);
        scratch.clear();
        let entry = scratch.seal(kind, id, plain, compressor, self.repository.master())?;
        self.append(entry, plain.len() as u64, scratch)
    }

    /// A pack for this thread to fill, if one is free: then nothing has to be sealed elsewhere and copied.
    fn own_pack(&self) -> Option<OpenPack> {
        match self.options.dry_run {
            true => None,
            false => self.pool.try_take(),
        }
    }

    /// Adds a blob of data to a pack, which then goes back or to an uploader.
    fn add_to(
        &self,
        mut pack: OpenPack,
        id: Id,
        plain: &[u8],
        sealer: &mut Sealer,
    ) -> Result<Added, RepoError> {
        let _close = CloseOnPanic(&self.pool);
        let kind = BlobKind::Data;
        if !self.claim(kind, id) {
            self.pool.put(pack);
            return Ok(Added::KNOWN);
        }
        let compressor = self.worthwhile(kind, plain, &mut sealer.compressor);
        let master = self.repository.master();
        let sealed = self
            .check()
            .and_then(|()| pack.seal(kind, id, plain, compressor, master));
        let stored = self.put_or_send(pack);
        let stored_bytes = self.count(sealed?, plain.len() as u64);
        stored?;
        Ok(Added {
            is_new: true,
            stored_bytes,
        })
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
        let scratch = &mut sealer.scratch;
        scratch.clear();
        let master = self.repository.master();
        let entry = scratch.seal_compressed(kind, id, frame, raw_length_bytes, master)?;
        self.append(entry, u64::from(raw_length_bytes), scratch)
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

    /// The compressor, if this blob is to be compressed.
    fn worthwhile<'c>(
        &self,
        kind: BlobKind,
        plain: &[u8],
        compressor: &'c mut Compressor,
    ) -> Option<&'c mut Compressor> {
        let is_wanted = match kind {
            BlobKind::Tree => true,
            BlobKind::Data => {
                self.options.compression != CompressionMode::Off && compressor.is_worthwhile(plain)
            }
        };
        (is_wanted && self.repository.compresses()).then_some(compressor)
    }

    /// Takes over a blob that was sealed by itself.
    fn append(
        &self,
        entry: PackEntry,
        plain_bytes: u64,
        sealed: &OpenPack,
    ) -> Result<Added, RepoError> {
        let stored_bytes = self.count(entry, plain_bytes);
        if !self.options.dry_run {
            self.fill(entry.kind, |pack| pack.append_all(sealed))?;
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

    /// Adds to a pack as soon as there is one, and sends it if that filled it.
    fn fill(&self, kind: BlobKind, add: impl FnOnce(&mut OpenPack)) -> Result<(), RepoError> {
        if kind == BlobKind::Tree {
            let mut pack = locked(&self.trees);
            add(&mut pack);
            if !pack.is_full(self.options.pack_size_bytes) {
                return Ok(());
            }
            let full = std::mem::take(&mut *pack);
            drop(pack);
            return self.send(full, false);
        }
        let _close = CloseOnPanic(&self.pool);
        let Some(mut pack) = self.pool.take() else {
            self.check()?;
            return Err(uploaders_ended());
        };
        add(&mut pack);
        self.put_or_send(pack)
    }

    /// Brings a pack of the pool back, or sends it if it is full.
    fn put_or_send(&self, pack: OpenPack) -> Result<(), RepoError> {
        if pack.is_full(self.options.pack_size_bytes) {
            return self.send(pack, true);
        }
        self.pool.put(pack);
        Ok(())
    }

    fn send(&self, pack: OpenPack, is_pooled: bool) -> Result<(), RepoError> {
        let sent = pack.close(self.repository.master()).and_then(|pack| {
            let sent = Sent { pack, is_pooled };
            self.queue.send(Some(sent)).map_err(|_| uploaders_ended())
        });
        sent.inspect_err(|_| {
            if is_pooled {
                self.pool.release(None);
            }
            // Others hold blobs of it for stored.
            let why = "a pack could not be handed to an uploader".to_owned();
            self.fail(RepoError::WriterFailed(why));
        })
    }

    /// Sends what is left, in as few packs as possible: each thread has begun one.
    fn flush(&self) -> Result<(), RepoError> {
        let mut left = self.pool.take_all();
        left.retain(|pack| {
            if pack.is_empty() {
                self.pool.release(None);
            }
            !pack.is_empty()
        });
        while let Some(mut pack) = left.pop() {
            let size_bytes = self.options.pack_size_bytes;
            while let Some(next) = left.pop_if(|next| pack.has_room_for(next, size_bytes)) {
                pack.append_all(&next);
                self.pool.release(None);
            }
            self.send(pack, true)?;
        }
        let trees = std::mem::take(&mut *locked(&self.trees));
        match trees.is_empty() {
            true => Ok(()),
            false => self.send(trees, false),
        }
    }

    /// The work of an uploader: stores packs until it is told to end.
    fn upload(&self, packs: &Receiver<Option<Sent>>) {
        loop {
            let stored = match packs.recv_timeout(INDEX_AGE_POLL) {
                Ok(None) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Some(sent)) => self.store(sent),
                Err(RecvTimeoutError::Timeout) => Ok(()),
            };
            if let Err(error) = stored.and_then(|()| self.write_index_if_due()) {
                self.fail(error);
            }
        }
    }

    fn store(&self, sent: Sent) -> Result<(), RepoError> {
        let ClosedPack { bytes, indexed } = sent.pack;
        let stored = self.check().and_then(|()| self.save_pack(indexed, &bytes));
        if sent.is_pooled {
            self.pool.release(Some(bytes));
        }
        stored
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

fn uploaders_ended() -> RepoError {
    RepoError::WriterFailed("its uploaders have ended".into())
}

/// Lets nobody wait for packs that a thread which panicked would have brought back.
struct CloseOnPanic<'a>(&'a PackPool);

impl Drop for CloseOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.close();
        }
    }
}

/// Tells every uploader to end: the channel itself lives as long as the ingest.
struct HangUp<'a, 'r>(&'a Ingest<'r>);

impl Drop for HangUp<'_, '_> {
    fn drop(&mut self) {
        for _ in 0..self.0.options.uploaders.max(1) {
            // An uploader never ends before it is told, so there is always one to receive this.
            let _ = self.0.queue.send(None);
        }
    }
}
