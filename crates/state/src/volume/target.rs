//! Puts a volume back below one directory of this machine.
//! It must never write outside of that directory, follow a link, or show a file to others before it is whole.

use std::ffi::{CString, OsStr};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat_flow::{
    Entry, EntryKind, EntryPath, Existing, Target, TargetError, TargetFile, Timestamp,
};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::apply::{Handle, apply};
use super::beneath::{Beneath, Walk, invalid};
use super::content::open_quietly;
use super::metadata::{kind_of, nanoseconds, size_of};
use super::names_in::names_at;
use super::place::Places;
use super::target_file::VolumeFile;

/// Mode of directories until they are finished.
const UNFINISHED_DIR_MODE: u32 = 0o700;
/// Mode of devices and pipes until they are finished.
const UNFINISHED_SPECIAL_MODE: u32 = 0o600;
/// How often a place is cleared when something else keeps putting things there.
const CLEAR_TRIES: usize = 3;

/// How a volume is put back.
#[derive(Clone, Debug, Default)]
pub struct TargetOptions {
    /// How paths below the root are walked.
    pub walk: Walk,
}

/// A directory of this machine as a target.
#[derive(Debug)]
pub struct VolumeTarget {
    root: Arc<PathBuf>,
    places: Arc<Places>,
}

impl VolumeTarget {
    /// A target at `root`, which is made with its parents if missing and may be a link to a directory.
    ///
    /// # Errors
    /// When it can't be made or is no directory.
    pub fn create(root: &Path, options: &TargetOptions) -> Result<Self, TargetError> {
        let failed =
            |doing| move |cause: io::Error| target_error(root, doing, &EntryPath::top(), cause);
        let mut builder = DirBuilder::new();
        builder
            .recursive(true)
            .mode(UNFINISHED_DIR_MODE)
            .create(root)
            .map_err(failed("create directory"))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, root, flags, Mode::empty());
        let fd = fd
            .map_err(io::Error::from)
            .map_err(failed("open directory"))?;
        let uid = rustix::process::geteuid();
        Ok(Self {
            root: Arc::new(root.to_path_buf()),
            places: Arc::new(Places {
                beneath: Beneath::new(fd, options.walk),
                is_root: uid.is_root(),
                uid: uid.as_raw(),
            }),
        })
    }

    /// An adapter for `map_err`: what was being done to which entry.
    fn failed<'a, E: Into<io::Error>>(
        &'a self,
        doing: &'static str,
        path: &'a EntryPath,
    ) -> impl FnOnce(E) -> TargetError + 'a {
        move |cause| target_error(&self.root, doing, path, cause)
    }

    fn file(&self, path: &EntryPath, file: File) -> Box<dyn TargetFile> {
        Box::new(VolumeFile {
            file,
            root: Arc::clone(&self.root),
            path: path.clone(),
            places: Arc::clone(&self.places),
        })
    }

    fn stat(&self, path: &EntryPath) -> io::Result<Option<Stat>> {
        let looked = if path.0.is_empty() {
            rustix::fs::fstat(self.places.beneath.root()).map_err(io::Error::from)
        } else {
            let parent = self.places.beneath.parent(path);
            parent.and_then(|(dir, name)| {
                Ok(rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?)
            })
        };
        match looked {
            Ok(stat) => Ok(Some(stat)),
            // Below a file or link there is nothing of ours.
            Err(cause) if is_absence(&cause) => Ok(None),
            Err(cause) => Err(cause),
        }
    }

    /// Makes something in its place; what is there before is removed.
    fn make(
        &self,
        path: &EntryPath,
        make: impl Fn(&std::os::fd::OwnedFd, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let (dir, name) = self.places.beneath.parent(path)?;
        for _ in 0..CLEAR_TRIES {
            match make(&dir, name) {
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
                    self.places.clear(path)?
                }
                done => return done,
            }
        }
        make(&dir, name)
    }
}

