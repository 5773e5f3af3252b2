//! A file of a cluster's log on its way into the archive: found, read, compared with its name, stored.
//! It must never be called stored before it is durable, nor be stored in a repository that took the place of ours.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lifeboat_flow::Cancelled;
use lifeboat_repo::backend::BackendError;
use lifeboat_repo::{Appended, LOG_CONTENT_MAX_BYTES, LogError, RepoError, Repository};
use lifeboat_state::postgres::WalName;

use super::archive::{Archive, ArchiveError, SealedFile};

/// A file of a cluster's log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogFile {
    /// The cluster, as the control file of its data directory has it.
    pub system_id: u64,
    /// The data directory.
    pub data: PathBuf,
    /// Where the file is.
    pub path: PathBuf,
    /// What it is.
    pub name: WalName,
}

/// By what a file is known to be the same, and unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileState {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileState {
    /// Its length.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

/// What was read of a file of the log, ready to be stored.
#[derive(Clone, Debug)]
pub struct ReadLogFile {
    name: WalName,
    system_id: u64,
    content: Vec<u8>,
    history: Option<(WalName, Vec<u8>)>,
    state: FileState,
}

/// The same as it will lie in the archive.
#[derive(Debug)]
pub(super) struct SealedLogFile {
    history: Option<SealedFile>,
    file: SealedFile,
    state: FileState,
}

/// A file of the log could not be archived.
#[derive(Debug, thiserror::Error)]
pub enum LogFileError {
    /// It can't be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It was written while it was read.
    #[error("{} changed while it was read", .0.display())]
    Changed(PathBuf),
    /// The archive does not take it.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

impl LogFileError {
    /// Whether the store failed, and neither the file nor what is in the archive already is wrong.
    #[must_use]
    pub fn is_of_store(&self) -> bool {
        match self {
            Self::Archive(error) => error.is_of_store(),
            Self::Read { .. } | Self::Changed(_) => false,
        }
    }

    /// Whether somebody wished to stop.
    #[must_use]
    pub fn is_wish(&self) -> bool {
        Cancelled::is_cause_of(self)
    }

    /// Whether who has the repository open should let go of it: it is another one, is gone, or lets nobody in any more.
    #[must_use]
    pub fn ends_session(&self) -> bool {
        match self {
            Self::Archive(error) => error.ends_session(),
            Self::Read { .. } | Self::Changed(_) => false,
        }
    }
}

impl ArchiveError {
    /// Whether the store failed, and neither the file nor what is in the archive already is wrong.
    #[must_use]
    pub fn is_of_store(&self) -> bool {
        match self {
            Self::List(cause) | Self::Log { cause, .. } => matches!(cause, LogError::Backend(_)),
            Self::Folded(cause) => matches!(cause, RepoError::Backend(_)),
            Self::Place(_) | Self::Replaced { .. } => true,
            _ => false,
        }
    }

    /// Whether who has the repository open should let go of it: it lets nobody in any more, or is not there.
    #[must_use]
    pub fn ends_session(&self) -> bool {
        match self {
            Self::List(LogError::Backend(error))
            | Self::Log {
                cause: LogError::Backend(error),
                ..
            } => error.is_refusal() || matches!(error, BackendError::NoRepository { .. }),
            Self::Place(RepoError::Backend(error)) => {
                error.is_refusal()
                    || error.is_missing()
                    || matches!(error, BackendError::NoRepository { .. })
            }
            Self::Place(_) | Self::Replaced { .. } => true,
            _ => false,
        }
    }
}

impl LogFile {
    /// Reads the file, and the history of its timeline if the server has one.
    ///
    /// # Errors
    /// When one of them can't be read, or changes meanwhile.
    pub fn read(&self) -> Result<ReadLogFile, LogFileError> {
        let failed = |cause| LogFileError::Read {
            path: self.path.clone(),
            cause,
        };
        let mut file = File::open(&self.path).map_err(failed)?;
        let before = FileState::of(&file.metadata().map_err(failed)?);
        let mut content = Vec::new();
        let length = before.bytes.min(LOG_CONTENT_MAX_BYTES);
        content.reserve_exact(usize::try_from(length).unwrap_or(0));
        (&mut file)
            .take(LOG_CONTENT_MAX_BYTES + 1)
            .read_to_end(&mut content)
            .map_err(failed)?;
        let state = FileState::of(&file.metadata().map_err(failed)?);
        if state != before {
            return Err(LogFileError::Changed(self.path.clone()));
        }
        Ok(ReadLogFile {
            name: self.name,
            system_id: self.system_id,
            content,
            history: self.history()?,
            state,
        })
    }

