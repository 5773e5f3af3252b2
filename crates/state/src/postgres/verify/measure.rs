//! Taking a baseline: what a server, live or restored, says of its databases.
//! It must never hold a lock or a transaction for long, nor write: a live server serves others.

use std::time::Duration;

use lifeboat_flow::Cancel;

use super::super::client::{Address, Connection, PgError, Row, Session};
use super::super::facts::SUPERUSER;
use super::baseline::{
    Baseline, DatabaseBaseline, ExtensionBaseline, Rows, Skipped, TOO_MANY, TableBaseline,
};

/// Tables of one database that are listed; of more, the largest.
const TABLES_MAX: usize = 1000;
/// Databases that are looked at.
const DATABASES_MAX: usize = 1000;
/// The size of tables whose rows are counted if nobody says otherwise, in bytes.
pub const EXACT_UP_TO_BYTES: u64 = 8 << 20;
/// How long one question may take on the server, in seconds; a count that takes longer is given up.
const STATEMENT_TIMEOUT_SECONDS: u32 = 10;
/// How long one may wait for a lock, in seconds.
const LOCK_TIMEOUT_SECONDS: u32 = 1;
/// How long the server may say nothing; a little more than it may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The server was stopped, or refused to wait any longer (SQLSTATE).
const GAVE_UP: [&str; 2] = ["57014", "55P03"];

/// Which databases there are.
const DATABASES: &str =
    "select datname, datallowconn from pg_database where datname <> 'template0' order by 1";
/// The tables of one, of which only what outlives a crash counts.
const TABLES: &str = "c.relkind in ('r', 'm') and c.relpersistence = 'p' \
    and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')";
const EXTENSIONS: &str = "select extname, extversion from pg_extension order by 1";
/// What it was started with.
const PRELOAD: &str = "select setting from pg_settings where name = 'shared_preload_libraries'";

/// What a server holds. Tables of up to `exact_up_to_bytes` are counted, of larger ones the server's estimate is taken. One
/// connection at a time is made to each database.
///
/// # Errors
/// When the server can't be asked at all. A database that can't be looked at is told in the baseline.
pub fn measure(
    address: &Address,
    exact_up_to_bytes: u64,
    cancel: &Cancel,
) -> Result<Baseline, PgError> {
    let mut connection = open(address, &address.database, cancel)?;
    let mut ask = |sql: &str| connection.query(sql, Some(ANSWER_TIMEOUT), cancel);
    let version = first(ask("show server_version_num")?).parse().unwrap_or(0);
    let superuser = first(ask(SUPERUSER)?);
    // Not everybody sees it, and then it is not there.
    let preload_libraries = first(ask(PRELOAD)?);
    let databases = ask(DATABASES)?;
    drop(connection);
    let mut baseline = Baseline {
        version,
        superuser,
        preload_libraries,
        exact_up_to_bytes,
        ..Baseline::default()
    };
    let skipped = |name: &String, why: String| Skipped {
        name: name.clone(),
        why,
    };
    for (number, row) in databases.iter().enumerate() {
        let [Some(name), allows] = row.as_slice() else {
            continue;
        };
        if allows.as_deref() != Some("t") {
            baseline
                .skipped
                .push(skipped(name, "it allows no connections".into()));
        } else if number >= DATABASES_MAX {
            baseline.skipped.push(skipped(name, TOO_MANY.into()));
        } else {
            match of_database(address, name, exact_up_to_bytes, cancel) {
                Ok(database) => baseline.databases.push(database),
                Err(PgError::Refused { cause, .. }) => {
                    baseline.skipped.push(skipped(name, cause.to_string()))
                }
                Err(other) => return Err(other),
            }
        }
    }
    Ok(baseline)
}

/// A session that neither writes nor waits for others.
fn open(address: &Address, database: &str, cancel: &Cancel) -> Result<Connection, PgError> {
    let mut address = address.clone();
    database.clone_into(&mut address.database);
    let mut connection = Connection::open(&address, Session::Queries, cancel)?;
    let settings = format!(
        "set default_transaction_read_only = on; set search_path = ''; \
         set statement_timeout = '{STATEMENT_TIMEOUT_SECONDS}s'; set lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'"
    );
    connection.query(&settings, Some(ANSWER_TIMEOUT), cancel)?;
    Ok(connection)
}

fn of_database(
    address: &Address,
    name: &str,
    exact_up_to_bytes: u64,
    cancel: &Cancel,
) -> Result<DatabaseBaseline, PgError> {
    let mut connection = open(address, name, cancel)?;
    of_connection(
        &mut connection,
        name,
        exact_up_to_bytes,
        Asked::Alone,
        cancel,
    )
}

/// How a session stands in which a database is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::postgres) enum Asked {
    /// Each question for itself, about all tables.
    Alone,
    /// Within a transaction, which outlives what is refused; about the tables that a dump holds.
    WithinDump,
}

impl Asked {
    /// Asks. What is refused is undone in a transaction.
    fn ask(
        self,
        connection: &mut Connection,
        sql: &str,
        cancel: &Cancel,
    ) -> Result<Vec<Row>, PgError> {
        let mut query = |sql: &str| connection.query(sql, Some(ANSWER_TIMEOUT), cancel);
        if self == Self::Alone {
            return query(sql);
        }
        query("savepoint asked")?;
        match query(sql) {
            Err(error @ PgError::Refused { .. }) => {
                query("rollback to savepoint asked")?;
                Err(error)
            }
            answered => {
                query("release savepoint asked")?;
                answered
            }
        }
    }

