//! A disk is what the local backend stands on: few operations on files and folders, with durability as one of them.
//! It must never do two of them in one call, because a simulated disk loses its power between any two.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// Permissions of a file while it is written: nobody else reads half a file.
const NEW_FILE_PERMISSIONS: u32 = 0o600;

/// What the local backend asks of a disk. All calls block; they come from several threads at once.
///
/// Nothing but [`Disk::sync_dir`] and [`DiskFile::sync`] makes anything survive a loss of power.
/// Every operation fails as the one of the operating system does, with the same [`io::ErrorKind`].
pub trait Disk: Send + Sync {
    /// An open file.
    type File: DiskFile;

    /// Whether this folder's listing shows every file that anybody has made there; not so where a network lies between.
    fn lists_at_once(&self, path: &Path) -> bool;

    /// Makes an empty file that only its owner may use, and opens it for writing.
    ///
    /// # Errors
    /// Those of the disk; `AlreadyExists` if the path is taken.
    fn create_new(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens a file for reading; never waits, whatever the path is.
    ///
    /// # Errors
    /// Those of the disk.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// Gives a file another path and replaces what had that path, in one step for everybody who looks.
    ///
    /// # Errors
    /// Those of the disk.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file one more path, which nothing may have yet, in one step for everybody who looks. It keeps the old one
    /// too, where the file system has such links.
    ///
    /// # Errors
    /// Those of the disk; `AlreadyExists` if the path is taken.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Those of the disk.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes one folder, whose parent exists; the process's umask narrows the permissions.
    ///
    /// # Errors
    /// Those of the disk; `AlreadyExists` if the path is taken.
    fn make_dir(&self, path: &Path, permissions: u32) -> io::Result<()>;

    /// Calls `each` with all names in a folder, in no particular order.
    ///
    /// # Errors
    /// Those of the disk, also when they come in the middle.
    fn list(&self, path: &Path, each: &mut dyn FnMut(&OsStr)) -> io::Result<()>;

    /// What is at a path, behind symbolic links.
    ///
    /// # Errors
    /// Those of the disk.
    fn stat(&self, path: &Path) -> io::Result<DiskStat>;

    /// Makes all creations, renames and removals in a folder durable.
    ///
    /// # Errors
    /// Those of the disk, but not that it has no such operation.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// A number that no other call gives, in this process or another, as the tail of a temporary name.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    fn unique(&self) -> io::Result<u64>;
}

/// An open file of a [`Disk`]; it is closed when dropped.
pub trait DiskFile {
    /// Appends.
    ///
    /// # Errors
    /// Those of the disk.
    fn write_all(&mut self, data: &[u8]) -> io::Result<()>;

    /// Sets permissions, where the file system has them.
    ///
    /// # Errors
    /// Those of the disk, but not that it refuses permissions as such.
    fn restrict(&mut self, permissions: u32) -> io::Result<()>;

    /// Makes the content durable, but not the file's name.
    ///
    /// # Errors
    /// Those of the disk, but not that it has no such operation.
    fn sync(&mut self) -> io::Result<()>;

    /// Size in bytes.
    ///
    /// # Errors
    /// Those of the disk; also if this is no regular file.
    fn size(&self) -> io::Result<u64>;

    /// Reads up to `buf.len()` bytes from an offset on; 0 is the end of the file.
    ///
    /// # Errors
    /// Those of the disk.
    fn read_at(&self, offset_bytes: u64, buf: &mut [u8]) -> io::Result<usize>;
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskStat {
    /// Whether it is a regular file.
    pub is_file: bool,
    /// Its size in bytes, if it is.
    pub size_bytes: u64,
    /// `st_mode & 0o7777`.
    pub permissions: u32,
    /// When its content last changed.
    pub modified: SystemTime,
}

/// The disk of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    type File = File;

