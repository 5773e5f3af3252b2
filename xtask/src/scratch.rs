//! A temporary directory that goes away with its owner.
//! It removes nothing but the one directory that it created itself, and follows no link while doing so.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result, While};

#[derive(Debug)]
pub(crate) struct Scratch {
    dir: PathBuf,
    keep: bool,
}

impl Scratch {
    /// A new directory that only we may enter, where large temporary files belong.
    pub(crate) fn create(purpose: &str) -> Result<Self> {
        let chosen = std::env::var_os("TMPDIR").map(PathBuf::from);
        // `/tmp` may be memory, which holds neither much nor every attribute; `/var/tmp` is a disk.
        let mut places = chosen
            .into_iter()
            .chain(["/var/tmp".into(), std::env::temp_dir()]);
        let made = places.find_map(|place| Self::create_in(&place, purpose).ok());
        made.ok_or_else(|| Failure::new("no place for temporary files: set TMPDIR"))
    }

    /// The same in a certain place.
    pub(crate) fn create_in(place: &Path, purpose: &str) -> Result<Self> {
        let dir = place.join(format!("lifeboat-{purpose}-{}", std::process::id()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .doing(|| format!("cannot create {}", dir.display()))?;
        let dir = dir
            .canonicalize()
            .doing(|| format!("cannot use {}", dir.display()))?;
        Ok(Self { dir, keep: false })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Leaves the directory where it is.
    pub(crate) fn keep(&mut self) {
        self.keep = true;
    }

    /// How much can still be written here.
    pub(crate) fn free_bytes(&self) -> Result<u64> {
        let facts = rustix::fs::statvfs(&self.dir)
            .doing(|| format!("cannot ask for the space of {}", self.dir.display()))?;
        Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Err(cause) = std::fs::remove_dir_all(&self.dir) {
            eprintln!("cannot remove {}: {cause}", self.dir.display());
        }
    }
}
