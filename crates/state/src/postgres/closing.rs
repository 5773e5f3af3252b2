//! What a capture takes last, as a source: the control file, the label, the log from start to stop, configuration, the record.
//! It must never be read before the backup mode has ended, nor give a segment of the log that is not whole.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use lifeboat_flow::{
    Cancel, Content, Entry, EntryKind, EntryPath, Listing, Source, SourceError, Timestamp,
};

use super::control::{Control, ControlError};
use super::data_source::{CONTROL_PATH, Root};
use super::lsn::{Lsn, Timeline};
use super::wal_header::WalHeader;
use super::wal_name::{SegmentName, WalName};
use crate::volume::{FileContent, VolumeError};

/// The directory of a capture that holds the files of the server.
pub const BASE_DIR: &str = "base";
/// The directory of a capture that holds its log.
pub const WAL_DIR: &str = "wal";
/// The directory of a capture that holds configuration from outside the data directory.
pub const CONFIG_DIR: &str = "config";
/// The record of a capture.
pub const MEMBER_FILE: &str = "member.json";
/// The label of a capture; it belongs into the data directory.
pub const LABEL_FILE: &str = "backup_label";
/// Where the tablespaces were, for people: a restore makes links.
pub const SPACES_FILE: &str = "tablespace_map";
/// The control file, which belongs below the data directory.
pub const CONTROL_FILE: &str = "pg_control";
/// How often the control file is read while the server writes it.
const CONTROL_LOOKS_MAX: u32 = 20;
const LOOK_AGAIN_AFTER: std::time::Duration = std::time::Duration::from_millis(20);
/// The control file has 8 KiB.
const CONTROL_MAX_BYTES: u64 = 64 * 1024;
/// A file of configuration that is longer is none.
const CONFIG_MAX_BYTES: u64 = 4 * 1024 * 1024;
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// A segment or history of the log is not there as it should be.
#[derive(Debug, thiserror::Error)]
pub enum WalFileError {
    /// The server has removed it.
    #[error("{name} is not in {} any more: the server removed it before it was read", .dir.display())]
    Gone {
        /// Its name.
        name: WalName,
        /// Where it should be.
        dir: PathBuf,
    },
    /// The stop lies before the start, or on another timeline.
    #[error("the log from {start} to {stop} can't be: {why}")]
    Impossible {
        /// Where it begins.
        start: Lsn,
        /// Where it ends.
        stop: Lsn,
        /// Why not.
        why: &'static str,
    },
}

enum Thing {
    /// In memory.
    Bytes(Vec<u8>),
    /// A file of the log, as a source of its own.
    Wal(Box<Root>, WalName),
}

/// What a capture takes last.
pub struct Closing {
    /// By path; directories are those that lead to them.
    things: BTreeMap<EntryPath, Thing>,
    /// The directory of the server's files, which is filled by others.
    base: Entry,
    system_id: u64,
    time: Timestamp,
}

impl Closing {
    /// Nothing yet, for the data directory of a cluster.
    ///
    /// # Errors
    /// When the directory can't be looked at.
    pub fn new(data: &Path, system_id: u64, time: Timestamp) -> Result<Self, ClosingError> {
        let base = Root::new(data)?.entry()?;
        let base = base.unwrap_or_else(|| Entry::bare(b"", EntryKind::Dir));
        Ok(Self {
            things: BTreeMap::new(),
            base: Entry {
                name: BASE_DIR.as_bytes().to_vec(),
                ..base
            },
            system_id,
            time,
        })
    }

    /// Adds a file.
    pub fn add(&mut self, path: &str, content: Vec<u8>) {
        let path = EntryPath(path.as_bytes().to_vec());
        self.things.insert(path, Thing::Bytes(content));
    }

