//! A snapshot of a database that a dump and a look at what is in it share, so that the one can be judged by the other.
//! It must never be let go while a dump may still need it.

use lifeboat_flow::{Cancel, Timestamp};

use super::super::client::{Address, Connection, PgError, Session};
use super::super::facts::ANSWER_TIMEOUT;
use super::super::verify::{Asked, DatabaseBaseline, EXACT_UP_TO_BYTES, of_connection};
use super::database::first;

/// How long one question may take on the server, in seconds; a count that takes longer is given up.
const STATEMENT_TIMEOUT_SECONDS: u32 = 10;
/// How long one may wait for a lock, in seconds.
const LOCK_TIMEOUT_SECONDS: u32 = 1;
/// Limits that would end the session while it waits for the dump; not every server knows each.
const WITHOUT_LIMITS: &str = "select pg_catalog.set_config(name, '0', false) from pg_catalog.pg_settings where name in \
    ('idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout')";
/// What users made, without what extensions brought along: relations, functions, schemas, large objects and extensions.
const OBJECTS: &str = "with own as (select oid from pg_catalog.pg_namespace where nspname !~ '^pg_' \
    and nspname <> 'information_schema'), of_extensions as (select classid, objid from pg_catalog.pg_depend where deptype = 'e') \
    select (select count(*) from pg_catalog.pg_class c where relnamespace in (select oid from own) \
    and relkind in ('r', 'p', 'v', 'm', 'S', 'f') \
    and ('pg_catalog.pg_class'::regclass, c.oid) not in (select classid, objid from of_extensions)) \
    + (select count(*) from pg_catalog.pg_proc p where pronamespace in (select oid from own) \
    and ('pg_catalog.pg_proc'::regclass, p.oid) not in (select classid, objid from of_extensions)) \
    + (select count(*) from pg_catalog.pg_namespace n where oid in (select oid from own) and nspname <> 'public' \
    and ('pg_catalog.pg_namespace'::regclass, n.oid) not in (select classid, objid from of_extensions)) \
    + (select count(*) from pg_catalog.pg_largeobject_metadata) \
    + (select count(*) from pg_catalog.pg_extension where extname <> 'plpgsql')";

/// A snapshot, held by a transaction.
pub(super) struct Snapshot {
    connection: Connection,
    /// What others name it by.
    pub(super) id: String,
    /// By our clock: all that was committed by then is in it.
    pub(super) instant: Timestamp,
}

/// What is in a snapshot.
pub(super) struct Seen {
    /// The tables, or why they could not be looked at.
    pub(super) baseline: Result<DatabaseBaseline, String>,
    /// How many objects users made.
    pub(super) objects: Option<u64>,
}

impl Snapshot {
    /// Takes one of a database.
    pub(super) fn take(
        address: &Address,
        database: &str,
        clock: fn() -> Timestamp,
        cancel: &Cancel,
    ) -> Result<Self, PgError> {
        let mut address = address.clone();
        database.clone_into(&mut address.database);
        let mut connection = Connection::open(&address, Session::Queries, cancel)?;
        let mut ask = |sql: &str| connection.query(sql, Some(ANSWER_TIMEOUT), cancel);
        ask(WITHOUT_LIMITS)?;
        ask(&format!(
            "set search_path = ''; set lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'; \
             set statement_timeout = '{STATEMENT_TIMEOUT_SECONDS}s'"
        ))?;
        ask("begin transaction isolation level repeatable read read only")?;
        let instant = clock();
        let id = first(ask("select pg_catalog.pg_export_snapshot()")?);
        let id = id.ok_or_else(|| PgError::Protocol("a snapshot without a name".into()))?;
        Ok(Self {
            connection,
            id,
            instant,
        })
    }

    /// Looks at what is in it.
    pub(super) fn look(&mut self, database: &str, cancel: &Cancel) -> Result<Seen, PgError> {
        let baseline = self.guarded(cancel, |connection| {
            of_connection(
                connection,
                database,
                EXACT_UP_TO_BYTES,
                Asked::WithinDump,
                cancel,
            )
        })?;
        let objects = self.guarded(cancel, |connection| {
            let rows = connection.query(OBJECTS, Some(ANSWER_TIMEOUT), cancel)?;
            Ok(first(rows).and_then(|count| count.parse().ok()))
        })?;
        Ok(Seen {
            baseline,
            objects: objects.ok().flatten(),
        })
    }

    /// The snapshot outlives what the server refuses: then its words are the answer.
    fn guarded<T>(
        &mut self,
        cancel: &Cancel,
        ask: impl FnOnce(&mut Connection) -> Result<T, PgError>,
    ) -> Result<Result<T, String>, PgError> {
        let connection = &mut self.connection;
        let say = |connection: &mut Connection, sql: &str| {
            connection.query(sql, Some(ANSWER_TIMEOUT), cancel)
        };
        say(connection, "savepoint looked")?;
        match ask(connection) {
            Ok(answer) => Ok(Ok(answer)),
            Err(PgError::Refused { cause, .. }) => {
                say(connection, "rollback to savepoint looked")?;
                Ok(Err(cause.to_string()))
            }
            Err(other) => Err(other),
        }
    }
}