    /// What the file is now; `None` if nobody can tell.
    pub(super) fn state(&self) -> Option<FileState> {
        let found = std::fs::metadata(&self.path).ok()?;
        Some(FileState::of(&found))
    }

    /// The history of a timeline goes before its segments, also where the server archives it no more because archiving was
    /// off when the timeline began: without it a recovery would not find the timeline.
    fn history(&self) -> Result<Option<(WalName, Vec<u8>)>, LogFileError> {
        let WalName::Segment(segment) = self.name else {
            return Ok(None);
        };
        let name = WalName::History(segment.timeline);
        let path = own_file(&self.data, name);
        if segment.timeline.0 == 1 || !path.exists() {
            return Ok(None);
        }
        match std::fs::read(&path) {
            Ok(content) => Ok(Some((name, content))),
            Err(cause) => Err(LogFileError::Read { path, cause }),
        }
    }
}

impl ReadLogFile {
    /// Stores it, durably when this returns.
    ///
    /// # Errors
    /// As those of [`Archive::push`].
    pub fn push(self, repository: &Repository) -> Result<Appended, LogFileError> {
        let archive = Archive::new(repository, self.system_id);
        let sealed = self.seal(&archive)?;
        Ok(sealed.push(&archive)?)
    }

    /// Seals it for its cluster's archive, after which its content is needed no more.
    pub(super) fn seal(self, archive: &Archive<'_>) -> Result<SealedLogFile, LogFileError> {
        let history = self
            .history
            .map(|(name, content)| archive.seal(name, &content));
        Ok(SealedLogFile {
            history: history.transpose()?,
            file: archive.seal(self.name, &self.content)?,
            state: self.state,
        })
    }
}

impl SealedLogFile {
    /// What the file was when it was read.
    pub(super) fn state(&self) -> &FileState {
        &self.state
    }

    /// Memory that it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.file.bytes()
    }

    /// Stores it, durably when this returns.
    pub(super) fn push(&self, archive: &Archive<'_>) -> Result<Appended, ArchiveError> {
        if let Some(history) = &self.history {
            archive.push_sealed(history)?;
        }
        archive.push_sealed(&self.file)
    }
}

/// Where the server keeps its own files of the log.
#[must_use]
pub fn own_file(data: &Path, name: WalName) -> PathBuf {
    data.join("pg_wal").join(name.to_string())
}

#[cfg(test)]
mod tests {
    use lifeboat_repo::backend::BackendError;

    use super::*;

    fn of_log(cause: LogError) -> LogFileError {
        ArchiveError::Log {
            system_id: 1,
            cause,
        }
        .into()
    }

    #[test]
    fn a_wish_is_no_fault_of_the_store() {
        let waiting = BackendError::Cancelled(Cancelled);
        assert!(of_log(LogError::Backend(waiting)).is_wish());
        assert!(of_log(LogError::Cancelled(Cancelled)).is_wish());
        let place = ArchiveError::Place(RepoError::Cancelled(Cancelled));
        assert!(LogFileError::from(place).is_wish());
    }

    #[test]
    fn damage_in_the_archive_is_no_fault_of_the_store() {
        let garbled = of_log(LogError::Seal("no memory".into()));
        assert!(!garbled.is_of_store() && !garbled.is_wish());
        let missing = BackendError::NoRepository {
            location: "here".into(),
            what: "config".into(),
        };
        assert!(of_log(LogError::Backend(missing)).is_of_store());
    }
}
