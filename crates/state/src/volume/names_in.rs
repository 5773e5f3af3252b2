//! The names in an open directory, sorted by bytes.
//! It must never give a name twice, even if a broken file system does, nor move the access time where that can be helped.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::{OFlags, RawDir};

use super::content::open_quietly;

/// What one call for names takes.
const NAMES_BUFFER_BYTES: usize = 32 << 10;

/// The names without `.` and `..` of a directory opened for this, because reading them moves a position in it.
pub(crate) fn names_in(dir: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut buffer = vec![MaybeUninit::uninit(); NAMES_BUFFER_BYTES];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// The names in a directory that is open as a place.
pub(crate) fn names_at(dir: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    names_in(&open_quietly(dir, b".", flags)?)
}
