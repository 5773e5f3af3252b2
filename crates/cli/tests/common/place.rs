//! A temporary directory with a repository whose key is so cheap that every program opens it at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat_repo::backend::LocalBackend;
use lifeboat_repo::{Identity, KeyCost, Repository};
use lifeboat_testkit::restic::PASSWORD;
use tempfile::TempDir;

use super::run::Program;

/// A temporary directory.
pub struct Place {
    dir: TempDir,
}

impl Place {
    /// Without a repository.
    pub fn empty() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// With an empty repository of version 2.
    pub fn new() -> Self {
        let place = Self::empty();
        let who = Identity::of_this_process();
        let backend = Arc::new(LocalBackend::new(place.repository()));
        Repository::init(backend, PASSWORD.as_bytes(), 2, None, &who, KeyCost::Test).unwrap();
        place
    }

    /// Replaces the key of a repository that some program made by one that costs nothing.
    pub fn cheapen(&self) {
        let backend = Arc::new(LocalBackend::new(self.repository()));
        let open = |hint: Option<String>| {
            Repository::open(backend.clone(), PASSWORD.as_bytes(), hint.as_deref()).unwrap()
        };
        let made = open(None);
        let cheap = made
            .add_key(
                PASSWORD.as_bytes(),
                &Identity::of_this_process(),
                KeyCost::Test,
            )
            .unwrap();
        open(Some(cheap.to_string()))
            .remove_key(made.key_id())
            .unwrap();
    }

    /// The repository.
    pub fn repository(&self) -> PathBuf {
        self.path("repository")
    }

    /// Anything in it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Our program on the repository.
    pub fn ours(&self) -> Program {
        Program::ours(&self.repository())
    }

    /// restic 0.19 on it.
    pub fn current(&self) -> Program {
        Program::current(&self.repository())
    }

    /// restic 0.14 on it.
    pub fn debian(&self) -> Program {
        Program::debian(&self.repository())
    }
}
