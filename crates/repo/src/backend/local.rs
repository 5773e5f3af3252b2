//! The local backend keeps a repository in a directory, in restic's default layout.
//! It must never give a file its name before its content is on the disk, nor take an unmounted disk for an empty one.

mod log;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use lifeboat_format::Id;

use super::disk::{Disk, DiskFile, RealDisk};
use super::layout::{
    Layout, Modes, is_object_temporary, is_temporary, parse_id, parse_pack_folder,
};
use super::{Backend, BackendError, Creation, FileKind, FileName, ListingDelay, LogName};

/// A repository in a directory.
#[derive(Debug)]
pub struct LocalBackend<D: Disk = RealDisk> {
    disk: D,
    layout: Layout,
    modes: Modes,
    /// Folders whose own name is known to be durable. Another process may have made one a moment ago, so that the
    /// first file in each waits until its parent is on the disk too.
    anchored: Mutex<BTreeSet<PathBuf>>,
}

impl LocalBackend<RealDisk> {
    /// A repository in a directory of this machine, which need not exist yet.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self::on(RealDisk, root)
    }
}

impl<D: Disk> LocalBackend<D> {
    /// A repository in a directory of a disk.
    pub fn on(disk: D, root: impl Into<PathBuf>) -> Self {
        let layout = Layout::new(root.into());
        let config = disk.stat(&layout.path(FileName::CONFIG)).ok();
        let modes = Modes::beside(config.map(|config| config.permissions));
        Self {
            disk,
            layout,
            modes,
            anchored: Mutex::default(),
        }
    }

