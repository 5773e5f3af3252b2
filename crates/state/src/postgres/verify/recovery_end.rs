//! The end of a recovery: when it came, how far the log was replayed, or why it did not come.
//! It must never take a server that answers for one that has recovered: it answers long before.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use lifeboat_flow::{Cancel, Cancelled};

use super::super::client::{Connection, PgError, Row};
use super::super::control::ServerLimits;
use super::super::history::History;
use super::super::lsn::{Lsn, Timeline};
use super::super::wal_name::WalName;
use super::scratch::{ScratchError, ScratchServer};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long an answer may take; a server that is busy is asked again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// A database that nearly every cluster has, and that nobody writes to.
const HOME: &str = "template1";
/// Another, for those that do without it.
const OTHER_HOME: &str = "postgres";

/// How far a verification is; whoever wants to know samples it.
#[derive(Debug, Default)]
pub struct Progress {
    replayed: AtomicU64,
    pages: AtomicU64,
}

impl Progress {
    /// Up to where the log is replayed, once that can be asked.
    #[must_use]
    pub fn replayed(&self) -> Option<Lsn> {
        Some(Lsn(self.replayed.load(Ordering::Relaxed))).filter(|position| position.0 > 0)
    }

    /// Pages whose checksums were looked at.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    pub(super) fn add_pages(&self, count: u64) {
        self.pages.fetch_add(count, Ordering::Relaxed);
    }
}

/// What a recovery came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovered {
    /// From the start of the server until it answered, in seconds.
    pub accepting_seconds: f64,
    /// From the start of the server until the recovery had ended, in seconds.
    pub ended_seconds: f64,
    /// The end of the last record that was replayed.
    pub position: Lsn,
    /// The timeline that the record is on.
    pub timeline: Timeline,
    /// When the last transaction that was replayed ended; nothing if there was none.
    pub last_transaction: Option<Timestamp>,
}

