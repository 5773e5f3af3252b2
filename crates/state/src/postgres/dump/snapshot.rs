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
/// What lies in a schema: its catalog, the column of the schema, and which rows of it count. Types of tables and of arrays
/// come with others.
const IN_SCHEMAS: [(&str, &str, &str); 10] = [
    (
        "pg_class",
        "relnamespace",
        "relkind in ('r', 'p', 'v', 'm', 'S', 'f', 'c')",
    ),
    ("pg_proc", "pronamespace", "true"),
    ("pg_type", "typnamespace", "typtype in ('d', 'e', 'r')"),
    ("pg_collation", "collnamespace", "true"),
    ("pg_conversion", "connamespace", "true"),
    ("pg_operator", "oprnamespace", "true"),
    ("pg_opclass", "opcnamespace", "true"),
    ("pg_opfamily", "opfnamespace", "true"),
    ("pg_ts_config", "cfgnamespace", "true"),
    ("pg_ts_dict", "dictnamespace", "true"),
];
/// What lies in none.
const AT_LARGE: [&str; 9] = [
    "pg_cast",
    "pg_default_acl",
    "pg_event_trigger",
    "pg_foreign_data_wrapper",
    "pg_foreign_server",
    "pg_language",
    "pg_largeobject_metadata",
    "pg_publication",
    "pg_transform",
];
/// Numbers from here on are of what users made (PostgreSQL source, `FirstNormalObjectId`).
const FIRST_OF_USERS: u32 = 16_384;

/// How many objects users made, without what extensions brought along, as SQL.
fn objects_sql() -> String {
    let in_schemas = IN_SCHEMAS.iter().map(|(catalog, schema, which)| {
        format!(
            "select 'pg_catalog.{catalog}'::regclass::oid, oid from pg_catalog.{catalog} \
             where {schema} in (select oid from own) and {which}"
        )
    });
    let at_large = AT_LARGE.iter().map(|catalog| {
        format!(
            "select 'pg_catalog.{catalog}'::regclass::oid, oid from pg_catalog.{catalog} where oid >= {FIRST_OF_USERS}"
        )
    });
    let schemas =
        "select 'pg_catalog.pg_namespace'::regclass::oid, oid from own where nspname <> 'public'";
    let all: Vec<String> = in_schemas
        .chain(at_large)
        .chain([schemas.to_owned()])
        .collect();
    format!(
        "with own as (select oid, nspname from pg_catalog.pg_namespace where nspname !~ '^pg_' \
         and nspname <> 'information_schema'), made (classid, objid) as ({}) \
         select (select count(*) from made where (classid, objid) not in \
         (select classid, objid from pg_catalog.pg_depend where deptype = 'e')) \
         + (select count(*) from pg_catalog.pg_extension where extname <> 'plpgsql') \
         + (select count(*) from pg_catalog.pg_subscription s join pg_catalog.pg_database d on d.oid = s.subdbid \
         where d.datname = pg_catalog.current_database())",
        all.join(" union all ")
    )
}

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
            let rows = connection.query(&objects_sql(), Some(ANSWER_TIMEOUT), cancel)?;
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
