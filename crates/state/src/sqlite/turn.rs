//! Whose turn it is with a database file, in this process: a look at its bytes, or a connection.
//! It must never let one close the file while another has a connection: that would drop all POSIX locks of the process on it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use lifeboat_flow::{Cancel, Cancelled};
use rustix::fs::FileType;

/// How often somebody who waits looks whether he should stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The locks belong to the process, so this does too (<https://sqlite.org/howtocorrupt.html>, 2.2).
static TAKEN: Mutex<BTreeSet<FileKey>> = Mutex::new(BTreeSet::new());
static GIVEN_BACK: Condvar = Condvar::new();

/// Which file it is, by whatever name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileKey {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl FileKey {
    /// The regular file at a path, and its size in bytes; it is not opened, and a link at its place is not followed.
    pub(super) fn of(path: &Path) -> Option<(Self, u64)> {
        let stat = rustix::fs::lstat(path).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return None;
        }
        let key = Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        };
        Some((key, u64::try_from(stat.st_size).unwrap_or(0)))
    }
}

/// Nobody else in this process who asks has the file open.
#[derive(Debug)]
pub(super) struct Turn(FileKey);

impl Turn {
    /// Waits for it, as long as a copy of the database takes.
    pub(super) fn take(key: FileKey, cancel: &Cancel) -> Result<Self, Cancelled> {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        while !taken.insert(key) {
            cancel.check()?;
            let waited = GIVEN_BACK.wait_timeout(taken, LOOK_EVERY);
            (taken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        Ok(Self(key))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        taken.remove(&self.0);
        GIVEN_BACK.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_a_wish_to_stop_ends_the_wait() {
        let key = |inode| FileKey {
            device: u64::MAX,
            inode,
        };
        let cancel = Cancel::new();
        let first = Turn::take(key(1), &cancel).unwrap();
        let _other = Turn::take(key(2), &cancel).unwrap();
        let waiter = std::thread::spawn({
            let cancel = cancel.clone();
            move || Turn::take(key(1), &cancel).map(|_| ())
        });
        drop(first);
        assert_eq!(waiter.join().unwrap(), Ok(()));
        let _first = Turn::take(key(1), &cancel).unwrap();
        cancel.cancel();
        assert!(Turn::take(key(1), &cancel).is_err());
    }
}
