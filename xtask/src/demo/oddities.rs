//! What a backup easily loses: modes, holes, links, pipes, attributes, names and times that are out of the ordinary.
//! What this machine cannot make is told and not pretended.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, mknodat, utimensat};

use crate::failure::Result;
use crate::noise::noise;
use crate::shell;
use crate::tools::create_dir;

#[derive(Default)]
pub(super) struct Odd {
    pub made: Vec<&'static str>,
    pub impossible: Vec<String>,
}

/// Something odd and how it is made in a directory.
type Kind = (&'static str, fn(&Path) -> io::Result<()>);

/// The times come last: making a thing changes the time of its directory.
const KINDS: &[Kind] = &[
    ("a setuid program", setuid),
    ("a file with holes", sparse),
    ("hard links", hard_links),
    ("symlinks to nowhere", symlinks),
    ("a pipe", pipe),
    ("a name that is no UTF-8", raw_name),
    ("attributes", attributes),
    ("an access control list", access_list),
    ("an empty directory", empty_dir),
    ("a file without permissions", no_permissions),
    ("times before 1970 and after 2038", times),
];

pub(super) fn make(dir: &Path) -> Result<Odd> {
    create_dir(dir)?;
    let mut odd = Odd::default();
    for (name, make) in KINDS {
        match make(dir) {
            Ok(()) => odd.made.push(name),
            Err(cause) => odd.impossible.push(format!("{name} ({cause})")),
        }
    }
    Ok(odd)
}

fn setuid(dir: &Path) -> io::Result<()> {
    let path = dir.join("setuid");
    std::fs::write(&path, "#!/bin/true\n")?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o4755))
}

fn sparse(dir: &Path) -> io::Result<()> {
    let mut file = File::create(dir.join("disk.img"))?;
    for offset in [0, 20 << 20, 63 << 20] {
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(&noise(offset, 64 << 10))?;
    }
    file.set_len(64 << 20)
}

fn hard_links(dir: &Path) -> io::Result<()> {
    let first = dir.join("one of three");
    std::fs::write(&first, "the same file, three times\n")?;
    std::fs::create_dir(dir.join("elsewhere"))?;
    std::fs::hard_link(&first, dir.join("two of three"))?;
    std::fs::hard_link(&first, dir.join("elsewhere/three of three"))
}

fn symlinks(dir: &Path) -> io::Result<()> {
    symlink("elsewhere/three of three", dir.join("link"))?;
    symlink("/nowhere/at/all", dir.join("dangling"))?;
    symlink(OsStr::from_bytes(b"caf\xe9"), dir.join("raw target"))
}

fn pipe(dir: &Path) -> io::Result<()> {
    Ok(mknodat(
        CWD,
        dir.join("pipe"),
        FileType::Fifo,
        Mode::from_raw_mode(0o640),
        0,
    )?)
}

fn raw_name(dir: &Path) -> io::Result<()> {
    std::fs::write(
        dir.join(OsStr::from_bytes(b"caf\xe9 \xff\"\\\t<&>")),
        "Latin-1 and worse\n",
    )
}

fn attributes(dir: &Path) -> io::Result<()> {
    let path = dir.join("attributes");
    std::fs::write(&path, "see getfattr\n")?;
    xattr::set(&path, "user.origin", b"https://example.org/")?;
    xattr::set(&path, "user.binary", &[0, 255, 10, 0])?;
    xattr::set(&path, "user.empty", b"")?;
    xattr::set(dir, "user.directory", b"has one too")
}

fn access_list(dir: &Path) -> io::Result<()> {
    let path = dir.join("shared");
    std::fs::write(&path, "see getfacl\n")?;
    let mut setfacl = Command::new("setfacl");
    shell::output(setfacl.args(["-m", "u:1234:rw,g:5678:r"]).arg(&path))
        .map(drop)
        .map_err(|why| {
            io::Error::other(
                why.to_string()
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .to_owned(),
            )
        })
}

fn empty_dir(dir: &Path) -> io::Result<()> {
    let path = dir.join("empty");
    std::fs::create_dir(&path)?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o3770))
}

fn no_permissions(dir: &Path) -> io::Result<()> {
    if !crate::tools::packages::is_root() {
        return Err(io::Error::other("only root could read it"));
    }
    let path = dir.join("sealed");
    std::fs::write(&path, "root reads it anyway\n")?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o000))
}

fn times(dir: &Path) -> io::Result<()> {
    for (name, seconds) in [("moon landing", -14_182_940), ("after 2038", 4_102_444_800)] {
        let path = dir.join(name);
        std::fs::write(&path, name)?;
        let time = Timespec {
            tv_sec: seconds,
            tv_nsec: 123_456_789,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}
