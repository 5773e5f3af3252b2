//! How a file of a repository is written over SFTP: under another name, made durable, and only then renamed.
//! It must never make a repository in passing, nor show a file before the server has confirmed all of it.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

use super::SftpBackend;
use super::explain::exists;
use super::failure::SftpError;
use super::handle::{Handle, attributes};
use super::packet::{Status, Type};
use super::session::{Session, Ticket};
use crate::backend::layout::Modes;
use crate::backend::{BackendError, FileKind, FileName, Trouble};

/// What is compared at once of a file that is there already, in bytes.
const COMPARE_BYTES: usize = 4 << 20;

impl SftpBackend {
    pub(super) fn save_file(
        &self,
        session: &Session,
        name: FileName,
        data: &[&[u8]],
    ) -> Result<(), BackendError> {
        let unique = getrandom::u64()
            .map_err(|cause| self.refused("write", &name, Trouble::Other, cause.to_string()))?;
        let temporary = self.layout.temporary_path(name, unique);
        let modes = self.modes(session, &name)?;
        let (file, folder) = match self.create_temporary(session, name, &temporary) {
            Err(error) if error.is_missing() => {
                self.make_folder(session, name, modes)?;
                self.create_temporary(session, name, &temporary)
            }
            done => done,
        }
        .map_err(|error| self.write_error(session, name, data, error))?;
        let written = self.write(session, name, data, &temporary, file, modes);
        written.map_err(|error| {
            let error = self.write_error(session, name, data, error);
            // It can fail as well, and the first failure is the one to report; a later upkeep removes what is left.
            let _ = session.remove(&temporary).done();
            error
        })?;
        // From here on the file has its name, and only a loss of power can take it away.
        sync(folder).map_err(|error| self.write_error(session, name, data, error))
    }

