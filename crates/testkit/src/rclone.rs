//! rclone for tests: Debian's own, with a configuration that has one remote, a directory.
//! It must never read the configuration of the person who runs the tests.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use lifeboat_repo::backend::{BackendOptions, Location, Secret};
use tempfile::TempDir;

use crate::bare::scratch;

/// The remote that the configuration has.
const REMOTE: &str = "disk";

/// A configuration of rclone, and a directory for repositories.
#[derive(Debug)]
pub struct Rclone {
    folder: TempDir,
}

impl Rclone {
    /// A configuration of its own.
    ///
    /// # Panics
    /// If rclone is not installed.
    #[must_use]
    pub fn new() -> Self {
        let found = Command::new("rclone")
            .arg("version")
            .stdout(Stdio::null())
            .status();
        assert!(
            found.is_ok_and(|status| status.success()),
            "rclone is not installed, and nothing is proven without it: `make test` installs it"
        );
        let folder = scratch();
        let rclone = Self { folder };
        let kept = rclone.directory("");
        fs::create_dir(&kept).unwrap();
        let remote = format!("[{REMOTE}]\ntype = alias\nremote = {}\n", kept.display());
        fs::write(rclone.configuration(), remote).unwrap();
        rclone
    }

    /// What a user would write for a repository here, as `-r` takes it.
    #[must_use]
    pub fn repository(&self, path: &str) -> String {
        format!("rclone:{REMOTE}:{path}")
    }

    /// The location of a repository here.
    ///
    /// # Panics
    /// If there is no such location.
    #[must_use]
    pub fn location(&self, path: &str) -> Location {
        self.repository(path).parse().unwrap()
    }

    /// What a client needs beside the location.
    #[must_use]
    pub fn options(&self) -> BackendOptions {
        let mut options = BackendOptions::default();
        for (name, value) in self.variables() {
            options.variables.insert(name, Secret::new(value));
        }
        options
    }

    /// What a user would set in the environment.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        let configuration = self.configuration().display().to_string();
        vec![("RCLONE_CONFIG".into(), configuration)]
    }

    /// Where a repository's files are.
    #[must_use]
    pub fn directory(&self, path: &str) -> PathBuf {
        self.folder.path().join("kept").join(path)
    }

    fn configuration(&self) -> PathBuf {
        self.folder.path().join("rclone.conf")
    }
}

impl Default for Rclone {
    fn default() -> Self {
        Self::new()
    }
}
