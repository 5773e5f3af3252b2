//! Where repositories and restored data lie while programs are measured: in memory, for disks differ more than programs.
//! It never takes a disk for memory, and never begins what would not fit.

use std::path::{Path, PathBuf};

use super::corpus::Corpus;
use super::machine;
use crate::failure::{Failure, Result, While};
use crate::scratch::Scratch;
use crate::tree::Amount;
use crate::units;

const MEMORY: &str = "/dev/shm";
/// The mark of a file system in memory (statfs(2), `TMPFS_MAGIC`).
const TMPFS: u64 = 0x0102_1994;
/// What the programs themselves and what they keep beside repositories need, in bytes.
const SPARE_BYTES: u64 = 512 << 20;
/// What a file takes beyond its bytes, in bytes: the rest of its last page, and its inode.
const PER_FILE_BYTES: u64 = 4 << 10;

#[derive(Debug)]
pub(super) struct Place {
    dir: PathBuf,
    is_memory: bool,
}

impl Place {
    /// In memory, or in a directory that somebody named because this machine has too little.
    pub(super) fn choose(named: Option<&Path>) -> Result<Self> {
        if let Some(dir) = named {
            return Ok(Self::on_disk(dir));
        }
        let facts = rustix::fs::statfs(MEMORY);
        if facts.is_ok_and(|facts| facts.f_type as u64 == TMPFS) {
            return Ok(Self {
                dir: MEMORY.into(),
                is_memory: true,
            });
        }
        Err(Failure::new(format!(
            "{MEMORY} is no file system in memory: mount one, or name a directory with --place, which the results then say"
        )))
    }

    pub(super) fn on_disk(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            is_memory: false,
        }
    }

    /// For the results.
    pub(super) fn description(&self) -> &'static str {
        match self.is_memory {
            true => "memory",
            false => "a directory on a disk",
        }
    }

    /// A directory with room for so many copies of what the corpus holds, beside the corpus in the page cache.
    pub(super) fn scratch(&self, corpus: &Corpus, copies: u64) -> Result<Scratch> {
        self.scratch_for(corpus.amount, copies)
    }

    /// The same for what else lies in the page cache.
    pub(super) fn scratch_for(&self, amount: Amount, copies: u64) -> Result<Scratch> {
        let scratch = Scratch::create_in(&self.dir, "bench")?;
        let copy = amount.bytes + amount.files * PER_FILE_BYTES;
        let available = self
            .is_memory
            .then(|| machine::memory_bytes("MemAvailable"));
        let (needed, free) = (copy * copies + SPARE_BYTES, scratch.free_bytes()?);
        enough(needed, free, amount.bytes, available.flatten())
            .map_err(|why| Failure::new(format!("{} is too small: {why}", self.dir.display())))?;
        Ok(scratch)
    }
}

/// Whether this fits: in the file system, and in memory beside the corpus.
fn enough(
    needed: u64,
    free: u64,
    corpus: u64,
    available: Option<u64>,
) -> std::result::Result<(), String> {
    let size = units::size;
    if free < needed {
        return Err(format!(
            "{} are needed and {} are free; remove what is left there of a run that was killed, make it larger, or name \
             another directory with --place",
            size(needed),
            size(free)
        ));
    }
    match available {
        Some(available) if available < needed + corpus => Err(format!(
            "{} are needed with the corpus in the page cache, and this machine has {} of memory available; name a \
             directory on a disk with --place",
            size(needed + corpus),
            size(available)
        )),
        _ => Ok(()),
    }
}

/// Empties a directory, so that what follows has its room.
pub(super) fn remove(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_said_before() {
        const GIB: u64 = 1 << 30;
        assert_eq!(enough(4 * GIB, 5 * GIB, GIB, Some(6 * GIB)), Ok(()));
        assert_eq!(enough(4 * GIB, 5 * GIB, GIB, None), Ok(()));
        let file_system = enough(4 * GIB, 3 * GIB, GIB, None).unwrap_err();
        assert!(file_system.starts_with("4.0 GiB are needed and 3.0 GiB are free"));
        let memory = enough(4 * GIB, 5 * GIB, GIB, Some(4 * GIB)).unwrap_err();
        assert!(memory.contains("5.0 GiB are needed with the corpus"));
    }
}
