//! What a running server says of itself: which cluster it is, where its files are, and what a recovery of it needs.
//! It must never change a setting or write anything: it asks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use lifeboat_flow::Cancel;

use super::client::{Connection, PgError};

/// How long the server may think about a question about itself.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The oldest server that is known: 13.
pub const OLDEST_VERSION: u32 = 130_000;
/// The initial superuser has this number in every cluster (PostgreSQL source, `pg_authid.dat`).
pub(crate) const SUPERUSER: &str = "select rolname from pg_catalog.pg_roles where oid = 10";
/// Settings that a recovery needs to know, or that a capture depends on.
const SETTINGS: [&str; 21] = [
    "archive_mode",
    "block_size",
    "config_file",
    "data_checksums",
    "data_directory",
    "full_page_writes",
    "hba_file",
    "ident_file",
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_replication_slots",
    "max_wal_senders",
    "max_worker_processes",
    "port",
    "server_version_num",
    "shared_preload_libraries",
    "unix_socket_directories",
    "wal_level",
    "wal_log_hints",
    "wal_segment_size",
];

/// What a server says of itself.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The version as a number, such as 150018.
    pub version: u32,
    /// The number that tells this cluster from all others.
    pub system_id: u64,
    /// Whether it replays the log of another server.
    pub is_standby: bool,
    /// The superuser that `initdb` made, whatever it is called.
    pub superuser: String,
    /// Settings that this role may see.
    pub settings: BTreeMap<String, String>,
    /// Files that its settings were read from, and those that say who may connect.
    pub config_files: Vec<PathBuf>,
}

/// A server is none that can be captured.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// It could not be asked.
    #[error("ask the server what it is")]
    Ask(#[from] PgError),
    /// It is too old.
    #[error("the server is of version {found}, and the oldest that is known is 13")]
    TooOld {
        /// What it is.
        found: u32,
    },
    /// It answered something else.
    #[error("the server does not tell its {0} in a form that is known")]
    Untold(&'static str),
}

impl Facts {
    /// Asks a server.
    ///
    /// # Errors
    /// When it can't be asked or is none that is known.
    pub fn ask(connection: &mut Connection, cancel: &Cancel) -> Result<Self, FactsError> {
        let names = SETTINGS.map(|name| format!("'{name}'")).join(", ");
        let sql =
            format!("select name, setting from pg_catalog.pg_settings where name in ({names})");
        let mut settings = BTreeMap::new();
        for row in connection.query(&sql, Some(ANSWER_TIMEOUT), cancel)? {
            if let [Some(name), Some(value)] = row.as_slice() {
                settings.insert(name.clone(), value.clone());
            }
        }
        let version =
            number(settings.get("server_version_num")).ok_or(FactsError::Untold("version"))?;
        if version < OLDEST_VERSION {
            return Err(FactsError::TooOld {
                found: version / 10_000,
            });
        }
        let sql = "select system_identifier, pg_catalog.pg_is_in_recovery() from pg_catalog.pg_control_system()";
        let rows = connection.query(sql, Some(ANSWER_TIMEOUT), cancel)?;
        let (system_id, is_standby) = match rows.first().map(Vec::as_slice) {
            Some([Some(id), Some(standby)]) => (id.parse().ok(), standby == "t"),
            _ => (None, false),
        };
        let rows = connection.query(SUPERUSER, Some(ANSWER_TIMEOUT), cancel)?;
        let superuser = rows.into_iter().flatten().flatten().next();
        // Only who may see all settings sees from which files they come.
        let sql =
            "select distinct sourcefile from pg_catalog.pg_settings where sourcefile is not null";
        let rows = connection.query(sql, Some(ANSWER_TIMEOUT), cancel)?;
        let sources = rows.into_iter().flatten().flatten();
        let named = ["config_file", "hba_file", "ident_file"];
        let named = named.iter().filter_map(|name| settings.get(*name).cloned());
        let mut config_files: Vec<PathBuf> = sources.chain(named).map(PathBuf::from).collect();
        config_files.sort();
        config_files.dedup();
        Ok(Self {
            version,
            system_id: system_id.ok_or(FactsError::Untold("system identifier"))?,
            is_standby,
            superuser: superuser.unwrap_or_default(),
            settings,
            config_files,
        })
    }

    /// The major version, such as 15.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.version / 10_000
    }

    /// Where its files are, on its own machine; `None` if this role may not know.
    #[must_use]
    pub fn data_directory(&self) -> Option<PathBuf> {
        self.settings.get("data_directory").map(PathBuf::from)
    }
}

fn number(text: Option<&String>) -> Option<u32> {
    text?.parse().ok()
}
