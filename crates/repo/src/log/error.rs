//! What can go wrong with the log of a repository.
//! It must never hold content or keys, and never repeat its cause in its own text.

use lifeboat_flow::Cancelled;
use lifeboat_format::FormatError;

use super::form::LOG_CONTENT_MAX_BYTES;
use crate::backend::{BackendError, LogName};

/// The log could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// An object of this name has other content, and nothing is ever overwritten.
    #[error("{} in {location} is there with other content, which is left alone", name.path())]
    Different {
        /// The object.
        name: LogName,
        /// The repository's location.
        location: String,
    },
    /// An object is not what was stored under its name.
    #[error("{} in {location} is damaged", name.path())]
    Damaged {
        /// The object.
        name: LogName,
        /// The repository's location.
        location: String,
        /// What is wrong with it.
        #[source]
        cause: FormatError,
    },
    /// The content is longer than an object may be.
    #[error(
        "{} would have {size_bytes} bytes, more than the {LOG_CONTENT_MAX_BYTES} that an object of the log may have", name.path()
    )]
    TooLong {
        /// The object.
        name: LogName,
        /// The length of the content.
        size_bytes: u64,
    },
    /// The content could not be compressed or encrypted.
    #[error("cannot seal an object of the log: {0}")]
    Seal(String),
    /// The backend failed.
    #[error(transparent)]
    Backend(BackendError),
    /// Somebody wished to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl From<BackendError> for LogError {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::Cancelled(cancelled) => Self::Cancelled(cancelled),
            error => Self::Backend(error),
        }
    }
}

impl LogError {
    /// Whether the object surely is not there, in a repository that is.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Backend(error) if error.is_missing())
    }
}
