//! A backend that answers late, as one behind a network does, and counts how many requests are under way at once.
//! It must never fail: what it shows is how well waiting is shared.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lifeboat_format::Id;
use lifeboat_repo::backend::{Backend, BackendError, FileKind, FileName};

/// A backend that answers late. Clones share the counts.
#[derive(Clone, Debug)]
pub struct LateBackend<B> {
    inner: B,
    latency: Duration,
    connections: usize,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    now: AtomicUsize,
    most: AtomicUsize,
    all: AtomicUsize,
}

impl<B: Backend> LateBackend<B> {
    /// Answers each request so much later, and says that so many connections are worth it.
    pub fn new(inner: B, latency: Duration, connections: usize) -> Self {
        Self {
            inner,
            latency,
            connections,
            counts: Arc::default(),
        }
    }

    /// The most requests that were under way at once since the last call, and how many there were.
    #[must_use]
    pub fn take_counts(&self) -> (usize, usize) {
        let counts = &self.counts;
        let most = counts.most.swap(0, Ordering::SeqCst);
        (most, counts.all.swap(0, Ordering::SeqCst))
    }

    fn late<T>(&self, work: impl FnOnce() -> T) -> T {
        let counts = &self.counts;
        let now = counts.now.fetch_add(1, Ordering::SeqCst) + 1;
        counts.most.fetch_max(now, Ordering::SeqCst);
        counts.all.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(self.latency);
        let done = work();
        counts.now.fetch_sub(1, Ordering::SeqCst);
        done
    }
}

impl<B: Backend> Backend for LateBackend<B> {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn lists_at_once(&self) -> bool {
        self.inner.lists_at_once()
    }

    fn connections(&self) -> usize {
        self.connections
    }

    fn create(&self) -> Result<(), BackendError> {
        self.late(|| self.inner.create())
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64)) -> Result<(), BackendError> {
        self.late(|| self.inner.list(kind, each))
    }

    fn size(&self, name: FileName) -> Result<u64, BackendError> {
        self.late(|| self.inner.size(name))
    }

    fn load(&self, name: FileName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        self.late(|| self.inner.load(name, limit_bytes))
    }

    fn load_at(
        &self,
        name: FileName,
        offset_bytes: u64,
        buf: &mut [u8],
    ) -> Result<(), BackendError> {
        self.late(|| self.inner.load_at(name, offset_bytes, buf))
    }

    fn save(&self, name: FileName, data: &[&[u8]]) -> Result<(), BackendError> {
        self.late(|| self.inner.save(name, data))
    }

    fn remove(&self, name: FileName) -> Result<(), BackendError> {
        self.late(|| self.inner.remove(name))
    }
}
