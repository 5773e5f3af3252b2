//! The paths to back up, from the command line and from files.
//! It must never drop a path without a word.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::wildcards;
use crate::failure::Failure;
use crate::ui::Ui;

/// Longest list of paths that is read, in bytes.
const LIST_MAX_BYTES: u64 = 1024 * 1024 * 1024;

/// All paths as they were given.
pub fn collect(
    wildcards: &[PathBuf],
    verbatim: &[PathBuf],
    raw: &[PathBuf],
    given: &[OsString],
    ui: &Ui,
) -> Result<Vec<PathBuf>, Failure> {
    let mut found: Vec<PathBuf> = Vec::new();
    for file in wildcards {
        for line in lines(&read(file)?) {
            let line = line.trim_ascii();
            if line.is_empty() || line.first() == Some(&b'#') {
                continue;
            }
            found.extend(expand(line, file, ui)?);
        }
    }
    for file in verbatim {
        found.extend(
            lines(&read(file)?)
                .filter(|line| !line.is_empty())
                .map(path),
        );
    }
    for file in raw {
        found.extend(raw_names(&read(file)?, file)?.map(path));
    }
    found.extend(given.iter().map(PathBuf::from));
    if found.iter().any(|path| path.as_os_str().is_empty()) {
        return Err(Failure::new(
            "an empty path was given; was a variable not set?",
        ));
    }
    if found.is_empty() {
        return Err(Failure::new("nothing says what to back up")
            .hint("give paths, --files-from or --stdin"));
    }
    Ok(found)
}

/// The paths without those that were given before.
pub fn each_once(targets: Vec<PathBuf>, ui: &Ui) -> Vec<PathBuf> {
    let mut unique: Vec<PathBuf> = Vec::with_capacity(targets.len());
    let mut seen = std::collections::HashSet::new();
    for path in targets {
        if seen.insert(path.clone()) {
            unique.push(path);
        } else {
            ui.warn(format_args!(
                "{} was given twice; it is backed up once",
                path.display()
            ));
        }
    }
    unique
}

/// The paths that a watcher says have changed: one a line, or each ended by a zero byte.
pub fn changed(file: &Path) -> Result<Vec<PathBuf>, Failure> {
    let list = read(file)?;
    let dir = std::env::current_dir()
        .map_err(|error| Failure::from_error(&error).while_doing("find the working directory"))?;
    let absolute = |name| dir.join(path(name));
    Ok(match list.contains(&0) {
        true => raw_names(&list, file)?.map(absolute).collect(),
        false => {
            let names = lines(&list).filter(|name| !name.is_empty());
            names.map(absolute).collect()
        }
    })
}

/// The names in a list in which each is ended by a zero byte.
fn raw_names<'l>(
    list: &'l [u8],
    file: &Path,
) -> Result<impl Iterator<Item = &'l [u8]> + use<'l>, Failure> {
    if !list.is_empty() && list.last() != Some(&0) {
        return Err(Failure::new(format!(
            "{} does not end with a zero byte, so its last path may be cut off",
            file.display()
        )));
    }
    let names = list.split(|byte| *byte == 0);
    Ok(names.filter(|name| !name.is_empty()))
}

/// The paths as a snapshot names them: absolute and clean, as often as they were given, without those that do not
/// exist. restic finds a chain's next parent by them.
pub fn absolute(targets: &[PathBuf]) -> Result<Vec<String>, Failure> {
    let dir = std::env::current_dir()
        .map_err(|error| Failure::from_error(&error).while_doing("find the working directory"));
    let is_missing = |target: &&PathBuf| {
        let found = target.symlink_metadata();
        found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    };
    targets
        .iter()
        .filter(|target| !is_missing(target))
        .map(|target| {
            let joined = if target.is_absolute() {
                target.clone()
            } else {
                dir.as_ref()
                    .map_err(|f| Failure::new(f.message.clone()))?
                    .join(target)
            };
            Ok(
                String::from_utf8_lossy(&lifeboat_plan::clean_path(joined.as_os_str().as_bytes()))
                    .into_owned(),
            )
        })
        .collect()
}

/// A path as a snapshot names it, for comparing; relative ones are below the working directory.
pub fn absolute_text(path: &str) -> String {
    let dir = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    String::from_utf8_lossy(&lifeboat_plan::clean_path(
        dir.join(path).as_os_str().as_bytes(),
    ))
    .into_owned()
}

/// The path of standard input or a command's output in a snapshot, as restic has it.
pub fn path_of_stream(name: &[u8]) -> String {
    let mut path = b"/".to_vec();
    path.extend_from_slice(name);
    String::from_utf8_lossy(&lifeboat_plan::clean_path(&path)).into_owned()
}

fn expand(line: &[u8], file: &Path, ui: &Ui) -> Result<Vec<PathBuf>, Failure> {
    let shown = String::from_utf8_lossy(line);
    let hits = wildcards::expand(line).map_err(|error| {
        Failure::from_error(&error).while_doing(format_args!("{}: {shown:?}", file.display()))
    })?;
    if hits.is_empty() {
        ui.warn(format_args!(
            "{}: {shown:?} matches no file",
            file.display()
        ));
    }
    Ok(hits)
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| {
        Failure::from_error(&error)
            .while_doing(format_args!("read the list of paths {}", file.display()))
    };
    let mut list = Vec::new();
    if file.as_os_str() == "-" {
        std::io::stdin()
            .lock()
            .take(LIST_MAX_BYTES)
            .read_to_end(&mut list)
            .map_err(failed)?;
    } else {
        std::fs::File::open(file)
            .map_err(failed)?
            .take(LIST_MAX_BYTES)
            .read_to_end(&mut list)
            .map_err(failed)?;
    }
    Ok(list)
}
