//! Extended attributes of one file: listing, reading, setting and removing them through a path or an open file.
//! It must never follow a symbolic link in the last component, and never take an attribute for absent that it could not read.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// What a list of names fits into at first; most files have none.
const NAMES_USUAL_BYTES: usize = 1 << 10;
/// What Linux lets a list of names or a value grow to (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const LIMIT_BYTES: usize = 64 << 10;
/// What a value fits into at first: ACLs and capabilities do.
const VALUE_USUAL_BYTES: usize = 256;

/// The file whose attributes are meant.
#[derive(Clone, Copy)]
pub(crate) enum Of<'a> {
    /// What is at a path; a symbolic link itself, not what it points to.
    Path(&'a CStr),
    /// What is behind a magic link of `/proc/self/fd`: the open file itself.
    Behind(&'a CStr),
    /// An open file.
    Fd(BorrowedFd<'a>),
}

/// The names in the order of the system; none where the file system knows no attributes.
pub(crate) fn names(of: Of<'_>) -> io::Result<Vec<CString>> {
    let mut usual = [0; NAMES_USUAL_BYTES];
    let length = match list(of, &mut usual) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; LIMIT_BYTES];
            let length = list(of, &mut large)?;
            return Ok(split(large.get(..length).unwrap_or_default()));
        }
        other => other?,
    };
    Ok(split(usual.get(..length).unwrap_or_default()))
}

fn split(names: &[u8]) -> Vec<CString> {
    let names = names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    names.filter_map(|name| CString::new(name).ok()).collect()
}

fn list(of: Of<'_>, buffer: &mut [u8]) -> rustix::io::Result<usize> {
    match of {
        Of::Path(path) => rustix::fs::llistxattr(path, buffer),
        Of::Behind(path) => rustix::fs::listxattr(path, buffer),
        Of::Fd(fd) => rustix::fs::flistxattr(fd, buffer),
    }
}

/// One value; `None` if the attribute is gone or not supported after all.
pub(crate) fn value(of: Of<'_>, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; VALUE_USUAL_BYTES];
    loop {
        let length = match of {
            Of::Path(path) => rustix::fs::lgetxattr(path, name, buffer.as_mut_slice()),
            Of::Behind(path) => rustix::fs::getxattr(path, name, buffer.as_mut_slice()),
            Of::Fd(fd) => rustix::fs::fgetxattr(fd, name, buffer.as_mut_slice()),
        };
        match length {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(Some(buffer));
            }
            Err(Errno::RANGE) if buffer.len() < LIMIT_BYTES => buffer.resize(LIMIT_BYTES, 0),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sets one value.
pub(crate) fn set(of: Of<'_>, name: &CStr, value: &[u8]) -> io::Result<()> {
    let flags = XattrFlags::empty();
    match of {
        Of::Path(path) => rustix::fs::lsetxattr(path, name, value, flags)?,
        Of::Behind(path) => rustix::fs::setxattr(path, name, value, flags)?,
        Of::Fd(fd) => rustix::fs::fsetxattr(fd, name, value, flags)?,
    }
    Ok(())
}

/// Removes one attribute; that it is gone already is fine.
pub(crate) fn remove(of: Of<'_>, name: &CStr) -> io::Result<()> {
    let removed = match of {
        Of::Path(path) => rustix::fs::lremovexattr(path, name),
        Of::Behind(path) => rustix::fs::removexattr(path, name),
        Of::Fd(fd) => rustix::fs::fremovexattr(fd, name),
    };
    match removed {
        Ok(()) | Err(Errno::NODATA) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
