//! The configuration of a scratch server: everything that a restored cluster could do to the world outside is off.
//! It must never take a setting from the cluster: those name directories, commands and servers of the live one.

use std::path::Path;

use super::super::control::ServerLimits;
use super::super::recovery::{Recovery, SettingError, quoted};
use super::preload::{Preload, QUIET};

/// The port in the name of the socket, where nobody listens on a port.
pub(super) const SOCKET_PORT: u16 = 5432;
/// Memory for pages, in MiB; a recovery that has less of it reads more.
const SHARED_BUFFERS_MIB: u32 = 128;
/// Memory for building an index, in MiB.
const MAINTENANCE_MIB: u32 = 64;
/// How often a server says how far it is where nobody can ask it yet, in seconds (from PostgreSQL 15 on).
const PROGRESS_INTERVAL_SECONDS: u32 = 10;
/// What a server needs beside its own even if the live one had fewer: for us and for `pg_amcheck`.
const CONNECTIONS_MIN: u32 = 20;
/// A local user of any name is let in; the directory of the socket is what keeps others out.
pub(super) const HBA: &str = "local all all trust\n";

/// Settings that must hold in every session, whatever was set for its database or role. They are sent by the client,
/// whose word counts before theirs.
pub(super) fn of_sessions(major: u32) -> Vec<(String, String)> {
    let mut settings = vec![
        ("session_preload_libraries", ""),
        ("local_preload_libraries", ""),
        ("default_transaction_read_only", "off"),
        ("search_path", ""),
        // Without it the event triggers of the cluster would see what we do, and act on it.
        ("session_replication_role", "replica"),
        ("statement_timeout", "0"),
        ("jit", "off"),
        ("timezone", "UTC"),
    ];
    if major >= 17 {
        settings.extend([("event_triggers", "off"), ("transaction_timeout", "0")]);
    }
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    settings.into_iter().map(owned).collect()
}

/// What a scratch server is started with.
pub(super) struct Setup<'a> {
    pub(super) major: u32,
    pub(super) data: &'a Path,
    pub(super) run: &'a Path,
    pub(super) limits: ServerLimits,
    pub(super) preload: &'a Preload,
    pub(super) recovery: Option<&'a Recovery>,
}

impl Setup<'_> {
    /// The text of its `postgresql.conf`.
    pub(super) fn text(&self) -> Result<String, SettingError> {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let limits = self.limits;
        let mut lines: Vec<(&'static str, String)> = vec![
            ("data_directory", path(self.data)),
            ("hba_file", path(&self.run.join(HBA_FILE))),
            ("ident_file", path(&self.run.join(IDENT_FILE))),
            ("unix_socket_directories", socket_dir(self.run)),
            ("port", SOCKET_PORT.to_string()),
            // A server whose settings are below these does not replay the log.
            (
                "max_connections",
                limits.connections.max(CONNECTIONS_MIN).to_string(),
            ),
            ("max_worker_processes", limits.worker_processes.to_string()),
            ("max_wal_senders", limits.wal_senders.to_string()),
            (
                "max_prepared_transactions",
                limits.prepared_transactions.to_string(),
            ),
            (
                "max_locks_per_transaction",
                limits.locks_per_transaction.to_string(),
            ),
            ("shared_preload_libraries", self.preload.setting()),
            ("shared_buffers", format!("{SHARED_BUFFERS_MIB}MB")),
            ("maintenance_work_mem", format!("{MAINTENANCE_MIB}MB")),
        ];
        let newer: &[(u32, &str, &str)] = &[
            (15, "archive_library", ""),
            (17, "event_triggers", "off"),
            (17, "summarize_wal", "off"),
            (17, "sync_replication_slots", "off"),
        ];
        let newer = newer.iter().filter(|(since, ..)| self.major >= *since);
        let newer = newer.map(|(_, name, value)| (*name, *value));
        let fixed = FIXED.into_iter().chain(newer).chain(QUIET);
        lines.extend(fixed.map(|(name, value)| (name, value.to_owned())));
        if self.major >= 15 {
            lines.push((
                "log_startup_progress_interval",
                format!("{PROGRESS_INTERVAL_SECONDS}s"),
            ));
        }
        let mut text = String::new();
        for (name, value) in lines {
            let value = quoted(&value).ok_or(SettingError(name))?;
            text.push_str(&format!("{name} = {value}\n"));
        }
        if let Some(recovery) = self.recovery {
            text.push_str(&recovery.settings()?);
        }
        Ok(text)
    }
}

