//! A source reads a member out as a tree, pulled by whoever writes it to a repository.
//! It must never change what it reads, and must never hide what it could not read.

use std::io::Read;
use std::time::Duration;

use crate::{ChunkRule, Entry, EntryPath, Problem};

/// A member that can be read, as it was at one point of consistency. Calls come from several threads at once.
pub trait Source: Send + Sync {
    /// The entries of a directory, with names in strictly ascending byte order; what can't be read is a problem of the listing.
    ///
    /// # Errors
    /// When the directory itself can't be read.
    fn list(&self, dir: &EntryPath) -> Result<Listing, SourceError>;

    /// The content of a file that a listing named.
    ///
    /// # Errors
    /// When it vanished, is no regular file any more, or can't be opened.
    fn open(&self, path: &EntryPath) -> Result<Box<dyn Content>, SourceError>;
}

/// The content of one file while it is read.
pub trait Content: Read + Send {
    /// Called after the last byte: the metadata at the time of reading, and whether the file changed meanwhile.
    ///
    /// # Errors
    /// When what was read can't be relied on, such as the output of a command that failed.
    fn finish(&mut self) -> Result<Option<Entry>, SourceError>;

    /// Whether the file changed between opening and [`finish`](Content::finish); only meaningful after it.
    fn changed(&self) -> bool {
        false
    }

    /// How it is best cut into chunks.
    fn chunk_rule(&self) -> ChunkRule {
        ChunkRule::Restic
    }

    /// What is wrong with what was read, though it was read as it is; only complete after [`finish`](Content::finish).
    fn faults(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// The entries of one directory.
#[derive(Debug, Default)]
pub struct Listing {
    /// In strictly ascending byte order of names.
    pub entries: Vec<Entry>,
    /// What could not be read: it is missing from `entries`, or is there with an `error` that says what of it is missing.
    pub problems: Vec<Problem>,
}

/// A source could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// One entry can't be read; the rest of the member can.
    #[error("{doing} {path}")]
    Unreadable {
        /// What was being done, as "open file".
        doing: &'static str,
        /// To what, as the user knows it.
        path: String,
        /// Why it failed.
        #[source]
        cause: std::io::Error,
    },
    /// The entry is gone, which is as it should be: the member does without it.
    #[error("{path} is not there any more")]
    Gone {
        /// The path, as the user knows it.
        path: String,
    },
    /// The entry is not what the listing said.
    #[error("{path} was {was} when listed and is {is} now")]
    Changed {
        /// The path, as the user knows it.
        path: String,
        /// Its kind in the listing.
        was: &'static str,
        /// What it is now.
        is: &'static str,
    },
    /// The member as a whole can't be trusted: the backup must not be acknowledged.
    #[error("{reason}")]
    Fatal {
        /// What happened, as a sentence without a full stop.
        reason: String,
    },
    /// The member did not answer in time.
    #[error("reading {path} took longer than {limit:?}")]
    TimedOut {
        /// The path, as the user knows it.
        path: String,
        /// The limit.
        limit: Duration,
    },
}
