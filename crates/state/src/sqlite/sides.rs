//! The files beside a database that hold a part of it while it is used: `-wal`, `-journal`, and `-shm`, which is only an index.
//! It must never open one: what is asked here is asked of the directory.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use lifeboat_flow::{Entry, Timestamp};
use rustix::fs::Stat;

/// What is committed and not yet in the database.
const WAL: &str = "-wal";
/// What a transaction that did not end has overwritten.
const JOURNAL: &str = "-journal";
/// The index of a `-wal` file, made anew out of it whenever it is missing.
const SHM: &str = "-shm";
/// The nanoseconds of a second.
const SECOND_NANOSECONDS: u64 = 1_000_000_000;

/// The names of the files that may lie beside a database of a name. Where a database is put back that was captured without
/// them, they have to go first: those of the database before would be applied to it.
#[must_use]
pub fn side_names(name: &[u8]) -> [Vec<u8>; 3] {
    [WAL, JOURNAL, SHM].map(|end| [name, end.as_bytes()].concat())
}

/// The name of the database that a file with this name would lie beside.
pub(super) fn beside(name: &[u8]) -> Option<&[u8]> {
    let ends = [WAL, JOURNAL, SHM];
    let name = ends
        .iter()
        .find_map(|end| name.strip_suffix(end.as_bytes()));
    name.filter(|name| !name.is_empty())
}

/// The name of the index of its `-wal` file.
pub(super) fn index_name(name: &[u8]) -> Vec<u8> {
    [name, SHM.as_bytes()].concat()
}

/// The path of the `-wal` and of the `-journal` of a database.
pub(super) fn content_paths(database: &Path) -> [PathBuf; 2] {
    [WAL, JOURNAL].map(|end| path_with(database, end))
}

fn path_with(database: &Path, end: &str) -> PathBuf {
    let mut path = OsString::from(database);
    path.push(end);
    PathBuf::from(path)
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    inode: u64,
    size_bytes: u64,
    modified: (i64, u32),
    changed: (i64, u32),
}

impl Mark {
    /// Of the file at a path, if there is one.
    pub(super) fn of(path: &Path) -> Option<Self> {
        rustix::fs::lstat(path).ok().map(|stat| Self::from(&stat))
    }
}

impl From<&Stat> for Mark {
    fn from(stat: &Stat) -> Self {
        let nanoseconds = |raw| u32::try_from(raw).unwrap_or(0);
        Self {
            inode: stat.st_ino,
            size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
            changed: (stat.st_ctime, nanoseconds(stat.st_ctime_nsec)),
        }
    }
}

/// The files beside a database at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sides {
    wal: Option<Mark>,
    journal: Option<Mark>,
    has_index: bool,
}

impl Sides {
    /// Looks at them.
    pub(super) fn of(database: &Path) -> Self {
        let [wal, journal] = content_paths(database).map(|path| Mark::of(&path));
        Self {
            wal,
            journal,
            has_index: Mark::of(&path_with(database, SHM)).is_some(),
        }
    }

    /// Whether there is a log with its index, as while a program has the database open.
    pub(super) fn has_log_in_use(&self) -> bool {
        self.wal.is_some() && self.has_index
    }

    /// The bytes that they add to a copy of the files.
    pub(super) fn size_bytes(&self) -> u64 {
        let sides = [self.wal, self.journal].into_iter().flatten();
        sides.map(|mark| mark.size_bytes).sum()
    }

    /// Makes the entry of a database one that changes whenever a file beside it does: what is committed may stand there
    /// alone, while the database has the times of long ago. It gets the latest time of content. The time of the inode,
    /// which no restore sets, gets a hash of all for its nanoseconds, since the latest of several times need not move
    /// when one of them does. When the inodes of files beside it changed does not count: SQLite itself sets their owner
    /// whenever root reads.
    pub(super) fn stamp(&self, entry: &mut Entry) {
        let sides = [self.wal, self.journal].into_iter().flatten();
        let sides: Vec<Mark> = sides.filter(|mark| mark.size_bytes > 0).collect();
        if sides.is_empty() {
            return;
        }
        // Stable across versions of the compiler, unlike the hasher of the standard library.
        let mut hash = Fnv::default();
        for time in [entry.modified, entry.changed] {
            hash.write(&time.seconds.to_le_bytes());
            hash.write(&time.nanoseconds.to_le_bytes());
        }
        for mark in sides {
            let (seconds, nanoseconds) = mark.modified;
            hash.write(&mark.inode.to_le_bytes());
            hash.write(&mark.size_bytes.to_le_bytes());
            hash.write(&seconds.to_le_bytes());
            hash.write(&nanoseconds.to_le_bytes());
            entry.modified = latest(entry.modified, mark.modified);
        }
        entry.changed.nanoseconds = u32::try_from(hash.0 % SECOND_NANOSECONDS).unwrap_or(0);
    }
}

fn latest(time: Timestamp, (seconds, nanoseconds): (i64, u32)) -> Timestamp {
    if (seconds, nanoseconds) <= (time.seconds, time.nanoseconds) {
        return time;
    }
    Timestamp {
        seconds,
        nanoseconds,
        ..time
    }
    .confined()
}

/// FNV-1a, 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>).
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_flow::EntryKind;

    #[test]
    fn an_entry_changes_with_what_lies_beside_it_even_under_times_of_the_future() {
        let mark = |seconds, size_bytes| Mark {
            inode: 7,
            size_bytes,
            modified: (seconds, 1),
            changed: (seconds, 1),
        };
        let stamped = |wal| {
            let mut entry = Entry::bare(b"a.db", EntryKind::File);
            entry.modified = Timestamp::utc(1000, 5);
            entry.changed = Timestamp::utc(1000, 5);
            let sides = Sides {
                wal,
                journal: None,
                has_index: true,
            };
            sides.stamp(&mut entry);
            (entry.modified, entry.changed)
        };
        let plain = (Timestamp::utc(1000, 5), Timestamp::utc(1000, 5));
        assert_eq!(stamped(None), plain);
        assert_eq!(stamped(Some(mark(2000, 0))), plain);
        assert_eq!(stamped(Some(mark(2000, 9))).0, Timestamp::utc(2000, 1));
        assert_eq!(stamped(Some(mark(500, 9))).0, plain.0);
        assert_ne!(stamped(Some(mark(500, 9))), stamped(Some(mark(501, 9))));
        assert_ne!(stamped(Some(mark(500, 9))), stamped(Some(mark(500, 10))));
    }

    #[test]
    fn names_are_taken_apart_as_they_are_put_together() {
        for name in side_names(b"app.db") {
            assert_eq!(beside(&name), Some(&b"app.db"[..]));
        }
        assert_eq!(beside(b"-wal"), None);
        assert_eq!(beside(b"app.db"), None);
    }
}
