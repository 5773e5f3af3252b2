//! The ordinary session beside a base backup: it answers what the replication protocol does not.
//! It must never write, nor need rights that the backup itself does not, where it can do without the answer.

use std::collections::BTreeSet;
use std::path::Path;

use lifeboat_flow::{Cancel, Timestamp};

use super::client::{Connection, PgError};
use super::facts::ANSWER_TIMEOUT;
use super::lsn::Lsn;
use super::quote::quoted_text;

/// A file of configuration that is longer is none.
const CONFIG_MAX_BYTES: usize = 4 * 1024 * 1024;
/// Microseconds in a second.
const MICROS: i64 = 1_000_000;

/// A state that a capture is as new as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When that was, by the clock of the server.
    pub time: Timestamp,
    /// Of a standby: the checkpoint that it is the state of, which must lie before the end of the capture.
    pub checkpoint: Option<Lsn>,
}

/// A session that is held as long as the backup lasts.
pub struct Companion<'a> {
    connection: Connection,
    is_standby: bool,
    cancel: &'a Cancel,
}

impl<'a> Companion<'a> {
    /// Takes over a session with a server of version 14 or later.
    ///
    /// # Errors
    /// When the server does not let it stay.
    pub fn new(
        mut connection: Connection,
        is_standby: bool,
        cancel: &'a Cancel,
    ) -> Result<Self, PgError> {
        // It says nothing while files come.
        connection.query("set idle_session_timeout = 0", Some(ANSWER_TIMEOUT), cancel)?;
        Ok(Self {
            connection,
            is_standby,
            cancel,
        })
    }

    fn ask(&mut self, sql: &str) -> Result<Vec<Option<String>>, PgError> {
        let rows = self
            .connection
            .query(sql, Some(ANSWER_TIMEOUT), self.cancel)?;
        Ok(rows.into_iter().next().unwrap_or_default())
    }

    /// The size of the largest database that this role may ask for, in bytes.
    ///
    /// # Errors
    /// When the server can't be asked.
    pub fn largest_database_bytes(&mut self) -> Result<u64, PgError> {
        // The size of a database is for those that may connect to it.
        let sql = "select max(case when pg_catalog.has_database_privilege(oid, 'connect') \
            or pg_catalog.pg_has_role('pg_read_all_stats', 'usage') then pg_catalog.pg_database_size(oid) end) \
            from pg_catalog.pg_database";
        let row = self.ask(sql)?;
        let bytes = row.into_iter().next().flatten();
        Ok(bytes.and_then(|bytes| bytes.parse().ok()).unwrap_or(0))
    }

    /// A name for a slot that no other session uses.
    ///
    /// # Errors
    /// When the server can't be asked.
    pub fn slot_name(&mut self) -> Result<String, PgError> {
        let row = self.ask("select 'lifeboat_' || pg_catalog.pg_backend_pid()")?;
        Ok(row.into_iter().next().flatten().unwrap_or_default())
    }

    /// Whether this server has a slot: then whoever made it is connected to the same one.
    ///
    /// # Errors
    /// When the server can't be asked.
    pub fn has_slot(&mut self, name: &str) -> Result<bool, PgError> {
        let name = quoted_text(name);
        let sql = format!("select 1 from pg_catalog.pg_replication_slots where slot_name = {name}");
        Ok(!self.ask(&sql)?.is_empty())
    }

    /// What a capture that ends now, or later, is as new as: now, or the last restartpoint of a standby, of which nobody can
    /// say how much newer it is.
    ///
    /// # Errors
    /// When the server can't be asked, or answers something else.
    pub fn moment(&mut self) -> Result<Moment, PgError> {
        let (time, from) = match self.is_standby {
            true => (
                "checkpoint_time",
                ", checkpoint_lsn from pg_catalog.pg_control_checkpoint()",
            ),
            false => ("pg_catalog.clock_timestamp()", ", null"),
        };
        let sql = format!("select (extract(epoch from {time}) * {MICROS})::bigint{from}");
        let row = self.ask(&sql)?;
        let (micros, checkpoint) = match row.as_slice() {
            [Some(micros), checkpoint] => (micros.parse::<i64>().ok(), checkpoint),
            _ => (None, &None),
        };
        let micros =
            micros.ok_or_else(|| PgError::Protocol("a time in a form that is not known".into()))?;
        let nanoseconds = u32::try_from(micros.rem_euclid(MICROS) * 1000).unwrap_or(0);
        Ok(Moment {
            time: Timestamp::utc(micros.div_euclid(MICROS), nanoseconds),
            checkpoint: checkpoint.as_ref().and_then(|text| text.parse().ok()),
        })
    }

    /// The numbers of the tablespaces that are there now.
    ///
    /// # Errors
    /// When the server can't be asked.
    pub fn tablespaces(&mut self) -> Result<BTreeSet<u32>, PgError> {
        let sql = "select oid from pg_catalog.pg_tablespace where spcname not in ('pg_default', 'pg_global')";
        let rows = self
            .connection
            .query(sql, Some(ANSWER_TIMEOUT), self.cancel)?;
        let oids = rows.into_iter().flatten().flatten();
        Ok(oids.filter_map(|oid| oid.parse().ok()).collect())
    }

    /// A file of configuration on the machine of the server, `None` if it is not there.
    ///
    /// # Errors
    /// When the role may not read it, or it is too long to be one.
    pub fn config_file(&mut self, path: &Path) -> Result<Option<Vec<u8>>, PgError> {
        let path = quoted_text(&path.to_string_lossy());
        let limit = CONFIG_MAX_BYTES + 1;
        let sql = format!(
            "select pg_catalog.encode(pg_catalog.pg_read_binary_file({path}, 0, {limit}, true), 'hex')"
        );
        let Some(text) = self.ask(&sql)?.into_iter().next().flatten() else {
            return Ok(None);
        };
        match unhexed(&text) {
            Some(content) if content.len() <= CONFIG_MAX_BYTES => Ok(Some(content)),
            _ => Err(PgError::Protocol(format!(
                "a file of more than {CONFIG_MAX_BYTES} bytes"
            ))),
        }
    }
}

fn unhexed(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok();
    match rest {
        [] => pairs.iter().map(byte).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_read_as_pairs_of_digits() {
        assert_eq!(unhexed("00fF7a"), Some(vec![0, 255, 122]));
        assert_eq!(unhexed("0"), None);
        assert_eq!(unhexed("0g"), None);
    }
}
