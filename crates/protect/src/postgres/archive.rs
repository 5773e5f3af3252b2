//! The archive of a cluster's log in a repository: segments come in once, and go out to recoveries.
//! It must never overwrite a segment, take one of another cluster, or let a recovery end where one was lost.

pub(super) mod expiry;
pub(super) mod fold;
mod folds;
mod marks;
mod pieces;

use std::collections::BTreeMap;

use lifeboat_flow::Cancel;
use lifeboat_format::Config;
use lifeboat_repo::backend::{FileName, LogName, LogNameError};
use lifeboat_repo::{Appended, LogError, RepoError, Repository, SealedEntry};
use lifeboat_state::postgres::{
    Absence, History, HistoryError, Inventory, SegmentBytes, Switch, Timeline, WalHeader,
    WalHeaderError, WalName, absence,
};

use folds::{FoldView, folded_clusters};
use pieces::Parts;

/// The folder of the log that holds archives.
const FOLDER: &str = "wal";
/// A history has a line for each timeline; a longer file is none.
const SMALL_FILE_MAX_BYTES: u64 = 1024 * 1024;
/// Segments that are asked for their size, should the first be damaged.
const SIZE_LOOKS_MAX: usize = 3;
/// How often it is looked at what there is of a segment, while somebody streams it.
const PARTS_LOOKS_MAX: usize = 10;

/// The archive of one cluster.
pub struct Archive<'a> {
    repository: &'a Repository,
    system_id: u64,
    cancel: Cancel,
}

/// A file as it will lie in the archive.
#[derive(Debug)]
pub(super) struct SealedFile {
    name: WalName,
    entry: SealedEntry,
}

impl SealedFile {
    /// Memory that it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.entry.stored_bytes()
    }
}

