//! What can go wrong with a repository, in words that say what to do next.
//! It must never hold a password, a key or plaintext, and never repeat its cause in its own text.

use lifeboat_flow::Cancelled;
use lifeboat_format::{BlobKind, FormatError, Id, Timestamp};

use crate::backend::{BackendError, FileName};

/// A repository could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// The backend failed.
    #[error(transparent)]
    Backend(BackendError),
    /// A file of the repository is not what it should be.
    #[error("{name} in {location} is damaged")]
    Damaged {
        /// The file.
        name: FileName,
        /// The repository's location.
        location: String,
        /// What is wrong with it.
        #[source]
        cause: FormatError,
    },
    /// The repository's format is none that this program knows.
    #[error("cannot use the repository at {location}")]
    Version {
        /// The repository's location.
        location: String,
        /// Which version it has.
        #[source]
        cause: FormatError,
    },
    /// No key of the repository fits the password.
    #[error("wrong password or no key found for the repository at {location}")]
    WrongPassword {
        /// The repository's location.
        location: String,
    },
    /// A repository is already there.
    #[error("there is already a repository at {location}")]
    Exists {
        /// Its location.
        location: String,
    },
    /// A blob is in no index file.
    #[error("{} blob {id} is in no index file of the repository", kind.word())]
    BlobUnknown {
        /// What it holds.
        kind: BlobKind,
        /// Its ID.
        id: Id,
    },
    /// A blob can't be read, from any of the packs that hold it.
    #[error("{} blob {id} can't be read from pack {pack}", kind.word())]
    BlobDamaged {
        /// What it holds.
        kind: BlobKind,
        /// Its ID.
        id: Id,
        /// The last pack that was tried.
        pack: Id,
        /// What is wrong there.
        #[source]
        cause: Box<RepoError>,
    },
    /// What was read is not what the format says.
    #[error("decode what was read")]
    Format(#[from] FormatError),
    /// Someone else holds a lock.
    #[error("the repository is locked{} by {holder}", if *exclusive { " exclusively" } else { "" })]
    Locked {
        /// Who, since when.
        holder: String,
        /// Whether that lock is exclusive.
        exclusive: bool,
    },
    /// A lock file can't be read, so nobody knows whether it counts.
    #[error("lock {id} can't be read, so it is not known who holds it")]
    LockUnreadable {
        /// Its ID.
        id: Id,
        /// Why not.
        #[source]
        cause: Box<RepoError>,
    },
    /// Our lock could not be kept: others may have begun to change the repository.
    #[error("the lock on {location} was lost: {why}")]
    LockLost {
        /// The repository's location.
        location: String,
        /// What happened.
        why: String,
    },
    /// An ID prefix fits several files or none.
    #[error("{0}")]
    NotFound(String),
    /// Packs that a new snapshot relies on are gone.
    #[error(
        "{count} packs that the new snapshot relies on vanished from {location} while it ran, the first is {first}"
    )]
    PacksVanished {
        /// How many.
        count: usize,
        /// The first.
        first: Id,
        /// The repository's location.
        location: String,
    },
    /// Something can't be read that says what snapshots need.
    #[error("{what} can't be read, so it is not known what snapshots need")]
    NeedsUnknown {
        /// A snapshot, tree, blob or index file.
        what: String,
        /// Why not.
        #[source]
        cause: Box<RepoError>,
    },
    /// Something in the repository is from after what this machine takes for now.
    #[error(
        "this machine's clock says {now}, but {what} is of {time}: what is marked for deletion by a clock that is behind would be deleted before its time, and nothing was marked"
    )]
    ClockBehind {
        /// What the clock says.
        now: Timestamp,
        /// What is newer.
        what: String,
        /// When that was made.
        time: Timestamp,
    },
    /// A tree has something in it that this program would lose by writing it anew.
    #[error(
        "the tree of {path} ({id}) holds what this program can't write, and rewriting it would lose that"
    )]
    NotRewritable {
        /// The directory.
        path: String,
        /// Its tree.
        id: Id,
    },
    /// The config could not be replaced.
    #[error("the config of {location} could not be replaced, {}", if *is_old { "and the old one is in its place" } else { "and the old one could not be put back" })]
    ConfigNotReplaced {
        /// The repository's location.
        location: String,
        /// Whether the repository has its old config.
        is_old: bool,
        /// Why not.
        #[source]
        cause: Box<RepoError>,
    },
    /// A snapshot is there in whose place another is stored.
    #[error("snapshot {} is stored in the place of {}, which could not be removed, so that both exist now", new.short(), old.short())]
    OldSnapshotStays {
        /// The old one.
        old: Id,
        /// The new one.
        new: Id,
        /// Why it could not be removed.
        #[source]
        cause: Box<RepoError>,
    },
    /// What an interrupted init left of its config can't be removed.
    #[error(
        "an interrupted init left {size_bytes} bytes of the config of {location}, which are in the way of the whole one"
    )]
    ConfigInTheWay {
        /// The repository's location.
        location: String,
        /// How much of the config is there.
        size_bytes: u64,
        /// Why it can't be removed.
        #[source]
        cause: Box<RepoError>,
    },
    /// The operation makes no sense here.
    #[error("{0}")]
    Refused(String),
    /// Nobody can say what is lost before the index is repaired.
    #[error("{0}, so what is lost can't be told from what is only not indexed")]
    IndexFirst(String),
    /// Nobody can say what is lost before what is good in damaged packs is saved.
    #[error(
        "pack {first} is damaged, so what is lost can't be told from what can be saved from it"
    )]
    PacksFirst {
        /// The first of them.
        first: Id,
    },
    /// No pack at all is there, and some are needed: likely the place is not the right one.
    #[error(
        "{location} holds no pack at all, and {needed}: that looks like a place that is not mounted, and not like damage"
    )]
    NoPacks {
        /// The repository's location.
        location: String,
        /// What needs packs.
        needed: String,
    },
    /// The system gives no randomness.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
    /// A thread of the writer failed earlier.
    #[error("the repository can't be written to any more: {0}")]
    WriterFailed(String),
    /// Somebody wished to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl From<BackendError> for RepoError {
    fn from(error: BackendError) -> Self {
        match error {
            // A wish to stop is one, wherever it was heard.
            BackendError::Cancelled(cancelled) => Self::Cancelled(cancelled),
            error => Self::Backend(error),
        }
    }
}

