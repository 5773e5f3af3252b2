//! What happens to files between two backups: some change, some go, some come, some move.
//! It changes the demo's copies, always in the same way, and never an original.

use std::fs::{OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::failure::{Result, While};
use crate::noise::noise;
use crate::tree::{list, measure};
use crate::units;

const EDITED_MAX: usize = 25;
const ADDED_BYTES: usize = 3 << 20;

/// Changes the files below `live` and says what was done.
pub(super) fn make(live: &Path) -> Result<Vec<String>> {
    let mut pieces = Vec::new();
    for part in list(live)?
        .into_iter()
        .filter(|part| !part.ends_with("odd"))
    {
        pieces.extend(list(&part)?.into_iter().filter(|piece| is_real_dir(piece)));
    }
    let mut done = vec![edit(&pieces)?, add(live)?, insert(live)?];
    if let [first, others @ ..] = pieces.as_slice()
        && let Some(largest) = largest(others)?
    {
        done.push(copy_and_move(live, largest)?);
        std::fs::remove_dir_all(first).doing(|| format!("cannot remove {}", first.display()))?;
        done.push(format!("removed the directory {}", name(first)));
    }
    done.push(attributes(live)?);
    Ok(done)
}

fn edit(pieces: &[PathBuf]) -> Result<String> {
    let mut edited = 0;
    for piece in pieces {
        let file = list(piece)?.into_iter().find(|path| is_writable_file(path));
        let Some(file) = file.filter(|_| edited < EDITED_MAX) else {
            continue;
        };
        let written = OpenOptions::new()
            .append(true)
            .open(&file)
            .and_then(|mut file| file.write_all(b"\nedited\n"));
        written.doing(|| format!("cannot edit {}", file.display()))?;
        edited += 1;
    }
    Ok(format!("edited {edited} files"))
}

fn add(live: &Path) -> Result<String> {
    let path = live.join("new.bin");
    std::fs::write(&path, noise(7, ADDED_BYTES))
        .doing(|| format!("cannot write {}", path.display()))?;
    Ok(format!(
        "added a file of {} that nothing compresses",
        units::size(ADDED_BYTES as u64)
    ))
}

/// Everything after an insertion moves; chunks that are cut by content do not care.
fn insert(live: &Path) -> Result<String> {
    let path = live.join("odd/disk.img");
    let content = std::fs::read(&path).doing(|| format!("cannot read {}", path.display()))?;
    let inserted = [b"one line at the very start\n", content.as_slice()].concat();
    std::fs::write(&path, inserted).doing(|| format!("cannot write {}", path.display()))?;
    Ok(format!(
        "inserted a line at the start of a file of {}",
        units::size(content.len() as u64)
    ))
}

fn copy_and_move(live: &Path, piece: &Path) -> Result<String> {
    super::copy(piece, &live.join("a copy"))?;
    let moved = live.join("moved");
    std::fs::rename(piece, &moved).doing(|| format!("cannot move {}", piece.display()))?;
    let size = units::size(measure(&moved)?.bytes);
    let name = name(piece);
    Ok(format!(
        "copied the directory {name} ({size}), and moved it elsewhere"
    ))
}

fn attributes(live: &Path) -> Result<String> {
    let path = live.join("odd/setuid");
    std::fs::set_permissions(&path, Permissions::from_mode(0o2711))
        .doing(|| format!("cannot change {}", path.display()))?;
    let path = live.join("odd/attributes");
    // Where the file system knows no attributes there is none to change.
    let _ = xattr::remove(&path, "user.binary")
        .and_then(|()| xattr::set(&path, "user.origin", b"changed"));
    Ok("changed a mode and two attributes, and nothing else of their files".into())
}

fn largest(pieces: &[PathBuf]) -> Result<Option<&PathBuf>> {
    let mut largest = None;
    for piece in pieces {
        let bytes = measure(piece)?.bytes;
        if largest.is_none_or(|(most, _)| bytes > most) {
            largest = Some((bytes, piece));
        }
    }
    Ok(largest.map(|(_, piece)| piece))
}

/// By its mode: whoever is not root could not open another one.
fn is_writable_file(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o200 != 0)
}

fn is_real_dir(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_dir())
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
