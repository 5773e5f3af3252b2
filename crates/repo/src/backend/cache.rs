//! A backend with a cache on the local disk: snapshots, index files and packs of trees are fetched once.
//! It must never give content that was not compared with its name in this process, nor fail because of the cache.
//!
//! The folder is restic's, so that both programs can share one. Listings always come from the backend, and what they
//! lack is removed from the cache; what lies there is encrypted as in the repository.

pub(crate) mod folder;
mod old;

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use lifeboat_flow::{Event, EventSink};
use lifeboat_format::Id;

use super::{
    Backend, BackendError, Creation, Destroyed, Fence, FileKind, FileName, ListingDelay, LogName,
};
use folder::CacheFolder;

pub use old::{CACHE_MAX_AGE, remove_old_caches};

/// Largest pack of trees that is fetched whole, in bytes: restic's largest packs and what may overfill them.
const PACK_MAX_BYTES: u64 = 256 * 1024 * 1024;

/// What is known of packs of trees.
#[derive(Default)]
struct Packs {
    /// Those in the cache that were compared with their name.
    verified: HashSet<Id>,
    /// Those that somebody fetches now.
    fetching: HashSet<Id>,
    /// Those that are not to be kept: too large, or not what their name says.
    passed_by: HashSet<Id>,
}

/// A backend with a cache on the local disk.
pub struct CachedBackend {
    inner: Arc<dyn Backend>,
    folder: CacheFolder,
    /// Whether the cache's disk failed: it is left alone from then on.
    is_off: AtomicBool,
    packs: Mutex<Packs>,
    fetched: Condvar,
    events: Arc<dyn EventSink>,
}

impl CachedBackend {
    /// Puts a cache below `base` in front of a backend. Where none can be made, the backend is given back and `events`
    /// told why.
    #[must_use]
    pub fn wrap(
        inner: Arc<dyn Backend>,
        base: &Path,
        repository_id: &str,
        events: Arc<dyn EventSink>,
    ) -> Arc<dyn Backend> {
        match CacheFolder::open(base, repository_id) {
            Ok(folder) => Arc::new(Self {
                inner,
                folder,
                is_off: AtomicBool::new(false),
                packs: Mutex::default(),
                fetched: Condvar::new(),
                events,
            }),
            Err(error) => {
                events.event(Event::Note(format!(
                    "working without a cache: {}: {error}",
                    base.display()
                )));
                inner
            }
        }
    }

    fn packs(&self) -> MutexGuard<'_, Packs> {
        self.packs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_on(&self) -> bool {
        !self.is_off.load(Ordering::Relaxed)
    }

    /// Goes on without the cache after its disk failed.
    fn turn_off(&self, doing: &str, error: &std::io::Error) {
        if !self.is_off.swap(true, Ordering::Relaxed) {
            self.events.event(Event::Note(format!(
                "going on without the cache: cannot {doing} in {}: {error}",
                self.folder.path().display()
            )));
        }
    }

    fn put(&self, name: FileName, data: &[&[u8]]) -> bool {
        match self.folder.put(name, data) {
            Ok(()) => true,
            Err(error) => {
                self.turn_off("write", &error);
                false
            }
        }
    }

    /// What the cache holds under a name, if it is that.
    fn cached(&self, name: FileName, limit_bytes: u64) -> Option<Vec<u8>> {
        match self.folder.get(name, limit_bytes) {
            Ok(content) if Id::of(&content) == name.id => Some(content),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            // What can't be read or is something else is fetched anew.
            _ => {
                self.folder.remove(name);
                None
            }
        }
    }

