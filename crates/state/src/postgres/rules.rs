//! What of a data directory belongs into a capture, and which files have checksums in their pages.
//! It must never leave out what a recovery needs: whatever no rule names is kept.

use super::relation::{Fork, RelationFile, number};

/// Directories that a server fills anew when it starts, and one that the capture fills itself (`pg_wal`).
const EMPTIED: [&[u8]; 8] = [
    b"pg_dynshmem",
    b"pg_notify",
    b"pg_replslot",
    b"pg_serial",
    b"pg_snapshots",
    b"pg_stat_tmp",
    b"pg_subtrans",
    b"pg_wal",
];
/// Files at the top that are of the server that runs, or of another backup.
const NOT_OURS: [&[u8]; 12] = [
    b"backup_label",
    b"backup_label.old",
    b"backup_manifest",
    b"backup_manifest.tmp",
    b"current_logfiles.tmp",
    b"postgresql.auto.conf.tmp",
    b"postmaster.opts",
    b"postmaster.pid",
    b"recovery.signal",
    b"standby.signal",
    b"tablespace_map",
    b"tablespace_map.old",
];
/// How names of files and directories begin that queries put aside.
const TEMPORARY: &[u8] = b"pgsql_tmp";
/// How names of caches begin, which the server writes anew.
const CACHE: &[u8] = b"pg_internal.init";

/// What becomes of something in a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is captured.
    Keep,
    /// The directory is captured, what is in it is not.
    Empty,
    /// It is left out.
    Leave,
}

/// What becomes of the entry at a path below the data directory, tablespaces included (`pg_tblspc/16385/PG_15_202209061/…`).
/// `is_unlogged` says whether the relation of a file has an init fork beside it: then only that is of use after a recovery.
#[must_use]
pub fn fate(path: &[u8], is_unlogged: impl FnOnce(RelationFile) -> bool) -> Fate {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let (Some(first), Some(name)) = (parts.first(), parts.last()) else {
        return Fate::Keep;
    };
    if EMPTIED.contains(first) {
        return if parts.len() == 1 {
            Fate::Empty
        } else {
            Fate::Leave
        };
    }
    let is_alone = parts.len() == 1 && NOT_OURS.contains(first);
    let is_temporary = parts.iter().any(|part| part.starts_with(TEMPORARY));
    if is_alone || is_temporary || name.starts_with(CACHE) {
        return Fate::Leave;
    }
    match relation_file(&parts) {
        Some(file) if file.relation.is_temporary => Fate::Leave,
        Some(file) if file.fork != Fork::Init && is_unlogged(file) => Fate::Leave,
        _ => Fate::Keep,
    }
}

/// The file of a relation at a path, whose pages have checksums if the cluster has any.
#[must_use]
pub fn has_checksums(path: &[u8]) -> Option<RelationFile> {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    relation_file(&parts)
}

/// Only directories of databases, and the one for all of them, hold relations.
fn relation_file(parts: &[&[u8]]) -> Option<RelationFile> {
    let is_number = |part: &[u8]| std::str::from_utf8(part).ok().and_then(number).is_some();
    let name = match parts {
        [b"global", name] => name,
        [b"base", database, name] if is_number(database) => name,
        [b"pg_tblspc", space, version, database, name]
            if is_number(space) && version.starts_with(b"PG_") && is_number(database) =>
        {
            name
        }
        _ => return None,
    };
    RelationFile::parse(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Fate {
        fate(path.as_bytes(), |file| file.relation.number == 777)
    }

    #[test]
    fn what_a_recovery_needs_is_kept() {
        for path in [
            "PG_VERSION",
            "postgresql.conf",
            "postgresql.auto.conf",
            "pg_hba.conf",
            "global",
            "global/pg_control",
            "global/pg_filenode.map",
            "global/1262",
            "base/5/PG_VERSION",
            "base/5/16384",
            "base/5/16384.1",
            "base/5/777_init",
            "base/5/778",
            "pg_xact/0000",
            "pg_multixact/members/0000",
            "pg_logical/replorigin_checkpoint",
            "pg_stat/pgstat.stat",
            "pg_tblspc/16385",
            "pg_tblspc/16385/PG_15_202209061/5/16386",
            "pg_twophase",
            "pg_commit_ts",
            // Whatever somebody put there, and names that are only like those of others.
            "log/postgresql.log",
            "conf.d/backup_label",
            "conf.d/pg_wal/x",
            "777",
            "base/five/777",
            "base/5/t3_777/x",
        ] {
            assert_eq!(of(path), Fate::Keep, "{path}");
        }
    }

    #[test]
    fn what_belongs_to_the_running_server_is_left() {
        for path in [
            "pg_wal",
            "pg_replslot",
            "pg_stat_tmp",
            "pg_subtrans",
            "pg_notify",
            "pg_serial",
        ] {
            assert_eq!(of(path), Fate::Empty, "{path}");
            assert_eq!(of(&format!("{path}/x")), Fate::Leave, "{path}");
        }
        for path in [
            "pg_wal/archive_status/000000010000000000000001.done",
            "postmaster.pid",
            "backup_label",
            "standby.signal",
            "base/pgsql_tmp",
            "base/pgsql_tmp/pgsql_tmp123.0",
            "pg_tblspc/16385/PG_15_202209061/pgsql_tmp/x",
            "global/pg_internal.init",
            "base/5/pg_internal.init.123",
            "base/5/t3_16390",
            "base/5/t3_16390_fsm",
            "base/5/777",
            "base/5/777.1",
            "base/5/777_vm",
            "pg_tblspc/16385/PG_15_202209061/5/777",
        ] {
            assert_eq!(of(path), Fate::Leave, "{path}");
        }
    }

    #[test]
    fn pages_of_relations_alone_have_checksums() {
        for path in [
            "global/1262",
            "base/5/16384_fsm",
            "base/5/16384_init",
            "pg_tblspc/1/PG_15_2/5/6.7",
        ] {
            assert!(has_checksums(path.as_bytes()).is_some(), "{path}");
        }
        for path in [
            "global/pg_control",
            "base/5/PG_VERSION",
            "pg_xact/0000",
            "16384",
            "base/16384",
        ] {
            assert_eq!(has_checksums(path.as_bytes()), None, "{path}");
        }
    }
}
