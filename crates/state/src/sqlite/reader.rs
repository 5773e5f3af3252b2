//! A connection to a database that others may be using, which sees one state of it until it is dropped.
//! It must never write: neither into the database nor beside it, not even what SQLite would repair there.

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use lifeboat_flow::{Cancel, Cancelled};
use rusqlite::{Connection, ErrorCode, OpenFlags};

/// How long to wait between two tries on a database that is locked.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// A state of a database. Programs in WAL mode go on writing meanwhile, others wait until they may.
#[derive(Debug)]
pub(super) struct Reader(Connection);

/// A database can't be read through SQLite.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// Somebody had it locked all the time.
    #[error("it stayed locked by another program for {0:?}")]
    Busy(Duration),
    /// Its content is no database.
    #[error("SQLite does not read it")]
    NoDatabase(#[source] rusqlite::Error),
    /// It can only be read by somebody who may write, or not at all.
    #[error("SQLite does not open it")]
    Closed(#[source] rusqlite::Error),
    /// Somebody wished to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Refusal {
    /// What an error of SQLite means for a database that is read.
    pub(super) fn of(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::NoDatabase(error),
            _ => Self::Closed(error),
        }
    }
}

impl Reader {
    /// Takes hold of the state of now. The path must have no links in it.
    ///
    /// A `-shm` is only read, so that none is made that the owner of the database may not write; other programs' locks in
    /// it count all the same.
    pub(super) fn open(path: &Path, wait_max: Duration, cancel: &Cancel) -> Result<Self, Refusal> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let uri = uri(path, "readonly_shm=1");
        let connection = Connection::open_with_flags(uri, flags).map_err(Refusal::of)?;
        // Waiting is done here, where it can be stopped.
        connection
            .busy_timeout(Duration::ZERO)
            .and_then(|()| connection.execute_batch("BEGIN"))
            .map_err(Refusal::of)?;
        let begun = Instant::now();
        loop {
            // The first read of a transaction takes its lock.
            let read =
                connection.query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0));
            match read {
                Ok(_) => return Ok(Self(connection)),
                Err(error) if is_busy(&error) => {
                    if begun.elapsed() >= wait_max {
                        return Err(Refusal::Busy(wait_max));
                    }
                    cancel.sleep(TRY_AGAIN_AFTER)?;
                }
                Err(error) => return Err(Refusal::of(error)),
            }
        }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.0
    }
}

/// What SQLite says of the first page alone, if that is none of a database; nothing beside it is looked at, as there is where
/// a journal would have to be rolled back first. That is no way to read a database that is used.
pub(super) fn refusal_of_head(path: &Path) -> Option<Refusal> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(uri(path, "immutable=1"), flags).ok()?;
    let read = connection.query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0));
    let error = read.err()?;
    // Anything else may be so only because the page does not fit to others that are being written.
    (error.sqlite_error_code() == Some(ErrorCode::NotADatabase)).then(|| Refusal::of(error))
}

/// Whether it may work when it is tried again.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// The URI of a file (<https://sqlite.org/uri.html>).
pub(super) fn uri(path: &Path, parameters: &str) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => {
                uri.push(char::from(*byte));
            }
            // Writing to a text can't fail.
            _ => drop(write!(uri, "%{byte:02X}")),
        }
    }
    uri.push('?');
    uri.push_str(parameters);
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_of_a_path_is_taken_for_a_part_of_the_uri() {
        let path = Path::new("/srv/50%/a?b#c ü.db");
        assert_eq!(
            uri(path, "x=1"),
            "file:/srv/50%25/a%3Fb%23c%20%C3%BC.db?x=1"
        );
    }
}
