//! What a failure over SFTP means for a repository: a file is missing, the repository is, the disk is full, or worse.
//! It must never take a failure to find that out for an answer.

use std::fmt::Display;
use std::path::Path;

use super::SftpBackend;
use super::failure::SftpError;
use super::handle::attributes;
use super::packet::{self, Answer, Status, Type};
use super::session::Session;
use crate::backend::{Backend, BackendError, FileKind, FileName, Trouble};

impl SftpBackend {
    /// What a failure at one file means: that only this file is missing, if the folder is there that should hold it.
    pub(super) fn file_error(
        &self,
        session: &Session,
        doing: &'static str,
        name: FileName,
        error: SftpError,
    ) -> BackendError {
        if !error.is_missing() {
            return self.remote(doing, &name, &error);
        }
        let folder = self.layout.top_folder(name.kind);
        let is_there = match attributes(session.stat(&folder)) {
            // A server says of a file that stands in the place of a folder that what is in it is missing.
            Ok(found) if found.kind() == Type::File => {
                let why = format!("{} is not a directory", self.inner(&folder));
                return self.refused(doing, &name, Trouble::Other, why);
            }
            Ok(_) => Ok(true),
            Err(error) if error.is_missing() && name.kind == FileKind::Lock => {
                self.has_config(session)
            }
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error),
        };
        match is_there {
            Ok(true) => BackendError::Missing {
                name,
                location: self.location(),
            },
            Ok(false) => self.no_repository(name.kind),
            Err(error) => self.remote(doing, &name, &error),
        }
    }

    pub(super) fn folder_error(
        &self,
        session: &Session,
        kind: FileKind,
        folder: &Path,
        error: SftpError,
    ) -> BackendError {
        // A server says of a file that stands in the place of a folder that there is none.
        if error.is_missing() {
            return match attributes(session.stat(folder)) {
                Ok(found) if found.kind() == Type::File => self.refused(
                    "list",
                    &kind.folder(),
                    Trouble::Other,
                    "it is not a directory".to_owned(),
                ),
                Err(SftpError::Lost(loss)) => {
                    self.remote("list", &kind.folder(), &SftpError::Lost(loss))
                }
                _ => self.no_repository(kind),
            };
        }
        self.remote("list", &kind.folder(), &error)
    }

    /// What a failure to write means: that the disk is full, if it is.
    pub(super) fn write_error(
        &self,
        session: &Session,
        name: FileName,
        data: &[&[u8]],
        error: SftpError,
    ) -> BackendError {
        if error.code() == Some(Status::FAILURE) {
            let wanted_bytes = data.iter().map(|piece| piece.len() as u64).sum();
            if let Some(why) = self.fullness(session, wanted_bytes) {
                return self.refused("write", &name, Trouble::Full, why);
            }
        }
        self.file_error(session, "write", name, error)
    }

    pub(super) fn create_error(
        &self,
        session: &Session,
        folder: &Path,
        error: SftpError,
    ) -> BackendError {
        let full = (error.code() == Some(Status::FAILURE))
            .then(|| self.fullness(session, 0))
            .flatten();
        match full {
            Some(why) => self.refused("make", &self.inner(folder), Trouble::Full, why),
            None => self.remote("make", &self.inner(folder), &error),
        }
    }

    pub(super) fn has_config(&self, session: &Session) -> Result<bool, SftpError> {
        exists(session, &self.layout.path(FileName::CONFIG))
    }

    /// OpenSSH says of a full disk only that something failed.
    pub(super) fn fullness(&self, session: &Session, wanted_bytes: u64) -> Option<String> {
        let root = self.layout.root();
        let answer = session.room(root)?.wait().ok()?;
        let Answer::Extended(answer) = answer else {
            return None;
        };
        let room = packet::parse_room(&answer)?;
        if room.files == Some(0) {
            return Some("the disk has no room for another file".to_owned());
        }
        (room.bytes == 0 || room.bytes < wanted_bytes).then(|| {
            format!(
                "the disk is full: {} bytes are left of {wanted_bytes} that are needed",
                room.bytes
            )
        })
    }

    pub(super) fn no_repository(&self, kind: FileKind) -> BackendError {
        let what = match kind {
            FileKind::Config => "the directory".to_owned(),
            kind => format!("the folder {}", kind.folder()),
        };
        BackendError::NoRepository {
            location: self.location(),
            what,
        }
    }

    pub(super) fn short(&self, name: FileName, size_bytes: u64, wanted_bytes: u64) -> BackendError {
        BackendError::Short {
            name,
            location: self.location(),
            size_bytes,
            wanted_bytes,
        }
    }

    pub(super) fn remote(
        &self,
        doing: &'static str,
        what: &dyn Display,
        error: &SftpError,
    ) -> BackendError {
        self.refused(doing, what, error.trouble(), error.why())
    }

    pub(super) fn refused(
        &self,
        doing: &'static str,
        what: &dyn Display,
        trouble: Trouble,
        why: String,
    ) -> BackendError {
        BackendError::Remote {
            doing,
            what: what.to_string(),
            location: self.location(),
            trouble,
            why,
            retry_after: None,
        }
    }

    /// A path as it is named in a message: from the repository on, or whole if it is the repository itself.
    pub(super) fn inner(&self, path: &Path) -> String {
        match path.strip_prefix(self.layout.root()) {
            Ok(inner) if !inner.as_os_str().is_empty() => inner.display().to_string(),
            _ => path.display().to_string(),
        }
    }
}

pub(super) fn exists(session: &Session, path: &Path) -> Result<bool, SftpError> {
    match attributes(session.stat(path)) {
        Ok(_) => Ok(true),
        Err(error) if error.is_missing() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a folder is there; a file in its place is none.
pub(super) fn is_folder(session: &Session, path: &Path) -> Result<bool, SftpError> {
    match attributes(session.stat(path)) {
        Ok(found) => Ok(matches!(found.kind(), Type::Folder | Type::Unknown)),
        Err(error) if error.is_missing() => Ok(false),
        Err(error) => Err(error),
    }
}
