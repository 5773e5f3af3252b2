//! What ends a command: a message, its causes, a hint what to do next, and the exit status.
//! It must never show a secret, and is the one place where typed errors become words for people.

use std::fmt;

use lifeboat_protect::ProtectError;
use lifeboat_protect::postgres::{
    CaptureError, ClusterRestoreError, DumpCaptureError, DumpRestoreError, ExpiryError, FoldError,
};
use lifeboat_repo::backend::FileKind;
use lifeboat_repo::{LogError, RepoError};

use crate::advice;
use crate::exit::Exit;

/// Why a command ended.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What failed and why, causes joined by colons.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// How the program ends.
    pub exit: Exit,
}

/// What a command gives.
pub type Outcome = Result<Exit, Failure>;

impl Failure {
    /// A failure of what the user asked for.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            exit: Exit::Failed,
        }
    }

    /// With advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With what was being done in front.
    #[must_use]
    pub fn while_doing(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// From an error about a database; whoever wished to stop knows why it ended.
    pub fn of_database(error: &(dyn std::error::Error + 'static)) -> Self {
        if lifeboat_flow::Cancelled::is_cause_of(error) {
            return lifeboat_flow::Cancelled.into();
        }
        let causes = std::iter::successors(Some(error), |error| (*error).source());
        let advice = causes.filter_map(|inner| {
            let of_log = match inner.downcast_ref() {
                Some(LogError::Backend(place)) => Some(advice::on_backend(place)),
                _ => None,
            };
            of_log.or_else(|| inner.downcast_ref().map(repo_advice))
        });
        if let Some((exit, hint)) = { advice }.next() {
            return Self {
                message: lifeboat_repo::chain(error),
                hint: hint.map(str::to_owned),
                exit,
            };
        }
        let failure = Self::from_error(error);
        match crate::db::advice::on_database(error) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    /// From any error, with its causes.
    pub fn from_error(error: &dyn std::error::Error) -> Self {
        Self::new(lifeboat_repo::chain(error))
    }
}

impl From<RepoError> for Failure {
    fn from(error: RepoError) -> Self {
        let (exit, hint) = repo_advice(&error);
        let failure = Self {
            message: lifeboat_repo::chain(&error),
            hint: hint.map(str::to_owned),
            exit,
        };
        let root = match &error {
            RepoError::OldSnapshotStays { cause, .. } => &**cause,
            other => other,
        };
        match root {
            RepoError::Backend(error) if advice::is_append_only(error) => {
                failure.while_doing("the repository is append-only for these credentials")
            }
            _ => failure,
        }
    }
}

fn repo_advice(error: &RepoError) -> (Exit, Option<&'static str>) {
    match error {
        RepoError::Backend(error) => advice::on_backend(error),
        // Why a blob or lock can't be read decides what to do: a place that failed is no damage.
        RepoError::BlobDamaged { cause, .. } | RepoError::LockUnreadable { cause, .. } if matches!(&**cause, RepoError::Backend(error) if !error.is_missing()) => {
            repo_advice(cause)
        }
        RepoError::OldSnapshotStays { cause, .. } => {
            let is_refusal = matches!(&**cause, RepoError::Backend(cause) if cause.is_refusal());
            let hint = if is_refusal {
                "nothing is lost; remove the old one with `lifeboat repo forget ID` from a machine whose credentials may remove. Others that should change stay as they were"
            } else {
                "nothing is lost; run the command again, it removes the old one and makes no second copy"
            };
            (repo_advice(cause).0, Some(hint))
        }
        RepoError::WrongPassword { .. } => (
            Exit::WrongPassword,
            Some(
                "every key of the repository was tried; the password comes from --password-file, --password-command or RESTIC_PASSWORD",
            ),
        ),
        RepoError::Locked { .. } => (
            Exit::Locked,
            Some(
                "wait for the other process, or use --retry-lock 10m; `lifeboat repo unlock` removes locks whose holder is gone, and readers may use --no-lock",
            ),
        ),
        RepoError::LockUnreadable { .. } => (
            Exit::Locked,
            Some(
                "when no other process works on the repository, `lifeboat repo unlock --remove-all` removes damaged locks",
            ),
        ),
        RepoError::LockLost { .. } => (Exit::Failed, Some(advice::LOCK_LOST)),
        RepoError::Exists { .. } => (
            Exit::Failed,
            Some("to use it, give its password; to make another one, choose another place"),
        ),
        RepoError::ConfigInTheWay { .. } => (
            Exit::Failed,
            Some(
                "remove the file `config` there by other means and run init again with the same password; nothing else of the place needs to go",
            ),
        ),
        RepoError::IndexFirst(_) => (
            Exit::Failed,
            Some("`lifeboat repo repair index` first; nothing was changed"),
        ),
        RepoError::PacksFirst { .. } => (
            Exit::Failed,
            Some(
                "`lifeboat repo check` names all damaged packs, and `lifeboat repo repair packs` saves what is good in them; nothing was changed",
            ),
        ),
        RepoError::NoPacks { .. } => (
            Exit::Failed,
            Some(
                "check the location, and that everything of it is mounted; nothing was changed. If all data really is gone, `lifeboat repo forget` removes what is left of snapshots",
            ),
        ),
        RepoError::PacksVanished { .. } => (
            Exit::Failed,
            Some(
                "another program pruned the repository without a lock; run the same command again",
            ),
        ),
        RepoError::ClockBehind { .. } => (
            Exit::Failed,
            Some(
                "set this machine's clock, best by NTP, and run the command again; if a snapshot's time is what is wrong, `lifeboat repo rewrite --new-time` gives it another",
            ),
        ),
        RepoError::Version { .. } => (
            Exit::Failed,
            Some("a newer program wrote it; update this one"),
        ),
        RepoError::Damaged { name, .. } if name.kind == FileKind::Config => (
            Exit::Failed,
            Some(
                "without this file the repository can't be opened; put it back from a copy of the repository, where it is the same, or run `lifeboat repo init` again if that was interrupted",
            ),
        ),
        RepoError::Damaged { name, .. } if name.kind == FileKind::Key => (
            Exit::Failed,
            Some(
                "without this file the repository can't be opened; put it back from a copy of the repository, where it is the same",
            ),
        ),
        RepoError::Damaged { .. }
        | RepoError::BlobDamaged { .. }
        | RepoError::BlobUnknown { .. } => (
            Exit::Failed,
            Some("`lifeboat repo check --read-data` names everything that is damaged"),
        ),
        RepoError::Cancelled(_) => (Exit::Interrupted, None),
        _ => (Exit::Failed, None),
    }
}

impl From<ProtectError> for Failure {
    fn from(error: ProtectError) -> Self {
        match error {
            ProtectError::Repo(error) => error.into(),
            ProtectError::Cancelled(_) => Self {
                message: "interrupted".into(),
                hint: None,
                exit: Exit::Interrupted,
            },
            ProtectError::Target(ref cause) => {
                let full = cause.is_full();
                let failure = Self::from_error(&error);
                if full {
                    failure.hint("the target's disk is full; make room and run the same command again: what is right is kept")
                } else {
                    failure
                }
            }
            other => Self::from_error(&other),
        }
    }
}

impl From<CaptureError> for Failure {
    fn from(error: CaptureError) -> Self {
        match error {
            CaptureError::Protect(error) => error.into(),
            CaptureError::Repo(error) => error.into(),
            other => Self::of_database(&other),
        }
    }
}

impl From<ExpiryError> for Failure {
    fn from(error: ExpiryError) -> Self {
        match error {
            ExpiryError::Repo(error) => error.into(),
            other => Self::of_database(&other),
        }
    }
}

impl From<FoldError> for Failure {
    fn from(error: FoldError) -> Self {
        match error {
            FoldError::Protect(error) => error.into(),
            FoldError::Repo(error) => error.into(),
            other => Self::of_database(&other),
        }
    }
}

impl From<ClusterRestoreError> for Failure {
    fn from(error: ClusterRestoreError) -> Self {
        match error {
            // Here the target must be empty again, so that nothing of the first try is kept.
            ClusterRestoreError::Protect(ProtectError::Target(cause)) if cause.is_full() => {
                Self::from_error(&ProtectError::Target(cause)).hint(
                    "the target's disk is full; make room, empty the target and run the same command again",
                )
            }
            ClusterRestoreError::Protect(error) => error.into(),
            other => Self::of_database(&other),
        }
    }
}

impl From<DumpCaptureError> for Failure {
    fn from(error: DumpCaptureError) -> Self {
        match error {
            DumpCaptureError::Protect(error) => error.into(),
            DumpCaptureError::Repo(error) => error.into(),
            other => Self::of_database(&other),
        }
    }
}

impl From<DumpRestoreError> for Failure {
    fn from(error: DumpRestoreError) -> Self {
        match error {
            DumpRestoreError::Protect(error) => error.into(),
            other => Self::of_database(&other),
        }
    }
}

impl From<lifeboat_flow::Cancelled> for Failure {
    fn from(error: lifeboat_flow::Cancelled) -> Self {
        ProtectError::from(error).into()
    }
}
