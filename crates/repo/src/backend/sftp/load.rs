//! How a file of a repository is read over SFTP, with as few ways to the server and back as there can be.
//! It must never give less than was asked for, nor what lies behind a name that is no file.

use std::fmt::Display;

use super::SftpBackend;
use super::failure::SftpError;
use super::handle::{Handle, attributes};
use super::packet::{Attributes, Type};
use super::session::Session;
use crate::backend::{Backend, BackendError, FileName, Trouble};

impl SftpBackend {
    pub(super) fn load_range(
        &self,
        session: &Session,
        name: FileName,
        offset_bytes: u64,
        buf: &mut [u8],
    ) -> Result<(), BackendError> {
        let failed = |error| self.file_error(session, "read", name, error);
        let wanted_bytes = offset_bytes.saturating_add(buf.len() as u64);
        let handle = Handle::of(session.open_read(&self.layout.path(name))).map_err(failed)?;
        let looking = handle.stat();
        let is_possible = offset_bytes.checked_add(buf.len() as u64).is_some();
        // It is read before it is known to be long enough, which saves a way to the server and back.
        let read = if is_possible {
            handle.read(offset_bytes, buf)
        } else {
            Ok(0)
        };
        let size_bytes = self.file_size(session, name, attributes(looking))?;
        if wanted_bytes > size_bytes {
            return Err(self.short(name, size_bytes, wanted_bytes));
        }
        match read.map_err(failed)? {
            count if count == buf.len() => Ok(()),
            count => Err(self.short(
                name,
                offset_bytes.saturating_add(count as u64),
                wanted_bytes,
            )),
        }
    }

    pub(super) fn load_whole(
        &self,
        session: &Session,
        name: FileName,
        limit_bytes: u64,
    ) -> Result<Vec<u8>, BackendError> {
        let failed = |error| self.file_error(session, "read", name, error);
        let path = self.layout.path(name);
        let opening = session.open_read(&path);
        let looking = session.stat(&path);
        let opened = Handle::of(opening);
        let seen = attributes(looking);
        let handle = opened.map_err(failed)?;
        // What has the name now may be another file than what was opened, so this is only a guess that saves time.
        let guessed_bytes = seen.ok().and_then(|seen| seen.size_bytes).unwrap_or(0);
        let looking = handle.stat();
        let mut content = Vec::new();
        self.grow(&name, &mut content, guessed_bytes.min(limit_bytes))?;
        let read = handle.read(0, &mut content);
        let size_bytes = self.file_size(session, name, attributes(looking))?;
        if size_bytes > limit_bytes {
            return Err(BackendError::TooLong {
                name,
                location: self.location(),
                size_bytes,
                limit_bytes,
            });
        }
        let mut done = read.map_err(failed)?;
        self.grow(&name, &mut content, size_bytes)?;
        if let Some(rest) = content.get_mut(done..).filter(|rest| !rest.is_empty()) {
            done += handle.read(done as u64, rest).map_err(failed)?;
        }
        if done < content.len() {
            return Err(self.short(name, done as u64, size_bytes));
        }
        Ok(content)
    }

    pub(super) fn grow(
        &self,
        what: &dyn Display,
        content: &mut Vec<u8>,
        size_bytes: u64,
    ) -> Result<(), BackendError> {
        let length = usize::try_from(size_bytes).unwrap_or(usize::MAX);
        let more = length.saturating_sub(content.len());
        content
            .try_reserve_exact(more)
            .map_err(|_| BackendError::Io {
                doing: "read",
                what: what.to_string(),
                location: self.location(),
                cause: std::io::ErrorKind::OutOfMemory.into(),
            })?;
        content.resize(length, 0);
        Ok(())
    }

    /// The size of a file, if it is one.
    pub(super) fn file_size(
        &self,
        session: &Session,
        name: FileName,
        found: Result<Attributes, SftpError>,
    ) -> Result<u64, BackendError> {
        let found = found.map_err(|error| self.file_error(session, "read", name, error))?;
        self.size_of(&name, found)
    }

    /// The size of what was found, if it is a file.
    pub(super) fn size_of(
        &self,
        what: &dyn Display,
        found: Attributes,
    ) -> Result<u64, BackendError> {
        let odd = |why: &str| self.refused("read", what, Trouble::Other, why.to_owned());
        match found.kind() {
            Type::File | Type::Unknown => {}
            Type::Folder => return Err(odd("it is a directory")),
            Type::Link | Type::Other => return Err(odd("it is not a regular file")),
        }
        found
            .size_bytes
            .ok_or_else(|| odd("the server does not tell its size"))
    }
}
