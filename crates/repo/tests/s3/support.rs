//! What tests of S3 share: places of their own, and backends opened as the command line opens them.
//! It must never hold a server: each test file has its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lifeboat_repo::backend::{self, Backend, BackendOptions};
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
