//! What to do next when a server or its files are in the way of a capture or restore.
//! It must never advise what could harm a cluster.

use std::error::Error;
use std::io::ErrorKind;

use lifeboat_protect::postgres::{
    ArchiveError, CaptureError, ClusterPlanError, DumpPlanError, DumpRestoreError, RoundTripError,
    StreamError,
};
use lifeboat_state::VolumeError;
use lifeboat_state::postgres::client::PgError;
use lifeboat_state::postgres::dump::FillError;
use lifeboat_state::postgres::{BaseBackupError, FactsError, WalFileError};

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

/// What it means by them when its log is streamed.
const ON_STREAM_CODES: [(&str, &str); 4] = [
    (
        "42501",
        "the role must have the attribute REPLICATION: ALTER ROLE … REPLICATION",
    ),
    (
        "55006",
        "another process streams by this slot: give each its own with --slot; one whose connection was lost is let go of after wal_sender_timeout",
    ),
    (
        "55000",
        "a slot that was invalidated keeps nothing any more: remove it with --drop-slot, make it anew with --create-slot, and take a new capture. A slot that is logical, and a server with wal_level minimal, are refused too",
    ),
    (
        "53400",
        "the server has no replication slot left: raise max_replication_slots",
    ),
];

/// What it means by them on a session of the replication protocol.
const ON_REPLICATION: [(&str, &str); 4] = [
    (
        "28000",
        "pg_hba.conf of the server must have a line for the database `replication` that lets this role in from here",
    ),
    (
        "28P01",
        "the line of pg_hba.conf for the database `replication` may ask for another password than the others",
    ),
    (
        "42501",
        "give the role the attribute it needs: ALTER ROLE … REPLICATION",
    ),
    (
        "53300",
        "the server has no WAL sender left: raise max_wal_senders (wal_level must be replica or logical), or let others go",
    ),
];

/// What to do about roles that a server lacks.
const NO_ROLE: &str =
    "--globals makes the roles of the capture that the server lacks, --no-owner does without them";
/// What `pg_restore` says, in its words and those of the server, and what to do about it.
const ON_WORDS: [(&str, &str); 3] = [
    ("role \"", NO_ROLE),
    (
        "extension control file",
        "install the extension on the machine of the server",
    ),
    (
        "permission denied",
        "restore as a superuser, or as the owner of everything in it with --no-owner",
    ),
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

/// What to do when a server sends no base backup.
fn on_remote(error: &BaseBackupError) -> Option<&'static str> {
    match error {
        BaseBackupError::TooOld(_) => Some(
            "run it on the machine of the server, without --remote, as root or as the server's user",
        ),
        BaseBackupError::Session(cause) | BaseBackupError::Start(cause) => {
            let code = &cause.server()?.code;
            let known = ON_REPLICATION.iter().find(|(known, _)| known == code);
            known.map(|(_, hint)| *hint)
        }
        BaseBackupError::Stream(_) | BaseBackupError::End(_) => {
            Some("look at the log of the server, and run it again; nothing was acknowledged")
        }
        _ => None,
    }
}

fn on_restore(error: &DumpRestoreError) -> Option<&'static str> {
    let code = |error: &PgError| error.server().map(|server| server.code.clone());
    match error {
        DumpRestoreError::Fill { cause, .. } => match &**cause {
            FillError::Refused { words, .. } => {
                let known = ON_WORDS.iter().find(|(part, _)| words.contains(part));
                known.map(|(_, hint)| *hint)
            }
            _ => None,
        },
        DumpRestoreError::Complete { cause, .. } => match code(cause).as_deref() {
            Some("42704") => Some(NO_ROLE),
            Some("42501") => Some("restore as a superuser, or with --no-owner"),
            _ => None,
        },
        DumpRestoreError::Create { cause, .. } => match code(cause).as_deref() {
            Some("42501") => Some("the role needs the attribute CREATEDB"),
            Some("22023" | "42809") => {
                Some("the server's machine must have the locale of the database")
            }
            _ => None,
        },
        DumpRestoreError::Left { cause, .. } => on_restore(cause),
        DumpRestoreError::Name { .. } => {
            Some("rename it when nobody uses the other one: ALTER DATABASE … RENAME TO …")
        }
        _ => None,
    }
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
    if let Some(error) = error.downcast_ref::<StreamError>() {
        return match error {
            StreamError::Server(PgError::Refused { cause, .. }) => {
                let mut known = ON_STREAM_CODES.iter();
                known
                    .find(|(code, _)| *code == cause.code)
                    .map(|(_, hint)| *hint)
            }
            StreamError::NoSlot(_) => Some(
                "make it with --create-slot; from then on the server keeps its log until it is stored",
            ),
            StreamError::Removed { .. } => Some(
                "what else archives this server may still bring it; otherwise go on behind it with --skip-lost, and take a new capture, because no earlier one recovers beyond it",
            ),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<BaseBackupError>() {
        return on_remote(error);
    }
    if let Some(error) = error.downcast_ref::<CaptureError>() {
        return match error {
            CaptureError::Volume(VolumeError::Unreadable { cause, .. })
                if cause.kind() == ErrorKind::NotFound =>
            {
                Some(
                    "if the server is on another machine, let it send its files: --remote; otherwise name its data directory with --data",
                )
            }
            CaptureError::TwoServers(_) => Some("name one server, not what leads to several"),
            CaptureError::NoDataDirectory { .. } => Some(
                "name it with --data, or grant the role pg_read_all_settings; if the server is on another machine, let it send its files: --remote",
            ),
            CaptureError::OtherCluster { .. } | CaptureError::OtherServer { .. } => Some(
                "name the server's own directory with --data: `show data_directory` tells it; if the server is on another machine, let it send its files: --remote",
            ),
            CaptureError::Moved(_) => Some("run it again; nothing was acknowledged"),
            CaptureError::Unread { .. } => {
                Some("run it as root or as the user of the server; nothing was acknowledged")
            }
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<DumpPlanError>() {
        return match error {
            DumpPlanError::Exists(_) => Some(
                "--as NAME restores it beside that one; --replace takes the name, and keeps that one under another",
            ),
            DumpPlanError::InUse { .. } => Some("stop what uses it, and run it again"),
            DumpPlanError::OneName(_) => Some("name the one with --database"),
            DumpPlanError::NoHome => Some("name another database in the URL of --into"),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<DumpRestoreError>() {
        return on_restore(error);
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
