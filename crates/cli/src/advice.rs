//! What to do next when the place of a repository fails, and how the program ends then.
//! It must never advise what could harm the repository.

use std::io::ErrorKind;

use lifeboat_repo::backend::{BackendError, Trouble};

use crate::exit::Exit;

/// What to do when the lock did not hold until the end.
pub const LOCK_LOST: &str =
    "nothing was acknowledged; run the command again, it goes on with what is stored";

/// How the program ends because of this error of a backend, and what to do next.
pub fn on_backend(error: &BackendError) -> (Exit, Option<&'static str>) {
    match error {
        BackendError::NoRepository { location, .. } if is_in_a_home(location) => (
            Exit::NoRepository,
            Some(
                "check the location: sftp:HOST:PATH and sftp://HOST/PATH begin in the user's home, sftp:HOST:/PATH and sftp://HOST//PATH do not; `lifeboat repo init` makes a new repository",
            ),
        ),
        BackendError::NoRepository { .. } => (
            Exit::NoRepository,
            Some(
                "check the location; `lifeboat repo init` makes a new repository, and it never happens by itself",
            ),
        ),
        BackendError::GaveUp { cause, .. } => on_backend(cause),
        BackendError::Io { cause, .. } => (Exit::Failed, on_io(cause)),
        BackendError::Remote {
            trouble: Trouble::NoPlace,
            ..
        } => (
            Exit::NoRepository,
            Some("check the location: its bucket, path or module is not there"),
        ),
        BackendError::Remote {
            trouble,
            location,
            doing,
            ..
        } => (Exit::Failed, on_trouble(*trouble, location, doing)),
        BackendError::Fenced { .. } => (Exit::Failed, Some(LOCK_LOST)),
        BackendError::Cancelled(_) => (Exit::Interrupted, None),
        _ => (Exit::Failed, None),
    }
}

/// Whether a place does not let these credentials remove anything.
pub fn is_append_only(error: &BackendError) -> bool {
    matches!(
        error,
        BackendError::Remote {
            doing: "remove",
            trouble: Trouble::Denied,
            ..
        }
    )
}

/// Whether it is a place of SFTP, as it is shown, whose path may look absolute and is not.
fn is_in_a_home(location: &str) -> bool {
    match location.strip_prefix("sftp:") {
        None => false,
        Some(rest) => match rest.strip_prefix("//") {
            Some(rest) => rest
                .split_once('/')
                .is_some_and(|(_, path)| !path.starts_with('/')),
            // A host may have colons itself.
            None => !rest.contains(":/"),
        },
    }
}

fn on_trouble(trouble: Trouble, location: &str, doing: &str) -> Option<&'static str> {
    let kind = location.split(':').next().unwrap_or_default();
    Some(match (trouble, kind) {
        (Trouble::Transient, _) => {
            "what was stored stays valid; run the command again when the server is well, it goes on from there"
        }
        (Trouble::Unreachable, _) => {
            "check the host and port in the location, the network, the firewall and a proxy if one is set; what was stored stays valid"
        }
        (Trouble::Tls, _) => {
            "a server with a certificate of its own is trusted with --cacert FILE; check its name, its date and this machine's clock too"
        }
        (Trouble::Credentials, "s3") => {
            "credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; check that both are of this server and not expired"
        }
        (Trouble::Credentials, "rest") => {
            "user and password come from the location or from RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD"
        }
        (Trouble::Credentials, "sftp") => {
            "connect with `ssh` as the same user first: it must work without a password being asked for"
        }
        (Trouble::Credentials, _) => "check the user, the password and the keys for this place",
        (Trouble::Denied, _) if doing == "remove" => {
            "backups go on as they are; forget, prune and unlock need credentials that may remove, on a machine that is trusted with them"
        }
        (Trouble::Denied, _) => {
            "the server knows these credentials but does not allow this; check their rights, for reading, writing and listing"
        }
        (Trouble::NoPlace, _) => "check the location: its bucket, path or module is not there",
        (Trouble::WrongPlace, _) => {
            "the bucket is in another region or behind another endpoint: check the location and `-o s3.region=…`"
        }
        (Trouble::Clock, _) => {
            "this machine's clock and the server's differ too much; set the wrong one, best by NTP"
        }
        (Trouble::HostKey, _) => {
            "connect once with `ssh`, compare the key that it shows with the server's own, and accept it only if they are the same"
        }
        (Trouble::Full, _) => {
            "the place is full or its quota is used up; what was stored stays valid, and the next run goes on from there"
        }
        (Trouble::Program, "rclone") => {
            "rclone must be installed and in PATH, and know the remote: try `rclone lsd REMOTE:`"
        }
        (Trouble::Program, _) => {
            "the program that is named must be installed and in PATH, and work when it is run by hand"
        }
        (Trouble::Protocol, _) => {
            "is another kind of server at this address, or something between that changes answers? check the location"
        }
        (Trouble::Other, _) => return None,
    })
}

