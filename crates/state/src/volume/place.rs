//! The place of one entry in a target: clearing it, and opening what may stay in it.
//! It must never follow a link, write into a file that has other names, or empty a mounted file system.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use lifeboat_flow::EntryPath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::apply::{Handle, MODE_BITS};
use super::beneath::Beneath;
use super::names_in::names_at;

const OWNER_CAN_ALL: u32 = 0o700;
const OWNER_CAN_READ_WRITE: u32 = 0o600;
/// Mode of files until they are finished: nobody else sees what may be secret.
const UNFINISHED_FILE_MODE: u32 = 0o600;

/// What entries of a target are put in place with.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) beneath: Beneath,
    /// Whether this process may do what it wants with files of others.
    pub(crate) is_root: bool,
    pub(crate) uid: u32,
}

impl Places {
    /// A file that did not exist.
    pub(crate) fn create_file(dir: impl AsFd, name: &[u8]) -> rustix::io::Result<File> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(UNFINISHED_FILE_MODE);
        Ok(File::from(rustix::fs::openat(dir, name, flags, mode)?))
    }

    /// A file to write where something is: the same one if its content is to stay or its directory can't be changed, a
    /// new one otherwise.
    pub(crate) fn replace_file(&self, path: &EntryPath, keep: bool) -> io::Result<File> {
        let (dir, name) = self.beneath.parent(path)?;
        let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if is_file && keep {
            return self.keep_file(&dir, name, path, &stat);
        }
        match self.clear(path) {
            Ok(()) => Ok(Self::create_file(&dir, name)?),
            // Mounted alone, or in a directory that is not ours to change.
            Err(cause) if is_file && stat.st_nlink == 1 && is_refusal(&cause) => {
                let file = self.open_file(&dir, name, &stat)?;
                file.set_len(0)?;
                Ok(file)
            }
            Err(cause) => Err(cause),
        }
    }

    /// A file that is open already, to be written: the same one, as long as it is what its path leads to.
    pub(crate) fn write_same(&self, path: &EntryPath, file: &File) -> io::Result<File> {
        let (dir, name) = self.beneath.parent(path)?;
        self.keep_file(&dir, name, path, &rustix::fs::fstat(file)?)
    }

    fn keep_file(
        &self,
        dir: &OwnedFd,
        name: &[u8],
        path: &EntryPath,
        stat: &Stat,
    ) -> io::Result<File> {
        match self.open_file(dir, name, stat) {
            Ok(file) if stat.st_nlink == 1 => Ok(file),
            // It has other names, or is running as a program: they keep it, and a copy takes this place.
            Ok(mut file) => self.copy_file(dir, name, path, &mut file),
            Err(cause) if cause.kind() == io::ErrorKind::ExecutableFileBusy => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let mut file = File::from(rustix::fs::openat(dir, name, flags, Mode::empty())?);
                is_still(stat, &rustix::fs::fstat(&file)?)?;
                self.copy_file(dir, name, path, &mut file)
            }
            Err(cause) => Err(cause),
        }
    }

    fn copy_file(
        &self,
        dir: &OwnedFd,
        name: &[u8],
        path: &EntryPath,
        old: &mut File,
    ) -> io::Result<File> {
        self.clear(path)?;
        let mut new = Self::create_file(dir, name)?;
        io::copy(old, &mut new)?;
        Ok(new)
    }

    /// Opens a file that exists, made writable if only its mode is in the way, and for its owner alone while it is half
    /// written: what comes may be more secret than what was there.
    fn open_file(&self, dir: &OwnedFd, name: &[u8], stat: &Stat) -> io::Result<File> {
        let flags =
            OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let fd = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
            Err(Errno::ACCESS) if stat.st_uid == self.uid => {
                Handle::place(dir.as_fd(), name)?.set_mode(stat.st_mode | OWNER_CAN_READ_WRITE)?;
                rustix::fs::openat(dir, name, flags, Mode::empty())?
            }
            opened => opened?,
        };
        let now = rustix::fs::fstat(&fd)?;
        is_still(stat, &now)?;
        if now.st_mode & !OWNER_CAN_ALL & MODE_BITS != 0 {
            Handle::Open(fd.as_fd()).set_mode(now.st_mode & OWNER_CAN_ALL)?;
        }
        Ok(File::from(fd))
    }

    /// Lets the owner, which we are, use a directory that exists.
    pub(crate) fn open_up(&self, dir: &OwnedFd, name: &[u8], stat: &Stat) -> io::Result<()> {
        let needs = !self.is_root
            && stat.st_uid == self.uid
            && stat.st_mode & OWNER_CAN_ALL != OWNER_CAN_ALL;
        if !needs {
            return Ok(());
        }
        Handle::place(dir.as_fd(), name)?.set_mode(stat.st_mode | OWNER_CAN_ALL)
    }

    /// Removes what is at a path with all below it; that nothing is there is fine.
    pub(crate) fn clear(&self, path: &EntryPath) -> io::Result<()> {
        let (dir, name) = self.beneath.parent(path)?;
        match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => self.clear_dir(path),
            Err(cause) => Err(cause.into()),
        }
    }

    /// Depth first with a list of names a level and no open directory a level, so that no depth is too much.
    fn clear_dir(&self, path: &EntryPath) -> io::Result<()> {
        let device = rustix::fs::fstat(self.beneath.parent(path)?.0)?.st_dev;
        let mut at = path.clone();
        let mut levels = vec![self.clear_files(&at, device)?];
        while let Some(dirs) = levels.last_mut() {
            if let Some(name) = dirs.pop() {
                at = at.join(name.as_bytes());
                let dirs = self.clear_files(&at, device)?;
                levels.push(dirs);
            } else {
                levels.pop();
                self.beneath.forget(&at.0);
                let (dir, name) = self.beneath.parent(&at)?;
                rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR)?;
                at = at.parent().unwrap_or_default();
            }
        }
        Ok(())
    }

    /// Removes what is no directory from a directory and gives the names of what is.
    fn clear_files(&self, path: &EntryPath, device: u64) -> io::Result<Vec<CString>> {
        let (parent, name) = self.beneath.parent(path)?;
        let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if stat.st_dev != device {
            return Err(io::Error::new(
                io::ErrorKind::CrossesDevices,
                "another file system is mounted in it",
            ));
        }
        self.open_up(&parent, name, &stat)?;
        let dir = self.beneath.dir(&path.0)?;
        let mut dirs = Vec::new();
        for name in names_at(&dir)? {
            match rustix::fs::unlinkat(&dir, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR) => dirs.push(name),
                Err(cause) => return Err(cause.into()),
            }
        }
        Ok(dirs)
    }
}

/// Whether what was opened is the file that was looked at, and has no more names than then.
fn is_still(before: &Stat, now: &Stat) -> io::Result<()> {
    let of = |stat: &Stat| (stat.st_dev, stat.st_ino, stat.st_nlink);
    let is_file = FileType::from_raw_mode(now.st_mode) == FileType::RegularFile;
    match is_file && of(now) == of(before) {
        true => Ok(()),
        false => Err(io::Error::other("it was replaced while it was restored")),
    }
}

/// Whether the directory would not let a name go, rather than something having failed.
fn is_refusal(cause: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, ResourceBusy};
    matches!(
        cause.kind(),
        PermissionDenied | ReadOnlyFilesystem | ResourceBusy
    )
}
