//! Whether a database that was put back is sound, as SQLite itself says.
//! It must never be asked about a database that a program uses, and must never take what can't be told for sound.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::reader::uri;
use super::sides::Sides;

/// Faults that are named; where there are more, it is the database that is damaged.
const FAULTS_NAMED_MAX: usize = 8;

/// A database is not sound, or it can't be told.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It is damaged.
    #[error("{} is damaged: {}", .path.display(), .faults.join("; "))]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What SQLite says, the first of it.
        faults: Vec<String>,
    },
    /// Its pages are sound, and rows refer to others that are not there. SQLite lets programs write that unless they ask it
    /// not to, so it may have been so in the original.
    #[error("{} rows of {} refer to rows that are not there, such as in {table} to {parent}", .rows, .path.display())]
    Dangling {
        /// The database.
        path: PathBuf,
        /// How many rows do.
        rows: u64,
        /// The table of the first.
        table: String,
        /// The table that it refers to.
        parent: String,
    },
    /// It can't be told, as with a database that needs functions that only its program has.
    #[error("check {}", .path.display())]
    Undetermined {
        /// The database.
        path: PathBuf,
        /// Why.
        #[source]
        cause: rusqlite::Error,
    },
}

/// Checks a database that was put back and that nobody uses, and changes nothing: all of its pages and indexes, then whether
/// rows refer to others that are there.
///
/// # Errors
/// When it is not sound, or that can't be told.
pub fn check(path: &Path) -> Result<(), CheckError> {
    let judged = |cause: rusqlite::Error| match cause.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => CheckError::Damaged {
            path: path.to_path_buf(),
            faults: vec![cause.to_string()],
        },
        _ => CheckError::Undetermined {
            path: path.to_path_buf(),
            cause,
        },
    };
    let connection = open(path).map_err(judged)?;
    let faults = faults(&connection).map_err(judged)?;
    if !faults.is_empty() {
        return Err(CheckError::Damaged {
            path: path.to_path_buf(),
            faults,
        });
    }
    match dangling(&connection).map_err(judged)? {
        None => Ok(()),
        Some((rows, table, parent)) => Err(CheckError::Dangling {
            path: path.to_path_buf(),
            rows,
            table,
            parent,
        }),
    }
}

/// Without files beside it nothing else is needed, and none is made; with them they count, as they would for the program.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    let how = match Sides::of(path).size_bytes() {
        0 => "immutable=1",
        _ => "mode=ro",
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let connection = Connection::open_with_flags(uri(&path, how), flags)?;
    // What a schema calls may have been put there by anybody.
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    Ok(connection)
}

fn faults(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let question = format!("PRAGMA integrity_check({FAULTS_NAMED_MAX})");
    let mut statement = connection.prepare(&question)?;
    let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
    let mut faults = lines.collect::<rusqlite::Result<Vec<_>>>()?;
    faults.retain(|line| line != "ok");
    Ok(faults)
}

fn dangling(connection: &Connection) -> rusqlite::Result<Option<(u64, String, String)>> {
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let mut rows = statement.query([])?;
    let mut found: Option<(u64, String, String)> = None;
    while let Some(row) = rows.next()? {
        match &mut found {
            Some((rows, _, _)) => *rows += 1,
            None => found = Some((1, row.get(0)?, row.get(2)?)),
        }
    }
    Ok(found)
}
