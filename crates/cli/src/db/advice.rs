//! What to do next when a server or its files are in the way of a capture or restore.
//! It must never advise what could harm a cluster.

use std::error::Error;
use std::io::ErrorKind;

use lifeboat_protect::postgres::{ArchiveError, CaptureError, ClusterPlanError, RoundTripError};
use lifeboat_state::postgres::client::PgError;
use lifeboat_state::postgres::{FactsError, WalFileError};

/// What the server means by its codes (PostgreSQL manual, "PostgreSQL Error Codes").
const ON_CODES: [(&str, &str); 9] = [
    (
        "28P01",
        "check the password: it comes from LIFEBOAT_POSTGRES, PGPASSWORD, PGPASSFILE or ~/.pgpass",
    ),
    (
        "28000",
        "pg_hba.conf of the server must let this role in from here, and the role must have LOGIN",
    ),
    (
        "3D000",
        "any database will do: name one that is there, such as postgres",
    ),
    (
        "42501",
        "the role must be a superuser, or have pg_read_all_settings, the attribute REPLICATION and the right to execute pg_backup_start and pg_backup_stop",
    ),
    (
        "53300",
        "the server has no connection left: raise max_connections, or let others go",
    ),
    (
        "55000",
        "the server writes too little into its log: set wal_level to replica and start it again",
    ),
    (
        "57P01",
        "the session was ended from outside: by somebody, by a stop of the server, or by the server itself, when more log was written than max_slot_wal_keep_size lets it keep. Its log says which; run it again",
    ),
    (
        "57P02",
        "the server crashed or was stopped at once: its log says why; run it again when it is back",
    ),
    ("57P03", "the server is starting or stopping: try again"),
];

/// What to do about an error, going by its causes.
pub fn on_database(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(hint) = on_one(error) {
            return Some(hint);
        }
        next = error.source();
    }
    None
}

fn on_one(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(error) = error.downcast_ref::<PgError>() {
        return match error {
            PgError::NoPassword { .. } => Some("put it into PGPASSWORD or ~/.pgpass"),
            PgError::Connect { cause, .. } if cause.kind() == ErrorKind::NotFound => Some(
                "no server has its socket there: check that it runs, and name the directory as postgresql:///?host=DIR",
            ),
            PgError::Connect { cause, .. } if cause.kind() == ErrorKind::ConnectionRefused => {
                Some("check that the server runs and listens there")
            }
            PgError::Lost { .. } => Some(
                "the server, or the way to it, went away: its log says why; run it again when it is back",
            ),
            PgError::Refused { cause, .. } => {
                let known = ON_CODES.iter().find(|(code, _)| *code == cause.code);
                known.map(|(_, hint)| *hint)
            }
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<CaptureError>() {
        return match error {
            CaptureError::NoDataDirectory { .. } => {
                Some("name it with --data, or grant the role pg_read_all_settings")
            }
            CaptureError::OtherCluster { .. } | CaptureError::OtherServer { .. } => {
                Some("name the server's own directory with --data: `show data_directory` tells it")
            }
            CaptureError::Moved(_) => Some("run it again; nothing was acknowledged"),
            CaptureError::Unread { .. } => {
                Some("run it as root or as the user of the server; nothing was acknowledged")
            }
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<RoundTripError>() {
        return match error {
            RoundTripError::Off(_) => Some(
                "set archive_mode to on and archive_command to 'lifeboat wal push %p …', and start the server again",
            ),
            RoundTripError::Failing(_) => Some(
                "most often the server's user can't read the password file or write the repository: run its archive_command as that user in the data directory",
            ),
            RoundTripError::Nothing { .. } => Some(
                "look at archive_command: it may lead into another repository, or succeed without doing anything",
            ),
            _ => None,
        };
    }
    if let Some(ArchiveError::Empty { .. }) = error.downcast_ref::<ArchiveError>() {
        return Some(
            "check that this is the repository that the server archives into, and that all of it is mounted; a cluster that archives nothing is recovered without restore_command",
        );
    }
    if let Some(WalFileError::Gone { .. }) = error.downcast_ref::<WalFileError>() {
        return Some(
            "let the role make replication slots (attribute REPLICATION), or raise wal_keep_size, so that the server keeps its log while it is captured",
        );
    }
    if let Some(FactsError::TooOld { .. }) = error.downcast_ref::<FactsError>() {
        return Some("dump it instead: lifeboat repo backup --stdin-from-command -- pg_dumpall");
    }
    if let Some(error) = error.downcast_ref::<ClusterPlanError>() {
        return match error {
            ClusterPlanError::Taken(_) => Some("name a directory that is empty or not there"),
            ClusterPlanError::SpaceTaken { .. } => Some(
                "name another place with --tablespace OLD=NEW, or one for all with --tablespaces-below DIR",
            ),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<std::io::Error>()
        && error.kind() == ErrorKind::PermissionDenied
    {
        return Some("run it as root or as the user of the server");
    }
    None
}
