//! A bounded number of open directories, so that work on files in the same directory need not look up its path again.
//! It must never hold a directory that was removed or replaced: who does that says so with `forget`.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

/// How many directories are kept open; more than threads times the depth that a walk commonly jumps back.
const OPEN_DIRS_LIMIT: usize = 64;

/// Open directories by entry path, the least recently used first.
#[derive(Debug, Default)]
pub(crate) struct Dirs(Mutex<VecDeque<(Vec<u8>, Arc<OwnedFd>)>>);

impl Dirs {
    /// The open directory that is `path` or its nearest ancestor, with the length of its own path in bytes.
    pub(crate) fn nearest(&self, path: &[u8]) -> Option<(usize, Arc<OwnedFd>)> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut best: Option<(usize, usize)> = None;
        // What was used last is asked for most often: who finds the directory itself there looks no further.
        for (index, (dir, _)) in held.iter().enumerate().rev() {
            if best.is_none_or(|(_, bytes)| dir.len() > bytes) && holds(dir, path) {
                best = Some((index, dir.len()));
                if dir.len() == path.len() {
                    break;
                }
            }
        }
        let (index, bytes) = best?;
        if index + 1 < held.len() {
            let entry = held.remove(index)?;
            held.push_back(entry);
        }
        held.back().map(|(_, fd)| (bytes, Arc::clone(fd)))
    }

    /// Keeps a directory open.
    pub(crate) fn keep(&self, path: &[u8], fd: &Arc<OwnedFd>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|(dir, _)| dir != path);
        held.push_back((path.to_vec(), Arc::clone(fd)));
        if held.len() > OPEN_DIRS_LIMIT {
            held.pop_front();
        }
    }

    /// Closes this directory and all below it.
    pub(crate) fn forget(&self, path: &[u8]) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(dir, _)| !holds(path, dir));
    }
}

/// Whether `path` is `dir` or below it.
fn holds(dir: &[u8], path: &[u8]) -> bool {
    match path.strip_prefix(dir) {
        Some(rest) => dir.is_empty() || rest.is_empty() || rest.starts_with(b"/"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_dir() -> Arc<OwnedFd> {
        Arc::new(OwnedFd::from(
            std::fs::File::open("/").expect("the root directory"),
        ))
    }

    #[test]
    fn the_nearest_ancestor_is_found_and_names_are_not_prefixes() {
        let dirs = Dirs::default();
        dirs.keep(b"a", &some_dir());
        dirs.keep(b"a/b", &some_dir());
        assert_eq!(dirs.nearest(b"a/b/c").map(|(len, _)| len), Some(3));
        assert_eq!(dirs.nearest(b"a/bc").map(|(len, _)| len), Some(1));
        assert!(dirs.nearest(b"ab").is_none());
        dirs.forget(b"a/b");
        assert_eq!(dirs.nearest(b"a/b/c").map(|(len, _)| len), Some(1));
    }

    #[test]
    fn open_directories_are_bounded() {
        let dirs = Dirs::default();
        let fd = some_dir();
        for number in 0..OPEN_DIRS_LIMIT * 2 {
            dirs.keep(number.to_string().as_bytes(), &fd);
        }
        assert_eq!(Arc::strong_count(&fd), OPEN_DIRS_LIMIT + 1);
        assert!(dirs.nearest(b"0").is_none());
    }
}
