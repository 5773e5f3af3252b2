//! What goes wrong with a server, in its own words where it has some.
//! It must never repeat a password, not even in what a server says.

use std::io;
use std::time::Duration;

use lifeboat_flow::Cancelled;

/// What a server says about an error (PostgreSQL manual, "Error and Notice Message Fields").
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error(
    "{severity}: {message}{}{}",
    with("; ", detail),
    with("; hint: ", hint)
)]
pub struct ServerError {
    /// `ERROR`, `FATAL` or `PANIC`.
    pub severity: String,
    /// Five characters that name the kind of error ("SQLSTATE").
    pub code: String,
    /// What went wrong.
    pub message: String,
    /// More of it, or nothing.
    pub detail: String,
    /// What to do, or nothing.
    pub hint: String,
}

fn with(before: &str, text: &str) -> String {
    match text {
        "" => String::new(),
        text => format!("{before}{text}"),
    }
}

/// A server could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum PgError {
    /// Nobody answers there.
    #[error("connect to {address}")]
    Connect {
        /// Where and as whom.
        address: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The connection was lost, or was silent for too long.
    #[error("{doing}")]
    Lost {
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The server refused.
    #[error("{doing}")]
    Refused {
        /// What was being done.
        doing: String,
        /// Its words.
        #[source]
        cause: ServerError,
    },
    /// A password is needed and none is known.
    #[error("{address} asks for a password, and none is given")]
    NoPassword {
        /// Where and as whom.
        address: String,
    },
    /// The server wants something that is not known here.
    #[error("{address} asks for {what}, which Lifeboat does not know")]
    Unknown {
        /// Where and as whom.
        address: String,
        /// What it wants.
        what: String,
    },
    /// No encryption where some is wanted.
    #[error("{address} does not encrypt, and sslmode asks for it")]
    NoTls {
        /// Where and as whom.
        address: String,
    },
    /// What came is no message of the protocol.
    #[error("the server sent {0}, which its protocol does not allow there")]
    Protocol(String),
    /// Nothing came for too long.
    #[error("the server said nothing for {} s", .0.as_secs())]
    Silent(Duration),
    /// Somebody wishes to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl PgError {
    /// What the server said, if it was the server.
    #[must_use]
    pub fn server(&self) -> Option<&ServerError> {
        match self {
            Self::Refused { cause, .. } => Some(cause),
            _ => None,
        }
    }
}