impl RepoError {
    /// Whether it says nothing about a file, but that nothing can be read now: somebody wished to stop, or the place
    /// does not answer any more. What else is to be read would end the same way.
    #[must_use]
    pub fn ends_all(&self) -> bool {
        match self {
            Self::Cancelled(_) => true,
            Self::Backend(error) => error.ends_all(),
            Self::BlobDamaged { cause, .. }
            | Self::LockUnreadable { cause, .. }
            | Self::NeedsUnknown { cause, .. }
            | Self::OldSnapshotStays { cause, .. }
            | Self::ConfigInTheWay { cause, .. }
            | Self::ConfigNotReplaced { cause, .. } => cause.ends_all(),
            _ => false,
        }
    }

    /// The error that says more of two about one thing, which was tried here and there: what is only out of reach in one
    /// place may be whole there.
    #[must_use]
    pub(crate) fn or_out_of_reach(self, other: Self) -> Self {
        if other.ends_all() || self.is_damage() && !other.is_damage() {
            other
        } else {
            self
        }
    }

    /// Whether the named file is simply not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Backend(error) if error.is_missing())
    }

    /// Whether something is damaged or gone for good, and not only out of reach for the moment.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::Format(_) | Self::BlobUnknown { .. } => true,
            Self::BlobDamaged { cause, .. } => cause.is_damage(),
            Self::Backend(error) => matches!(
                error,
                BackendError::Missing { .. }
                    | BackendError::Short { .. }
                    | BackendError::TooLong { .. }
            ),
            _ => false,
        }
    }
}