/// What came of a request for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// It is here.
    Content(Vec<u8>),
    /// What was streamed of a segment in which the archive ends, filled with zeros to its length.
    Beginning {
        /// The segment.
        content: Vec<u8>,
        /// How many bytes of it are log.
        log_bytes: usize,
    },
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
    /// Another repository took the place of the one that was opened.
    #[error("{location} holds another repository now than when it was opened")]
    Replaced {
        /// The place.
        location: String,
    },
    /// Nobody can tell whether the repository is the one that was opened.
    #[error("look whether the repository is still the same")]
    Place(#[source] RepoError),
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
    /// It is no such piece.
    #[error("{name} in the archive is not the piece of the segment that its name says")]
    Piece {
        /// Its name.
        name: WalName,
    },
    /// It was another each time.
    #[error("{name} changed in the archive each time that it was looked at")]
    Changing {
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
    /// What of it is folded into snapshots can't be read.
    #[error("read the folded log")]
    Folded(#[source] RepoError),
    /// It is folded with other content.
    #[error(
        "{name} of the cluster {system_id} is archived, and folded, with other content: another server archives here as well"
    )]
    FoldedDifferent {
        /// Its name.
        name: WalName,
        /// The cluster.
        system_id: u64,
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
            cancel: Cancel::new(),
        }
    }

    /// The same, and ends when somebody wishes to stop.
    #[must_use]
    pub fn heeding(self, cancel: &Cancel) -> Self {
        Self {
            cancel: cancel.clone(),
            ..self
        }
    }

    /// The clusters that have an archive in a repository.
    ///
    /// # Errors
    /// When the log or the snapshots can't be listed.
    pub fn clusters(repository: &Repository) -> Result<Vec<u64>, ArchiveError> {
        let below = FOLDER.parse()?;
        let entries = repository.log().list(Some(&below));
        let entries = entries.map_err(ArchiveError::List)?;
        let ids = entries
            .iter()
            .filter_map(|entry| entry.name.parts().nth(1)?.parse().ok());
        let mut ids: Vec<u64> = ids.collect();
        ids.extend(folded_clusters(repository).map_err(ArchiveError::Folded)?);
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// Puts a file in, durably when this returns. The same content once more is fine.
    ///
    /// # Errors
    /// When it is none of this cluster, is there with other content, or can't be stored.
    pub fn push(&self, name: WalName, content: &[u8]) -> Result<Appended, ArchiveError> {
        self.push_sealed(&self.seal(name, content)?)
    }

    /// Compares a file with its name and seals it, so that its content need not be kept until it is stored.
    ///
    /// # Errors
    /// When it is none of this cluster, or can't be sealed.
    pub(super) fn seal(&self, name: WalName, content: &[u8]) -> Result<SealedFile, ArchiveError> {
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
            WalName::History(timeline) => drop(parse_history(timeline, content)?),
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
            WalName::Piece(piece) if bytes != piece.bytes() => {
                return Err(ArchiveError::Long { name, bytes });
            }
            WalName::Piece(piece) => self.check_beginning(piece, content).map_err(header)?,
        }
        let entry = self.repository.log().seal(&self.log_name(name)?, content);
        let entry = entry.map_err(|cause| self.failed(cause))?;
        Ok(SealedFile { name, entry })
    }

    /// As [`push`](Self::push), of a file that this archive has sealed.
    ///
    /// # Errors
    /// When it is there with other content, or can't be stored.
    pub(super) fn push_sealed(&self, file: &SealedFile) -> Result<Appended, ArchiveError> {
        let name = file.name;
        let appended = self.repository.log().append_sealed(&file.entry);
        let appended = appended.map_err(|cause| match cause {
            LogError::Different { .. } => ArchiveError::Different {
                name,
                system_id: self.system_id,
                cause,
            },
            cause => self.failed(cause),
        })?;
        // Also what is there already: who put it there may not have come to compare it.
        match (appended, self.compare_folded(file)?) {
            (Appended::New, compared) => Ok(compared),
            (Appended::Same, _) => Ok(Appended::Same),
        }
    }

    /// Compares what has just been stored with what was folded under its name: a name is given once, also when it is not in
    /// the log any more. A mark comes before anything is taken out of the log, so that whoever found the name free there and
    /// looks for marks then knows.
    fn compare_folded(&self, file: &SealedFile) -> Result<Appended, ArchiveError> {
        let name = file.name;
        let may_be_folded = match name {
            // These stay in the log.
            WalName::Piece(_) | WalName::History(_) => false,
            WalName::Partial(_) | WalName::Backup(..) => !self.marks()?.is_empty(),
            WalName::Segment(_) => self.is_behind_mark(name, &self.marks()?),
        };
        if !may_be_folded {
            return Ok(Appended::New);
        }
        let content = self.repository.log().content_of(&file.entry);
        let content = content.map_err(|cause| self.failed(cause))?;
        match self.fold_view()?.read(name).map_err(ArchiveError::Folded)? {
            None => Ok(Appended::New),
            // The next fold takes it out of the log again.
            Some(folded) if folded == content => Ok(Appended::Same),
            Some(_) => {
                let removed = self.repository.log().remove(&self.log_name(name)?);
                removed.map_err(|cause| self.failed(cause))?;
                Err(ArchiveError::FoldedDifferent {
                    name,
                    system_id: self.system_id,
                })
            }
        }
    }

    /// Looks whether the repository at its place is still the one that was opened.
    ///
    /// # Errors
    /// When it is not, or nobody can tell.
    pub fn is_in_place(&self) -> Result<(), ArchiveError> {
        let json = self.repository.load_json(FileName::CONFIG);
        let json = json.map_err(ArchiveError::Place)?;
        let known = &self.repository.config().id;
        match Config::from_json(&json).is_ok_and(|config| config.id == *known) {
            true => Ok(()),
            false => Err(ArchiveError::Replaced {
                location: self.repository.backend().location(),
            }),
        }
    }

    /// Whether a file that was archived just now can be read back as it should be: such a one is not folded yet.
    ///
    /// # Errors
    /// When it is there and is not what its name says, or the archive can't be read.
    pub fn holds(&self, name: WalName) -> Result<bool, ArchiveError> {
        Ok(self.read_log(name)?.is_some())
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
        if let Some(content) = self.read_log(name)? {
            return Ok(Fetched::Content(content));
        }
        for _ in 0..PARTS_LOOKS_MAX {
            // The log first, then marks and folds: what is taken out of the log is in these before.
            let folds = match self.may_be_folded(name)? {
                true => Some(self.fold_view()?),
                false => None,
            };
            if let Some(folds) = &folds
                && let Some(content) = folds.read(name).map_err(ArchiveError::Folded)?
            {
                return self.checked(name, content).map(Fetched::Content);
            }
            // Only who has seen all names knows that nothing comes after it.
            let log = self.log_names()?;
            let names = self.with_folded(log.clone(), folds.as_ref())?;
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
            let by = match (absence(name, own, size, &names, &histories), name) {
                (Absence::Lost { by }, _) => by,
                (Absence::Beyond, WalName::Segment(segment)) => match self.parts(segment, &log)? {
                    Parts::Nothing => return Ok(Fetched::Beyond),
                    Parts::Beginning(log) => return pieces::filled(name, log, size),
                    Parts::Hole { before, .. } => WalName::Piece(before),
                    Parts::Changed => continue,
                },
                (Absence::Beyond, _) => return Ok(Fetched::Beyond),
            };
            // It may have come in the meantime.
            return match self.read(name)? {
                Some(content) => Ok(Fetched::Content(content)),
                None => Err(ArchiveError::Lost {
                    name,
                    system_id: self.system_id,
                    by,
                }),
            };
        }
        Err(ArchiveError::Changing { name })
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
    pub(super) fn read(&self, name: WalName) -> Result<Option<Vec<u8>>, ArchiveError> {
        if let Some(content) = self.read_log(name)? {
            return Ok(Some(content));
        }
        if !self.may_be_folded(name)? {
            return Ok(None);
        }
        let folded = self.fold_view()?.read(name);
        let folded = folded.map_err(ArchiveError::Folded)?;
        folded
            .map(|content| self.checked(name, content))
            .transpose()
    }

    /// A file that is not folded.
    fn read_log(&self, name: WalName) -> Result<Option<Vec<u8>>, ArchiveError> {
        match self.repository.log().read(&self.log_name(name)?) {
            Ok(content) => self.checked(name, content).map(Some),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// What was read, if it is what its name says.
    fn checked(&self, name: WalName, content: Vec<u8>) -> Result<Vec<u8>, ArchiveError> {
        match name {
            WalName::Segment(segment) => {
                let stored = |cause| ArchiveError::Stored { name, cause };
                let header = WalHeader::parse(&content).map_err(stored)?;
                header
                    .check(segment, self.system_id, content.len() as u64)
                    .map_err(stored)?;
            }
            WalName::History(timeline) => drop(parse_history(timeline, &content)?),
            WalName::Piece(piece) if content.len() as u64 != piece.bytes() => {
                return Err(ArchiveError::Piece { name });
            }
            WalName::Partial(_) | WalName::Backup(..) | WalName::Piece(_) => {}
        }
        Ok(content)
    }

    fn fold_view(&self) -> Result<FoldView<'a>, ArchiveError> {
        let view = FoldView::new(self.repository, self.system_id, &self.cancel);
        view.map_err(ArchiveError::Folded)
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
                histories.insert(of, parse_history(of, &content)?);
            }
        }
        Ok(histories)
    }

    /// The size of segments, as one of the newest tells it.
    fn segment_bytes(&self, names: &[WalName]) -> Result<Option<SegmentBytes>, ArchiveError> {
        let segments = names.iter().rev().filter(|name| match name {
            WalName::Segment(_) => true,
            WalName::Piece(piece) => piece.from_bytes == 0,
            _ => false,
        });
        let mut failed = None;
        for name in segments.take(SIZE_LOOKS_MAX) {
            let content = match self.read(*name) {
                Ok(Some(content)) => content,
                Ok(None) => continue,
                Err(cause) => {
                    failed = Some(cause);
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

    /// All names, in the log and in folds, ordered.
    fn names(&self) -> Result<Vec<WalName>, ArchiveError> {
        // In this order: what is taken out of the log is in a fold before.
        let mut names = self.log_names()?;
        names.extend(self.fold_view()?.names().map_err(ArchiveError::Folded)?);
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// The names of the log with those of what is folded, ordered.
    fn with_folded(
        &self,
        mut names: Vec<WalName>,
        folds: Option<&FoldView<'_>>,
    ) -> Result<Vec<WalName>, ArchiveError> {
        let marks = self.marks()?;
        // In a copy of a repository nothing but folds tells what there was. Elsewhere something in the log, or a mark, lies
        // behind all that is folded, and a snapshot that can't be read must not stop a server.
        if let Some(folds) = folds.filter(|_| names.is_empty()) {
            folds.certain().map_err(ArchiveError::Folded)?;
        }
        match folds.filter(|_| marks.is_empty()) {
            // What is folded behind a mark is no news.
            None => names.extend(marks.into_iter().map(WalName::Segment)),
            Some(folds) => names.extend(folds.names().map_err(ArchiveError::Folded)?),
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The names in the log; what is no name of a segment was put there by somebody else.
    fn log_names(&self) -> Result<Vec<WalName>, ArchiveError> {
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
pub(super) fn parse_history(timeline: Timeline, content: &[u8]) -> Result<History, ArchiveError> {
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
