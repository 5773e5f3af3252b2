//! Where copies of databases lie until they are stored: a directory that only we can look into.
//! It must never begin a copy that does not fit, and never leave one behind that was read.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

/// What is left free for others, in bytes.
const LEFT_FREE_BYTES: u64 = 64 * 1024 * 1024;
/// The copy's name in its directory.
const COPY_NAME: &str = "copy";

/// A place for copies.
#[derive(Debug)]
pub(super) struct Scratch {
    dir: PathBuf,
    /// Bytes of copies that are being made: they may not be written yet.
    promised_bytes: Arc<AtomicU64>,
}

/// There is no room.
#[derive(Debug, thiserror::Error)]
#[error("a copy takes {needed_bytes} bytes and {} has {free_bytes} to give", .dir.display())]
pub(super) struct NoRoom {
    dir: PathBuf,
    needed_bytes: u64,
    free_bytes: u64,
}

impl Scratch {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            promised_bytes: Arc::default(),
        }
    }

    /// Room for a copy of so many bytes.
    pub(super) fn room(&self, bytes: u64) -> io::Result<Room> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)?;
        let place = rustix::fs::statvfs(&self.dir)?;
        let promise = Promise {
            bytes,
            all: Arc::clone(&self.promised_bytes),
        };
        let before = promise.all.fetch_add(bytes, Ordering::AcqRel);
        let free_bytes = place
            .f_bavail
            .saturating_mul(place.f_frsize)
            .saturating_sub(before)
            .saturating_sub(LEFT_FREE_BYTES);
        if free_bytes < bytes {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                NoRoom {
                    dir: self.dir.clone(),
                    needed_bytes: bytes,
                    free_bytes,
                },
            ));
        }
        // Nobody else can look into what this makes.
        let dir = tempfile::Builder::new()
            .prefix(".lifeboat-sqlite-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&self.dir)?;
        Ok(Room {
            dir,
            _promise: promise,
        })
    }
}

/// Room for one copy.
#[derive(Debug)]
pub(super) struct Room {
    dir: TempDir,
    _promise: Promise,
}

impl Room {
    /// Where the copy is to be made. What SQLite puts beside it goes with it.
    pub(super) fn path(&self) -> PathBuf {
        self.dir.path().join(COPY_NAME)
    }

    /// The copy, which has no name any more: it is gone when it is closed, however that comes about.
    pub(super) fn into_file(self) -> io::Result<File> {
        let file = File::open(self.path())?;
        self.dir.close()?;
        Ok(file)
    }
}

#[derive(Debug)]
struct Promise {
    bytes: u64,
    all: Arc<AtomicU64>,
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_what_was_promised_counts() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(dir.path().join("new"));
        let room = scratch.room(1000).unwrap();
        let mode = room.path().parent().unwrap().metadata().unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o700);
        let refused = scratch.room(u64::MAX / 4).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert!(refused.to_string().contains("a copy takes"), "{refused}");
        assert_eq!(scratch.promised_bytes.load(Ordering::Acquire), 1000);
        std::fs::write(room.path(), b"copy").unwrap();
        let _file = room.into_file().unwrap();
        assert_eq!(scratch.promised_bytes.load(Ordering::Acquire), 0);
        let left = std::fs::read_dir(dir.path().join("new")).unwrap();
        assert_eq!(left.count(), 0);
    }
}
