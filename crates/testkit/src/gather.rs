//! A backend that answers only when so many requests wait at once, which shows whether a caller has them under way.
//! It must never leave a caller waiting for good: who does not come in time makes the count too low, and the test fails.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lifeboat_format::Id;
use lifeboat_repo::backend::{Backend, BackendError, Creation, FileKind, FileName, LogName};

/// How long requests wait for others.
const PATIENCE: Duration = Duration::from_secs(20);

/// A sort of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Whole files of a kind are read.
    Load(FileKind),
    /// Parts of packs are read.
    LoadAt,
    /// Parts of packs of trees are read.
    LoadTreeAt,
    /// Files of a kind are written.
    Save(FileKind),
}

/// A backend that gathers requests. Clones share the counts.
#[derive(Clone, Debug)]
pub struct GatheringBackend<B> {
    inner: B,
    connections: usize,
    lane: Lane,
    wanted: usize,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    waiting: usize,
    most: usize,
}

impl<B: Backend> GatheringBackend<B> {
    /// Says that so many connections are worth it, and answers requests of a lane when `wanted` of them were under way at
    /// once for the first time.
    pub fn new(inner: B, connections: usize, lane: Lane, wanted: usize) -> Self {
        Self {
            inner,
            connections,
            lane,
            wanted,
            state: Arc::default(),
        }
    }

    /// The most requests of the lane that were under way at once.
    #[must_use]
    pub fn most(&self) -> usize {
        let (state, _) = &*self.state;
        state.lock().unwrap_or_else(PoisonError::into_inner).most
    }

    fn gathered<T>(&self, lane: Lane, work: impl FnOnce() -> T) -> T {
        if lane != self.lane {
            return work();
        }
        let (state, changed) = &*self.state;
        let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut guard = lock();
        guard.waiting += 1;
        guard.most = guard.most.max(guard.waiting);
        changed.notify_all();
        let until = Instant::now() + PATIENCE;
        while guard.most < self.wanted && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            let waited = changed.wait_timeout(guard, left);
            guard = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(guard);
        let done = work();
        lock().waiting -= 1;
        done
    }
}

impl<B: Backend> Backend for GatheringBackend<B> {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn listing_delay(&self) -> lifeboat_repo::backend::ListingDelay {
        self.inner.listing_delay()
    }

    fn connections(&self) -> usize {
        self.connections
    }

    fn create(&self) -> Result<(), BackendError> {
        self.inner.create()
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64)) -> Result<(), BackendError> {
        self.inner.list(kind, each)
    }

    fn size(&self, name: FileName) -> Result<u64, BackendError> {
        self.inner.size(name)
    }

    fn load(&self, name: FileName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        self.gathered(Lane::Load(name.kind), || self.inner.load(name, limit_bytes))
    }

    fn load_at(
        &self,
        name: FileName,
        offset_bytes: u64,
        buf: &mut [u8],
    ) -> Result<(), BackendError> {
        self.gathered(Lane::LoadAt, || self.inner.load_at(name, offset_bytes, buf))
    }

    fn load_tree_at(
        &self,
        name: FileName,
        offset_bytes: u64,
        buf: &mut [u8],
    ) -> Result<(), BackendError> {
        self.gathered(Lane::LoadTreeAt, || {
            self.inner.load_tree_at(name, offset_bytes, buf)
        })
    }

    fn save(&self, name: FileName, data: &[&[u8]]) -> Result<(), BackendError> {
        self.gathered(Lane::Save(name.kind), || self.inner.save(name, data))
    }

    fn remove(&self, name: FileName) -> Result<(), BackendError> {
        self.inner.remove(name)
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
}
