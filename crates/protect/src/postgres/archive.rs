//! The archive of a cluster's log in a repository: segments come in once, and go out to recoveries.
//! It must never overwrite a segment, take one of another cluster, or let a recovery end where one was lost.

use std::path::{Path, PathBuf};

use lifeboat_repo::backend::{LogName, LogNameError};
use lifeboat_repo::{Appended, LogError, Repository};
use lifeboat_state::postgres::{
    Absence, Inventory, SegmentBytes, Timeline, WalHeader, WalHeaderError, WalName, WalNameError,
};

/// The folder of the log that holds archives.
const FOLDER: &str = "wal";
/// A history has a line for each timeline; a longer file is none.
const SMALL_FILE_MAX_BYTES: u64 = 1024 * 1024;

/// The archive of one cluster.
pub struct Archive<'a> {
    repository: &'a Repository,
    system_id: u64,
}

/// What came of a request for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// It is here.
    Content(Vec<u8>),
    /// The archive surely ends before it.
    Beyond,
}

/// The archive could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is no file of an archive.
    #[error(transparent)]
    Name(#[from] WalNameError),
    /// The segment is not what its name says, or of another cluster.
    #[error("{name} can't be archived")]
    Header {
        /// Its name.
        name: WalName,
        /// Why.
        #[source]
        cause: WalHeaderError,
    },
    /// It is longer than such a file can be.
    #[error("{name} can't be archived: it has {bytes} bytes")]
    Long {
        /// Its name.
        name: WalName,
        /// Its length.
        bytes: u64,
    },
    /// It is in the archive with other content.
    #[error(
        "{name} of the cluster {system_id} is archived with other content: another server archives here as well"
    )]
    Different {
        /// Its name.
        name: WalName,
        /// The cluster.
        system_id: u64,
        /// What was found.
        #[source]
        cause: LogError,
    },
    /// It is not there, and a later one is.
    #[error("{name} of the cluster {system_id} is lost: it is not in the archive, and {next} is")]
    Lost {
        /// Its name.
        name: WalName,
        /// The cluster.
        system_id: u64,
        /// The next that is there.
        next: WalName,
    },
    /// It says in the archive what it does not say now.
    #[error("{name} in the archive is not what its name says")]
    Stored {
        /// Its name.
        name: WalName,
        /// Why.
        #[source]
        cause: WalHeaderError,
    },
    /// The repository failed.
    #[error("use the archive of the cluster {system_id}")]
    Log {
        /// The cluster.
        system_id: u64,
        /// Why.
        #[source]
        cause: LogError,
    },
    /// No name in a log can be made of it.
    #[error(transparent)]
    LogName(#[from] LogNameError),
}

impl<'a> Archive<'a> {
    /// The archive of a cluster.
    #[must_use]
    pub fn new(repository: &'a Repository, system_id: u64) -> Self {
        Self {
            repository,
            system_id,
        }
    }

    /// The clusters that have an archive in a repository.
    ///
    /// # Errors
    /// When the log can't be listed.
    pub fn clusters(repository: &Repository) -> Result<Vec<u64>, ArchiveError> {
        let below = FOLDER.parse()?;
        let failed = |cause| ArchiveError::Log {
            system_id: 0,
            cause,
        };
        let entries = repository.log().list(Some(&below)).map_err(failed)?;
        let ids = entries
            .iter()
            .filter_map(|entry| entry.name.parts().nth(1)?.parse().ok());
        let mut ids: Vec<u64> = ids.collect();
        ids.dedup();
        Ok(ids)
    }

    /// Puts a file in, durably when this returns. The same content once more is fine.
    ///
    /// # Errors
    /// When it is none of this cluster, is there with other content, or can't be stored.
    pub fn push(&self, name: WalName, content: &[u8]) -> Result<Appended, ArchiveError> {
        let bytes = content.len() as u64;
        let header = |cause| ArchiveError::Header { name, cause };
        match name {
            WalName::Segment(segment) => {
                let found = WalHeader::parse(content).map_err(header)?;
                found
                    .check(segment, self.system_id, bytes)
                    .map_err(header)?;
            }
            WalName::Partial(segment) => {
                let found = WalHeader::parse(content).map_err(header)?;
                let whole_bytes = found.segment_bytes.get();
                found
                    .check(segment, self.system_id, whole_bytes)
                    .map_err(header)?;
            }
            WalName::History(_) | WalName::Backup(..) if bytes > SMALL_FILE_MAX_BYTES => {
                return Err(ArchiveError::Long { name, bytes });
            }
            WalName::History(_) | WalName::Backup(..) => {}
        }
        self.repository
            .log()
            .append(&self.log_name(name)?, content)
            .map_err(|cause| match cause {
                LogError::Different { .. } => ArchiveError::Different {
                    name,
                    system_id: self.system_id,
                    cause,
                },
                cause => self.failed(cause),
            })
    }

