//! What tests of S3 share: places of their own, and backends opened as the command line opens them.
//! It must never hold a server: each test file has its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lifeboat_format::Id;
use lifeboat_repo::backend::{
    self, Backend, BackendError, BackendOptions, Destroyed, FileKind, FileName,
};
use lifeboat_testkit::s3::LocalS3;

/// A path that no other test has.
pub fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("repo{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The backend of a location.
pub fn opened(location: &str, options: &BackendOptions) -> Arc<dyn Backend> {
    backend::open(&location.parse().unwrap(), options).unwrap()
}

/// A place in the server's bucket.
pub fn made(server: &LocalS3, prefix: &str) -> Arc<dyn Backend> {
    let backend = opened(&server.location(prefix), &server.options());
    backend.create().unwrap();
    backend
}

/// With another `-o`.
pub fn with_setting(mut options: BackendOptions, name: &str, value: &str) -> BackendOptions {
    options.settings.insert(name.to_owned(), value.to_owned());
    options
}

/// A backend and the server that it needs.
pub struct Kept(pub LocalS3, pub Arc<dyn Backend>);

impl Backend for Kept {
    fn location(&self) -> String {
        self.1.location()
    }

    fn create(&self) -> Result<(), BackendError> {
        self.1.create()
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64)) -> Result<(), BackendError> {
        self.1.list(kind, each)
    }

    fn size(&self, name: FileName) -> Result<u64, BackendError> {
        self.1.size(name)
    }

    fn load(&self, name: FileName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        self.1.load(name, limit_bytes)
    }

    fn load_at(&self, name: FileName, offset: u64, buf: &mut [u8]) -> Result<(), BackendError> {
        self.1.load_at(name, offset, buf)
    }

    fn save(&self, name: FileName, data: &[&[u8]]) -> Result<(), BackendError> {
        self.1.save(name, data)
    }

    fn remove(&self, name: FileName) -> Result<(), BackendError> {
        self.1.remove(name)
    }

    fn remove_unfinished(&self, older_than: Duration) -> Result<u64, BackendError> {
        self.1.remove_unfinished(older_than)
    }

    fn destroy(&self, name: FileName) -> Result<Destroyed, BackendError> {
        self.1.destroy(name)
    }
}