    /// Waits until nobody else fetches the pack, and gives what is known of it then.
    fn claim(&self, id: Id) -> PackState {
        let mut packs = self.packs();
        loop {
            if packs.passed_by.contains(&id) {
                return PackState::PassedBy;
            }
            if packs.verified.contains(&id) {
                return PackState::Verified;
            }
            if packs.fetching.insert(id) {
                return PackState::Ours;
            }
            packs = self
                .fetched
                .wait(packs)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The whole pack, from the cache or from the backend; nothing if it is not to be had whole.
    fn whole(&self, name: FileName) -> Result<Option<Vec<u8>>, BackendError> {
        if let Some(content) = self.cached(name, PACK_MAX_BYTES) {
            return Ok(Some(content));
        }
        match self.inner.load(name, PACK_MAX_BYTES) {
            Ok(content) if Id::of(&content) == name.id => {
                self.put(name, &[&content]);
                Ok(Some(content))
            }
            // Its undamaged parts can still be read one by one.
            Ok(_) | Err(BackendError::TooLong { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Who has to care for a pack.
enum PackState {
    /// It is in the cache and what its name says.
    Verified,
    /// It is not kept in the cache.
    PassedBy,
    /// The caller looks for it, and tells the others afterwards.
    Ours,
}

/// Tells those who wait for a pack, however the fetch ends.
struct Fetch<'a> {
    cached: &'a CachedBackend,
    id: Id,
}

impl Drop for Fetch<'_> {
    fn drop(&mut self) {
        self.cached.packs().fetching.remove(&self.id);
        self.cached.fetched.notify_all();
    }
}

/// Whether files of a kind are kept as they are saved and loaded.
fn is_kept(kind: FileKind) -> bool {
    matches!(kind, FileKind::Snapshot | FileKind::Index)
}

impl Backend for CachedBackend {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn listing_delay(&self) -> ListingDelay {
        self.inner.listing_delay()
    }

    fn fence(&self, fence: Option<Weak<dyn Fence>>) {
        self.inner.fence(fence);
    }

    fn connections(&self) -> usize {
        self.inner.connections()
    }

    fn create(&self) -> Result<(), BackendError> {
        self.inner.create()
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64)) -> Result<(), BackendError> {
        let mut gone: HashSet<Id> = match kind {
            FileKind::Snapshot | FileKind::Index | FileKind::Pack if self.is_on() => {
                self.folder.ids(kind).collect()
            }
            _ => HashSet::new(),
        };
        self.inner.list(kind, &mut |id, size_bytes| {
            gone.remove(&id);
            each(id, size_bytes);
        })?;
        for id in gone {
            self.packs().verified.remove(&id);
            self.folder.remove(FileName::new(kind, id));
        }
        Ok(())
    }

    fn size(&self, name: FileName) -> Result<u64, BackendError> {
        self.inner.size(name)
    }

    fn load(&self, name: FileName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        if !is_kept(name.kind) || !self.is_on() {
            return self.inner.load(name, limit_bytes);
        }
        if let Some(content) = self.cached(name, limit_bytes) {
            return Ok(content);
        }
        let content = self.inner.load(name, limit_bytes)?;
        if Id::of(&content) == name.id {
            self.put(name, &[&content]);
        }
        Ok(content)
    }

    /// Always from the backend: a check asks what is there, and data is read once.
    fn load_at(
        &self,
        name: FileName,
        offset_bytes: u64,
        buf: &mut [u8],
    ) -> Result<(), BackendError> {
        self.inner.load_at(name, offset_bytes, buf)
    }

    fn save(&self, name: FileName, data: &[&[u8]]) -> Result<(), BackendError> {
        self.inner.save(name, data)?;
        if is_kept(name.kind) && self.is_on() {
            self.put(name, data);
        }
        Ok(())
    }

    fn remove(&self, name: FileName) -> Result<(), BackendError> {
        self.inner.remove(name)?;
        self.packs().verified.remove(&name.id);
        self.folder.remove(name);
        Ok(())
    }

    fn log_create(&self, name: &LogName, data: &[&[u8]]) -> Result<Creation, BackendError> {
        self.inner.log_create(name, data)
    }

    fn log_load(&self, name: &LogName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        self.inner.log_load(name, limit_bytes)
    }

    fn log_list(
        &self,
        below: Option<&LogName>,
        each: &mut dyn FnMut(LogName, u64),
    ) -> Result<(), BackendError> {
        self.inner.log_list(below, each)
    }

    fn log_remove(&self, name: &LogName) -> Result<(), BackendError> {
        self.inner.log_remove(name)
    }

    fn load_tree_at(
        &self,
        name: FileName,
        offset_bytes: u64,
        buf: &mut [u8],
    ) -> Result<(), BackendError> {
        if name.kind != FileKind::Pack || !self.is_on() {
            return self.inner.load_tree_at(name, offset_bytes, buf);
        }
        match self.claim(name.id) {
            PackState::Verified if self.folder.get_at(name, offset_bytes, buf).is_ok() => Ok(()),
            PackState::Verified => {
                // Another process removed it, or its disk fails: it is fetched anew, but only once.
                self.folder.remove(name);
                let mut packs = self.packs();
                packs.verified.remove(&name.id);
                packs.passed_by.insert(name.id);
                drop(packs);
                self.inner.load_tree_at(name, offset_bytes, buf)
            }
            PackState::PassedBy => self.inner.load_tree_at(name, offset_bytes, buf),
            PackState::Ours => {
                let fetch = Fetch {
                    cached: self,
                    id: name.id,
                };
                let whole = self.whole(name)?;
                let range = usize::try_from(offset_bytes).ok().and_then(|from| {
                    let to = from.checked_add(buf.len())?;
                    whole.as_ref()?.get(from..to)
                });
                let is_kept = self.is_on() && range.is_some();
                {
                    let mut packs = self.packs();
                    if is_kept {
                        packs.verified.insert(name.id);
                    } else {
                        packs.passed_by.insert(name.id);
                    }
                }
                drop(fetch);
                match range {
                    Some(range) => {
                        buf.copy_from_slice(range);
                        Ok(())
                    }
                    None => self.inner.load_tree_at(name, offset_bytes, buf),
                }
            }
        }
    }

    fn remove_unfinished(&self, older_than: Duration) -> Result<u64, BackendError> {
        self.inner.remove_unfinished(older_than)
    }

    fn destroy(&self, name: FileName) -> Result<Destroyed, BackendError> {
        self.folder.remove(name);
        self.packs().verified.remove(&name.id);
        self.inner.destroy(name)
    }
}
