//! The SFTP backend keeps a repository in a directory that the system's ssh reaches, in restic's default layout.
//! It must never give a file its name before its content is whole, nor take a lost connection for a missing file.

mod command;
mod explain;
mod failure;
mod folders;
mod handle;
mod link;
mod listing;
mod load;
mod log;
mod packet;
mod paths;
mod save;
mod session;
mod ssh;
mod terminal;

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use lifeboat_format::Id;

use self::command::SftpCommand;
use self::explain::is_folder;
use self::failure::SftpError;
use self::handle::attributes;
use self::link::{Link, Permit};
use self::save::{make_folders, sync_folder};
use self::session::Session;
use super::layout::{Layout, Modes};
use super::log_name::taken;
use super::{
    Backend, BackendError, BackendOptions, Creation, FileKind, FileName, LogName, OptionError,
};

pub(super) use command::OPTIONS;

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

    /// Waits until one more file may be under way. A lock never does: behind packs on a slow way its refresh would be
    /// too late, and it is too small to matter.
    fn permit(&self, kind: FileKind) -> Option<Permit<'_>> {
        (kind != FileKind::Lock).then(|| self.link.permit())
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
                .map(|up| is_folder(session, &up).map(|there| (up, there)))
                .take_while(|found| !matches!(found, Ok((_, true))))
                .collect::<Result<_, _>>()
                .map_err(|error| self.remote("make", &root.display(), &error))?;
            for (up, _) in missing.into_iter().rev() {
                make_folders(session, std::slice::from_ref(&up), modes.folder)
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
        let _permit = self.permit(name.kind);
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
        let _permit = self.permit(name.kind);
        self.with("read", &name, |session| {
            self.load_range(session, name, offset_bytes, buf)
        })
    }

    fn save(&self, name: FileName, data: &[&[u8]]) -> Result<(), BackendError> {
        let _permit = self.permit(name.kind);
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
                    let synced = sync_folder(session, &self.layout.folder(name));
                    synced.map_err(|error| self.remote("remove", &name, &error))
                }
            }
        })
    }

    fn log_create(&self, name: &LogName, data: &[&[u8]]) -> Result<Creation, BackendError> {
        let is_ours = {
            let _permit = self.permit(FileKind::Pack);
            self.with("write", &name.path(), |session| {
                self.create_object(session, name, data)
            })?
        };
        match is_ours {
            true => Ok(Creation::Created),
            false => taken(self, name, data),
        }
    }

    fn log_load(&self, name: &LogName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        let _permit = self.permit(FileKind::Pack);
        self.with("read", &name.path(), |session| {
            self.load_object(session, name, limit_bytes)
        })
    }

    fn log_list(
        &self,
        below: Option<&LogName>,
        each: &mut dyn FnMut(LogName, u64),
    ) -> Result<(), BackendError> {
        self.with("list", &super::LOG_FOLDER, |session| {
            self.list_objects(session, below, each)
        })
    }

    fn log_remove(&self, name: &LogName) -> Result<(), BackendError> {
        self.with("remove", &name.path(), |session| {
            let removed = session.remove(&self.layout.object_path(name)).done();
            match removed.map_err(|error| self.object_error(session, "remove", name, error)) {
                Err(error) if error.is_missing() => Ok(()),
                done => done,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// OpenSSH's SFTP server as a program: no network is needed to speak SFTP.
    const SERVERS: [&str; 3] = [
        "/usr/lib/openssh/sftp-server",
        "/usr/libexec/openssh/sftp-server",
        "/usr/lib/ssh/sftp-server",
    ];

    #[test]
    fn a_lock_does_not_wait_behind_packs() {
        let place = tempfile::tempdir().unwrap();
        let server = SERVERS.into_iter().find(|path| Path::new(path).is_file());
        let server =
            server.expect("sftp-server is a part of openssh-server: `make test` installs it");
        let mut options = BackendOptions::default();
        options
            .settings
            .insert("sftp.command".into(), server.into());
        let root = place.path().join("r");
        let path = root.to_str().unwrap();
        let backend = SftpBackend::new(None, "host", None, path, &options).unwrap();
        backend.create().unwrap();
        backend.save(FileName::CONFIG, &[b"config"]).unwrap();
        let under_way: Vec<_> = (0..backend.connections())
            .map(|_| backend.link.permit())
            .collect();
        let (done, is_done) = crossbeam_channel::bounded(1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let name = FileName::new(FileKind::Lock, Id::of(b"lock"));
                backend.save(name, &[b"lock"]).unwrap();
                backend.list(FileKind::Lock, &mut |_, _| ()).unwrap();
                assert_eq!(backend.load(name, 100).unwrap(), b"lock");
                backend.load_at(name, 0, &mut [0; 4]).unwrap();
                backend.remove(name).unwrap();
                done.send(()).unwrap();
            });
            let in_time = is_done.recv_timeout(Duration::from_secs(20));
            // Or the thread would wait for ever.
            drop(under_way);
            in_time.expect("the lock waited for a pack");
        });
    }
}
