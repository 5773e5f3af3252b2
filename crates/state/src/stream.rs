//! One stream of bytes as a member: a single file, at a path that the user named, that can be read once.
//! It must never take an empty stream for a good one: a dump of nothing is the sign of a failure elsewhere.

use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use lifeboat_flow::{
    Content, Entry, EntryKind, EntryPath, Listing, Source, SourceError, Timestamp,
};

/// Mode of the file, as in restic.
const FILE_MODE: u32 = 0o644;
/// Mode of the directories that its name has.
const DIR_MODE: u32 = 0o755;

/// Bytes from a reader as a source.
pub struct StreamSource {
    place: StreamPlace,
    reader: Mutex<Option<Box<dyn Read + Send>>>,
}

/// A name can't be given to a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{:?} is no name for a file", String::from_utf8_lossy(.0))]
pub struct StreamNameError(Vec<u8>);

impl StreamSource {
    /// What `reader` gives, as the file `name`, which may have directories; `time` is when it was taken.
    ///
    /// # Errors
    /// When the name has no component or a NUL byte.
    pub fn new(
        name: &[u8],
        time: Timestamp,
        reader: Box<dyn Read + Send>,
    ) -> Result<Self, StreamNameError> {
        Ok(Self {
            place: StreamPlace::new(name, time)?,
            reader: Mutex::new(Some(reader)),
        })
    }
}

impl Source for StreamSource {
    fn list(&self, dir: &EntryPath) -> Result<Listing, SourceError> {
        self.place.list(dir)
    }

    fn open(&self, path: &EntryPath) -> Result<Box<dyn Content>, SourceError> {
        self.place.expect_file(path)?;
        let reader = self
            .reader
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let reader = reader.ok_or_else(|| read_twice(path))?;
        Ok(Box::new(StreamContent {
            reader,
            entry: self.place.file_entry(),
        }))
    }
}

struct StreamContent {
    reader: Box<dyn Read + Send>,
    entry: Entry,
}

impl Read for StreamContent {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buf)?;
        self.entry.size_bytes += length as u64;
        Ok(length)
    }
}

impl Content for StreamContent {
    fn finish(&mut self) -> Result<Option<Entry>, SourceError> {
        refuse_nothing(&self.entry, "standard input")?;
        Ok(Some(self.entry.clone()))
    }
}

/// Where the one file lies.
#[derive(Debug)]
pub(crate) struct StreamPlace {
    path: EntryPath,
    time: Timestamp,
}

impl StreamPlace {
    pub(crate) fn new(name: &[u8], time: Timestamp) -> Result<Self, StreamNameError> {
        let mut components: Vec<&[u8]> = Vec::new();
        for component in name.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => {
                    components.pop();
                }
                _ => components.push(component),
            }
        }
        if components.is_empty() || name.contains(&0) {
            return Err(StreamNameError(name.to_vec()));
        }
        Ok(Self {
            path: EntryPath(components.join(&b'/')),
            time,
        })
    }

    pub(crate) fn list(&self, dir: &EntryPath) -> Result<Listing, SourceError> {
        let below = if dir.0.is_empty() {
            Some(self.path.0.as_slice())
        } else {
            let rest = self.path.0.strip_prefix(dir.0.as_slice());
            rest.and_then(|rest| rest.strip_prefix(b"/"))
        };
        let Some(below) = below else {
            return Err(SourceError::Unreadable {
                doing: "read directory",
                path: dir.display(),
                cause: io::ErrorKind::NotFound.into(),
            });
        };
        let name = below.split(|byte| *byte == b'/').next().unwrap_or_default();
        let entry = if name.len() == below.len() {
            self.file_entry()
        } else {
            self.entry(name, EntryKind::Dir, DIR_MODE)
        };
        Ok(Listing {
            entries: vec![entry],
            problems: Vec::new(),
        })
    }

    pub(crate) fn expect_file(&self, path: &EntryPath) -> Result<(), SourceError> {
        if *path == self.path {
            return Ok(());
        }
        Err(SourceError::Unreadable {
            doing: "open file",
            path: path.display(),
            cause: io::ErrorKind::NotFound.into(),
        })
    }

    pub(crate) fn file_entry(&self) -> Entry {
        self.entry(self.path.name(), EntryKind::File, FILE_MODE)
    }

    /// Owned by this process, as in restic, which leaves the names out.
    fn entry(&self, name: &[u8], kind: EntryKind, permissions: u32) -> Entry {
        Entry {
            permissions,
            modified: self.time,
            accessed: self.time,
            changed: self.time,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            ..Entry::bare(name, kind)
        }
    }
}

pub(crate) fn read_twice(path: &EntryPath) -> SourceError {
    SourceError::Unreadable {
        doing: "open file",
        path: path.display(),
        cause: io::Error::other("a stream can be read only once"),
    }
}

pub(crate) fn refuse_nothing(entry: &Entry, from: &str) -> Result<(), SourceError> {
    if entry.size_bytes > 0 {
        return Ok(());
    }
    Err(SourceError::Fatal {
        reason: format!("no data came from {from}"),
    })
}
