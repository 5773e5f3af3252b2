//! The content of one file of a volume while it is read.
//! It must never block on a pipe, read from a device, or pass off a file that changed meanwhile as unchanged.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use lifeboat_flow::{Content, Entry, SourceError};
use rustix::fs::{Advice, AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::metadata::{self, Metadata};
use super::xattrs::Of;

/// Smaller files are read in one or two calls; read-ahead has nothing to gain there.
const ADVISE_FROM_BYTES: u64 = 128 << 10;

pub(crate) struct FileContent {
    file: File,
    before: Stat,
    read_bytes: u64,
    changed: bool,
    name: Vec<u8>,
    shown: String,
    metadata: Arc<Metadata>,
}

impl FileContent {
    /// Opens a regular file: `name` in `dir`, or as it is if that is `None`; `shown` is its path for people.
    pub(crate) fn open(
        dir: Option<&OwnedFd>,
        path: &[u8],
        name: Vec<u8>,
        shown: String,
        metadata: Arc<Metadata>,
    ) -> Result<Self, SourceError> {
        let dir = dir.map_or(CWD, AsFd::as_fd);
        let unreadable = |shown, cause: Errno| SourceError::Unreadable {
            doing: "open file",
            path: shown,
            cause: cause.into(),
        };
        let changed = |shown, stat: &Stat| SourceError::Changed {
            path: shown,
            was: "a file",
            is: metadata::kind_name(stat),
        };
        // Not to wait for the writer of a pipe that took the file's place.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
        let fd = match open_quietly(dir, path, flags | OFlags::NONBLOCK) {
            Ok(fd) => fd,
            // A link, a socket, a device without driver, or a file that someone holds a lease on: look which.
            Err(cause @ (Errno::LOOP | Errno::NXIO | Errno::NODEV | Errno::AGAIN)) => {
                match rustix::fs::statat(dir, path, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
                        return Err(changed(shown, &stat));
                    }
                    Ok(_) if cause == Errno::AGAIN => match open_quietly(dir, path, flags) {
                        Ok(fd) => fd,
                        Err(cause) => return Err(unreadable(shown, cause)),
                    },
                    _ => return Err(unreadable(shown, cause)),
                }
            }
            Err(cause) => return Err(unreadable(shown, cause)),
        };
        let before = match rustix::fs::fstat(&fd) {
            Ok(stat) => stat,
            Err(cause) => return Err(unreadable(shown, cause)),
        };
        if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
            return Err(changed(shown, &before));
        }
        if metadata::size_of(&before) >= ADVISE_FROM_BYTES {
            // Advice only.
            let _ = rustix::fs::fadvise(&fd, 0, None, Advice::Sequential);
        }
        Ok(Self {
            file: File::from(fd),
            before,
            read_bytes: 0,
            changed: false,
            name,
            shown,
            metadata,
        })
    }

    /// The size when it was opened, in bytes.
    pub(crate) fn size_bytes(&self) -> u64 {
        metadata::size_of(&self.before)
    }

    /// Its path, for people.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// Reads a part once more, which does not count as read; gives less than asked for only at the end.
    pub(crate) fn read_again(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut got = 0;
        while let Some(rest) = buf.get_mut(got..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + got as u64) {
                Ok(0) => break,
                Ok(more) => got += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(got)
    }
}

/// Opens without moving the access time, where the system lets us (owner or root).
pub(crate) fn open_quietly(
    dir: impl AsFd,
    path: &[u8],
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    match rustix::fs::openat(&dir, path, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(&dir, path, flags, Mode::empty()),
        opened => opened,
    }
}

impl Read for FileContent {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buf)?;
        self.read_bytes += length as u64;
        Ok(length)
    }
}

impl Content for FileContent {
    fn finish(&mut self) -> Result<Option<Entry>, SourceError> {
        let after = rustix::fs::fstat(&self.file).map_err(|cause| SourceError::Unreadable {
            doing: "look at file after reading",
            path: self.shown.clone(),
            cause: cause.into(),
        })?;
        self.changed = !metadata::is_same(&self.before, &after);
        // The times from before reading: with those from after it, the next backup would take a torn file for unchanged.
        let entry = self
            .metadata
            .entry(std::mem::take(&mut self.name), &self.before);
        Ok(entry.map(|mut entry| {
            entry.size_bytes = self.read_bytes;
            metadata::read_xattrs(&mut entry, Of::Fd(self.file.as_fd()));
            entry
        }))
    }

    fn changed(&self) -> bool {
        self.changed
    }
}
