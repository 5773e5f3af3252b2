//! Whether a directory holds files that mark it as not worth keeping.
//! It must never take an unreadable mark for one: in doubt the directory is kept.

use std::io::Read;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::DirTag;

/// The tags that a directory has. All of its entries are left out but those that are each of these tags.
pub(crate) fn tags_of(dir: impl AsFd, tags: &[DirTag]) -> Vec<&[u8]> {
    tags.iter()
        .filter(|tag| has(&dir, tag))
        .map(|tag| tag.name.as_slice())
        .collect()
}

fn has(dir: impl AsFd, tag: &DirTag) -> bool {
    if tag.name.is_empty()
        || rustix::fs::statat(&dir, tag.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW).is_err()
    {
        return false;
    }
    tag.header.is_empty() || begins_with(dir, tag).unwrap_or(false)
}

fn begins_with(dir: impl AsFd, tag: &DirTag) -> std::io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let fd = rustix::fs::openat(dir, tag.name.as_slice(), flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) != FileType::RegularFile {
        return Ok(false);
    }
    let mut start = vec![0; tag.header.len()];
    std::fs::File::from(fd).read_exact(&mut start)?;
    Ok(start == tag.header)
}
