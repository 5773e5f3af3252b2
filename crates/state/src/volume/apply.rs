//! Sets owner, extended attributes, mode and times of what was restored, in the order in which none undoes another.
//! It must never follow a link, and never give a set-user-ID bit to a file whose owner it could not set.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use lifeboat_flow::{Entry, EntryKind, Timestamp, Xattr};
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::beneath::invalid;
use super::metadata::kind_of;
use super::xattrs::{self, Of};

const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;
const OWNER_CAN_WRITE: u32 = 0o200;
/// What of a mode is not the kind of file.
pub(crate) const MODE_BITS: u32 = 0o7777;
const NANOSECONDS_MAX: u32 = 999_999_999;

/// What could not be set: what was being done, and why it failed.
pub(crate) type Failures = Vec<(&'static str, io::Error)>;

/// Something whose metadata is set.
pub(crate) enum Handle<'a> {
    /// A file or directory that is open for real.
    Open(BorrowedFd<'a>),
    /// Anything else: opened as a place only, and reached through `/proc/self/fd` where the system wants a path.
    Placed {
        place: OwnedFd,
        by_proc: CString,
        dir: BorrowedFd<'a>,
        name: &'a [u8],
    },
}

impl<'a> Handle<'a> {
    /// What is at a name in a directory now.
    pub(crate) fn place(dir: BorrowedFd<'a>, name: &'a [u8]) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        let by_proc = CString::new(format!("/proc/self/fd/{}", place.as_raw_fd()))?;
        Ok(Self::Placed {
            place,
            by_proc,
            dir,
            name,
        })
    }

    pub(crate) fn stat(&self) -> io::Result<Stat> {
        Ok(match self {
            Self::Open(fd) => rustix::fs::fstat(fd)?,
            Self::Placed { place, .. } => rustix::fs::fstat(place)?,
        })
    }

    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode & MODE_BITS);
        match self {
            Self::Open(fd) => rustix::fs::fchmod(fd, mode)?,
            Self::Placed { by_proc, .. } => {
                rustix::fs::chmodat(CWD, by_proc.as_c_str(), mode, AtFlags::empty())?;
            }
        }
        Ok(())
    }

    fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> rustix::io::Result<()> {
        let (uid, gid) = (
            uid.map(Uid::from_raw_unchecked),
            gid.map(Gid::from_raw_unchecked),
        );
        match self {
            Self::Open(fd) => rustix::fs::fchown(fd, uid, gid),
            Self::Placed { place, .. } => {
                rustix::fs::chownat(place, c"", uid, gid, AtFlags::EMPTY_PATH)
            }
        }
    }

    fn set_times(&self, times: &Timestamps) -> rustix::io::Result<()> {
        match self {
            Self::Open(fd) => rustix::fs::futimens(fd, times),
            Self::Placed { dir, name, .. } => {
                rustix::fs::utimensat(dir, *name, times, AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    }

    fn of(&self) -> Of<'_> {
        match self {
            Self::Open(fd) => Of::Fd(fd.as_fd()),
            Self::Placed { by_proc, .. } => Of::Behind(by_proc),
        }
    }
}

/// Sets all metadata that an entry has. Only for a process that is not root, the owner is left as it is where the system forbids more.
pub(crate) fn apply(handle: &Handle<'_>, entry: &Entry, is_root: bool) -> Failures {
    let stat = match handle.stat() {
        Ok(stat) if kind_of(&stat) == Some(entry.kind) => stat,
        Ok(_) => {
            return vec![(
                "set metadata of",
                invalid("it was replaced by something else"),
            )];
        }
        Err(cause) => return vec![("look at", cause)],
    };
    let mut failures = Vec::new();
    // The owner first: changing it clears set-user-ID bits and capabilities.
    let (uid, gid) = set_owner(handle, &stat, entry, is_root, &mut failures);
    let is_changed = set_xattrs(handle, &stat, entry, &mut failures);
    // Attributes hold access lists, which are a part of the mode.
    let is_mode_known = (uid, gid) == (stat.st_uid, stat.st_gid) && !is_changed;
    if entry.kind != EntryKind::Symlink {
        let mut mode = entry.permissions & MODE_BITS;
        if uid != entry.uid {
            mode &= !SET_USER_ID;
        }
        if gid != entry.gid && entry.kind == EntryKind::File {
            mode &= !SET_GROUP_ID;
        }
        if mode != entry.permissions & MODE_BITS {
            let why = "its owner or group could not be set, and whoever got the file would lend it their rights";
            failures.push((
                "set the set-ID bits of",
                io::Error::new(io::ErrorKind::PermissionDenied, why),
            ));
        }
        let is_set = is_mode_known && stat.st_mode & MODE_BITS == mode;
        if !is_set && let Err(cause) = handle.set_mode(mode) {
            failures.push(("set mode of", cause));
        }
    }
    // Times last: writing changes them. What else was set here does not. A snapshot without times of access holds those of
    // the last change in their place: where that is right, it says nothing about when the file was read.
    let times = Timestamps {
        last_access: timespec(entry.accessed),
        last_modification: timespec(entry.modified),
    };
    let [accessed, modified] = times_of(&stat);
    let is_access_right = accessed == times.last_access || entry.accessed == entry.modified;
    if modified == times.last_modification && is_access_right {
        return failures;
    }
    if let Err(cause) = handle.set_times(&times) {
        failures.push(("set times of", cause.into()));
    }
    failures
}

/// Sets owner and group and gives those that the file has now.
fn set_owner(
    handle: &Handle<'_>,
    stat: &Stat,
    entry: &Entry,
    is_root: bool,
    failures: &mut Failures,
) -> (u32, u32) {
    if (stat.st_uid, stat.st_gid) == (entry.uid, entry.gid) {
        return (entry.uid, entry.gid);
    }
    if entry.uid == u32::MAX || entry.gid == u32::MAX {
        failures.push(("set owner of", invalid("4294967295 is no user or group")));
        return (stat.st_uid, stat.st_gid);
    }
    match handle.set_owner(Some(entry.uid), Some(entry.gid)) {
        Ok(()) => (entry.uid, entry.gid),
        Err(Errno::PERM) if !is_root => match handle.set_owner(None, Some(entry.gid)) {
            // Whoever is in the group may still give the file to it.
            Ok(()) => (stat.st_uid, entry.gid),
            Err(_) => (stat.st_uid, stat.st_gid),
        },
        Err(cause) => {
            failures.push(("set owner of", cause.into()));
            (stat.st_uid, stat.st_gid)
        }
    }
}

/// Sets extended attributes and removes those that the entry does not have; says whether it tried to change any.
fn set_xattrs(handle: &Handle<'_>, stat: &Stat, entry: &Entry, failures: &mut Failures) -> bool {
    let mut is_changed = false;
    let existing = match xattrs::names(handle.of()) {
        Ok(names) => names,
        Err(cause) => {
            failures.push(("list extended attributes of", cause));
            Vec::new()
        }
    };
    for name in &existing {
        let is_wanted = entry
            .xattrs
            .iter()
            .any(|xattr| xattr.name.as_bytes() == name.to_bytes());
        if !is_wanted && belongs_to_content(name) {
            is_changed = true;
            if let Err(cause) = xattrs::remove(handle.of(), name) {
                failures.push(("remove an extended attribute of", cause));
            }
        }
    }
    // ACLs last: one could take away the right to set the others.
    let (acls, others): (Vec<&Xattr>, Vec<&Xattr>) = entry
        .xattrs
        .iter()
        .partition(|xattr| xattr.name.starts_with("system."));
    for xattr in others.into_iter().chain(acls) {
        if is_set(handle, &existing, xattr) {
            continue;
        }
        is_changed = true;
        if let Err(cause) = set_xattr(handle, stat, xattr) {
            failures.push(("set an extended attribute of", cause));
        }
    }
    is_changed
}

fn is_set(handle: &Handle<'_>, existing: &[CString], xattr: &Xattr) -> bool {
    let mut existing = existing.iter();
    let name = existing.find(|name| name.to_bytes() == xattr.name.as_bytes());
    name.and_then(|name| xattrs::value(handle.of(), name).ok())
        .is_some_and(|value| value.as_ref() == Some(&xattr.value))
}

fn set_xattr(handle: &Handle<'_>, stat: &Stat, xattr: &Xattr) -> io::Result<()> {
    let name = CString::new(xattr.name.as_str())?;
    match xattrs::set(handle.of(), &name, &xattr.value) {
        // Read-only for its owner, who has no rights beyond that; the mode is set afterwards anyway.
        Err(cause)
            if cause.kind() == io::ErrorKind::PermissionDenied
                && stat.st_mode & OWNER_CAN_WRITE == 0 =>
        {
            handle
                .set_mode(stat.st_mode | OWNER_CAN_WRITE)
                .map_err(|_| cause)?;
            xattrs::set(handle.of(), &name, &xattr.value)
        }
        other => other,
    }
    .map_err(|cause| io::Error::new(cause.kind(), format!("{}: {cause}", xattr.name)))
}

/// Whether an attribute that the snapshot does not have must go: what users and ACLs put there, not what the system labels itself.
fn belongs_to_content(name: &CStr) -> bool {
    let name = name.to_bytes();
    name.starts_with(b"user.")
        || name.starts_with(b"trusted.")
        || matches!(
            name,
            b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default"
        )
}

#[allow(
    clippy::unnecessary_cast,
    reason = "the fields have other types on other architectures"
)]
fn times_of(stat: &Stat) -> [Timespec; 2] {
    let accessed = (stat.st_atime, stat.st_atime_nsec);
    let modified = (stat.st_mtime, stat.st_mtime_nsec);
    [accessed, modified].map(|(seconds, nanoseconds)| Timespec {
        tv_sec: seconds as _,
        tv_nsec: nanoseconds as _,
    })
}

fn timespec(time: Timestamp) -> Timespec {
    Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.min(NANOSECONDS_MAX).into(),
    }
}
