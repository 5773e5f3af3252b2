//! The archive of a cluster's log in a repository: segments come in once, and go out to recoveries.
//! It must never overwrite a segment, take one of another cluster, or let a recovery end where one was lost.

use std::collections::BTreeMap;

use lifeboat_repo::backend::{LogName, LogNameError};
use lifeboat_repo::{Appended, LogError, Repository};
use lifeboat_state::postgres::{
    Absence, History, HistoryError, Inventory, SegmentBytes, Switch, Timeline, WalHeader,
    WalHeaderError, WalName, absence,
};

/// The folder of the log that holds archives.
const FOLDER: &str = "wal";
/// A history has a line for each timeline; a longer file is none.
const SMALL_FILE_MAX_BYTES: u64 = 1024 * 1024;
/// Segments that are asked for their size, should the first be damaged.
const SIZE_LOOKS_MAX: usize = 3;

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
    /// It is not there, and something proves that it was.
    #[error(
        "{name} of the cluster {system_id} is lost: it is not in the archive, and {by} proves that there was one"
    )]
    Lost {
        /// Its name.
        name: WalName,
        /// The cluster.
        system_id: u64,
        /// What is there.
        by: WalName,
    },
    /// There is nothing at all, so that nothing proves an end.
    #[error("nothing of the log of the cluster {system_id} is archived in this repository")]
    Empty {
        /// The cluster.
        system_id: u64,
    },
    /// It is no history of its timeline.
    #[error("{name} can't be the history of a timeline")]
    History {
        /// Its name.
        name: WalName,
        /// Why, if it can be read at all.
        #[source]
        cause: Option<HistoryError>,
    },
    /// It is no note of a backup.
    #[error("{name} can't be the note of a backup: it does not name its segment")]
    Note {
        /// Its name.
        name: WalName,
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
    /// The repository does not tell what is in it.
    #[error("list the archives in the repository")]
    List(#[source] LogError),
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
        let entries = repository.log().list(Some(&below));
        let entries = entries.map_err(ArchiveError::List)?;
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
            WalName::History(timeline) => drop(history(timeline, content)?),
            WalName::Backup(segment, _) => {
                let file = format!("(file {segment})");
                let text = String::from_utf8_lossy(content);
                if !text
                    .lines()
                    .any(|line| line.starts_with("START WAL LOCATION") && line.ends_with(&file))
                {
                    return Err(ArchiveError::Note { name });
                }
            }
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

    /// Whether a file can be read back as it should be.
    ///
    /// # Errors
    /// When it is there and is not what its name says, or the archive can't be read.
    pub fn holds(&self, name: WalName) -> Result<bool, ArchiveError> {
        Ok(self.read(name)?.is_some())
    }

    /// Gets a file out, for a server on a timeline whose segments have this size.
    ///
    /// # Errors
    /// When it was lost, is damaged, or nobody knows whether it is there, as in an archive that has nothing: a recovery must
    /// not end then.
    pub fn fetch(
        &self,
        name: WalName,
        own: Timeline,
        size: SegmentBytes,
    ) -> Result<Fetched, ArchiveError> {
        if let Some(content) = self.read(name)? {
            return Ok(Fetched::Content(content));
        }
        // Only who has seen all names knows that nothing comes after it.
        let names = self.names()?;
        if names.is_empty() {
            // Another repository than the cluster's, or an archive that is not mounted, looks the same.
            return Err(ArchiveError::Empty {
                system_id: self.system_id,
            });
        }
        let histories = match name {
            WalName::Segment(segment) => self.histories_after(&names, segment.timeline)?,
            _ => BTreeMap::new(),
        };
        let Absence::Lost { by } = absence(name, own, size, &names, &histories) else {
            return Ok(Fetched::Beyond);
        };
        // It may have come in the meantime.
        match self.read(name)? {
            Some(content) => Ok(Fetched::Content(content)),
            None => Err(ArchiveError::Lost {
                name,
                system_id: self.system_id,
                by,
            }),
        }
    }

    /// What there is, with the histories; nothing if there is no segment.
    ///
    /// # Errors
    /// When the archive can't be listed, or a history can't be read.
    pub fn inventory(&self, size: Option<SegmentBytes>) -> Result<Option<Holdings>, ArchiveError> {
        let names = self.names()?;
        let Some(size) = size.map_or_else(|| self.segment_bytes(&names), |size| Ok(Some(size)))?
        else {
            return Ok(None);
        };
        let histories = self.histories_after(&names, Timeline(0))?;
        let inventory = Inventory::of(names, size);
        Ok(Some(Holdings {
            inventory,
            histories,
        }))
    }

    /// A file, if it is there, and what its name says.
    fn read(&self, name: WalName) -> Result<Option<Vec<u8>>, ArchiveError> {
        let content = match self.repository.log().read(&self.log_name(name)?) {
            Ok(content) => content,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(self.failed(error)),
        };
        match name {
            WalName::Segment(segment) => {
                let stored = |cause| ArchiveError::Stored { name, cause };
                let header = WalHeader::parse(&content).map_err(stored)?;
                header
                    .check(segment, self.system_id, content.len() as u64)
                    .map_err(stored)?;
            }
            WalName::History(timeline) => drop(history(timeline, &content)?),
            WalName::Partial(_) | WalName::Backup(..) => {}
        }
        Ok(Some(content))
    }

    /// The histories of timelines after this one.
    fn histories_after(
        &self,
        names: &[WalName],
        timeline: Timeline,
    ) -> Result<BTreeMap<Timeline, History>, ArchiveError> {
        let mut histories = BTreeMap::new();
        for name in names {
            let WalName::History(of) = *name else {
                continue;
            };
            if of > timeline
                && let Some(content) = self.read(*name)?
            {
                histories.insert(of, history(of, &content)?);
            }
        }
        Ok(histories)
    }

    /// The size of segments, as one of the newest tells it.
    fn segment_bytes(&self, names: &[WalName]) -> Result<Option<SegmentBytes>, ArchiveError> {
        let segments = names
            .iter()
            .rev()
            .filter(|name| matches!(name, WalName::Segment(_)));
        let mut failed = None;
        for name in segments.take(SIZE_LOOKS_MAX) {
            let content = match self.repository.log().read(&self.log_name(*name)?) {
                Ok(content) => content,
                Err(cause) => {
                    failed = Some(self.failed(cause));
                    continue;
                }
            };
            match WalHeader::parse(&content) {
                Ok(header) => return Ok(Some(header.segment_bytes)),
                Err(cause) => failed = Some(ArchiveError::Stored { name: *name, cause }),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// All names; what is no name of a segment was put there by somebody else.
    fn names(&self) -> Result<Vec<WalName>, ArchiveError> {
        let folder = format!("{FOLDER}/{}", self.system_id).parse()?;
        let entries = self.repository.log().list(Some(&folder));
        let entries = entries.map_err(|cause| self.failed(cause))?;
        let names = entries
            .iter()
            .filter_map(|entry| entry.name.parts().last()?.parse().ok());
        Ok(names.collect())
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

/// What an archive holds.
#[derive(Clone, Debug)]
pub struct Holdings {
    /// Its segments.
    pub inventory: Inventory,
    /// Where timelines were left.
    pub histories: BTreeMap<Timeline, History>,
}

/// The history of a timeline: each but the first has one before it.
fn history(timeline: Timeline, content: &[u8]) -> Result<History, ArchiveError> {
    let wrong = |cause| ArchiveError::History {
        name: WalName::History(timeline),
        cause,
    };
    let text = std::str::from_utf8(content).map_err(|_| wrong(None))?;
    let history = History::parse(text).map_err(|cause| wrong(Some(cause)))?;
    let is_before = |last: &Switch| last.timeline < timeline;
    match history.switches.last().is_some_and(is_before) {
        true => Ok(history),
        false => Err(wrong(None)),
    }
}