fn on_io(cause: &std::io::Error) -> Option<&'static str> {
    match cause.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some(
            "the repository's disk is full; what was stored stays valid, and the next run goes on from there",
        ),
        ErrorKind::PermissionDenied => {
            Some("this user has no right to that; check the owner of the repository's files")
        }
        ErrorKind::NotADirectory => {
            Some("the location, or a part of it, is a file; a repository is a directory")
        }
        ErrorKind::ReadOnlyFilesystem => {
            Some("the repository lies on a file system that is mounted read-only")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;
    use lifeboat_repo::RepoError;
    use lifeboat_repo::backend::FileName;

    const ALL: [Trouble; 13] = [
        Trouble::Transient,
        Trouble::Unreachable,
        Trouble::Tls,
        Trouble::Credentials,
        Trouble::Denied,
        Trouble::NoPlace,
        Trouble::WrongPlace,
        Trouble::Clock,
        Trouble::HostKey,
        Trouble::Full,
        Trouble::Program,
        Trouble::Protocol,
        Trouble::Other,
    ];

    fn remote(trouble: Trouble, doing: &'static str, location: &str) -> BackendError {
        BackendError::Remote {
            doing,
            what: "snapshots/ab".into(),
            location: location.into(),
            trouble,
            why: "the server answered 403 (AccessDenied)".into(),
            retry_after: None,
        }
    }

    #[test]
    fn every_trouble_has_a_status_and_all_but_the_unknown_a_hint() {
        for location in ["s3:https://host/bucket", "rest:http://host/", "sftp:host:x"] {
            for trouble in ALL {
                let failure = Failure::from(RepoError::from(remote(trouble, "read", location)));
                let expected = match trouble {
                    Trouble::NoPlace => Exit::NoRepository,
                    _ => Exit::Failed,
                };
                assert_eq!(failure.exit, expected, "{trouble:?}");
                assert_eq!(failure.hint.is_some(), trouble != Trouble::Other);
                // In the middle of a command, and after giving up, it is the same.
                let given_up = BackendError::GaveUp {
                    tries: 3,
                    seconds: 20,
                    place_answers: false,
                    cause: Box::new(remote(trouble, "read", location)),
                };
                let deep = RepoError::BlobDamaged {
                    kind: lifeboat_format::BlobKind::Data,
                    id: lifeboat_format::Id([1; 32]),
                    pack: lifeboat_format::Id([2; 32]),
                    cause: Box::new(given_up.into()),
                };
                let deep = Failure::from(deep);
                assert_eq!((deep.exit, &deep.hint), (failure.exit, &failure.hint));
                assert!(deep.message.contains("gave up after 3 tries and 20 s"));
            }
        }
    }

    #[test]
    fn a_place_that_lets_nothing_be_removed_is_called_append_only() {
        let error = remote(Trouble::Denied, "remove", "rest:http://host/");
        let failure = Failure::from(RepoError::from(error));
        assert_eq!(
            failure.message,
            "the repository is append-only for these credentials: cannot remove snapshots/ab in rest:http://host/: the server answered 403 (AccessDenied)"
        );
        assert!(failure.hint.unwrap().starts_with("backups go on"));
    }

    #[test]
    fn a_path_in_a_home_is_known_in_either_form() {
        for (location, expected) in [
            ("sftp:me@host:repo", true),
            ("sftp:me@host:/repo", false),
            ("sftp:fe80::1:repo", true),
            ("sftp:fe80::1:/repo", false),
            ("sftp://host:2222/repo", true),
            ("sftp://host:2222//repo", false),
            ("/srv/repo", false),
            ("rest:http://host/repo/", false),
        ] {
            assert_eq!(is_in_a_home(location), expected, "{location}");
            let error = BackendError::NoRepository {
                location: location.into(),
                what: "the directory".into(),
            };
            let (exit, hint) = on_backend(&error);
            assert_eq!(exit, Exit::NoRepository);
            assert_eq!(hint.unwrap().contains("sftp:HOST:PATH"), expected);
        }
    }

    #[test]
    fn what_a_lock_that_was_lost_kept_from_being_done_is_told_as_the_loss() {
        let fenced = BackendError::Fenced {
            name: FileName::CONFIG,
            location: "/srv/repo".into(),
            why: "somebody removed it".into(),
        };
        let failure = Failure::from(RepoError::from(fenced));
        assert_eq!(
            (failure.exit, failure.hint.as_deref()),
            (Exit::Failed, Some(LOCK_LOST))
        );
    }

    #[test]
    fn a_wish_to_stop_is_no_failure_of_the_place() {
        let failure = Failure::from(RepoError::from(BackendError::from(
            lifeboat_flow::Cancelled,
        )));
        assert_eq!((failure.exit, failure.hint), (Exit::Interrupted, None));
    }
}
