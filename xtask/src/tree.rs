//! Directory trees as sums: which paths are in one, how many files, how many bytes.
//! It looks and never changes what it looks at.

use std::path::{Path, PathBuf};

use crate::failure::{Result, While};

/// How much lies below a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    /// Everything that is no directory.
    pub files: u64,
    /// What is in regular files.
    pub bytes: u64,
}

/// What lies below `dir`, or how large the file at it is.
pub(crate) fn measure(dir: &Path) -> Result<Amount> {
    let meta = dir
        .symlink_metadata()
        .doing(|| format!("cannot look at {}", dir.display()))?;
    if !meta.is_dir() {
        return Ok(Amount {
            files: 1,
            bytes: if meta.is_file() { meta.len() } else { 0 },
        });
    }
    let mut sum = Amount::default();
    for path in list(dir)? {
        let amount = measure(&path)?;
        sum.files += amount.files;
        sum.bytes += amount.bytes;
    }
    Ok(sum)
}

/// The paths in a directory, by name.
pub(crate) fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let listing = || format!("cannot list {}", dir.display());
    let entries = std::fs::read_dir(dir).doing(listing)?;
    let paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<Vec<_>>>();
    let mut paths = paths.doing(listing)?;
    paths.sort();
    Ok(paths)
}