    /// Adds a file of configuration; one that can't be read is named.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn add_config(&mut self, file: &Path) -> Result<String, io::Error> {
        let mut content = Vec::new();
        std::fs::File::open(file)?
            .take(CONFIG_MAX_BYTES + 1)
            .read_to_end(&mut content)?;
        if content.len() as u64 > CONFIG_MAX_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let path = config_name(file, |path| {
            !self.things.contains_key(&EntryPath(path.into()))
        });
        self.add(&path, content);
        Ok(path)
    }

    /// Adds the log of a timeline between two positions from the server's directory, and the histories that led there.
    ///
    /// # Errors
    /// When a segment is not there.
    pub fn add_wal(
        &mut self,
        data: &Path,
        timeline: Timeline,
        start: Lsn,
        stop: Lsn,
        control: &Control,
    ) -> Result<u64, ClosingError> {
        let dir = data.join("pg_wal");
        let size = control.segment_bytes;
        // The stop is the first byte that is not needed.
        let last = SegmentName::holding(timeline, Lsn(stop.0.saturating_sub(1)), size);
        let mut segment = SegmentName::holding(timeline, start, size);
        let mut count = 0;
        let impossible = |why| WalFileError::Impossible { start, stop, why };
        if stop <= start {
            return Err(impossible("it ends before it begins").into());
        }
        loop {
            let name = WalName::Segment(segment);
            let path = dir.join(name.to_string());
            if !path.exists() {
                return Err(WalFileError::Gone { name, dir }.into());
            }
            self.add_wal_file(&path, name)?;
            count += 1;
            if segment == last {
                break;
            }
            segment = segment
                .next(size)
                .ok_or_else(|| impossible("there are no such segments"))?;
        }
        for entry in std::fs::read_dir(&dir).map_err(|cause| SourceError::Unreadable {
            doing: "read directory",
            path: dir.display().to_string(),
            cause,
        })? {
            let Ok(entry) = entry else { continue };
            let name = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if let Some(name @ WalName::History(of)) = name
                && of <= timeline
            {
                self.add_wal_file(&entry.path(), name)?;
            }
        }
        Ok(count)
    }

    fn add_wal_file(&mut self, file: &Path, name: WalName) -> Result<(), ClosingError> {
        let path = EntryPath(format!("{WAL_DIR}/{name}").into_bytes());
        self.things
            .insert(path, Thing::Wal(Box::new(Root::new(file)?), name));
        Ok(())
    }

    fn entry(&self, name: &[u8], thing: &Thing) -> Result<Option<Entry>, SourceError> {
        match thing {
            Thing::Wal(root, _) => root.entry(),
            Thing::Bytes(content) => Ok(Some(Entry {
                size_bytes: content.len() as u64,
                ..self.made(name, EntryKind::File, FILE_MODE)
            })),
        }
    }

    /// Something that we made, as if the server had.
    fn made(&self, name: &[u8], kind: EntryKind, permissions: u32) -> Entry {
        Entry {
            name: name.to_vec(),
            kind,
            permissions,
            modified: self.time,
            accessed: self.time,
            changed: self.time,
            inode: 0,
            size_bytes: 0,
            links: u64::from(kind == EntryKind::File),
            xattrs: Vec::new(),
            error: String::new(),
            ..self.base.clone()
        }
    }
}

/// What a capture takes last can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ClosingError {
    /// Something of it can't be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Something of it can't be looked at.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The log has a hole.
    #[error("take the log of the capture along")]
    Wal(#[from] WalFileError),
}

impl Source for Closing {
    fn list(&self, dir: &EntryPath) -> Result<Listing, SourceError> {
        let mut entries = BTreeMap::new();
        if dir.0.is_empty() {
            entries.insert(self.base.name.clone(), self.base.clone());
        }
        for (path, thing) in &self.things {
            let below = match dir.0.as_slice() {
                b"" => Some(path.0.as_slice()),
                dir => path
                    .0
                    .strip_prefix(dir)
                    .and_then(|rest| rest.strip_prefix(b"/")),
            };
            let Some(below) = below else { continue };
            let name = below.split(|byte| *byte == b'/').next().unwrap_or_default();
            let entry = match name.len() == below.len() {
                true => self.entry(name, thing)?,
                false => Some(self.made(name, EntryKind::Dir, DIR_MODE)),
            };
            let entry = entry.ok_or_else(|| SourceError::Fatal {
                reason: format!("{} was there and is not any more", path.display()),
            })?;
            entries.insert(name.to_vec(), entry);
        }
        Ok(Listing {
            entries: entries.into_values().collect(),
            problems: Vec::new(),
        })
    }