    /// Removes what writers left behind that were stopped before `written_before`, and returns the number of files.
    /// Only a time well before now is safe: a writer may be at work, even on another machine with another clock.
    ///
    /// # Errors
    /// When a folder can't be read or a file not be removed.
    pub fn remove_temporaries(&self, written_before: SystemTime) -> Result<u64, BackendError> {
        let mut removed = 0;
        type IsTemporary = fn(&OsStr) -> bool;
        let mut folders = self.layout.folders();
        folders.push(self.layout.root().to_path_buf());
        let folders = folders
            .into_iter()
            .map(|folder| (folder, is_temporary as IsTemporary));
        let objects = self.object_folders()?.into_iter();
        let objects = objects.map(|folder| (folder, is_object_temporary as IsTemporary));
        for (folder, is_temporary) in folders.chain(objects) {
            let mut paths = Vec::new();
            let listed = self.disk.list(&folder, &mut |name| {
                if is_temporary(name) {
                    paths.push(folder.join(name));
                }
            });
            unless_missing(listed).map_err(|cause| self.io("list", &folder, cause))?;
            for path in paths {
                let old = unless_missing(self.disk.stat(&path).map(Some))
                    .map_err(|cause| self.io("look at", &path, cause))?
                    .is_some_and(|found| found.is_file && found.modified < written_before);
                if old {
                    unless_missing(self.disk.remove(&path))
                        .map_err(|cause| self.io("remove", &path, cause))?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    fn list_folder(
        &self,
        folder: &Path,
        belongs: &dyn Fn(Id) -> bool,
        each: &mut dyn FnMut(Id, u64),
    ) -> io::Result<()> {
        let mut ids = Vec::new();
        self.disk.list(folder, &mut |name| {
            ids.extend(parse_id(name).filter(|id| belongs(*id)))
        })?;
        for id in ids {
            // A file may be removed between the two looks; a directory with the name of an ID is nobody's file.
            let found = unless_missing(self.disk.stat(&folder.join(id.to_string())).map(Some))?;
            if let Some(found) = found.filter(|found| found.is_file) {
                each(id, found.size_bytes);
            }
        }
        Ok(())
    }

    fn list_packs(&self, each: &mut dyn FnMut(Id, u64)) -> Result<(), BackendError> {
        let data = self.layout.top_folder(FileKind::Pack);
        let mut bytes = BTreeSet::new();
        self.disk
            .list(&data, &mut |name| bytes.extend(parse_pack_folder(name)))
            .map_err(|cause| self.folder_error(FileKind::Pack, cause))?;
        for byte in bytes {
            let folder = self.layout.pack_folder(byte);
            match self.list_folder(&folder, &|id| id.0[0] == byte, each) {
                // A file with the name of a folder holds no packs.
                Err(cause) if cause.kind() == io::ErrorKind::NotADirectory => {}
                // Any other error stands, also that it is missing: then it is a link to a disk that is not mounted.
                done => done.map_err(|cause| self.io("list", &folder, cause))?,
            }
        }
        Ok(())
    }

    fn open(&self, name: FileName) -> Result<(D::File, u64), BackendError> {
        let file = self
            .disk
            .open(&self.layout.path(name))
            .map_err(|cause| self.file_error("open", name, cause))?;
        let size_bytes = file
            .size()
            .map_err(|cause| self.file_error("read", name, cause))?;
        Ok((file, size_bytes))
    }

    fn read(
        &self,
        name: FileName,
        file: &D::File,
        offset_bytes: u64,
        buf: &mut [u8],
    ) -> Result<(), BackendError> {
        let read_bytes =
            fill(file, offset_bytes, buf).map_err(|cause| self.file_error("read", name, cause))?;
        if read_bytes < buf.len() {
            let at_bytes = offset_bytes.saturating_add(read_bytes as u64);
            let wanted_bytes = offset_bytes.saturating_add(buf.len() as u64);
            return Err(self.short(name, at_bytes, wanted_bytes));
        }
        Ok(())
    }

    fn create_temporary(&self, name: FileName, path: &Path) -> Result<D::File, BackendError> {
        match self.disk.create_new(path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                self.make_folder(name)?;
                self.disk.create_new(path)
            }
            done => done,
        }
        .map_err(|cause| self.file_error("write", name, cause))
    }

    /// Makes the folder of a file, if the repository around it is there: one that is gone is not made anew.
    fn make_folder(&self, name: FileName) -> Result<(), BackendError> {
        if name.kind == FileKind::Config || (name.kind != FileKind::Pack && !self.has_config()) {
            return Err(self.no_repository(name.kind));
        }
        match self
            .disk
            .make_dir(&self.layout.folder(name), self.modes.folder)
        {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done.map_err(|cause| self.folder_error(name.kind, cause)),
        }
    }

    /// Makes the name of a file's folder durable, once in the life of this value.
    fn anchor(&self, folder: &Path) -> io::Result<()> {
        let is_anchored =
            |folders: &BTreeSet<PathBuf>| folder == self.layout.root() || folders.contains(folder);
        if is_anchored(&self.anchored.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(());
        }
        self.disk.sync_dir(&parent(folder))?;
        self.anchored
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(folder.to_path_buf());
        Ok(())
    }

    fn write(
        &self,
        mut file: D::File,
        data: &[&[u8]],
        temporary: &Path,
        name: FileName,
    ) -> io::Result<()> {
        self.write_content(&mut file, data)?;
        drop(file);
        let folder = self.layout.folder(name);
        self.anchor(&folder)?;
        self.disk.rename(temporary, &self.layout.path(name))?;
        self.disk.sync_dir(&folder)
    }

    fn write_content(&self, file: &mut D::File, data: &[&[u8]]) -> io::Result<()> {
        for piece in data {
            file.write_all(piece)?;
        }
        file.restrict(self.modes.file)?;
        file.sync()
    }

    fn make_root(&self, root: &Path) -> io::Result<()> {
        match self.disk.make_dir(root, self.modes.folder) {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(cause)
                if cause.kind() == io::ErrorKind::NotFound
                    && root.parent().is_some_and(|up| up != root) =>
            {
                self.make_root(&parent(root))?;
                self.disk.make_dir(root, self.modes.folder)?;
            }
            done => done?,
        }
        match self.disk.sync_dir(&parent(root)) {
            // Who may write a folder need not be allowed to open it, and then no one can do better.
            Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            done => done,
        }
    }

    fn has_config(&self) -> bool {
        self.disk
            .stat(&self.layout.path(FileName::CONFIG))
            .is_ok_and(|found| found.is_file)
    }

    fn has_folder(&self, kind: FileKind) -> bool {
        self.disk.stat(&self.layout.top_folder(kind)).is_ok()
    }

    /// What a failure at one file means: that only this file is missing, if the folder is there that should hold it.
    fn file_error(&self, doing: &'static str, name: FileName, cause: io::Error) -> BackendError {
        if cause.kind() != io::ErrorKind::NotFound {
            return BackendError::Io {
                doing,
                what: name.to_string(),
                location: self.location(),
                cause,
            };
        }
        if self.has_folder(name.kind) || (name.kind == FileKind::Lock && self.has_config()) {
            return BackendError::Missing {
                name,
                location: self.location(),
            };
        }
        self.no_repository(name.kind)
    }

    fn folder_error(&self, kind: FileKind, cause: io::Error) -> BackendError {
        match cause.kind() {
            io::ErrorKind::NotFound => self.no_repository(kind),
            _ => self.io("use", &self.layout.top_folder(kind), cause),
        }
    }

    fn no_repository(&self, kind: FileKind) -> BackendError {
        let what = match kind {
            FileKind::Config => "the directory".to_owned(),
            kind => format!("the folder {}", kind.folder()),
        };
        BackendError::NoRepository {
            location: self.location(),
            what,
        }
    }

    fn short(&self, name: FileName, size_bytes: u64, wanted_bytes: u64) -> BackendError {
        BackendError::Short {
            name,
            location: self.location(),
            size_bytes,
            wanted_bytes,
        }
    }

    fn io(&self, doing: &'static str, path: &Path, cause: io::Error) -> BackendError {
        let root = self.layout.root();
        // The directory of the repository itself is named by its place in its own directory.
        let (what, location) = match path.strip_prefix(root) {
            Ok(inner) if !inner.as_os_str().is_empty() => (inner, self.location()),
            _ => (
                root.file_name().map_or(root, Path::new),
                parent(root).display().to_string(),
            ),
        };
        BackendError::Io {
            doing,
            what: what.display().to_string(),
            location,
            cause,
        }
    }
}

impl<D: Disk> Backend for LocalBackend<D> {
    fn location(&self) -> String {
        self.layout.root().display().to_string()
    }

    fn listing_delay(&self) -> ListingDelay {
        match self.disk.lists_at_once(self.layout.root()) {
            true => ListingDelay::None,
            false => ListingDelay::Unknown,
        }
    }

    fn create(&self) -> Result<(), BackendError> {
        let root = self.layout.root();
        self.make_root(root)
            .map_err(|cause| self.io("make", root, cause))?;
        for folder in self.layout.folders() {
            match self.disk.make_dir(&folder, self.modes.folder) {
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
                done => done.map_err(|cause| self.io("make", &folder, cause))?,
            }
        }
        // Each folder becomes durable with the first file in it; empty ones may be lost.
        Ok(())
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64)) -> Result<(), BackendError> {
        match kind {
            FileKind::Config => match self.size(FileName::CONFIG) {
                Err(missing) if missing.is_missing() => Ok(()),
                found => found.map(|size_bytes| each(FileName::CONFIG.id, size_bytes)),
            },
            FileKind::Pack => self.list_packs(each),
            kind => match self.list_folder(&self.layout.top_folder(kind), &|_| true, each) {
                // Tools that copy objects drop empty folders, and only `locks` is empty in a sound repository at rest.
                Err(cause)
                    if kind == FileKind::Lock
                        && cause.kind() == io::ErrorKind::NotFound
                        && self.has_config() =>
                {
                    Ok(())
                }
                done => done.map_err(|cause| self.folder_error(kind, cause)),
            },
        }
    }

    fn size(&self, name: FileName) -> Result<u64, BackendError> {
        self.open(name).map(|(_, size_bytes)| size_bytes)
    }

    fn load(&self, name: FileName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        let (file, size_bytes) = self.open(name)?;
        if size_bytes > limit_bytes {
            return Err(BackendError::TooLong {
                name,
                location: self.location(),
                size_bytes,
                limit_bytes,
            });
        }
        let too_large = || self.file_error("read", name, io::ErrorKind::OutOfMemory.into());
        let length = usize::try_from(size_bytes).map_err(|_| too_large())?;
        let mut content = Vec::new();
        content.try_reserve_exact(length).map_err(|_| too_large())?;
        content.resize(length, 0);
        self.read(name, &file, 0, &mut content)?;
        Ok(content)
    }

    fn load_at(
        &self,
        name: FileName,
        offset_bytes: u64,
        buf: &mut [u8],
    ) -> Result<(), BackendError> {
        let (file, size_bytes) = self.open(name)?;
        let wanted_bytes = offset_bytes.saturating_add(buf.len() as u64);
        if wanted_bytes > size_bytes {
            return Err(self.short(name, size_bytes, wanted_bytes));
        }
        self.read(name, &file, offset_bytes, buf)
    }

    fn save(&self, name: FileName, data: &[&[u8]]) -> Result<(), BackendError> {
        let unique = self
            .disk
            .unique()
            .map_err(|cause| self.file_error("write", name, cause))?;
        let temporary = self.layout.temporary_path(name, unique);
        let file = self.create_temporary(name, &temporary)?;
        self.write(file, data, &temporary, name).map_err(|cause| {
            // It can fail as well, and the first failure is the one to report; a later upkeep removes what is left.
            let _ = self.disk.remove(&temporary);
            self.file_error("write", name, cause)
        })
    }

    fn remove(&self, name: FileName) -> Result<(), BackendError> {
        match self.disk.remove(&self.layout.path(name)) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                let missing = self.file_error("remove", name, cause);
                return if missing.is_missing() {
                    Ok(())
                } else {
                    Err(missing)
                };
            }
            done => done.map_err(|cause| self.file_error("remove", name, cause))?,
        }
        match name.kind {
            // If these came back after a loss of power, they would be a pack that nothing needs, or a lock of a dead
            // process: both are known how to handle, and there are many of them.
            FileKind::Pack | FileKind::Lock => Ok(()),
            // But a snapshot or an index file must not come back after what it refers to was removed, nor an old key.
            FileKind::Config | FileKind::Key | FileKind::Snapshot | FileKind::Index => {
                let folder = self.layout.folder(name);
                self.disk
                    .sync_dir(&folder)
                    .map_err(|cause| self.file_error("remove", name, cause))
            }
        }
    }

