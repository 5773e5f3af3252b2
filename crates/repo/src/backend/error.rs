//! Why a backend could not do what it was asked, in kinds that decide whether to try again and what to advise.
//! It must never hold a secret: neither a password in a URL nor a signature.

use std::io::ErrorKind;
use std::time::Duration;

use lifeboat_flow::Cancelled;

use super::{FileName, LogName};

/// A backend could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// There is no such file.
    #[error("{name} does not exist in {location}")]
    Missing {
        /// The file.
        name: FileName,
        /// The repository's location.
        location: String,
    },
    /// There is no such object in the log.
    #[error("{} does not exist in {location}", name.path())]
    NoObject {
        /// The object.
        name: LogName,
        /// The repository's location.
        location: String,
    },
    /// There is no repository at the location.
    #[error("there is no repository at {location}: {what} is missing")]
    NoRepository {
        /// The repository's location.
        location: String,
        /// Which part is missing.
        what: String,
    },
    /// The file is shorter than what is known about it.
    #[error("{name} in {location} ends at {size_bytes} bytes, {wanted_bytes} were expected")]
    Short {
        /// The file.
        name: FileName,
        /// The repository's location.
        location: String,
        /// Its size.
        size_bytes: u64,
        /// Where the read should have ended.
        wanted_bytes: u64,
    },
    /// The file is longer than any legal one.
    #[error(
        "{name} in {location} has {size_bytes} bytes, more than the {limit_bytes} that such a file may have"
    )]
    TooLong {
        /// The file.
        name: FileName,
        /// The repository's location.
        location: String,
        /// Its size.
        size_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// An object of the log is longer than any legal one.
    #[error(
        "{} in {location} has {size_bytes} bytes, more than the {limit_bytes} that it may have", name.path()
    )]
    ObjectTooLong {
        /// The object.
        name: LogName,
        /// The repository's location.
        location: String,
        /// Its size.
        size_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// A server, or the way to it, failed or refused.
    #[error("cannot {doing} {what} in {location}: {why}")]
    Remote {
        /// What was being done, as "write".
        doing: &'static str,
        /// To what, as `data/…`.
        what: String,
        /// The repository's location.
        location: String,
        /// What kind of failure that is.
        trouble: Trouble,
        /// Why it failed, in the server's words where it said some.
        why: String,
        /// How long the server wishes to be left alone.
        retry_after: Option<Duration>,
    },
    /// The system below failed.
    #[error("cannot {doing} {what} in {location}")]
    Io {
        /// What was being done, as "write".
        doing: &'static str,
        /// To what, as `data/…`.
        what: String,
        /// The repository's location.
        location: String,
        /// Why it failed.
        #[source]
        cause: std::io::Error,
    },
    /// It failed again and again, and trying was given up.
    #[error("gave up after {tries} {} and {seconds} s without success", if *tries == 1 { "try" } else { "tries" })]
    GaveUp {
        /// How often it was tried.
        tries: u32,
        /// Since when nothing succeeded, in seconds.
        seconds: u64,
        /// Whether the place does answer, so that only this request never succeeds.
        place_answers: bool,
        /// What the last try said.
        #[source]
        cause: Box<BackendError>,
    },
    /// It was not tried, because a lock does not hold any more.
    #[error("{name} in {location} was not touched: {why}")]
    Fenced {
        /// The file.
        name: FileName,
        /// The repository's location.
        location: String,
        /// What became of the lock.
        why: String,
    },
    /// Somebody wished to stop while it waited.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl BackendError {
    /// What kind of failure a server met, if one did.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Remote { trouble, .. } => Some(*trouble),
            Self::GaveUp { cause, .. } => cause.trouble(),
            _ => None,
        }
    }

    /// Whether the file or object, and nothing more, is missing.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::NoObject { .. })
    }

    /// Whether the same request may succeed a moment later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Remote { trouble, .. } => trouble.is_transient(),
            Self::Io { cause, .. } => matches!(
                cause.kind(),
                ErrorKind::Interrupted | ErrorKind::TimedOut | ErrorKind::StaleNetworkFileHandle
            ),
            _ => false,
        }
    }

    /// Whether the place does not answer any more, or somebody wished to stop: no other request would do better.
    #[must_use]
    pub fn ends_all(&self) -> bool {
        match self {
            Self::GaveUp { place_answers, .. } => !place_answers,
            Self::Cancelled(_) | Self::Fenced { .. } => true,
            _ => false,
        }
    }

    /// Whether the place did not allow it: missing rights, append-only, object lock.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Remote { trouble, .. } => *trouble == Trouble::Denied,
            Self::Io { cause, .. } => matches!(
                cause.kind(),
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
            ),
            _ => false,
        }
    }

    /// How long the server wishes to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Remote { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// What kind of failure a server, or the way to it, met; it decides whether to try again and what to advise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It passes: an overloaded or restarting server, a broken connection, a time-out, a truncated answer.
    Transient,
    /// The server can't be reached: no such name, no route, nobody listens. It may pass.
    Unreachable,
    /// No safe connection: an unknown or wrong certificate, no common protocol.
    Tls,
    /// The credentials are missing, unknown, wrong or expired.
    Credentials,
    /// The credentials are fine, the request is not allowed: missing rights, append-only, object lock.
    Denied,
    /// The bucket, path or module that should hold the repository is not there.
    NoPlace,
    /// The bucket is elsewhere: another region or endpoint.
    WrongPlace,
    /// This machine's clock and the server's differ too much.
    Clock,
    /// The host key is unknown or changed.
    HostKey,
    /// The place is full or a quota is used up.
    Full,
    /// A program that is needed (ssh, rclone) is missing or ended.
    Program,
    /// The server answered what the protocol does not allow.
    Protocol,
    /// Anything else that will not pass by itself.
    Other,
}

impl Trouble {
    /// Whether it may pass by itself.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Transient | Self::Unreachable)
    }
}
