//! Paths with wildcards and what they stand for on this machine, by the rules of Go's `filepath.Glob`.
//! It must never take a wildcard for a path, nor fail because a directory on the way can't be read.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use lifeboat_plan::{Glob, PatternFault};

/// All paths that match, in the order of their names. None of what was never there is among them.
pub fn expand(pattern: &[u8]) -> Result<Vec<PathBuf>, PatternFault> {
    if !has_wildcard(pattern) {
        let path = Path::new(OsStr::from_bytes(pattern));
        let is_there = path.symlink_metadata().is_ok();
        return Ok(is_there.then(|| path.to_path_buf()).into_iter().collect());
    }
    let is_absolute = pattern.first() == Some(&b'/');
    let mut found = vec![PathBuf::from(if is_absolute { "/" } else { "" })];
    for part in pattern.split(|byte| *byte == b'/') {
        if part.is_empty() {
            continue;
        }
        if !has_wildcard(part) {
            found
                .iter_mut()
                .for_each(|path| path.push(OsStr::from_bytes(part)));
            continue;
        }
        let glob = Glob::parse(part)?;
        found = found.iter().flat_map(|dir| matching(dir, &glob)).collect();
    }
    // The last parts may have been added without a look.
    found.retain(|path| path.symlink_metadata().is_ok());
    Ok(found)
}

fn has_wildcard(pattern: &[u8]) -> bool {
    pattern.iter().any(|byte| b"*?[\\".contains(byte))
}

/// What in a directory matches; nothing if it is none or can't be read, as with Go.
fn matching(dir: &Path, glob: &Glob) -> Vec<PathBuf> {
    let listed = if dir.as_os_str().is_empty() {
        std::fs::read_dir(".")
    } else {
        std::fs::read_dir(dir)
    };
    let names = listed
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name());
    let mut names: Vec<_> = names.filter(|name| glob.matches(name.as_bytes())).collect();
    names.sort();
    names.iter().map(|name| dir.join(name)).collect()
}