impl Target for VolumeTarget {
    fn look(&self, path: &EntryPath) -> Result<Option<Existing>, TargetError> {
        let stat = self.stat(path).map_err(self.failed("look at", path))?;
        Ok(stat.and_then(|stat| {
            #[allow(
                clippy::useless_conversion,
                reason = "st_nlink is narrower on other architectures"
            )]
            let links = u64::from(stat.st_nlink);
            Some(Existing {
                kind: kind_of(&stat)?,
                size_bytes: size_of(&stat),
                modified: Timestamp::utc(stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
                links,
            })
        }))
    }

    fn names(&self, dir: &EntryPath) -> Result<Vec<Vec<u8>>, TargetError> {
        let opened = self.places.beneath.dir(&dir.0);
        let names = opened.and_then(|fd| Ok(names_at(&fd)?));
        let names = names.map_err(self.failed("read directory", dir))?;
        Ok(names.into_iter().map(CString::into_bytes).collect())
    }

    fn make_dir(&self, path: &EntryPath) -> Result<(), TargetError> {
        if path.0.is_empty() {
            return Ok(());
        }
        let mode = Mode::from_raw_mode(UNFINISHED_DIR_MODE);
        let made = self.make(path, |dir, name| {
            match rustix::fs::mkdirat(dir, name, mode) {
                Err(Errno::EXIST) => {
                    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                        return Err(io::ErrorKind::AlreadyExists.into());
                    }
                    self.places.open_up(dir, name, &stat)
                }
                made => Ok(made?),
            }
        });
        made.map_err(self.failed("create directory", path))
    }

    fn open_file(&self, path: &EntryPath, keep: bool) -> Result<Box<dyn TargetFile>, TargetError> {
        let opened = self.places.beneath.parent(path).and_then(|(dir, name)| {
            match Places::create_file(&dir, name) {
                Err(Errno::EXIST) => self.places.replace_file(path, keep),
                created => Ok(created?),
            }
        });
        let file = opened.map_err(self.failed("create file", path))?;
        Ok(self.file(path, file))
    }

    fn read_file(&self, path: &EntryPath) -> Result<Box<dyn TargetFile>, TargetError> {
        let opened = self.places.beneath.parent(path).and_then(|(dir, name)| {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let fd = open_quietly(dir, name, flags)?;
            if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) != FileType::RegularFile {
                return Err(invalid("it is no regular file"));
            }
            Ok(fd)
        });
        let file = opened.map_err(self.failed("open file", path))?;
        Ok(self.file(path, file.into()))
    }

    fn make_special(&self, path: &EntryPath, entry: &Entry) -> Result<(), TargetError> {
        let mode = Mode::from_raw_mode(UNFINISHED_SPECIAL_MODE);
        let file_type = match entry.kind {
            EntryKind::Symlink => FileType::Symlink,
            EntryKind::BlockDevice => FileType::BlockDevice,
            EntryKind::CharDevice => FileType::CharacterDevice,
            EntryKind::Fifo => FileType::Fifo,
            EntryKind::Socket => FileType::Socket,
            EntryKind::File | EntryKind::Dir => {
                return Err(self.failed("create", path)(invalid(
                    "files and directories are not made so",
                )));
            }
        };
        let made = self.make(path, |dir, name| {
            match file_type {
                FileType::Symlink => {
                    rustix::fs::symlinkat(entry.link_target.as_slice(), dir, name)?;
                }
                _ => rustix::fs::mknodat(dir, name, file_type, mode, entry.device)?,
            }
            Ok(())
        });
        made.map_err(self.failed("create", path))
    }

    fn make_link(&self, original: &EntryPath, path: &EntryPath) -> Result<(), TargetError> {
        let linked = self.stat(original).and_then(|from| {
            let from = from.ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::NotFound,
                    "the file it is linked to is not there",
                )
            })?;
            let to = self.stat(path)?;
            if to.is_some_and(|to| (to.st_dev, to.st_ino) == (from.st_dev, from.st_ino)) {
                return Ok(());
            }
            let (from_dir, from_name) = self.places.beneath.parent(original)?;
            self.make(path, |dir, name| {
                Ok(rustix::fs::linkat(
                    &from_dir,
                    from_name,
                    dir,
                    name,
                    AtFlags::empty(),
                )?)
            })
        });
        linked.map_err(self.failed("create hard link", path))
    }

    fn rename(&self, from: &EntryPath, to: &EntryPath) -> Result<(), TargetError> {
        let renamed = self
            .places
            .beneath
            .parent(from)
            .and_then(|(from_dir, from_name)| {
                let (to_dir, to_name) = self.places.beneath.parent(to)?;
                Ok(rustix::fs::renameat(
                    &from_dir, from_name, &to_dir, to_name,
                )?)
            });
        renamed.map_err(self.failed("rename to", to))
    }

    fn finish(&self, path: &EntryPath, entry: &Entry) -> Result<(), Vec<TargetError>> {
        let is_root = self.places.is_root;
        let failures = if path.0.is_empty() {
            apply(
                &Handle::Open(self.places.beneath.root().as_fd()),
                entry,
                is_root,
            )
        } else {
            let (dir, name) = self
                .places
                .beneath
                .parent(path)
                .map_err(|cause| vec![self.failed("finish", path)(cause)])?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = (entry.kind == EntryKind::Dir)
                .then(|| rustix::fs::openat(&dir, name, flags, Mode::empty()));
            if let Some(Ok(fd)) = opened {
                apply(&Handle::Open(fd.as_fd()), entry, is_root)
            } else {
                let handle = Handle::place(dir.as_fd(), name)
                    .map_err(|cause| vec![self.failed("finish", path)(cause)])?;
                apply(&handle, entry, is_root)
            }
        };
        if failures.is_empty() {
            return Ok(());
        }
        Err(failures
            .into_iter()
            .map(|(doing, cause)| self.failed(doing, path)(cause))
            .collect())
    }

    fn remove(&self, path: &EntryPath) -> Result<(), TargetError> {
        self.places.clear(path).map_err(self.failed("remove", path))
    }

    fn sync(&self) -> Result<(), TargetError> {
        let synced = rustix::fs::syncfs(self.places.beneath.root());
        synced.map_err(self.failed("write to disk", &EntryPath::top()))
    }
}

fn is_absence(cause: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(cause),
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
    )
}

/// An error about an entry of a target, named by its path on this machine.
pub(crate) fn target_error(
    root: &Path,
    doing: &'static str,
    path: &EntryPath,
    cause: impl Into<io::Error>,
) -> TargetError {
    let full = if path.0.is_empty() {
        root.to_path_buf()
    } else {
        root.join(OsStr::from_bytes(&path.0))
    };
    TargetError {
        doing,
        path: full.to_string_lossy().into_owned(),
        cause: cause.into(),
    }
}
