//! From what the system says about a file to an entry with the fields that restic's node has.
//! It must never guess: what can't be read is named in the entry's `error`.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use lifeboat_flow::{Entry, EntryKind, Xattr};
use rustix::fs::{FileType, Stat};

use super::names::Names;
use super::xattrs::{self, Of};
use super::zone::Zone;

/// What turns numbers of the system into an entry.
#[derive(Debug)]
pub(crate) struct Metadata {
    zone: Zone,
    names: Names,
    with_atime: bool,
}

impl Metadata {
    pub(crate) fn new(with_atime: bool) -> Self {
        Self {
            zone: Zone::of_system(),
            names: Names::of_system(),
            with_atime,
        }
    }

    /// The entry, without link target and extended attributes; `None` for a kind that no snapshot can hold.
    ///
    /// As in restic, only files, links and devices tell their number of links, and only files a size.
    pub(crate) fn entry(&self, name: Vec<u8>, stat: &Stat) -> Option<Entry> {
        let kind = kind_of(stat)?;
        let modified = self
            .zone
            .stamp(stat.st_mtime, nanoseconds(stat.st_mtime_nsec));
        let is_device = matches!(kind, EntryKind::BlockDevice | EntryKind::CharDevice);
        let tells_links = is_device || matches!(kind, EntryKind::File | EntryKind::Symlink);
        Some(Entry {
            name,
            kind,
            permissions: stat.st_mode & 0o7777,
            modified,
            accessed: if self.with_atime {
                self.zone
                    .stamp(stat.st_atime, nanoseconds(stat.st_atime_nsec))
            } else {
                modified
            },
            changed: self
                .zone
                .stamp(stat.st_ctime, nanoseconds(stat.st_ctime_nsec)),
            uid: stat.st_uid,
            gid: stat.st_gid,
            user: self.names.user(stat.st_uid),
            group: self.names.group(stat.st_gid),
            inode: stat.st_ino,
            device_id: stat.st_dev,
            size_bytes: if kind == EntryKind::File {
                size_of(stat)
            } else {
                0
            },
            #[allow(
                clippy::useless_conversion,
                reason = "st_nlink is narrower on other architectures"
            )]
            links: if tells_links {
                u64::from(stat.st_nlink)
            } else {
                0
            },
            link_target: Vec::new(),
            device: if is_device { stat.st_rdev } else { 0 },
            xattrs: Vec::new(),
            error: String::new(),
        })
    }
}

/// Reads the extended attributes into the entry, in the order of the system; what can't be read goes to its `error`.
pub(crate) fn read_xattrs(entry: &mut Entry, of: Of<'_>) {
    match xattrs::names(of) {
        Ok(names) => read_values(entry, of, names),
        Err(cause) => note(entry, format!("list extended attributes: {cause}")),
    }
}

/// The same of something in a directory: by its full path, which is the fastest, or through the open directory where
/// the path is too long or does not lead there any more.
pub(crate) fn read_xattrs_in(
    entry: &mut Entry,
    dir: BorrowedFd<'_>,
    file_name: &CStr,
    path: &Path,
) {
    let by_path = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
    if let Ok(names) = xattrs::names(Of::Path(&by_path)) {
        return read_values(entry, Of::Path(&by_path), names);
    }
    let by_dir = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    let by_dir =
        CString::new([by_dir.as_slice(), file_name.to_bytes()].concat()).unwrap_or_default();
    read_xattrs(entry, Of::Path(&by_dir));
}

fn read_values(entry: &mut Entry, of: Of<'_>, names: Vec<CString>) {
    for name in names {
        // The format holds names as text; all that Linux makes itself are.
        let Ok(text) = name.to_str() else {
            note(
                entry,
                format!("the extended attribute {name:?} has a name that is no UTF-8"),
            );
            continue;
        };
        match xattrs::value(of, &name) {
            Ok(Some(value)) => entry.xattrs.push(Xattr {
                name: text.to_owned(),
                value,
            }),
            Ok(None) => {}
            Err(cause) => note(entry, format!("read extended attribute {text}: {cause}")),
        }
    }
}

/// Adds to what could not be read about an entry.
pub(crate) fn note(entry: &mut Entry, what: String) {
    if !entry.error.is_empty() {
        entry.error.push_str("; ");
    }
    entry.error.push_str(&what);
}

/// What the file is, `None` for what Linux has no name for.
pub(crate) fn kind_of(stat: &Stat) -> Option<EntryKind> {
    Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Dir,
        FileType::Symlink => EntryKind::Symlink,
        FileType::BlockDevice => EntryKind::BlockDevice,
        FileType::CharacterDevice => EntryKind::CharDevice,
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        FileType::Unknown => return None,
    })
}

/// For people.
pub(crate) fn kind_name(stat: &Stat) -> &'static str {
    match kind_of(stat) {
        Some(EntryKind::File) => "a file",
        Some(EntryKind::Dir) => "a directory",
        Some(EntryKind::Symlink) => "a symbolic link",
        Some(EntryKind::BlockDevice | EntryKind::CharDevice) => "a device",
        Some(EntryKind::Fifo) => "a named pipe",
        Some(EntryKind::Socket) => "a socket",
        None => "something else",
    }
}

/// Its size in bytes.
pub(crate) fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// The kernel's nanoseconds, which are below a thousand million.
pub(crate) fn nanoseconds<T: TryInto<u32>>(raw: T) -> u32 {
    raw.try_into().unwrap_or(0)
}

/// Whether a file is as it was: same size, same times of content and inode.
pub(crate) fn is_same(before: &Stat, after: &Stat) -> bool {
    let times = |stat: &Stat| {
        (
            stat.st_mtime,
            stat.st_mtime_nsec,
            stat.st_ctime,
            stat.st_ctime_nsec,
        )
    };
    before.st_size == after.st_size && times(before) == times(after)
}
