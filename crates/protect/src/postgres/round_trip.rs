//! Proves an archive before it is needed: the server is asked to archive a segment, and that is read back.
//! It must never believe a setting: only what came out of the repository again was archived.

use std::time::{Duration, Instant};

use lifeboat_flow::{Cancel, Cancelled};
use lifeboat_repo::Repository;
use lifeboat_state::postgres::client::{Address, Connection, PgError, Session};
use lifeboat_state::postgres::{Facts, FactsError, WalName, WalNameError};

use super::archive::{Archive, ArchiveError};

/// How often the archive is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the server may think about a question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// What stands in the log for it.
const RESTORE_POINT: &str = "lifeboat check";

/// A segment that went to the archive and came back.
#[derive(Clone, Debug)]
pub struct RoundTrip {
    /// The cluster.
    pub system_id: u64,
    /// The segment.
    pub name: WalName,
    /// From the end of the segment until it could be read back.
    pub took: Duration,
}

/// The archive is not proven.
#[derive(Debug, thiserror::Error)]
pub enum RoundTripError {
    /// The server can't be asked.
    #[error("check the archive")]
    Server(#[from] PgError),
    /// The server is none that is known.
    #[error("check the archive")]
    Facts(#[from] FactsError),
    /// The server archives nothing.
    #[error("the server does not archive: archive_mode is {0}")]
    Off(String),
    /// A standby writes no log of its own.
    #[error("the server is a standby: it is its primary that archives")]
    Standby,
    /// It names its segments in another way.
    #[error(transparent)]
    Name(#[from] WalNameError),
    /// The server can't archive.
    #[error("the server failed to archive {0}; its log says why")]
    Failing(String),
    /// Nothing came.
    #[error("{name} of the cluster {system_id} did not come into this repository within {} s", .waited.as_secs())]
    Nothing {
        /// The segment.
        name: WalName,
        /// The cluster.
        system_id: u64,
        /// How long it was waited for.
        waited: Duration,
    },
    /// It came, and can't be used.
    #[error("check the archive")]
    Archive(#[from] ArchiveError),
    /// Somebody wished to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// Lets the server end a segment, and waits until it comes out of the archive.
///
/// # Errors
/// When it does not.
pub fn round_trip(
    address: &Address,
    repository: &Repository,
    patience: Duration,
    cancel: &Cancel,
) -> Result<RoundTrip, RoundTripError> {
    let mut connection = Connection::open(address, Session::Queries, cancel)?;
    let facts = Facts::ask(&mut connection, cancel)?;
    if facts.is_standby {
        return Err(RoundTripError::Standby);
    }
    let mode = facts
        .settings
        .get("archive_mode")
        .map_or("off", String::as_str);
    if mode == "off" {
        return Err(RoundTripError::Off(mode.to_owned()));
    }
    let mut ask = |sql: &str| -> Result<String, PgError> {
        let rows = connection.query(sql, Some(ANSWER_TIMEOUT), cancel)?;
        let first = rows
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next());
        Ok(first.flatten().unwrap_or_default())
    };
    let failures = "select failed_count from pg_catalog.pg_stat_archiver";
    let failed_before = ask(failures)?;
    // A segment in which nothing stands is not archived.
    let point = format!(
        "select pg_catalog.pg_walfile_name(pg_catalog.pg_create_restore_point('{RESTORE_POINT}'))"
    );
    let name: WalName = ask(&point)?.parse()?;
    ask("select pg_catalog.pg_switch_wal()")?;
    let archive = Archive::new(repository, facts.system_id);
    let began = Instant::now();
    loop {
        if archive.holds(name)? {
            return Ok(RoundTrip {
                system_id: facts.system_id,
                name,
                took: began.elapsed(),
            });
        }
        if ask(failures)? != failed_before {
            let last = ask("select last_failed_wal from pg_catalog.pg_stat_archiver")?;
            return Err(RoundTripError::Failing(last));
        }
        if began.elapsed() > patience {
            return Err(RoundTripError::Nothing {
                name,
                system_id: facts.system_id,
                waited: began.elapsed(),
            });
        }
        cancel.sleep(LOOK_EVERY)?;
    }
}