    fn log_create(&self, name: &LogName, data: &[&[u8]]) -> Result<Creation, BackendError> {
        self.create_object(name, data)
    }

    fn log_load(&self, name: &LogName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        self.load_object(name, limit_bytes)
    }

    fn log_list(
        &self,
        below: Option<&LogName>,
        each: &mut dyn FnMut(LogName, u64),
    ) -> Result<(), BackendError> {
        self.list_objects(below, each)
    }

    fn log_remove(&self, name: &LogName) -> Result<(), BackendError> {
        self.remove_object(name)
    }

    fn remove_unfinished(&self, older_than: Duration) -> Result<u64, BackendError> {
        match SystemTime::now().checked_sub(older_than) {
            Some(written_before) => self.remove_temporaries(written_before),
            None => Ok(0),
        }
    }
}

/// Reads until the buffer is full or the file ends, and returns how many bytes that were.
fn fill(file: &impl DiskFile, offset_bytes: u64, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(offset_bytes.saturating_add(filled as u64), rest) {
            Ok(0) => break,
            Ok(read_bytes) => filled += read_bytes,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(filled)
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(up) if up.as_os_str().is_empty() => PathBuf::from("."),
        Some(up) => up.to_path_buf(),
        None => path.to_path_buf(),
    }
}

fn unless_missing<T: Default>(done: io::Result<T>) -> io::Result<T> {
    match done {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        done => done,
    }
}
