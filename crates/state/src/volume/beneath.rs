//! Directories below a root, reached without following a link and without leaving the root, whatever paths say.
//! It must never resolve `..`, an absolute path or a symbolic link, not even one that appears while it walks.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_flow::EntryPath;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::dirs::Dirs;

/// The longest piece of a path that is given to the kernel at once; it takes no more than 4095 bytes (`PATH_MAX`).
const PIECE_LIMIT_BYTES: usize = 4000;
/// The last components of a path are walked and kept open one by one, because who works there soon works in their parents.
const SINGLE_STEPS: usize = 4;

/// How a path of several components is walked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Walk {
    /// By the kernel (`openat2`, Linux 5.6); by components where it can't or where a sandbox forbids the call.
    #[default]
    Auto,
    /// One component after the other, each without following links.
    Components,
}

/// A root directory and what is open below it.
#[derive(Debug)]
pub(crate) struct Beneath {
    root: Arc<OwnedFd>,
    dirs: Dirs,
    by_kernel: AtomicBool,
}

impl Beneath {
    pub(crate) fn new(root: OwnedFd, walk: Walk) -> Self {
        Self {
            root: Arc::new(root),
            dirs: Dirs::default(),
            by_kernel: AtomicBool::new(walk == Walk::Auto),
        }
    }

    pub(crate) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// The directory at a path, opened as a place only (`O_PATH`), so that no right to read it is needed.
    pub(crate) fn dir(&self, path: &[u8]) -> io::Result<Arc<OwnedFd>> {
        check(path)?;
        self.checked_dir(path)
    }

    fn checked_dir(&self, path: &[u8]) -> io::Result<Arc<OwnedFd>> {
        let (done, mut fd) = match self.dirs.nearest(path) {
            Some((done, fd)) if done == path.len() => return Ok(fd),
            Some(found) => found,
            None if path.is_empty() => return Ok(Arc::clone(&self.root)),
            None => (0, Arc::clone(&self.root)),
        };
        let mut at = done;
        while at < path.len() {
            let start = if at == 0 { 0 } else { at + 1 };
            let rest = path.get(start..).unwrap_or_default();
            let piece = next_piece(rest);
            fd = Arc::new(self.step(&fd, piece)?);
            at = start + piece.len();
            self.dirs.keep(path.get(..at).unwrap_or_default(), &fd);
        }
        Ok(fd)
    }

    /// The directory that holds an entry, and the entry's name in it.
    ///
    /// # Errors
    /// Also for the top, which has no name.
    pub(crate) fn parent<'a>(&self, path: &'a EntryPath) -> io::Result<(Arc<OwnedFd>, &'a [u8])> {
        check(&path.0)?;
        let cut = path.0.iter().rposition(|byte| *byte == b'/');
        let parent = cut.and_then(|cut| path.0.get(..cut)).unwrap_or_default();
        match path.name() {
            b"" => Err(invalid("the top of a target can't be replaced")),
            name => Ok((self.checked_dir(parent)?, name)),
        }
    }

    /// Says that what is at a path and below it was removed or replaced.
    pub(crate) fn forget(&self, path: &[u8]) {
        self.dirs.forget(path);
    }

    fn step(&self, from: impl AsFd, piece: &[u8]) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let is_one = !piece.contains(&b'/');
        if !is_one && self.by_kernel.load(Ordering::Relaxed) {
            let resolve =
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(&from, piece, flags, Mode::empty(), resolve) {
                // Kernels and sandboxes without the call answer so.
                Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => {
                    self.by_kernel.store(false, Ordering::Relaxed);
                }
                opened => return Ok(opened?),
            }
        }
        let mut components = piece.split(|byte| *byte == b'/');
        let first = components.next().unwrap_or_default();
        let mut fd = rustix::fs::openat(&from, first, flags, Mode::empty())?;
        for component in components {
            fd = rustix::fs::openat(&fd, component, flags, Mode::empty())?;
        }
        Ok(fd)
    }
}

/// The components to walk next: all but the last few as far as the kernel takes them at once, then these one by one.
fn next_piece(path: &[u8]) -> &[u8] {
    let mut slashes = path
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, byte)| **byte == b'/');
    let end = match slashes.nth(SINGLE_STEPS) {
        // One component of more than a piece is given as it is: the kernel will refuse its length.
        Some((end, _)) if end > PIECE_LIMIT_BYTES => {
            let head = path.get(..PIECE_LIMIT_BYTES).unwrap_or_default();
            head.iter().rposition(|byte| *byte == b'/').unwrap_or(end)
        }
        Some((end, _)) => end,
        None => path
            .iter()
            .position(|byte| *byte == b'/')
            .unwrap_or(path.len()),
    };
    path.get(..end).unwrap_or(path)
}

/// Refuses what could lead out of the root or name nothing, whoever wrote it into a snapshot.
fn check(path: &[u8]) -> io::Result<()> {
    if path.is_empty() {
        return Ok(());
    }
    if path.contains(&0) {
        return Err(invalid("a name in the path has a NUL byte"));
    }
    for name in path.split(|byte| *byte == b'/') {
        if matches!(name, b"" | b"." | b"..") {
            return Err(invalid("a name in the path is empty, `.` or `..`"));
        }
    }
    Ok(())
}

/// An error about what was asked for.
pub(crate) fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for path in ["/a", "a/", "a//b", ".", "..", "a/../b", "a/.", "a\0b"] {
            assert!(check(path.as_bytes()).is_err(), "{path:?}");
        }
        for path in ["", "a", "a/...", "a/..b/c "] {
            assert!(check(path.as_bytes()).is_ok(), "{path:?}");
        }
    }

    #[test]
    fn long_paths_come_in_pieces_of_whole_names() {
        let long = vec![b"name".to_vec(); 3000].join(&b'/');
        let piece = next_piece(&long);
        assert!(piece.len() <= PIECE_LIMIT_BYTES && piece.len() > PIECE_LIMIT_BYTES / 2);
        assert!(piece.ends_with(b"/name"));
        assert_eq!(next_piece(b"a/b/c/d/e/f/g"), b"a/b");
        assert_eq!(next_piece(b"c/d/e/f/g"), b"c");
        assert_eq!(next_piece(b"g"), b"g");
    }
}
