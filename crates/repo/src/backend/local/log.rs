//! The log in a directory: each object is written under another name and then linked to its own, which must be free.
//! It must never change an object that is there, nor take a folder that can't be seen for an empty one.

use std::io;
use std::path::{Path, PathBuf};

use super::super::log_name::taken;
use super::{LocalBackend, fill, parent, unless_missing};
use crate::backend::disk::{Disk, DiskFile};
use crate::backend::{BackendError, Creation, FileKind, LogName};

impl<D: Disk> LocalBackend<D> {
    pub(super) fn create_object(
        &self,
        name: &LogName,
        data: &[&[u8]],
    ) -> Result<Creation, BackendError> {
        let failed = |cause| self.object_error("write", name, cause);
        let unique = self.disk.unique().map_err(failed)?;
        let temporary = self.layout.object_temporary_path(name, unique);
        let mut file = match self.disk.create_new(&temporary) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                self.make_object_folders(name)?;
                self.disk.create_new(&temporary)
            }
            done => done,
        }
        .map_err(failed)?;
        let written = self.write_content(&mut file, data);
        drop(file);
        let linked = written.and_then(|()| self.link(name, &temporary));
        // Also when the object is there: a temporary file that stays is removed by a later upkeep.
        let _ = self.disk.remove(&temporary);
        match linked.map_err(failed)? {
            true => Ok(Creation::Created),
            false => taken(self, name, data),
        }
    }

    /// Gives a file its name, durably, if the name is free. If it is not, the name is made durable all the same: who
    /// gave it may have been killed before.
    fn link(&self, name: &LogName, temporary: &Path) -> io::Result<bool> {
        for folder in self.layout.object_folders(name) {
            self.anchor(&folder)?;
        }
        let path = self.layout.object_path(name);
        let is_ours = match self.disk.link(temporary, &path) {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => false,
            done => done.map(|()| true)?,
        };
        self.disk.sync_dir(&parent(&path))?;
        Ok(is_ours)
    }

    /// Makes the folders of an object, if the repository around them is there.
    fn make_object_folders(&self, name: &LogName) -> Result<(), BackendError> {
        if !self.has_config() {
            return Err(self.no_config());
        }
        for folder in self.layout.object_folders(name) {
            match self.disk.make_dir(&folder, self.modes.folder) {
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
                done => done.map_err(|cause| self.io("make", &folder, cause))?,
            }
        }
        Ok(())
    }

    pub(super) fn load_object(
        &self,
        name: &LogName,
        limit_bytes: u64,
    ) -> Result<Vec<u8>, BackendError> {
        let failed = |cause| self.object_error("read", name, cause);
        let file = self
            .disk
            .open(&self.layout.object_path(name))
            .map_err(failed)?;
        let size_bytes = file.size().map_err(failed)?;
        if size_bytes > limit_bytes {
            return Err(BackendError::ObjectTooLong {
                name: name.clone(),
                location: self.layout.root().display().to_string(),
                size_bytes,
                limit_bytes,
            });
        }
        let too_large = || failed(io::ErrorKind::OutOfMemory.into());
        let length = usize::try_from(size_bytes).map_err(|_| too_large())?;
        let mut content = Vec::new();
        content.try_reserve_exact(length).map_err(|_| too_large())?;
        content.resize(length, 0);
        let read_bytes = fill(&file, 0, &mut content).map_err(failed)?;
        if read_bytes < length {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(content)
    }

    pub(super) fn list_objects(
        &self,
        below: Option<&LogName>,
        each: &mut dyn FnMut(LogName, u64),
    ) -> Result<(), BackendError> {
        let top = match below {
            Some(below) => self.layout.object_path(below),
            None => self.layout.log_folder(),
        };
        match self.disk.stat(&top) {
            // What has the name is an object, and nothing lies below it.
            Ok(found) if found.is_file => return Ok(()),
            Ok(_) => {}
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                return self.require_absence(&top);
            }
            Err(cause) => return Err(self.io("list", &top, cause)),
        }
        self.walk_objects(below, top, &mut |name, size_bytes| {
            each(name, size_bytes);
        })
        .map(drop)
    }

    /// Removes an object's name.
    pub(super) fn remove_object(&self, name: &LogName) -> Result<(), BackendError> {
        match self.disk.remove(&self.layout.object_path(name)) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                match self.object_error("remove", name, cause) {
                    missing if missing.is_missing() => Ok(()),
                    error => Err(error),
                }
            }
            done => done.map_err(|cause| self.object_error("remove", name, cause)),
        }
    }

    /// All folders of the log, as far as there is one.
    pub(super) fn object_folders(&self) -> Result<Vec<PathBuf>, BackendError> {
        let top = self.layout.log_folder();
        let found = unless_missing(self.disk.stat(&top).map(Some));
        match found.map_err(|cause| self.io("look at", &top, cause))? {
            None => Ok(Vec::new()),
            Some(_) => self.walk_objects(None, top, &mut |_, _| {}),
        }
    }

    /// Shows all objects in a folder and below it, and gives all folders that there are.
    fn walk_objects(
        &self,
        above: Option<&LogName>,
        top: PathBuf,
        each: &mut dyn FnMut(LogName, u64),
    ) -> Result<Vec<PathBuf>, BackendError> {
        let mut seen = Vec::new();
        let mut left = vec![(above.cloned(), top)];
        while let Some((above, folder)) = left.pop() {
            for name in self.object_names(above.as_ref(), &folder)? {
                let path = self.layout.object_path(&name);
                match self.disk.stat(&path) {
                    Ok(found) if found.is_file => each(name, found.size_bytes),
                    Ok(_) => left.push((Some(name), path)),
                    Err(cause) => {
                        // It may be removed between the two looks. If not, it is a link to a disk that is not mounted.
                        let is_gone = cause.kind() == io::ErrorKind::NotFound
                            && !self.object_names(above.as_ref(), &folder)?.contains(&name);
                        if !is_gone {
                            return Err(self.io("look at", &path, cause));
                        }
                    }
                }
            }
            seen.push(folder);
        }
        Ok(seen)
    }

    /// What is in a folder and has a legal name.
    fn object_names(
        &self,
        above: Option<&LogName>,
        folder: &Path,
    ) -> Result<Vec<LogName>, BackendError> {
        let mut names = Vec::new();
        let listed = self.disk.list(folder, &mut |part| {
            names.extend(part.to_str().and_then(|part| LogName::below(above, part)));
        });
        listed.map_err(|cause| self.io("list", folder, cause))?;
        Ok(names)
    }

    /// What a failure at one object means: that it is missing, if it surely is, in a repository that is there.
    fn object_error(&self, doing: &'static str, name: &LogName, cause: io::Error) -> BackendError {
        let path = self.layout.object_path(name);
        if cause.kind() != io::ErrorKind::NotFound {
            return self.io(doing, &path, cause);
        }
        match self.require_absence(&parent(&path)) {
            Ok(()) => BackendError::NoObject {
                name: name.clone(),
                location: self.layout.root().display().to_string(),
            },
            Err(error) => error,
        }
    }

    /// Fails if a folder that can't be found has a name nevertheless, as a link to a disk that is not mounted, or if no
    /// repository is around it. A folder that is there is fine.
    fn require_absence(&self, folder: &Path) -> Result<(), BackendError> {
        let inner = folder.strip_prefix(self.layout.root()).unwrap_or(folder);
        let mut above = self.layout.root().to_path_buf();
        for part in inner.components() {
            let path = above.join(part);
            match self.disk.stat(&path) {
                Ok(_) => above = path,
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                    let mut has_name = false;
                    self.disk
                        .list(&above, &mut |name| has_name |= name == part.as_os_str())
                        .map_err(|cause| self.folder_error(FileKind::Config, cause))?;
                    return match has_name {
                        // Somebody made it between the two looks.
                        true if self.disk.stat(&path).is_ok() => Ok(()),
                        true => Err(self.io("list", &path, cause)),
                        false if self.has_config() => Ok(()),
                        false => Err(self.no_config()),
                    };
                }
                Err(cause) => return Err(self.io("look at", &path, cause)),
            }
        }
        Ok(())
    }

    fn no_config(&self) -> BackendError {
        BackendError::NoRepository {
            location: self.layout.root().display().to_string(),
            what: "the config".to_owned(),
        }
    }
}
