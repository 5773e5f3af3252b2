//! The backup mode of a server: from `pg_backup_start` to `pg_backup_stop` in one session that is held all the time.
//! It must never outlive us: the session is the mode, and ends with it.

use std::time::Duration;

use lifeboat_flow::{Cancel, Timestamp};

use super::client::{Connection, PgError};
use super::facts::{ANSWER_TIMEOUT, Facts};
use super::label::{BackupLabel, LabelError};
use super::lsn::Lsn;

/// The first version that calls it so (PostgreSQL 15); earlier ones say `pg_start_backup`.
const NEW_NAMES: u32 = 150_000;
/// What the server shows in its label and its log.
const LABEL: &str = "lifeboat";
/// Microseconds in a second.
const MICROS: i64 = 1_000_000;

/// A server in backup mode.
pub struct BackupMode {
    connection: Connection,
    version: u32,
    is_standby: bool,
    /// Where the log of the capture begins.
    pub start: Lsn,
    /// Whether the server keeps the log from there on for us, until the session ends.
    pub keeps_log: bool,
}

/// What the server gives when the mode ends.
#[derive(Clone, Debug)]
pub struct Stopped {
    /// The file that a recovery begins with.
    pub label_text: String,
    /// What it says.
    pub label: BackupLabel,
    /// Where tablespaces are, as `tablespace_map`; empty without any.
    pub tablespace_map: String,
    /// The position that a recovery must reach.
    pub stop: Lsn,
    /// When that was, by the clock of the server; on a standby the time of what is there at least.
    pub time: Timestamp,
}

/// The mode could not begin or end.
#[derive(Debug, thiserror::Error)]
pub enum BackupModeError {
    /// The server did not begin it.
    #[error("begin a backup on the server")]
    Start(#[source] PgError),
    /// The server did not end it, or the session was lost: what was read is worth nothing.
    #[error("end the backup on the server")]
    Stop(#[source] PgError),
    /// It answered in no known form.
    #[error("the server answered {0} with something else")]
    Answer(&'static str),
    /// Its label can't be read.
    #[error(transparent)]
    Label(#[from] LabelError),
}

impl BackupMode {
    /// Begins. The server makes a checkpoint first, at once rather than at its leisure; that takes as long as its disk needs.
    ///
    /// # Errors
    /// When the server refuses, or somebody wishes to stop.
    pub fn start(
        mut connection: Connection,
        facts: &Facts,
        cancel: &Cancel,
    ) -> Result<Self, BackupModeError> {
        let failed = BackupModeError::Start;
        let mut set = |name: &str| {
            let sql = format!("set {name} = 0");
            connection
                .query(&sql, Some(ANSWER_TIMEOUT), cancel)
                .map_err(failed)
        };
        for name in [
            "statement_timeout",
            "lock_timeout",
            "idle_in_transaction_session_timeout",
        ] {
            set(name)?;
        }
        // New in 14, and ends sessions that say nothing, as ours while files are read.
        if facts.version >= 140_000 {
            set("idle_session_timeout")?;
        }
        let slot = "select pg_catalog.pg_create_physical_replication_slot('lifeboat_' || pg_catalog.pg_backend_pid(), true, true)";
        // Without the right to it, or without a free slot, the log may be gone before it is read: that shows then.
        let keeps_log = match connection.query(slot, Some(ANSWER_TIMEOUT), cancel) {
            Ok(_) => true,
            Err(PgError::Refused { .. }) => false,
            Err(error) => return Err(failed(error)),
        };
        let sql = match facts.version < NEW_NAMES {
            true => format!("select pg_catalog.pg_start_backup('{LABEL}', true, false)"),
            false => format!("select pg_catalog.pg_backup_start('{LABEL}', true)"),
        };
        let rows = connection
            .query(&sql, None::<Duration>, cancel)
            .map_err(failed)?;
        let start = rows
            .first()
            .and_then(|row| row.first()?.as_ref()?.parse().ok());
        Ok(Self {
            connection,
            version: facts.version,
            is_standby: facts.is_standby,
            start: start.ok_or(BackupModeError::Answer("the beginning of a backup"))?,
            keeps_log,
        })
    }

    /// Ends the mode; the session goes on, and with it what the server keeps for us.
    ///
    /// # Errors
    /// When the session was lost meanwhile, the server refuses, or somebody wishes to stop.
    pub fn stop(&mut self, cancel: &Cancel) -> Result<Stopped, BackupModeError> {
        let answer = || BackupModeError::Answer("the end of a backup");
        // Whether the log is archived is not asked: the capture takes it along.
        // What comes back of a standby is at least as new as its last restartpoint, and nobody can say how much newer.
        let time = match self.is_standby {
            true => "(select checkpoint_time from pg_catalog.pg_control_checkpoint())",
            false => "pg_catalog.clock_timestamp()",
        };
        let function = match self.version < NEW_NAMES {
            true => "pg_stop_backup(false, false)",
            false => "pg_backup_stop(false)",
        };
        let sql = format!(
            "select lsn, labelfile, spcmapfile, (extract(epoch from {time}) * {MICROS})::bigint from pg_catalog.{function}"
        );
        let rows = self.connection.query(&sql, None::<Duration>, cancel);
        let rows = rows.map_err(BackupModeError::Stop)?;
        let Some([Some(stop), Some(label_text), map, Some(micros)]) =
            rows.first().map(Vec::as_slice)
        else {
            return Err(answer());
        };
        let micros: i64 = micros.parse().map_err(|_| answer())?;
        let nanoseconds = u32::try_from(micros.rem_euclid(MICROS) * 1000).unwrap_or(0);
        Ok(Stopped {
            label: BackupLabel::parse(label_text)?,
            label_text: label_text.clone(),
            tablespace_map: map.clone().unwrap_or_default(),
            stop: stop.parse().map_err(|_| answer())?,
            time: Timestamp::utc(micros.div_euclid(MICROS), nanoseconds),
        })
    }
}