    /// Gets a file out.
    ///
    /// # Errors
    /// When it was lost, is damaged, or nobody knows whether it is there: a recovery must not end then.
    pub fn fetch(&self, name: WalName) -> Result<Fetched, ArchiveError> {
        match self.repository.log().read(&self.log_name(name)?) {
            Ok(content) => {
                if let WalName::Segment(segment) = name {
                    let stored = |cause| ArchiveError::Stored { name, cause };
                    let header = WalHeader::parse(&content).map_err(stored)?;
                    header
                        .check(segment, self.system_id, content.len() as u64)
                        .map_err(stored)?;
                }
                return Ok(Fetched::Content(content));
            }
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(self.failed(error)),
        }
        // Only who has seen all names knows that nothing comes after it.
        let names = self.names_of(name.timeline())?;
        // The size decides only how names are counted, and only those of one timeline are.
        let size = self.segment_bytes(&names)?.unwrap_or(SegmentBytes::DEFAULT);
        match Inventory::of(names, size).absence(name) {
            Absence::Beyond => Ok(Fetched::Beyond),
            Absence::Lost { next } => Err(ArchiveError::Lost {
                name,
                system_id: self.system_id,
                next: WalName::Segment(next),
            }),
        }
    }

    /// What there is, with the size of segments; nothing if no segment is there that tells it.
    ///
    /// # Errors
    /// When the archive can't be listed, or the segment that tells the size can't be read.
    pub fn inventory(&self) -> Result<Option<Inventory>, ArchiveError> {
        let names = self.names(self.folder()?)?;
        let size = self.segment_bytes(&names)?;
        Ok(size.map(|size| Inventory::of(names, size)))
    }

    /// The size of segments, as one of these tells it.
    fn segment_bytes(&self, names: &[WalName]) -> Result<Option<SegmentBytes>, ArchiveError> {
        let segment = names
            .iter()
            .find(|name| matches!(name, WalName::Segment(_)));
        let Some(name) = segment.copied() else {
            return Ok(None);
        };
        let content = self.repository.log().read(&self.log_name(name)?);
        let content = content.map_err(|cause| self.failed(cause))?;
        let header = WalHeader::parse(&content);
        let header = header.map_err(|cause| ArchiveError::Stored { name, cause })?;
        Ok(Some(header.segment_bytes))
    }

    fn names_of(&self, timeline: Timeline) -> Result<Vec<WalName>, ArchiveError> {
        let folder = format!("{FOLDER}/{}/{:08X}", self.system_id, timeline.0);
        self.names(folder.parse()?)
    }

    /// The names below a folder; what is no name of a segment was put there by somebody else.
    fn names(&self, folder: LogName) -> Result<Vec<WalName>, ArchiveError> {
        let entries = self.repository.log().list(Some(&folder));
        let entries = entries.map_err(|cause| self.failed(cause))?;
        let names = entries
            .iter()
            .filter_map(|entry| entry.name.parts().last()?.parse().ok());
        Ok(names.collect())
    }

    fn folder(&self) -> Result<LogName, ArchiveError> {
        Ok(format!("{FOLDER}/{}", self.system_id).parse()?)
    }

    fn log_name(&self, name: WalName) -> Result<LogName, ArchiveError> {
        let timeline = name.timeline().0;
        Ok(format!("{FOLDER}/{}/{timeline:08X}/{name}", self.system_id).parse()?)
    }

    fn failed(&self, cause: LogError) -> ArchiveError {
        ArchiveError::Log {
            system_id: self.system_id,
            cause,
        }
    }
}

/// A file of the log on this machine.
#[derive(Clone, Debug)]
pub struct WalFile {
    /// Its name.
    pub name: WalName,
    /// Where it is.
    pub path: PathBuf,
}

impl WalFile {
    /// By its path.
    ///
    /// # Errors
    /// When its name is none of such a file.
    pub fn at(path: &Path) -> Result<Self, WalNameError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(Self {
            name: name.parse()?,
            path: path.to_path_buf(),
        })
    }
}
