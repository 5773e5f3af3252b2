//! The log over SFTP: each object is written under another name and then linked to its own, which must be free.
//! It must never change an object that is there, nor take a folder that can't be seen for an empty one.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::SftpBackend;
use super::explain::exists;
use super::failure::SftpError;
use super::handle::{Handle, attributes};
use super::listing;
use super::packet::{Name, Status, Type};
use super::save::{make_folders, sync_folder, write_content};
use super::session::Session;
use crate::backend::{Backend, BackendError, LogName, Trouble};

impl SftpBackend {
    /// Writes an object whose name is free, and says whether it was.
    ///
    /// With `hardlink@openssh.com` a name is given once, whoever else asks at the same time. Without it a rename must
    /// do: by the protocol it replaces nothing, but a server that breaks that would, so that a look goes before.
    pub(super) fn create_object(
        &self,
        session: &Session,
        name: &LogName,
        data: &[&[u8]],
    ) -> Result<bool, BackendError> {
        let what = name.path();
        let unique = getrandom::u64()
            .map_err(|cause| self.refused("write", &what, Trouble::Other, cause.to_string()))?;
        let temporary = self.layout.object_temporary_path(name, unique);
        let modes = self.modes(session, &what)?;
        let file = match Handle::of(session.create_new(&temporary)) {
            Err(error) if error.is_missing() => {
                if !self
                    .has_config(session)
                    .map_err(|error| self.remote("write", &what, &error))?
                {
                    return Err(self.no_config());
                }
                // One after the other: each stands in the one before.
                for folder in self.layout.object_folders(name) {
                    make_folders(session, std::slice::from_ref(&folder), modes.folder)
                        .map_err(|(folder, error)| self.create_error(session, &folder, error))?;
                }
                Handle::of(session.create_new(&temporary))
            }
            done => done,
        };
        let failed = |error| self.object_write_error(session, name, data, error);
        let written = write_content(file.map_err(failed)?, data, modes);
        let linked = written.and_then(|()| self.give_name(session, name, &temporary));
        // Also when the name is taken: a temporary file that stays is removed by a later upkeep.
        let _ = session.remove(&temporary).done();
        linked.map_err(failed)
    }

    /// Gives a file its name, durably, if the name is free. If it is not, the name is made durable all the same: who
    /// gave it may have been killed before.
    fn give_name(
        &self,
        session: &Session,
        name: &LogName,
        temporary: &Path,
    ) -> Result<bool, SftpError> {
        for folder in self.layout.object_folders(name) {
            self.anchor(session, &folder)?;
        }
        let path = self.layout.object_path(name);
        let linked = match session.link(temporary, &path) {
            Some(asked) => asked.done().map(|()| true),
            None => Ok(false),
        };
        let is_ours = match linked {
            Ok(true) => true,
            Err(SftpError::Lost(loss)) => return Err(SftpError::Lost(loss)),
            // The protocol has no word for a name that is taken, nor for a disk that has no links.
            Ok(false) | Err(SftpError::Status(_)) if exists(session, &path)? => false,
            _ => match session.rename_to_free(temporary, &path).done() {
                Ok(()) => true,
                // Somebody else was faster.
                Err(SftpError::Status(_)) if exists(session, &path)? => false,
                Err(error) => return Err(error),
            },
        };
        if let Some(folder) = path.parent() {
            sync_folder(session, folder)?;
        }
        Ok(is_ours)
    }

    pub(super) fn load_object(
        &self,
        session: &Session,
        name: &LogName,
        limit_bytes: u64,
    ) -> Result<Vec<u8>, BackendError> {
        let failed = |error| self.object_error(session, "read", name, error);
        let what = name.path();
        let handle =
            Handle::of(session.open_read(&self.layout.object_path(name))).map_err(failed)?;
        let size_bytes = self.size_of(&what, attributes(handle.stat()).map_err(failed)?)?;
        if size_bytes > limit_bytes {
            return Err(BackendError::ObjectTooLong {
                name: name.clone(),
                location: self.location(),
                size_bytes,
                limit_bytes,
            });
        }
        let mut content = Vec::new();
        self.grow(&what, &mut content, size_bytes)?;
        let read_bytes = handle.read(0, &mut content).map_err(failed)?;
        if read_bytes < content.len() {
            let why = format!("it ends after {read_bytes} of {size_bytes} bytes");
            return Err(self.refused("read", &what, Trouble::Other, why));
        }
        Ok(content)
    }

    pub(super) fn list_objects(
        &self,
        session: &Session,
        below: Option<&LogName>,
        each: &mut dyn FnMut(LogName, u64),
    ) -> Result<(), BackendError> {
        let top = match below {
            Some(below) => self.layout.object_path(below),
            None => self.layout.log_folder(),
        };
        match attributes(session.stat(&top)) {
            // What has the name is an object, and nothing lies below it.
            Ok(found) if found.kind() == Type::File => Ok(()),
            Ok(_) => self.walk_objects(session, below, top, each).map(drop),
            Err(error) if error.is_missing() => self.require_absence(session, &top),
            Err(error) => Err(self.remote("list", &self.inner(&top), &error)),
        }
    }