    /// What is asked about: a dump leaves out what extensions bring along.
    fn tables(self) -> String {
        let without = match self {
            Self::Alone => "",
            Self::WithinDump => {
                " and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_class'::regclass \
                 and d.objid = c.oid and d.deptype = 'e')"
            }
        };
        format!("{TABLES}{without}")
    }
}

/// What a session sees of its database.
pub(in crate::postgres) fn of_connection(
    connection: &mut Connection,
    name: &str,
    exact_up_to_bytes: u64,
    asked: Asked,
    cancel: &Cancel,
) -> Result<DatabaseBaseline, PgError> {
    let tables = asked.tables();
    let sizes = asked.ask(connection, &of_database_sql(&tables), cancel)?;
    let mut sizes = sizes
        .into_iter()
        .flatten()
        .map(|text| number(text.as_deref()));
    let (size_bytes, count_of_tables) = (sizes.next().unwrap_or(0), sizes.next().unwrap_or(0));
    let extensions = asked.ask(connection, EXTENSIONS, cancel)?;
    let extensions =
        extensions
            .into_iter()
            .filter_map(|row| match <[Option<String>; 2]>::try_from(row) {
                Ok([Some(name), Some(version)]) => Some(ExtensionBaseline { name, version }),
                _ => None,
            });
    let extensions = extensions.collect();
    // The true sizes need a lock on each table, if the lightest.
    let true_sizes = listing("pg_table_size(c.oid)", &tables);
    let listed = match asked.ask(connection, &true_sizes, cancel) {
        Err(error) if gave_up(&error) => {
            let size = "c.relpages::bigint * current_setting('block_size')::bigint";
            asked.ask(connection, &listing(size, &tables), cancel)?
        }
        listed => listed?,
    };
    let mut largest = Vec::new();
    for row in listed {
        let Ok(
            [
                Some(schema),
                Some(name),
                size,
                estimate,
                Some(full_name),
                Some(is_as_seen),
            ],
        ) = <[Option<String>; 6]>::try_from(row)
        else {
            continue;
        };
        let size_bytes = number(size.as_deref());
        let counted = if size_bytes <= exact_up_to_bytes {
            count(connection, &full_name, &is_as_seen, asked, cancel)?
        } else {
            None
        };
        largest.push(TableBaseline {
            schema,
            name,
            rows: counted.unwrap_or_else(|| estimated(estimate.as_deref())),
            size_bytes,
        });
    }
    Ok(DatabaseBaseline {
        name: name.to_owned(),
        size_bytes,
        tables: count_of_tables,
        largest,
        extensions,
    })
}

/// The size of this database, and how many tables it has.
fn of_database_sql(tables: &str) -> String {
    format!(
        "select pg_database_size(current_database()), (select count(*) from pg_class c \
         join pg_namespace n on n.oid = c.relnamespace where {tables})"
    )
}

/// The largest tables by this measure: schema, name, size, estimated rows, the name with its schema for SQL, and SQL for
/// whether its file is still the one that this snapshot saw. Servers before 14 say 0 where nobody has counted.
fn listing(size: &str, tables: &str) -> String {
    format!(
        "select n.nspname, c.relname, {size} as size, \
         case when c.reltuples = 0 and c.relpages = 0 then -1 else c.reltuples::bigint end, \
         format('%I.%I', n.nspname, c.relname), \
         format('pg_relation_filenode(%s) = %s', c.oid, c.relfilenode) \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where {tables} order by size desc, 1, 2 limit {TABLES_MAX}"
    )
}

/// The rows of a table; nothing if the table is locked, takes too long, is gone or can't be read.
fn count(
    connection: &mut Connection,
    full_name: &str,
    is_as_seen: &str,
    asked: Asked,
    cancel: &Cancel,
) -> Result<Option<Rows>, PgError> {
    let count = match asked {
        Asked::Alone => "count(*)".to_owned(),
        // What was truncated meanwhile is empty for everybody who looks at the past, and no dump may have seen that.
        Asked::WithinDump => format!("case when {is_as_seen} then count(*) end"),
    };
    // Of this table alone: those that inherit from it are listed themselves.
    let sql = format!("select {count} from only {full_name}");
    match asked.ask(connection, &sql, cancel) {
        Ok(rows) => Ok(first(rows).parse().ok().map(Rows::Exact)),
        Err(PgError::Refused { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

fn gave_up(error: &PgError) -> bool {
    error
        .server()
        .is_some_and(|server| GAVE_UP.contains(&server.code.as_str()))
}

fn estimated(text: Option<&str>) -> Rows {
    match text
        .and_then(|text| text.parse::<i64>().ok())
        .map(u64::try_from)
    {
        Some(Ok(rows)) => Rows::Estimate(rows),
        _ => Rows::Unknown,
    }
}

fn number(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The first column of the first row.
fn first(rows: Vec<Row>) -> String {
    let row = rows.into_iter().next().unwrap_or_default();
    row.into_iter().next().flatten().unwrap_or_default()
}