    /// The file to write, and its folder if that can be made durable.
    fn create_temporary<'a>(
        &self,
        session: &'a Session,
        name: FileName,
        temporary: &Path,
    ) -> Result<(Handle<'a>, Option<Handle<'a>>), SftpError> {
        let creating = session.create_new(temporary);
        let opening = session
            .extensions()
            .fsync
            .then(|| session.open_read(&self.layout.folder(name)));
        let file = Handle::of(creating);
        let folder = opening.map(Handle::of);
        let file = file?;
        match folder {
            Some(Err(SftpError::Lost(loss))) => Err(SftpError::Lost(loss)),
            // Many servers open no folders this way, and then no one can do better.
            Some(Err(SftpError::Status(_))) | None => Ok((file, None)),
            Some(Ok(folder)) => Ok((file, Some(folder))),
        }
    }

    fn write(
        &self,
        session: &Session,
        name: FileName,
        data: &[&[u8]],
        temporary: &Path,
        file: Handle<'_>,
        modes: Modes,
    ) -> Result<(), SftpError> {
        write_content(file, data, modes)?;
        self.anchor(session, &self.layout.folder(name))?;
        self.rename(session, name, data, temporary)
    }

    fn rename(
        &self,
        session: &Session,
        name: FileName,
        data: &[&[u8]],
        temporary: &Path,
    ) -> Result<(), SftpError> {
        let path = self.layout.path(name);
        let error = match session.rename(temporary, &path).done() {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if session.extensions().posix_rename || name.kind == FileKind::Config {
            return Err(error);
        }
        // Such a server does not replace a file. What is there under a hash should have the content of this hash; what a
        // loss of power left may only have its size.
        let size_bytes = data.iter().map(|piece| piece.len() as u64).sum();
        let found = match attributes(session.stat(&path)) {
            Ok(found) if matches!(found.kind(), Type::File | Type::Unknown) => found,
            Ok(_) | Err(SftpError::Status(_)) => return Err(error),
            Err(lost) => return Err(lost),
        };
        if found.size_bytes == Some(size_bytes) && has_content(session, &path, data)? {
            return session.remove(temporary).done();
        }
        session.remove(&path).done()?;
        session.rename(temporary, &path).done()
    }

    /// Makes the name of a file's folder durable, once in the life of this value.
    pub(super) fn anchor(&self, session: &Session, folder: &Path) -> Result<(), SftpError> {
        let is_anchored =
            |folders: &BTreeSet<PathBuf>| folder == self.layout.root() || folders.contains(folder);
        if !session.extensions().fsync || is_anchored(&self.anchored()) {
            return Ok(());
        }
        if let Some(parent) = folder.parent() {
            sync_folder(session, parent)?;
        }
        self.anchored().insert(folder.to_path_buf());
        Ok(())
    }

    fn anchored(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.anchored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Permissions of what is made, as they go with the config.
    pub(super) fn modes(
        &self,
        session: &Session,
        what: &dyn Display,
    ) -> Result<Modes, BackendError> {
        if let Some(modes) = self.modes.get() {
            return Ok(*modes);
        }
        let config = match attributes(session.stat(&self.layout.path(FileName::CONFIG))) {
            Ok(found) => found.mode.map(|mode| mode & 0o7777),
            Err(SftpError::Status(_)) => None,
            Err(lost) => return Err(self.remote("write", what, &lost)),
        };
        let modes = Modes::beside(config);
        // Before there is a config, nothing is known for good.
        if config.is_some() {
            let _ = self.modes.set(modes);
        }
        Ok(modes)
    }

    /// Makes the folder of a file, if the repository around it is there: one that is gone is not made anew.
    fn make_folder(
        &self,
        session: &Session,
        name: FileName,
        modes: Modes,
    ) -> Result<(), BackendError> {
        let failed = |error: SftpError| self.remote("write", &name, &error);
        let may = match name.kind {
            FileKind::Config => false,
            FileKind::Pack => {
                exists(session, &self.layout.top_folder(FileKind::Pack)).map_err(failed)?
            }
            _ => self.has_config(session).map_err(failed)?,
        };
        if !may {
            return Err(self.no_repository(name.kind));
        }
        let folder = self.layout.folder(name);
        make_folders(session, std::slice::from_ref(&folder), modes.folder)
            .map_err(|(_, error)| self.remote("make", &self.inner(&folder), &error))
    }
}

/// Writes a file, and waits until all of it is confirmed and on the disk, where the server can tell.
pub(super) fn write_content(
    file: Handle<'_>,
    data: &[&[u8]],
    modes: Modes,
) -> Result<(), SftpError> {
    let writing = file.write(data)?;
    // A server does what concerns one file in the order in which it is asked.
    let restricting = file.restrict(modes.file);
    let syncing = file.sync();
    let closing = file.close();
    for piece in writing {
        piece.done()?;
    }
    match restricting.done() {
        // Some servers have no permissions to set.
        Ok(()) | Err(SftpError::Status(_)) => {}
        Err(lost) => return Err(lost),
    }
    if let Some(syncing) = syncing {
        unless_unsupported(syncing.done())?;
    }
    closing.done()
}

/// Whether a file begins with this content.
fn has_content(session: &Session, path: &Path, data: &[&[u8]]) -> Result<bool, SftpError> {
    let file = Handle::of(session.open_read(path))?;
    let mut there = vec![0; COMPARE_BYTES];
    let mut offset_bytes = 0;
    for part in data.iter().flat_map(|piece| piece.chunks(COMPARE_BYTES)) {
        let there = there.get_mut(..part.len()).unwrap_or_default();
        if file.read(offset_bytes, there)? < part.len() || there != part {
            return Ok(false);
        }
        offset_bytes += part.len() as u64;
    }
    Ok(true)
}

/// Makes folders, all under way at once; one that is there is fine. A failure comes with its folder.
pub(super) fn make_folders(
    session: &Session,
    folders: &[PathBuf],
    permissions: u32,
) -> Result<(), (PathBuf, SftpError)> {
    let making: Vec<_> = folders
        .iter()
        .map(|folder| session.make_folder(folder, permissions))
        .collect();
    let made: Vec<_> = making.into_iter().map(Ticket::done).collect();
    for (folder, made) in folders.iter().zip(made) {
        let Err(error) = made else {
            continue;
        };
        // The protocol has no word for what is there already.
        match attributes(session.stat(folder)) {
            Ok(found) if matches!(found.kind(), Type::Folder | Type::Unknown) => {}
            Ok(_) => {
                let status = Status {
                    code: Status::FAILURE,
                    text: "a file is in its place".to_owned(),
                };
                return Err((folder.clone(), SftpError::Status(status)));
            }
            Err(_) => return Err((folder.clone(), error)),
        }
    }
    Ok(())
}

/// Makes the names in a folder durable, where the server can.
pub(super) fn sync_folder(session: &Session, folder: &Path) -> Result<(), SftpError> {
    if !session.extensions().fsync {
        return Ok(());
    }
    sync(opened(session.open_read(folder))?)
}

/// A folder that was opened to make it durable, unless the server opens none.
fn opened<'a>(opening: Ticket<'a>) -> Result<Option<Handle<'a>>, SftpError> {
    match Handle::of(opening) {
        Ok(handle) => Ok(Some(handle)),
        Err(SftpError::Status(_)) => Ok(None),
        Err(lost) => Err(lost),
    }
}

/// Makes the names in an open folder durable.
fn sync(folder: Option<Handle<'_>>) -> Result<(), SftpError> {
    match folder.as_ref().and_then(Handle::sync) {
        Some(syncing) => unless_unsupported(syncing.done()),
        None => Ok(()),
    }
}

/// Success where there is no such operation: what the server can't promise, nobody can ask of it.
fn unless_unsupported(done: Result<(), SftpError>) -> Result<(), SftpError> {
    match done {
        Err(error) if error.is_unsupported() => Ok(()),
        done => done,
    }
}
