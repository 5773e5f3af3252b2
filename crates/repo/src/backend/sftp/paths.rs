//! What is asked of a server about a path: each a request that can be under way beside others.
//! It must never wait: that is for whoever needs the answer.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::packet::{self, Request};
use super::session::{Session, Ticket};

/// Permissions of a file while it is written: nobody else reads half a file.
const NEW_FILE_PERMISSIONS: u32 = 0o600;

impl Session {
    /// Opens a file, or a folder to make it durable, for reading.
    pub(super) fn open_read(&self, path: &Path) -> Ticket<'_> {
        let request = at(packet::OPEN, path).u32(packet::OPEN_READ);
        self.send(request.no_attributes())
    }

    /// Makes a new file and opens it for writing.
    pub(super) fn create_new(&self, path: &Path) -> Ticket<'_> {
        let flags = packet::OPEN_WRITE | packet::OPEN_CREATE | packet::OPEN_EXCLUSIVE;
        let request = at(packet::OPEN, path).u32(flags);
        self.send(request.permissions(NEW_FILE_PERMISSIONS))
    }

    /// Opens a folder to list it.
    pub(super) fn open_folder(&self, path: &Path) -> Ticket<'_> {
        self.send(at(packet::OPENDIR, path))
    }

    /// Looks at what is behind symbolic links.
    pub(super) fn stat(&self, path: &Path) -> Ticket<'_> {
        self.send(at(packet::STAT, path))
    }

    /// Removes a file.
    pub(super) fn remove(&self, path: &Path) -> Ticket<'_> {
        self.send(at(packet::REMOVE, path))
    }

    /// Makes one folder, whose parent exists; the server's umask narrows the permissions.
    pub(super) fn make_folder(&self, path: &Path, permissions: u32) -> Ticket<'_> {
        self.send(at(packet::MKDIR, path).permissions(permissions))
    }

    /// Gives a file another path: in place of what has it where the server can do that in one step, else only if it
    /// is free.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> Ticket<'_> {
        let request = if self.extensions().posix_rename {
            Request::extended(packet::POSIX_RENAME)
        } else {
            Request::new(packet::RENAME)
        };
        let request = request.bytes(from.as_os_str().as_bytes());
        self.send(request.bytes(to.as_os_str().as_bytes()))
    }

    /// Gives a file one more path, which must be free; `None` if the server has no such operation.
    pub(super) fn link(&self, from: &Path, to: &Path) -> Option<Ticket<'_>> {
        let request = Request::extended(packet::HARDLINK).bytes(from.as_os_str().as_bytes());
        let request = request.bytes(to.as_os_str().as_bytes());
        self.extensions().hardlink.then(|| self.send(request))
    }

    /// Gives a file another path, which by the protocol must be free (draft-ietf-secsh-filexfer-02, section 6.5).
    pub(super) fn rename_to_free(&self, from: &Path, to: &Path) -> Ticket<'_> {
        let request = Request::new(packet::RENAME).bytes(from.as_os_str().as_bytes());
        self.send(request.bytes(to.as_os_str().as_bytes()))
    }

    /// Asks how much room is left; `None` if the server does not tell.
    pub(super) fn room(&self, path: &Path) -> Option<Ticket<'_>> {
        let request = Request::extended(packet::STATVFS).bytes(path.as_os_str().as_bytes());
        self.extensions().statvfs.then(|| self.send(request))
    }
}

fn at(kind: u8, path: &Path) -> Request {
    Request::new(kind).bytes(path.as_os_str().as_bytes())
}
