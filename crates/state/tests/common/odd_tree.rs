//! A tree with every kind of entry and every odd name and attribute that a file system takes.
//! It must never leave out what this machine could make: a check that is not made proves nothing.

use std::ffi::OsStr;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

/// Makes the tree in a directory that exists.
pub fn make(root: &Path) {
    names(root);
    contents(root);
    attributes(root);
    specials(root);
    modes_and_owners(root);
    times(root);
}

fn names(root: &Path) {
    let dir = root.join("names");
    fs::create_dir(&dir).expect("a directory");
    let long = [b'n'; 255];
    let odd: [&[u8]; 12] = [
        b"plain",
        b"with space ",
        b"new\nline",
        b"tab\t",
        b"quote\"'`",
        b"back\\slash",
        b"\xff\xfenot-utf8",
        b"\x7f\x01",
        "ü-語".as_bytes(),
        b"-rf",
        b"...",
        &long,
    ];
    for name in odd {
        fs::write(dir.join(OsStr::from_bytes(name)), name).expect("a file");
    }
    let odd_dir = dir.join(OsStr::from_bytes(b"dir\xff\n"));
    fs::create_dir(&odd_dir).expect("a directory");
    fs::write(odd_dir.join("inner"), "inner").expect("a file");
    fs::create_dir(root.join("empty")).expect("a directory");
}

fn contents(root: &Path) {
    fs::write(root.join("zero"), "").expect("a file");
    let large: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(root.join("large"), large).expect("a file");
    let mut sparse = fs::File::create(root.join("sparse")).expect("a file");
    sparse.seek(SeekFrom::Start(3 << 20)).expect("seek");
    sparse.write_all(b"end").expect("written");
    fs::write(root.join("linked"), "linked!").expect("a file");
    fs::hard_link(root.join("linked"), root.join("names/linked-too")).expect("a hard link");
}

fn attributes(root: &Path) {
    let file = root.join("with-xattrs");
    fs::write(&file, "x").expect("a file");
    let large = vec![7; 3000];
    for (name, value) in [
        ("user.b", b"1".as_slice()),
        ("user.a", b""),
        ("user.binary", b"\0\xff\n"),
        ("user.large", &large),
    ] {
        rustix::fs::setxattr(&file, name, value, XattrFlags::empty()).expect("a user attribute");
    }
    if super::is_root() {
        rustix::fs::setxattr(&file, "trusted.lifeboat", b"t", XattrFlags::empty())
            .expect("a trusted attribute");
        let capability =
            b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
        rustix::fs::setxattr(
            &file,
            "security.capability",
            capability,
            XattrFlags::empty(),
        )
        .expect("a capability");
    }
    let dir = root.join("with-acl");
    fs::create_dir(&dir).expect("a directory");
    rustix::fs::setxattr(&dir, "user.dir", b"d", XattrFlags::empty())
        .expect("an attribute of a directory");
    rustix::fs::setxattr(
        &dir,
        "system.posix_acl_default",
        &acl(33, 5),
        XattrFlags::empty(),
    )
    .expect("a default ACL");
    let file = dir.join("shared");
    fs::write(&file, "acl").expect("a file");
    rustix::fs::setxattr(
        &file,
        "system.posix_acl_access",
        &acl(34, 6),
        XattrFlags::empty(),
    )
    .expect("an ACL");
    let plain = dir.join("without-acl");
    fs::write(&plain, "inherits one unless it is removed").expect("a file");
    rustix::fs::removexattr(&plain, "system.posix_acl_access").expect("removed");
}

/// A POSIX ACL that lets a user do something (`linux/posix_acl_xattr.h`): version 2, then tag, rights and ID of each entry.
pub fn acl(uid: u32, rights: u16) -> Vec<u8> {
    let none = u32::MAX;
    let entries: [(u16, u16, u32); 5] = [
        (1, 7, none),
        (2, rights, uid),
        (4, 5, none),
        (16, 7, none),
        (32, 0, none),
    ];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&rights.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

fn specials(root: &Path) {
    let dir = root.join("specials");
    fs::create_dir(&dir).expect("a directory");
    symlink("../zero", dir.join("relative")).expect("a link");
    symlink("/etc/passwd", dir.join("absolute")).expect("a link");
    symlink(OsStr::from_bytes(b"dangling/\xff\n"), dir.join("dangling")).expect("a link");
    symlink("x".repeat(4000), dir.join("long")).expect("a link");
    let mode = Mode::from_raw_mode(0o640);
    rustix::fs::mknodat(CWD, dir.join("pipe"), FileType::Fifo, mode, 0).expect("a pipe");
    if super::is_root() {
        let (null, weird) = (rustix::fs::makedev(1, 3), rustix::fs::makedev(259, 70_000));
        rustix::fs::mknodat(CWD, dir.join("null"), FileType::CharacterDevice, mode, null)
            .expect("a device");
        rustix::fs::mknodat(CWD, dir.join("block"), FileType::BlockDevice, mode, weird)
            .expect("a device");
    }
}

fn modes_and_owners(root: &Path) {
    let dir = root.join("modes");
    fs::create_dir(&dir).expect("a directory");
    for mode in [0o000, 0o400, 0o777, 0o4755, 0o2755, 0o6711, 0o1644] {
        let file = dir.join(format!("{mode:o}"));
        fs::write(&file, "mode").expect("a file");
        if super::is_root() {
            std::os::unix::fs::chown(&file, Some(1234), Some(4321)).expect("given away");
        }
        // A file without any right can't be read by its owner either.
        let mode = if mode == 0 && !super::is_root() {
            0o600
        } else {
            mode
        };
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("a mode");
    }
    for mode in [0o1777, 0o2750, 0o555] {
        let inner = dir.join(format!("d{mode:o}"));
        fs::create_dir(&inner).expect("a directory");
        fs::write(inner.join("inner"), "inner").expect("a file");
        fs::set_permissions(&inner, fs::Permissions::from_mode(mode)).expect("a mode");
    }
}

fn times(root: &Path) {
    let dir = root.join("times");
    fs::create_dir(&dir).expect("a directory");
    symlink("nowhere", dir.join("link")).expect("a link");
    for (name, seconds, nanoseconds) in [
        ("past", -86_400, 1),
        ("epoch", 0, 0),
        ("precise", 1_700_000_000, 123_456_789),
        ("far", 4_102_444_800, 999_999_999),
    ] {
        fs::write(dir.join(name), name).expect("a file");
        set_time(&dir.join(name), seconds, nanoseconds);
    }
    set_time(&dir.join("link"), 1_000_000_000, 5);
    set_time(&dir, 1_234_567_890, 987_654_321);
}

pub fn set_time(path: &Path, seconds: i64, nanoseconds: u32) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.into(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("a time");
}
