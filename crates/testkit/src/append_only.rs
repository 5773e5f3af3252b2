//! A backend that lets nobody remove anything, as a REST server with `--append-only` or a bucket with object lock.
//! It must never refuse anything else.

use lifeboat_format::Id;
use lifeboat_repo::backend::{
    Backend, BackendError, Creation, FileKind, FileName, LogName, Trouble,
};

/// A backend that lets nobody remove anything, except files of some kinds.
#[derive(Clone, Debug)]
pub struct AppendOnlyBackend<B> {
    inner: B,
    removable: &'static [FileKind],
}

impl<B: Backend> AppendOnlyBackend<B> {
    /// Refuses to remove what is of none of these kinds; REST servers let locks go, object lock lets nothing go.
    pub fn new(inner: B, removable: &'static [FileKind]) -> Self {
        Self { inner, removable }
    }

    fn refused(&self, what: String) -> BackendError {
        BackendError::Remote {
            doing: "remove",
            what,
            location: self.location(),
            trouble: Trouble::Denied,
            why: "the server answered 403 (Forbidden)".into(),
            retry_after: None,
        }
    }
}

impl<B: Backend> Backend for AppendOnlyBackend<B> {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn listing_delay(&self) -> lifeboat_repo::backend::ListingDelay {
        self.inner.listing_delay()
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
        self.inner.load(name, limit_bytes)
    }

    fn load_at(
        &self,
        name: FileName,
        offset_bytes: u64,
        buf: &mut [u8],
    ) -> Result<(), BackendError> {
        self.inner.load_at(name, offset_bytes, buf)
    }

    fn save(&self, name: FileName, data: &[&[u8]]) -> Result<(), BackendError> {
        self.inner.save(name, data)
    }

    fn remove(&self, name: FileName) -> Result<(), BackendError> {
        if self.removable.contains(&name.kind) {
            return self.inner.remove(name);
        }
        Err(self.refused(name.to_string()))
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
        Err(self.refused(name.path()))
    }
}
