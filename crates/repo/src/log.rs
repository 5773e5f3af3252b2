//! The log of a repository: named objects beside what restic knows, sealed with the same key and never overwritten.
//! It must never give a content under a name that it was not stored under, nor call damage absence.

mod error;
mod form;

use lifeboat_format::{FormatError, OVERHEAD_BYTES};

use crate::Repository;
use crate::backend::{Creation, LogName};
use crate::random;

pub use error::LogError;
pub use form::LOG_CONTENT_MAX_BYTES;

/// What came of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is stored.
    New,
    /// An object of this name with this content is there.
    Same,
}

/// An object of the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogEntry {
    /// Its name.
    pub name: LogName,
    /// How many bytes it takes in the repository.
    pub stored_bytes: u64,
}

/// An object as it will lie in the repository.
#[derive(Debug)]
pub struct SealedEntry {
    name: LogName,
    bytes: Vec<u8>,
}

impl SealedEntry {
    /// How many bytes it takes, in the repository and here.
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// The log of a repository. No lock is needed for anything: objects are created once and never change.
#[derive(Clone, Copy)]
pub struct Log<'a> {
    repository: &'a Repository,
}

impl Repository {
    /// The log beside this repository.
    #[must_use]
    pub fn log(&self) -> Log<'_> {
        Log { repository: self }
    }
}

impl Log<'_> {
    /// Stores an object, durably, if there is none of its name. One with the same content is fine, and durable too when
    /// this returns; who was killed before it heard of success can do the same again.
    ///
    /// # Errors
    /// [`LogError::Different`] if there is one with other content, which is left alone; [`LogError::Damaged`] if what is
    /// there can't be read, so that nobody knows; others when it can't be stored.
    pub fn append(&self, name: &LogName, content: &[u8]) -> Result<Appended, LogError> {
        self.append_sealed(&self.seal(name, content)?)
    }

    /// Seals an object, so that its content need not be kept until it is stored.
    ///
    /// # Errors
    /// When it is too long, or can't be sealed.
    pub fn seal(&self, name: &LogName, content: &[u8]) -> Result<SealedEntry, LogError> {
        let mut bytes = self.sealed(name, content)?;
        bytes.shrink_to_fit();
        Ok(SealedEntry {
            name: name.clone(),
            bytes,
        })
    }

    /// As [`append`](Self::append), of an object that this log has sealed.
    ///
    /// # Errors
    /// As those of [`append`](Self::append).
    pub fn append_sealed(&self, entry: &SealedEntry) -> Result<Appended, LogError> {
        let SealedEntry { name, bytes } = entry;
        match self.repository.backend().log_create(name, &[bytes])? {
            Creation::Created => Ok(Appended::New),
            Creation::Exists if self.read(name)? == self.content_of(entry)? => Ok(Appended::Same),
            Creation::Exists => Err(LogError::Different {
                name: name.clone(),
                location: self.location(),
            }),
        }
    }

    /// What was sealed.
    ///
    /// # Errors
    /// When this log has not sealed it.
    pub fn content_of(&self, entry: &SealedEntry) -> Result<Vec<u8>, LogError> {
        let opened = self.opened(&entry.name, entry.bytes.clone());
        opened.map_err(|error| LogError::Seal(error.to_string()))
    }

    /// The content of an object.
    ///
    /// # Errors
    /// [`LogError::Damaged`] if it is not what was stored under this name; [`LogError::is_missing`] tells whether there
    /// surely is none.
    pub fn read(&self, name: &LogName) -> Result<Vec<u8>, LogError> {
        let fetched = || {
            let limit_bytes = form::FRAMED_MAX_BYTES + OVERHEAD_BYTES as u64;
            self.repository.backend().log_load(name, limit_bytes)
        };
        match self.opened(name, fetched()?) {
            // It may have been garbled on the way.
            Err(_) => self.opened(name, fetched()?),
            opened => opened,
        }
        .map_err(|cause| LogError::Damaged {
            name: name.clone(),
            location: self.location(),
            cause,
        })
    }

    /// All objects below a name, or all that there are, in the order of their names.
    ///
    /// # Errors
    /// When the listing is not complete.
    pub fn list(&self, below: Option<&LogName>) -> Result<Vec<LogEntry>, LogError> {
        let mut found = Vec::new();
        self.repository
            .backend()
            .log_list(below, &mut |name, stored_bytes| {
                found.push(LogEntry { name, stored_bytes });
            })?;
        found.sort_unstable();
        found.dedup_by(|later, first| later.name == first.name);
        Ok(found)
    }

    /// Removes an object; one that is not there is fine. After a loss of power it may come back.
    ///
    /// # Errors
    /// When it is still there afterwards.
    pub fn remove(&self, name: &LogName) -> Result<(), LogError> {
        Ok(self.repository.backend().log_remove(name)?)
    }

    fn sealed(&self, name: &LogName, content: &[u8]) -> Result<Vec<u8>, LogError> {
        let mut sealed = form::framed(name, content)?;
        let nonce = random::nonce().map_err(|error| LogError::Seal(error.to_string()))?;
        let done = self.repository.master().seal(&nonce, &mut sealed);
        done.map_err(|error| LogError::Seal(error.to_string()))?;
        Ok(sealed)
    }

    fn opened(&self, name: &LogName, mut sealed: Vec<u8>) -> Result<Vec<u8>, FormatError> {
        let framed = self.repository.master().open(&mut sealed)?;
        form::unframed(name, framed)
    }

    fn location(&self) -> String {
        self.repository.backend().location()
    }
}
