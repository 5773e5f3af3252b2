//! The SFTP backend keeps a repository in a directory that the system's ssh reaches, in restic's default layout.
//! It must never give a file its name before its content is whole, nor take a lost connection for a missing file.

mod command;
mod failure;
mod handle;
mod link;
mod listing;
mod packet;
mod paths;
mod session;
mod ssh;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use lifeboat_format::Id;

use self::command::SftpCommand;
use self::failure::SftpError;
use self::handle::{Handle, attributes};
use self::link::Link;
use self::packet::{Answer, Attributes, Name, Status, Type};
use self::session::Session;
use super::layout::{Layout, Modes, is_temporary, parse_id, parse_pack_folder};
use super::{Backend, BackendError, BackendOptions, FileKind, FileName, OptionError, Trouble};

/// A repository in a directory that is reached by SFTP.
pub struct SftpBackend {
    link: Link,
    location: String,
    layout: Layout,
    modes: OnceLock<Modes>,
    connections: usize,
    /// Folders whose own name is known to be durable, as in the local backend.
    anchored: Mutex<BTreeSet<PathBuf>>,
}

impl SftpBackend {
    /// A repository in a directory of a host, which need not exist yet; a relative path begins in the user's home
    /// directory. Nothing is contacted yet.
    ///
    /// # Errors
    /// When an option can't be used.
    pub fn new(
        username: Option<&str>,
        host: &str,
        port: Option<u16>,
        path: &str,
        options: &BackendOptions,
    ) -> Result<Self, OptionError> {
        // ssh asks on the terminal, and somebody is there to answer when our input comes from one.
        let may_ask = std::io::stdin().is_terminal();
        let command = SftpCommand::new(username, host, port, options, may_ask)?;
        let location = super::Location::Sftp {
            username: username.map(str::to_owned),
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        };
        Ok(Self {
            location: location.to_string(),
            layout: Layout::new(PathBuf::from(path)),
            modes: OnceLock::new(),
            connections: command.connections,
            anchored: Mutex::default(),
            link: Link::new(command, options.stall),
        })
    }

    /// Works with a connection; one that was lost is made anew first.
    fn with<T>(
        &self,
        doing: &'static str,
        what: &dyn std::fmt::Display,
        work: impl FnOnce(&Session) -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        let session = self
            .link
            .session()
            .map_err(|loss| self.remote(doing, what, &SftpError::Lost(loss)))?;
        work(&session)
    }

