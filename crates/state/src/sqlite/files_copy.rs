//! Copies a database with the files beside it, for where SQLite can't read it in its place, and lets SQLite put the copy in order.
//! It must never call a copy settled that anybody could have written meanwhile.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use lifeboat_flow::Cancel;
use rusqlite::{Connection, OpenFlags};

use super::reader::Refusal;
use super::sides::{Mark, Sides, content_paths};

/// Passes between the look before and the copy: what is written after it has other times than what was before it, however
/// coarse the clock of a file system in memory or on a disk is (Linux: 1 to 10 ms).
const SETTLE: Duration = Duration::from_millis(50);
/// Bytes that are copied between two looks whether to stop.
const COPY_BYTES: usize = 1024 * 1024;

/// What a copy of the files is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// Nothing changed meanwhile: it is what a program would find that opens the database now.
    Settled,
    /// Something was written meanwhile.
    Torn,
}

/// There is no copy.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilesCopyError {
    /// The files can't be copied.
    #[error("copy its files")]
    Io(#[from] io::Error),
    /// SQLite makes nothing of the copy.
    #[error(transparent)]
    Refused(Refusal),
}

/// Copies the database, whose content is given, and what lies beside it to `to`, where it becomes one file.
pub(super) fn copy_files(
    database: &Path,
    content: impl FnOnce() -> io::Result<Box<dyn Read>>,
    to: &Path,
    cancel: &Cancel,
) -> Result<Worth, FilesCopyError> {
    let look = || (Mark::of(database), Sides::of(database));
    let stopped = |cancelled| FilesCopyError::Refused(Refusal::Cancelled(cancelled));
    let before = look();
    cancel.sleep(SETTLE).map_err(stopped)?;
    // The `-shm` is left behind: it is made anew out of the log.
    pour(&mut *content()?, to, cancel)?;
    for (from, to) in content_paths(database).iter().zip(content_paths(to)) {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(from);
        match opened {
            Ok(mut file) => pour(&mut file, &to, cancel)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    let worth = match look() == before {
        true => Worth::Settled,
        false => Worth::Torn,
    };
    settle(to).map_err(|error| FilesCopyError::Refused(Refusal::of(error)))?;
    Ok(worth)
}

fn pour(from: &mut dyn Read, to: &Path, cancel: &Cancel) -> io::Result<()> {
    let mut to = File::create(to)?;
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        cancel.check().map_err(io::Error::other)?;
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(got) => to.write_all(buffer.get(..got).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What the program itself would do when it opens the database after a crash: take back what did not end, and move what is
/// committed into the database.
fn settle(copy: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(copy, flags)?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0))?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    connection.close().map_err(|(_, error)| error)
}