    fn open(&self, path: &EntryPath) -> Result<Box<dyn Content>, SourceError> {
        match self.things.get(path) {
            Some(Thing::Bytes(content)) => Ok(Box::new(BytesContent(Cursor::new(content.clone())))),
            Some(Thing::Wal(root, name)) => {
                let content = WalContent {
                    inner: root.open(b"")?,
                    name: *name,
                    system_id: self.system_id,
                };
                content.check()?;
                Ok(Box::new(content))
            }
            None => Err(SourceError::Unreadable {
                doing: "open file",
                path: path.display(),
                cause: io::ErrorKind::NotFound.into(),
            }),
        }
    }
}

/// A file of the log. A server that does not keep it for us may give it to a later segment while it is read.
struct WalContent {
    inner: FileContent,
    name: WalName,
    system_id: u64,
}

impl WalContent {
    /// Whether it is, still, what its name says.
    fn check(&self) -> Result<(), SourceError> {
        let WalName::Segment(segment) = self.name else {
            return Ok(());
        };
        let mut beginning = [0; WalHeader::BYTES];
        let read = self.inner.read_again(&mut beginning, 0);
        read.map_err(|cause| SourceError::Unreadable {
            doing: "read",
            path: self.inner.shown().to_owned(),
            cause,
        })?;
        let checked = WalHeader::parse(&beginning)
            .and_then(|header| header.check(segment, self.system_id, self.inner.size_bytes()));
        checked.map_err(|error| SourceError::Fatal {
            reason: format!("{}: {error}", self.inner.shown()),
        })
    }
}

impl Read for WalContent {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buf)
    }
}

impl Content for WalContent {
    fn finish(&mut self) -> Result<Option<Entry>, SourceError> {
        self.check()?;
        self.inner.finish()
    }
}

/// A file that is in memory.
struct BytesContent(Cursor<Vec<u8>>);

impl Read for BytesContent {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Content for BytesContent {
    fn finish(&mut self) -> Result<Option<Entry>, SourceError> {
        Ok(None)
    }
}

/// The control file of a data directory can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ControlFileError {
    /// It can't be read.
    #[error("read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It stayed as it can't be believed.
    #[error("{} can't be believed", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: ControlError,
    },
}

/// Where a file of configuration goes in a capture: several may have one name.
#[must_use]
pub fn config_name(file: &Path, is_free: impl Fn(&str) -> bool) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let path = |number: u32| match number {
        0 => format!("{CONFIG_DIR}/{name}"),
        number => format!("{CONFIG_DIR}/{number}-{name}"),
    };
    let free = (0..).map(path).find(|path| is_free(path));
    free.unwrap_or_default()
}

/// The control file of a data directory, read until it is whole: a running server writes it now and then.
///
/// # Errors
/// When it can't be read, or is damaged.
pub fn read_control(data: &Path, cancel: &Cancel) -> Result<(Control, Vec<u8>), ControlFileError> {
    let path = data.join(std::ffi::OsStr::from_bytes(CONTROL_PATH));
    let read = |cause| ControlFileError::Read {
        path: path.clone(),
        cause,
    };
    let mut looks = 0;
    loop {
        let mut content = Vec::new();
        let file = std::fs::File::open(&path).map_err(read)?;
        file.take(CONTROL_MAX_BYTES)
            .read_to_end(&mut content)
            .map_err(read)?;
        looks += 1;
        match Control::parse(&content) {
            Ok(control) => return Ok((control, content)),
            Err(ControlError::Checksum) if looks < CONTROL_LOOKS_MAX => {
                cancel
                    .sleep(LOOK_AGAIN_AFTER)
                    .map_err(|stop| read(io::Error::other(stop)))?;
            }
            Err(cause) => {
                return Err(ControlFileError::Content {
                    path: path.clone(),
                    cause,
                });
            }
        }
    }
}