    /// All folders of the log, as far as there is one.
    pub(super) fn object_folders(&self, session: &Session) -> Result<Vec<PathBuf>, BackendError> {
        let top = self.layout.log_folder();
        match attributes(session.stat(&top)) {
            Ok(_) => self.walk_objects(session, None, top, &mut |_, _| {}),
            Err(error) if error.is_missing() => Ok(Vec::new()),
            Err(error) => Err(self.remote("look at", &self.inner(&top), &error)),
        }
    }

    /// Shows all objects in a folder and below it, and gives all folders that there are.
    fn walk_objects(
        &self,
        session: &Session,
        above: Option<&LogName>,
        top: PathBuf,
        each: &mut dyn FnMut(LogName, u64),
    ) -> Result<Vec<PathBuf>, BackendError> {
        let mut seen = Vec::new();
        let mut level = vec![(above.cloned(), top)];
        while !level.is_empty() {
            let folders: Vec<PathBuf> = level.iter().map(|(_, folder)| folder.clone()).collect();
            let mut found = Vec::new();
            let listed = listing::list(session, &folders, &mut |number, names| {
                let above = level.get(number).and_then(|(above, _)| above.as_ref());
                found.extend(names.into_iter().filter_map(|Name { name, attributes }| {
                    let part = OsStr::from_bytes(&name).to_str()?;
                    Some((LogName::below(above, part)?, attributes))
                }));
                Ok(())
            });
            listed.map_err(|(number, error)| {
                let folder = folders.get(number).map_or(Path::new(""), PathBuf::as_path);
                self.remote("list", &self.inner(folder), &error)
            })?;
            level.clear();
            for (name, mut known) in found {
                let path = self.layout.object_path(&name);
                let is_known = match known.kind() {
                    Type::File => known.size_bytes.is_some(),
                    Type::Folder => true,
                    // What is behind a link, or what the server did not tell.
                    Type::Link | Type::Unknown | Type::Other => false,
                };
                if !is_known {
                    known = match attributes(session.stat(&path)) {
                        Ok(found) => found,
                        // Only a link can lead nowhere: to a disk that is not mounted. A file may be removed meanwhile.
                        Err(error) if error.is_missing() && known.kind() != Type::Link => continue,
                        Err(error) => {
                            return Err(self.remote("look at", &self.inner(&path), &error));
                        }
                    };
                }
                match known.kind() {
                    Type::Folder => level.push((Some(name), path)),
                    _ => each(name, self.size_of(&self.inner(&path), known)?),
                }
            }
            seen.extend(folders);
        }
        Ok(seen)
    }

    /// What a failure at one object means: that it is missing, if it surely is, in a repository that is there.
    pub(super) fn object_error(
        &self,
        session: &Session,
        doing: &'static str,
        name: &LogName,
        error: SftpError,
    ) -> BackendError {
        if !error.is_missing() {
            return self.remote(doing, &name.path(), &error);
        }
        let path = self.layout.object_path(name);
        match self.require_absence(session, path.parent().unwrap_or(&path)) {
            Ok(()) => BackendError::NoObject {
                name: name.clone(),
                location: self.location(),
            },
            Err(error) => error,
        }
    }

    fn object_write_error(
        &self,
        session: &Session,
        name: &LogName,
        data: &[&[u8]],
        error: SftpError,
    ) -> BackendError {
        let wanted_bytes = data.iter().map(|piece| piece.len() as u64).sum();
        let full = (error.code() == Some(Status::FAILURE))
            .then(|| self.fullness(session, wanted_bytes))
            .flatten();
        match full {
            Some(why) => self.refused("write", &name.path(), Trouble::Full, why),
            None => self.object_error(session, "write", name, error),
        }
    }

    /// Fails if a folder that can't be found has a name nevertheless, as a link to a disk that is not mounted, or if no
    /// repository is around it. A folder that is there is fine.
    fn require_absence(&self, session: &Session, folder: &Path) -> Result<(), BackendError> {
        let inner = folder.strip_prefix(self.layout.root()).unwrap_or(folder);
        let mut above = self.layout.root().to_path_buf();
        for part in inner.components() {
            let path = above.join(part);
            let failed = |error: SftpError| self.remote("look at", &self.inner(&path), &error);
            if exists(session, &path).map_err(failed)? {
                above = path;
                continue;
            }
            let mut has_name = false;
            let folders = [&above];
            let listed = listing::list(session, &folders, &mut |_, names| {
                let part = part.as_os_str().as_bytes();
                has_name |= names.iter().any(|name| name.name == part);
                Ok(())
            });
            return match listed {
                Err((_, error)) if error.is_missing() => Err(self.no_config()),
                Err((_, error)) => Err(self.remote("list", &self.inner(&above), &error)),
                // Somebody made it between the two looks.
                Ok(()) if has_name && exists(session, &path).map_err(failed)? => Ok(()),
                Ok(()) if has_name => {
                    let why = "it has a name, and nothing is behind it".to_owned();
                    Err(self.refused("look at", &self.inner(&path), Trouble::Other, why))
                }
                Ok(()) if self.has_config(session).map_err(failed)? => Ok(()),
                Ok(()) => Err(self.no_config()),
            };
        }
        Ok(())
    }

    fn no_config(&self) -> BackendError {
        BackendError::NoRepository {
            location: self.location(),
            what: "the config".to_owned(),
        }
    }
}
