//! The real directories that the demo copies, as much of each as fits.
//! They are read and never changed.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Result};
use crate::shell;
use crate::tools::create_dir;
use crate::tree::{Amount, list, measure};

const FILES_MAX: u64 = 100_000;
/// The first ones are the most interesting; the others serve machines that lack those.
const ALWAYS: usize = 2;

pub(super) struct Taken {
    pub from: PathBuf,
    pub files: u64,
    pub bytes: u64,
}

/// A directory, what it is called among the copies, and how deep the pieces lie that are taken whole.
struct Place {
    dir: PathBuf,
    name: &'static str,
    depth: u32,
}

fn places() -> Vec<Place> {
    let place = |dir: PathBuf, name, depth| Place { dir, name, depth };
    let home = std::env::var_os("HOME")
        .map(PathBuf::from)
        .unwrap_or_default();
    let cargo = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    vec![
        place("/usr/share/doc".into(), "documents", 1),
        place(cargo.join("registry/src"), "sources", 2),
        place("/usr/include".into(), "headers", 1),
        place("/usr/lib/python3".into(), "python", 1),
        place("/usr/share".into(), "share", 1),
    ]
}

/// Copies real directories into `live`, at most `bytes_max` of them.
pub(super) fn gather(live: &Path, bytes_max: u64) -> Result<Vec<Taken>> {
    create_dir(live)?;
    let mut left = Amount {
        files: FILES_MAX,
        bytes: bytes_max,
    };
    let mut taken = Vec::new();
    for (index, place) in places()
        .into_iter()
        .filter(|place| place.dir.is_dir())
        .enumerate()
    {
        if index >= ALWAYS && left.bytes < bytes_max / 2 {
            break;
        }
        // No place may use up everything before the next had its turn.
        let share = if index == 0 {
            Amount {
                files: left.files / 2,
                bytes: left.bytes / 2,
            }
        } else {
            left
        };
        let from_here = take(&place, live, share)?;
        left.files -= from_here.files;
        left.bytes -= from_here.bytes;
        if from_here.files > 0 {
            taken.push(Taken {
                from: place.dir,
                files: from_here.files,
                bytes: from_here.bytes,
            });
        }
    }
    if taken.is_empty() {
        Err(Failure::new("found no directory to show a backup of"))
    } else {
        Ok(taken)
    }
}

/// Copies whole pieces of `place` until its share is used up.
fn take(place: &Place, live: &Path, share: Amount) -> Result<Amount> {
    let mut taken = Amount::default();
    let mut pieces = Vec::new();
    for piece in pieces_of(&place.dir, place.depth)? {
        let amount = measure(&piece)?;
        if taken.files + amount.files <= share.files && taken.bytes + amount.bytes <= share.bytes {
            taken.files += amount.files;
            taken.bytes += amount.bytes;
            pieces.push(piece);
        }
    }
    let to = live.join(place.name);
    create_dir(&to)?;
    for some in pieces.chunks(500) {
        let mut copy = Command::new("cp");
        copy.args(["-a", "--reflink=auto", "-t"])
            .arg(&to)
            .arg("--")
            .args(some);
        shell::output(&mut copy)?;
    }
    Ok(taken)
}

fn pieces_of(dir: &Path, depth: u32) -> Result<Vec<PathBuf>> {
    let mut pieces = Vec::new();
    for path in list(dir)? {
        let is_real_dir = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
        if depth > 1 && is_real_dir {
            pieces.extend(pieces_of(&path, depth - 1)?);
        } else if depth <= 1 && is_readable(&path) {
            pieces.push(path);
        }
    }
    Ok(pieces)
}

/// A demo that runs as anybody leaves out what only root may read.
fn is_readable(path: &Path) -> bool {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => {
            let Ok(entries) = std::fs::read_dir(path) else {
                return false;
            };
            entries.flatten().all(|entry| is_readable(&entry.path()))
        }
        Ok(meta) if meta.is_file() => std::fs::File::open(path).is_ok(),
        Ok(_) => true,
        Err(_) => false,
    }
}