    fn load_range(
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

    fn load_whole(
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
        self.grow(name, &mut content, guessed_bytes.min(limit_bytes))?;
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
        self.grow(name, &mut content, size_bytes)?;
        if let Some(rest) = content.get_mut(done..).filter(|rest| !rest.is_empty()) {
            done += handle.read(done as u64, rest).map_err(failed)?;
        }
        if done < content.len() {
            return Err(self.short(name, done as u64, size_bytes));
        }
        Ok(content)
    }

    fn grow(
        &self,
        name: FileName,
        content: &mut Vec<u8>,
        size_bytes: u64,
    ) -> Result<(), BackendError> {
        let length = usize::try_from(size_bytes).unwrap_or(usize::MAX);
        let more = length.saturating_sub(content.len());
        content
            .try_reserve_exact(more)
            .map_err(|_| BackendError::Io {
                doing: "read",
                what: name.to_string(),
                location: self.location(),
                cause: std::io::ErrorKind::OutOfMemory.into(),
            })?;
        content.resize(length, 0);
        Ok(())
    }

    /// The size of a file, if it is one.
    fn file_size(
        &self,
        session: &Session,
        name: FileName,
        found: Result<Attributes, SftpError>,
    ) -> Result<u64, BackendError> {
        let found = found.map_err(|error| self.file_error(session, "read", name, error))?;
        let odd = |why: &str| self.refused("read", &name, Trouble::Other, why.to_owned());
        match found.kind() {
            Type::File | Type::Unknown => {}
            Type::Folder => return Err(odd("it is a directory")),
            Type::Link | Type::Other => return Err(odd("it is not a regular file")),
        }
        found
            .size_bytes
            .ok_or_else(|| odd("the server does not tell its size"))
    }

    fn save_file(
        &self,
        session: &Session,
        name: FileName,
        data: &[&[u8]],
    ) -> Result<(), BackendError> {
        let unique = getrandom::u64()
            .map_err(|cause| self.refused("write", &name, Trouble::Other, cause.to_string()))?;
        let temporary = self.layout.temporary_path(name, unique);
        let modes = self.modes(session, name)?;
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
            // It can fail as well, and the first failure is the one to report; a later upkeep removes what is left.
            let _ = session.remove(&temporary).done();
            self.write_error(session, name, data, error)
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
        file.write(data)?;
        // A server does what concerns one file in the order in which it is asked.
        let restricting = file.restrict(modes.file);
        let syncing = file.sync();
        let closing = file.close();
        match restricting.done() {
            // Some servers have no permissions to set.
            Ok(()) | Err(SftpError::Status(_)) => {}
            Err(lost) => return Err(lost),
        }
        if let Some(syncing) = syncing {
            unless_unsupported(syncing.done())?;
        }
        closing.done()?;
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
        // Such a server does not replace a file; what is there under a hash has the content of this hash.
        let size_bytes = data.iter().map(|piece| piece.len() as u64).sum();
        match attributes(session.stat(&path)) {
            Ok(found) if found.size_bytes == Some(size_bytes) => session.remove(temporary).done(),
            _ => Err(error),
        }
    }

    /// Makes the name of a file's folder durable, once in the life of this value.
    fn anchor(&self, session: &Session, folder: &Path) -> Result<(), SftpError> {
        let is_anchored =
            |folders: &BTreeSet<PathBuf>| folder == self.layout.root() || folders.contains(folder);
        if !session.extensions().fsync || is_anchored(&self.anchored()) {
            return Ok(());
        }
        if let Some(parent) = folder.parent() {
            sync(opened(session.open_read(parent))?)?;
        }
        self.anchored().insert(folder.to_path_buf());
        Ok(())
    }

    fn anchored(&self) -> std::sync::MutexGuard<'_, BTreeSet<PathBuf>> {
        self.anchored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Permissions of what is made, as they go with the config.
    fn modes(&self, session: &Session, name: FileName) -> Result<Modes, BackendError> {
        if let Some(modes) = self.modes.get() {
            return Ok(*modes);
        }
        let config = match attributes(session.stat(&self.layout.path(FileName::CONFIG))) {
            Ok(found) => found.mode.map(|mode| mode & 0o7777),
            Err(SftpError::Status(_)) => None,
            Err(lost) => return Err(self.remote("write", &name, &lost)),
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

    fn list_kind(
        &self,
        session: &Session,
        kind: FileKind,
        each: &mut dyn FnMut(Id, u64),
    ) -> Result<(), BackendError> {
        let top = [self.layout.top_folder(kind)];
        if kind == FileKind::Pack {
            let mut bytes = BTreeSet::new();
            let found = listing::list(session, &top, &mut |_, names| {
                bytes.extend(
                    names
                        .iter()
                        .filter(|name| may_be_folder(name))
                        .filter_map(|name| parse_pack_folder(OsStr::from_bytes(&name.name))),
                );
                Ok(())
            });
            found.map_err(|(_, error)| self.folder_error(session, kind, &top[0], error))?;
            let bytes: Vec<u8> = bytes.into_iter().collect();
            let folders: Vec<_> = bytes
                .iter()
                .map(|byte| self.layout.pack_folder(*byte))
                .collect();
            return listing::list(session, &folders, &mut |number, names| {
                let byte = bytes.get(number).copied();
                let folder = folders.get(number).map_or(Path::new(""), PathBuf::as_path);
                show(session, folder, names, &|id| Some(id.0[0]) == byte, each)
            })
            .map_err(|(number, error)| {
                let folder = folders.get(number).map_or(Path::new(""), PathBuf::as_path);
                // A folder that is named but not there is a link to a disk that is not mounted.
                self.remote("list", &self.inner(folder), &error)
            });
        }
        let found = listing::list(session, &top, &mut |_, names| {
            show(session, &top[0], names, &|_| true, each)
        });
        match found {
            // Tools that copy objects drop empty folders, and only `locks` is empty in a sound repository at rest.
            Err((_, error))
                if kind == FileKind::Lock
                    && error.is_missing()
                    && self
                        .has_config(session)
                        .map_err(|error| self.remote("list", &kind.folder(), &error))? =>
            {
                Ok(())
            }
            done => done.map_err(|(_, error)| self.folder_error(session, kind, &top[0], error)),
        }
    }

    /// All temporaries of writers with the moments at which they were last written, by the server's clock.
    fn temporaries(&self, session: &Session) -> Result<Vec<(PathBuf, u32)>, BackendError> {
        let mut found = Vec::new();
        let mut folders = vec![self.layout.root().to_path_buf()];
        folders.extend(self.layout.folders());
        for folder in folders {
            let listed = listing::list(session, std::slice::from_ref(&folder), &mut |_, names| {
                found.extend(names.into_iter().filter_map(|name| {
                    let own = OsStr::from_bytes(&name.name);
                    let is_file = matches!(name.attributes.kind(), Type::File | Type::Unknown);
                    (is_file && is_temporary(own))
                        .then_some((folder.join(own), name.attributes.modified_seconds?))
                }));
                Ok(())
            });
            match listed {
                Err((_, error)) if error.is_missing() => {}
                done => {
                    done.map_err(|(_, error)| self.remote("list", &self.inner(&folder), &error))?;
                }
            }
        }
        Ok(found)
    }

    /// What the server's clock says, in seconds since 1970: it is the time of a file that is made and removed.
    fn server_now(&self, session: &Session) -> Result<u32, BackendError> {
        let name = FileName::CONFIG;
        let failed = |error: SftpError| {
            self.remote("make a file to see the server's clock in", &".", &error)
        };
        let unique = getrandom::u64()
            .map_err(|cause| self.refused("write", &name, Trouble::Other, cause.to_string()))?;
        let probe = self.layout.temporary_path(name, unique);
        let handle = Handle::of(session.create_new(&probe)).map_err(failed)?;
        let found = attributes(handle.stat());
        drop(handle);
        session.remove(&probe).done().map_err(failed)?;
        let found = found.map_err(failed)?.modified_seconds;
        found.ok_or_else(|| failed(SftpError::odd("no time of a file")))
    }

    fn has_config(&self, session: &Session) -> Result<bool, SftpError> {
        exists(session, &self.layout.path(FileName::CONFIG))
    }

    /// What a failure at one file means: that only this file is missing, if the folder is there that should hold it.
    fn file_error(
        &self,
        session: &Session,
        doing: &'static str,
        name: FileName,
        error: SftpError,
    ) -> BackendError {
        if !error.is_missing() {
            return self.remote(doing, &name, &error);
        }
        let folder = exists(session, &self.layout.top_folder(name.kind)).and_then(|there| {
            Ok(there || (name.kind == FileKind::Lock && self.has_config(session)?))
        });
        match folder {
            Ok(true) => BackendError::Missing {
                name,
                location: self.location(),
            },
            Ok(false) => self.no_repository(name.kind),
            Err(error) => self.remote(doing, &name, &error),
        }
    }

    /// What a failure to write means: that the disk is full, if it is.
    fn write_error(
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

    /// OpenSSH says of a full disk only that something failed.
    fn fullness(&self, session: &Session, wanted_bytes: u64) -> Option<String> {
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

    fn folder_error(
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

    fn remote(
        &self,
        doing: &'static str,
        what: &dyn std::fmt::Display,
        error: &SftpError,
    ) -> BackendError {
        self.refused(doing, what, error.trouble(), error.why())
    }

    fn refused(
        &self,
        doing: &'static str,
        what: &dyn std::fmt::Display,
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
    fn inner(&self, path: &Path) -> String {
        match path.strip_prefix(self.layout.root()) {
            Ok(inner) if !inner.as_os_str().is_empty() => inner.display().to_string(),
            _ => path.display().to_string(),
        }
    }
}

impl Backend for SftpBackend {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn connections(&self) -> usize {
        self.connections
    }

    fn create(&self) -> Result<(), BackendError> {
        let root = self.layout.root();
        self.with("make", &root.display(), |session| {
            let modes = Modes::beside(None);
            let ups: Vec<PathBuf> = root
                .ancestors()
                .filter(|up| !up.as_os_str().is_empty() && *up != Path::new("/"))
                .map(Path::to_path_buf)
                .collect();
            // Most often only the last is missing, and above it there may be what one may not look at.
            let missing: Vec<_> = ups
                .into_iter()
                .map(|up| exists(session, &up).map(|there| (up, there)))
                .take_while(|found| !matches!(found, Ok((_, true))))
                .collect::<Result<_, _>>()
                .map_err(|error| self.remote("make", &root.display(), &error))?;
            for (up, _) in missing.into_iter().rev() {
                make_folders(session, &[up], modes.folder)
                    .map_err(|(up, error)| self.create_error(session, &up, error))?;
            }
            make_folders(session, &self.layout.folders(), modes.folder)
                .map_err(|(folder, error)| self.create_error(session, &folder, error))
        })
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64)) -> Result<(), BackendError> {
        if kind == FileKind::Config {
            return match self.size(FileName::CONFIG) {
                Err(missing) if missing.is_missing() => Ok(()),
                found => found.map(|size_bytes| each(FileName::CONFIG.id, size_bytes)),
            };
        }
        self.with("list", &kind.folder(), |session| {
            self.list_kind(session, kind, each)
        })
    }

    fn size(&self, name: FileName) -> Result<u64, BackendError> {
        self.with("look at", &name, |session| {
            let found = attributes(session.stat(&self.layout.path(name)));
            self.file_size(session, name, found)
        })
    }

    fn load(&self, name: FileName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        let _permit = self.link.permit();
        self.with("read", &name, |session| {
            self.load_whole(session, name, limit_bytes)
        })
    }

    fn load_at(
        &self,
        name: FileName,
        offset_bytes: u64,
        buf: &mut [u8],
    ) -> Result<(), BackendError> {
        let _permit = self.link.permit();
        self.with("read", &name, |session| {
            self.load_range(session, name, offset_bytes, buf)
        })
    }

    fn save(&self, name: FileName, data: &[&[u8]]) -> Result<(), BackendError> {
        let _permit = self.link.permit();
        self.with("write", &name, |session| {
            self.save_file(session, name, data)
        })
    }

    fn remove(&self, name: FileName) -> Result<(), BackendError> {
        self.with("remove", &name, |session| {
            let failed = |error| self.file_error(session, "remove", name, error);
            match session
                .remove(&self.layout.path(name))
                .done()
                .map_err(failed)
            {
                Err(error) if error.is_missing() => return Ok(()),
                done => done?,
            }
            match name.kind {
                // As in the local backend: if one came back, that would be known how to handle.
                FileKind::Pack | FileKind::Lock => Ok(()),
                FileKind::Config | FileKind::Key | FileKind::Snapshot | FileKind::Index => {
                    let folder = session
                        .extensions()
                        .fsync
                        .then(|| opened(session.open_read(&self.layout.folder(name))));
                    let synced = match folder {
                        None => Ok(()),
                        Some(folder) => folder.and_then(sync),
                    };
                    synced.map_err(|error| self.remote("remove", &name, &error))
                }
            }
        })
    }

    fn remove_unfinished(&self, older_than: Duration) -> Result<u64, BackendError> {
        self.with("list", &"temporary files", |session| {
            let found = self.temporaries(session)?;
            if found.is_empty() {
                return Ok(0);
            }
            let now = u64::from(self.server_now(session)?);
            let before = now.saturating_sub(older_than.as_secs());
            let mut removed = 0;
            for (path, modified) in found {
                if u64::from(modified) >= before {
                    continue;
                }
                match session.remove(&path).done() {
                    Ok(()) => removed += 1,
                    Err(error) if error.is_missing() => {}
                    Err(error) => return Err(self.remote("remove", &self.inner(&path), &error)),
                }
            }
            Ok(removed)
        })
    }
}

impl SftpBackend {
    fn create_error(&self, session: &Session, folder: &Path, error: SftpError) -> BackendError {
        let full = (error.code() == Some(Status::FAILURE))
            .then(|| self.fullness(session, 0))
            .flatten();
        match full {
            Some(why) => self.refused("make", &self.inner(folder), Trouble::Full, why),
            None => self.remote("make", &self.inner(folder), &error),
        }
    }
}

/// Makes folders, all under way at once; one that is there is fine. A failure comes with its folder.
fn make_folders(
    session: &Session,
    folders: &[PathBuf],
    permissions: u32,
) -> Result<(), (PathBuf, SftpError)> {
    let making: Vec<_> = folders
        .iter()
        .map(|folder| session.make_folder(folder, permissions))
        .collect();
    let made: Vec<_> = making.into_iter().map(session::Ticket::done).collect();
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

/// Shows the files among the entries of a folder.
fn show(
    session: &Session,
    folder: &Path,
    names: Vec<Name>,
    belongs: &dyn Fn(Id) -> bool,
    each: &mut dyn FnMut(Id, u64),
) -> Result<(), SftpError> {
    let mut looking = Vec::new();
    for Name { name, attributes } in names {
        let name = OsStr::from_bytes(&name);
        let Some(id) = parse_id(name).filter(|id| belongs(*id)) else {
            continue;
        };
        match (attributes.kind(), attributes.size_bytes) {
            (Type::File, Some(size_bytes)) => each(id, size_bytes),
            // A directory with the name of an ID is nobody's file.
            (Type::Folder | Type::Other, _) => {}
            // What is behind a link, or what the server did not tell.
            _ => looking.push((id, session.stat(&folder.join(name)))),
        }
    }
    for (id, ticket) in looking {
        match attributes(ticket) {
            Ok(found) if matches!(found.kind(), Type::File | Type::Unknown) => {
                let odd = || SftpError::odd("no size of a file");
                each(id, found.size_bytes.ok_or_else(odd)?);
            }
            Ok(_) => {}
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn may_be_folder(name: &Name) -> bool {
    matches!(
        name.attributes.kind(),
        Type::Folder | Type::Link | Type::Unknown
    )
}

fn exists(session: &Session, path: &Path) -> Result<bool, SftpError> {
    match attributes(session.stat(path)) {
        Ok(_) => Ok(true),
        Err(error) if error.is_missing() => Ok(false),
        Err(error) => Err(error),
    }
}

/// A folder that was opened to make it durable, unless the server opens none.
fn opened<'a>(opening: session::Ticket<'a>) -> Result<Option<Handle<'a>>, SftpError> {
    match Handle::of(opening) {
        Ok(handle) => Ok(Some(handle)),
        Err(SftpError::Status(_)) => Ok(None),
        Err(lost) => Err(lost),
    }
}

/// Makes the names in a folder durable, where the server can.
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