/// Our files beside the socket.
pub(super) const CONFIG_FILE: &str = "postgresql.conf";
pub(super) const HBA_FILE: &str = "pg_hba.conf";
pub(super) const IDENT_FILE: &str = "pg_ident.conf";

/// What is the same for every scratch server.
const FIXED: [(&str, &str); 36] = [
    // Nobody but us reaches it.
    ("listen_addresses", ""),
    ("unix_socket_permissions", "0700"),
    ("bonjour", "off"),
    ("ssl", "off"),
    // It reaches nobody.
    ("archive_mode", "off"),
    ("archive_command", ""),
    ("archive_cleanup_command", ""),
    ("recovery_end_command", ""),
    ("primary_conninfo", ""),
    ("primary_slot_name", ""),
    ("max_logical_replication_workers", "0"),
    ("synchronous_standby_names", ""),
    ("session_preload_libraries", ""),
    ("local_preload_libraries", ""),
    // It can be asked while it replays, and needs no more of the log than a standby.
    ("hot_standby", "on"),
    ("wal_level", "replica"),
    // It does nothing by itself, and what it writes need not outlive the machine.
    ("autovacuum", "off"),
    ("jit", "off"),
    ("fsync", "off"),
    ("synchronous_commit", "off"),
    ("restart_after_crash", "off"),
    // What is damaged is said, not passed over.
    ("ignore_checksum_failure", "off"),
    ("zero_damaged_pages", "off"),
    // Its memory is bounded, and what it shares goes with its directory, even if it is killed.
    ("dynamic_shared_memory_type", "mmap"),
    ("huge_pages", "off"),
    ("max_parallel_workers", "0"),
    ("max_parallel_maintenance_workers", "0"),
    ("max_parallel_workers_per_gather", "0"),
    // We read its log, in words that we know.
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("log_line_prefix", ""),
    ("log_min_messages", "warning"),
    ("lc_messages", "C"),
    ("log_timezone", "UTC"),
    ("timezone", "UTC"),
    ("cluster_name", "lifeboat-scratch"),
];

/// A directory in a setting that is a list of them.
fn socket_dir(dir: &Path) -> String {
    format!("\"{}\"", dir.to_string_lossy().replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(major: u32, recovery: Option<&Recovery>) -> String {
        let limits = ServerLimits {
            connections: 5,
            worker_processes: 8,
            wal_senders: 10,
            prepared_transactions: 3,
            locks_per_transaction: 64,
        };
        let setup = Setup {
            major,
            data: Path::new("/scratch/it's"),
            run: Path::new("/run/a, \"b"),
            limits,
            preload: &Preload::default(),
            recovery,
        };
        setup.text().expect("settings")
    }

    #[test]
    fn values_of_the_cluster_and_of_paths_are_quoted() {
        let text = text(15, Some(&Recovery::to_the_end()));
        for line in [
            "data_directory = '/scratch/it''s'",
            "hba_file = '/run/a, \"b/pg_hba.conf'",
            "unix_socket_directories = '\"/run/a, \"\"b\"'",
            "max_connections = '20'",
            "max_prepared_transactions = '3'",
            "shared_preload_libraries = ''",
            "restore_command = 'exit 1'",
            "archive_library = ''",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        assert!(!text.contains("event_triggers"), "{text}");
    }

    #[test]
    fn no_setting_stands_there_twice_and_none_that_the_version_does_not_know() {
        let of = |major| text(major, Some(&Recovery::to_the_end()));
        for major in 13..=18 {
            let text = of(major);
            let names: Vec<&str> = text
                .lines()
                .filter_map(|line| line.split(' ').next())
                .collect();
            let once: std::collections::BTreeSet<&&str> = names.iter().collect();
            assert_eq!(once.len(), names.len(), "{text}");
        }
        for (name, since) in [
            ("archive_library", 15),
            ("event_triggers", 17),
            ("log_startup_progress_interval", 15),
        ] {
            assert!(
                !of(since - 1).contains(name) && of(since).contains(name),
                "{name}"
            );
        }
        assert!(!text(15, None).contains("recovery_target"));
    }
}