/// A recovery did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The server ended. Its words are all there is to say.
    #[error("the server ended: {0}")]
    Ended(String),
    /// The log asks for a server that is set up for more.
    #[error("the log asks for a server that is set up for more")]
    Limits(ServerLimits),
    /// It does not go on.
    #[error("the recovery made no progress for {} s{}", after.as_secs(), at(*position))]
    Stuck {
        /// For how long.
        after: Duration,
        /// Where it stands, if it could be asked.
        position: Option<Lsn>,
    },
    /// The server does not answer as it should.
    #[error(transparent)]
    Asked(#[from] PgError),
    /// Its process could not be asked.
    #[error(transparent)]
    Process(ScratchError),
    /// Somebody wishes to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

fn at(position: Option<Lsn>) -> String {
    position
        .map(|position| format!(", at {position}"))
        .unwrap_or_default()
}

impl ScratchServer {
    /// Waits until the recovery has ended. It may take as long as it goes on; `stuck_after` is how long it may make no
    /// progress, for ever if nothing is said: replaying can't be seen before the server answers, other than in its log.
    ///
    /// # Errors
    /// When it does not come to its end, or somebody wishes to stop.
    pub fn wait(
        &mut self,
        stuck_after: Option<Duration>,
        progress: &Progress,
        cancel: &Cancel,
    ) -> Result<Recovered, WaitError> {
        let (mut connection, mut accepting) = (None, None);
        HOME.clone_into(&mut self.address.database);
        let (mut sign, mut moved) = (None, Instant::now());
        loop {
            cancel.check()?;
            if self.has_ended().map_err(WaitError::Process)? {
                self.log.finish();
                return Err(self
                    .limits_wanted()
                    .unwrap_or_else(|| WaitError::Ended(self.log.words())));
            }
            if let Some(wanted) = self.limits_wanted() {
                return Err(wanted);
            }
            match self.look(&mut connection, cancel) {
                Ok(Look::NotYet) => {}
                Ok(Look::Recovers(position)) => {
                    accepting.get_or_insert_with(|| self.began.elapsed());
                    progress.replayed.store(position.0, Ordering::Relaxed);
                }
                Ok(Look::Ended) => {
                    let ended = self.began.elapsed();
                    let Some(connection) = &mut connection else {
                        continue;
                    };
                    let (position, timeline, last_transaction) = self.end(connection, cancel)?;
                    progress.replayed.store(position.0, Ordering::Relaxed);
                    return Ok(Recovered {
                        accepting_seconds: accepting.unwrap_or(ended).as_secs_f64(),
                        ended_seconds: ended.as_secs_f64(),
                        position,
                        timeline,
                        last_transaction,
                    });
                }
                Err(PgError::Cancelled(cancelled)) => return Err(cancelled.into()),
                // A server that ends may refuse us first.
                Err(_) if self.has_ended().map_err(WaitError::Process)? => continue,
                Err(cause) => return Err(cause.into()),
            }
            let now = Some(self.sign(progress));
            if sign != now {
                (sign, moved) = (now, Instant::now());
            }
            if let Some(after) = stuck_after.filter(|limit| moved.elapsed() >= *limit) {
                let position = progress.replayed();
                return Err(WaitError::Stuck { after, position });
            }
            cancel.sleep(LOOK_EVERY)?;
        }
    }

    fn limits_wanted(&self) -> Option<WaitError> {
        self.log.raised(self.limits).map(WaitError::Limits)
    }

    /// What changes as long as the recovery goes on.
    fn sign(&self, progress: &Progress) -> (u64, u64, Option<Vec<u8>>) {
        let control = fs::read(self.data.join("global/pg_control")).ok();
        (
            self.log.count(),
            progress.replayed.load(Ordering::Relaxed),
            control,
        )
    }

    /// Asks how far it is, over a connection that is kept.
    fn look(
        &mut self,
        connection: &mut Option<Connection>,
        cancel: &Cancel,
    ) -> Result<Look, PgError> {
        let asked = match connection {
            Some(connection) => ask(connection, cancel),
            None => self
                .connect(&self.address.database, cancel)
                .and_then(|mut opened| {
                    let look = ask(&mut opened, cancel)?;
                    *connection = Some(opened);
                    Ok(look)
                }),
        };
        let Err(error) = asked else {
            return asked;
        };
        *connection = None;
        match &error {
            // It does not listen yet, or has just let us go.
            PgError::Connect { .. } | PgError::Lost { .. } | PgError::Silent(_) => Ok(Look::NotYet),
            _ => match error.server().map(|server| server.code.as_str()) {
                Some(UNKNOWN_DATABASE | CLOSED_DATABASE) if self.address.database == HOME => {
                    OTHER_HOME.clone_into(&mut self.address.database);
                    Ok(Look::NotYet)
                }
                Some(CLOSED_DATABASE) => Err(error),
                Some(code) if NOT_NOW.iter().any(|class| code.starts_with(class)) => {
                    Ok(Look::NotYet)
                }
                _ => Err(error),
            },
        }
    }

    /// What a recovery that has ended came to.
    fn end(
        &self,
        connection: &mut Connection,
        cancel: &Cancel,
    ) -> Result<(Lsn, Timeline, Option<Timestamp>), PgError> {
        let rows = connection.query(END, Some(ANSWER_TIMEOUT), cancel)?;
        let [Some(replayed), Some(file), last] = columns(rows)? else {
            return Err(PgError::Protocol("an answer without a position".into()));
        };
        let replayed: Lsn = replayed
            .parse()
            .map_err(|_| PgError::Protocol(format!("the position {replayed:?}")))?;
        let Ok(WalName::Segment(segment)) = file.parse() else {
            return Err(PgError::Protocol(format!("the segment {file:?}")));
        };
        let last = last.and_then(|micros| Timestamp::from_microsecond(micros.parse().ok()?).ok());
        // The timeline that began with the end says which one was left for it, and where.
        let name = WalName::History(segment.timeline).to_string();
        let history = fs::read_to_string(self.data.join("pg_wal").join(name));
        let history = history
            .ok()
            .filter(|_| self.recovers)
            .and_then(|text| History::parse(&text).ok());
        Ok(
            match history.and_then(|history| history.switches.last().cloned()) {
                Some(left) => (left.at, left.timeline, last),
                None => (replayed, segment.timeline, last),
            },
        )
    }
}

/// What a look shows.
enum Look {
    NotYet,
    Recovers(Lsn),
    Ended,
}

/// SQLSTATE of a database that is not there.
const UNKNOWN_DATABASE: &str = "3D000";
/// SQLSTATE of one that lets nobody in.
const CLOSED_DATABASE: &str = "55000";
/// Classes of SQLSTATE of what a server refuses only now: it starts, stops, or replays what is in the way
/// (PostgreSQL manual, "PostgreSQL Error Codes").
const NOT_NOW: [&str; 4] = ["57", "40", "53", "55"];
/// How far it is.
const LOOK: &str = "select pg_is_in_recovery(), coalesce(pg_last_wal_replay_lsn(), '0/0')";
/// What it came to; a server that had nothing to replay stands where it was.
const END: &str = "select coalesce(pg_last_wal_replay_lsn(), pg_current_wal_lsn()), \
    pg_walfile_name(pg_current_wal_lsn()), (extract(epoch from pg_last_xact_replay_timestamp()) * 1000000)::bigint";

fn ask(connection: &mut Connection, cancel: &Cancel) -> Result<Look, PgError> {
    let rows = connection.query(LOOK, Some(ANSWER_TIMEOUT), cancel)?;
    let [Some(recovers), Some(position)] = columns(rows)? else {
        return Err(PgError::Protocol("an answer without a position".into()));
    };
    if recovers == "f" {
        return Ok(Look::Ended);
    }
    Ok(Look::Recovers(position.parse().unwrap_or_default()))
}

/// The columns of the only row.
fn columns<const N: usize>(rows: Vec<Row>) -> Result<[Option<String>; N], PgError> {
    let row = rows.into_iter().next().unwrap_or_default();
    row.try_into()
        .map_err(|_| PgError::Protocol("an answer of another form".into()))
}
