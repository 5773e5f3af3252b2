//! What a dump asks of the server that it is of, and a restore of the one that it goes to.
//! It must never need more rights than dumping needs: what the role may not see is left out.

use std::collections::BTreeSet;

use lifeboat_flow::Cancel;

use super::super::client::{Connection, PgError};
use super::super::facts::{ANSWER_TIMEOUT, FactsError, OLDEST_VERSION};
use super::database::first;

/// What a server that is dumped says of itself.
#[derive(Clone, Debug)]
pub struct ServerFacts {
    /// The version as a number, such as 150018.
    pub version: u32,
    /// The number that tells the cluster from all others, if this role may know it.
    pub system_id: Option<u64>,
    /// Whether it replays the log of another server.
    pub is_standby: bool,
    /// The superuser that `initdb` made.
    pub superuser: String,
    /// The libraries that it was started with, if this role may know them.
    pub preload_libraries: String,
    /// Whether this role may read the passwords of roles.
    pub reads_passwords: bool,
}

impl ServerFacts {
    /// Asks a server.
    ///
    /// # Errors
    /// When it can't be asked or is none that is known.
    pub fn ask(connection: &mut Connection, cancel: &Cancel) -> Result<Self, FactsError> {
        let version = version_of(connection)?;
        let mut ask = |sql: &str| match connection.query(sql, Some(ANSWER_TIMEOUT), cancel) {
            Ok(rows) => Ok(first(rows)),
            Err(PgError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        };
        let system_id = ask("select system_identifier from pg_catalog.pg_control_system()")?;
        let is_standby = ask("select pg_catalog.pg_is_in_recovery()")?;
        let superuser = ask("select rolname from pg_catalog.pg_roles where oid = 10")?;
        let preload = ask(
            "select setting from pg_catalog.pg_settings where name = 'shared_preload_libraries'",
        )?;
        let reads = ask("select pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'select')")?;
        Ok(Self {
            version,
            system_id: system_id.and_then(|id| id.parse().ok()),
            is_standby: is_standby.as_deref() == Some("t"),
            superuser: superuser.unwrap_or_default(),
            preload_libraries: preload.unwrap_or_default(),
            reads_passwords: reads.as_deref() == Some("t"),
        })
    }

    /// The major version, such as 15.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.version / 10_000
    }
}

/// What is on a server that databases are restored into.
#[derive(Clone, Debug, Default)]
pub struct TargetFacts {
    /// The version as a number, such as 150018.
    pub version: u32,
    /// Its databases.
    pub databases: Vec<TargetDatabase>,
    /// Its roles.
    pub roles: BTreeSet<String>,
    /// Its tablespaces.
    pub tablespaces: BTreeSet<String>,
}

/// A database that is there.
#[derive(Clone, Debug)]
pub struct TargetDatabase {
    /// Its name.
    pub name: String,
    /// Sessions that use it, ours not counted.
    pub sessions: u64,
}

impl TargetFacts {
    /// Asks a server.
    ///
    /// # Errors
    /// When it can't be asked or is none that is known.
    pub fn ask(connection: &mut Connection, cancel: &Cancel) -> Result<Self, FactsError> {
        let version = version_of(connection)?;
        let mut ask = |sql: &str| connection.query(sql, Some(ANSWER_TIMEOUT), cancel);
        let databases = ask(
            "select d.datname, (select count(*) from pg_catalog.pg_stat_activity a \
             where a.datid = d.oid and a.pid <> pg_catalog.pg_backend_pid()) from pg_catalog.pg_database d order by 1",
        )?;
        let databases = databases.into_iter().filter_map(|row| {
            let [name, sessions] = <[Option<String>; 2]>::try_from(row).ok()?;
            Some(TargetDatabase {
                name: name?,
                sessions: sessions?.parse().ok()?,
            })
        });
        let databases = databases.collect();
        let mut names =
            |sql: &str| ask(sql).map(|rows| rows.into_iter().flatten().flatten().collect());
        Ok(Self {
            version,
            databases,
            roles: names("select rolname from pg_catalog.pg_roles")?,
            tablespaces: names("select spcname from pg_catalog.pg_tablespace")?,
        })
    }

    /// The major version, such as 15.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.version / 10_000
    }
}

fn version_of(connection: &Connection) -> Result<u32, FactsError> {
    let version = connection.version().ok_or(FactsError::Untold("version"))?;
    match version < OLDEST_VERSION {
        true => Err(FactsError::TooOld {
            found: version / 10_000,
        }),
        false => Ok(version),
    }
}
