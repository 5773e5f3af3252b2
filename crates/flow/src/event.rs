//! What a running command tells: counters that a consumer samples, and events that it must not miss.
//! It must never print, and must never block the work on a slow reader.

use std::fmt;
use std::sync::atomic::AtomicU64;

/// Something that could not be done to one entry while the rest went on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The entry, as the user knows it.
    pub path: String,
    /// What was being done, as "open file".
    pub doing: String,
    /// Why it failed, with all causes.
    pub why: String,
}

impl Problem {
    /// From an error and its chain of causes.
    #[must_use]
    pub fn from_error(path: &str, doing: &str, error: &dyn std::error::Error) -> Self {
        let why = chain(error);
        Self {
            path: path.to_owned(),
            doing: doing.to_owned(),
            why,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.path, self.doing, self.why)
    }
}

/// An error with all its causes in one line, for places that keep text.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut last = text.clone();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        // A cause that says no more than its error would only be read twice.
        if words != last {
            text.push_str(": ");
            text.push_str(&words);
        }
        last = words;
        cause = inner.source();
    }
    text
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An entry could not be read or restored completely.
    Problem(Problem),
    /// Something the user should know that changes no result.
    Note(String),
    /// An entry was done, for verbose output: what was decided, the path, its size in bytes.
    Item {
        /// One of `new`, `modified`, `unchanged`, `restored`, `updated`, `deleted`, `skipped`.
        action: &'static str,
        /// The entry.
        path: String,
        /// Its size in bytes.
        size_bytes: u64,
    },
}

/// Who takes events. Calls come from several threads at once.
pub trait EventSink: Send + Sync {
    /// Takes one event.
    fn event(&self, event: Event);
    /// Whether [`Event::Item`] is wanted; they are many.
    fn wants_items(&self) -> bool {
        false
    }
}

/// Numbers that grow while a command runs; a consumer samples them.
#[derive(Debug, Default)]
pub struct Counters {
    /// Files that are done.
    pub files_done: AtomicU64,
    /// Bytes of content that are done.
    pub bytes_done: AtomicU64,
    /// Files known so far.
    pub files_total: AtomicU64,
    /// Bytes known so far.
    pub bytes_total: AtomicU64,
    /// Bytes sent to the repository.
    pub bytes_stored: AtomicU64,
    /// Problems so far.
    pub problems: AtomicU64,
}