    fn lists_at_once(&self, path: &Path) -> bool {
        // statfs(2): ext2 to ext4, XFS, btrfs, ZFS, tmpfs, F2FS, bcachefs. Anything else may be on another machine.
        const LOCAL: [u32; 7] = [
            0xEF53,
            0x5846_5342,
            0x9123_683E,
            0x2FC1_2FC1,
            0x0102_1994,
            0xF2F5_2010,
            0xCA45_1A4E,
        ];
        rustix::fs::statfs(path).is_ok_and(|found| LOCAL.contains(&(found.f_type as u32)))
    }

    fn create_new(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(NEW_FILE_PERMISSIONS)
            .open(path)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        // Without this flag a pipe that has a file's name would hold the process until somebody writes to it.
        let never_wait = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        OpenOptions::new()
            .read(true)
            .custom_flags(never_wait)
            .open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        // What file systems say that have no links: exFAT, and some of those that lie on another machine.
        const UNSUPPORTED: [Errno; 4] = [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS, Errno::MLINK];
        match fs::hard_link(from, to) {
            Err(cause)
                if Errno::from_io_error(&cause).is_some_and(|e| UNSUPPORTED.contains(&e)) =>
            {
                rename_to_free(from, to)
            }
            done => done,
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn make_dir(&self, path: &Path, permissions: u32) -> io::Result<()> {
        DirBuilder::new().mode(permissions).create(path)
    }

    fn list(&self, path: &Path, each: &mut dyn FnMut(&OsStr)) -> io::Result<()> {
        for entry in fs::read_dir(path)? {
            each(&entry?.file_name());
        }
        Ok(())
    }

    fn stat(&self, path: &Path) -> io::Result<DiskStat> {
        let found = fs::metadata(path)?;
        Ok(DiskStat {
            is_file: found.is_file(),
            size_bytes: found.len(),
            permissions: found.permissions().mode() & 0o7777,
            modified: found.modified()?,
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        unless_unsupported(
            File::open(path)?.sync_all(),
            &[Errno::OPNOTSUPP, Errno::INVAL],
        )
    }

    fn unique(&self) -> io::Result<u64> {
        getrandom::u64().map_err(io::Error::other)
    }
}

impl DiskFile for File {
    fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        Write::write_all(self, data)
    }

    fn restrict(&mut self, permissions: u32) -> io::Result<()> {
        let done = self.set_permissions(Permissions::from_mode(permissions));
        // exFAT and some network file systems have no permissions to set.
        unless_unsupported(
            done,
            &[Errno::OPNOTSUPP, Errno::PERM, Errno::ACCESS, Errno::NOSYS],
        )
    }

    fn sync(&mut self) -> io::Result<()> {
        unless_unsupported(self.sync_all(), &[Errno::OPNOTSUPP])
    }

    fn size(&self) -> io::Result<u64> {
        let found = self.metadata()?;
        if found.is_dir() {
            return Err(Errno::ISDIR.into());
        }
        if !found.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not a regular file",
            ));
        }
        Ok(found.len())
    }

    fn read_at(&self, offset_bytes: u64, buf: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, buf, offset_bytes)
    }
}

/// Success where the file system has no such operation: what it can't promise, nobody can ask of it.
fn unless_unsupported(done: io::Result<()>, unsupported: &[Errno]) -> io::Result<()> {
    match done {
        Err(cause)
            if Errno::from_io_error(&cause).is_some_and(|errno| unsupported.contains(&errno)) =>
        {
            Ok(())
        }
        done => done,
    }
}

/// Gives a file another name that nothing has yet.
fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this file system has neither hard links nor a rename that replaces nothing, so that no log can be kept here",
        )),
        done => Ok(done?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rename_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("old"), "old").unwrap();
        fs::write(path("new"), "new").unwrap();
        let taken = rename_to_free(&path("new"), &path("old")).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(path("old")).unwrap(), b"old");
        rename_to_free(&path("new"), &path("free")).unwrap();
        assert_eq!(fs::read(path("free")).unwrap(), b"new");
        assert!(!path("new").exists());
    }
}
