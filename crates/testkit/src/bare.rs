//! The least of each thing that a test begins with: an empty repository, a snapshot, a lock of somebody else, a directory.
//! It must never hold more than every test needs: each says itself what is special in it.

use std::sync::Arc;

use lifeboat_format::{Id, Lock, Snapshot};
use lifeboat_repo::backend::MemoryBackend;
use lifeboat_repo::{Identity, KeyCost, Repository, now};
use tempfile::TempDir;

/// The password of [`memory`].
pub const PASSWORD: &[u8] = b"test";

/// An empty repository in memory.
///
/// # Panics
/// If it can't be made.
#[must_use]
pub fn memory() -> MemoryBackend {
    let memory = MemoryBackend::new();
    let (backend, who) = (Arc::new(memory.clone()), Identity::default());
    let made = Repository::init(backend, PASSWORD, 2, None, &who, KeyCost::Test);
    made.expect("a repository");
    memory
}

/// A snapshot of now, of this tree.
#[must_use]
pub fn snapshot(tree: Id) -> Snapshot {
    Snapshot {
        time: now(),
        parent: None,
        tree,
        paths: vec!["/data".into()],
        hostname: "nas".into(),
        username: String::new(),
        uid: 0,
        gid: 0,
        excludes: Vec::new(),
        tags: Vec::new(),
        original: None,
        whole: None,
        program_version: String::new(),
        summary: None,
    }
}

/// An exclusive lock of now, of another machine and another program.
#[must_use]
pub fn foreign_lock() -> Lock {
    Lock {
        time: now(),
        exclusive: true,
        hostname: "elsewhere".into(),
        username: "somebody".into(),
        pid: 4711,
        uid: 0,
        gid: 0,
        origin: None,
    }
}

/// A temporary directory, in memory if there is such a place: thousands of files that are made durable take their time.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a temporary directory")
}
