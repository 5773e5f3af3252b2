//! Reads a volume: the targets of a command line with all that is in them, as restic stores them.
//! It must never follow a link below a target, and never leave an entry out without a rule or a problem that says so.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat_flow::{Content, Entry, EntryKind, EntryPath, Listing, Problem, Source, SourceError};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::content::{FileContent, open_quietly};
use super::dirs::Dirs;
use super::layout::{Node, Place, clean};
use super::metadata::{self, Metadata};
use super::names_in::names_in;
use super::rules::{DirRules, Rules};
use super::xattrs::Of;
use super::{VolumeError, VolumeOptions};

/// A directory as a place to start from, which takes no right to read it.
const PLACE_DIR: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Paths on this machine as a source.
#[derive(Debug)]
pub struct VolumeSource {
    layout: Node,
    missing: Vec<Problem>,
    rules: Rules,
    metadata: Arc<Metadata>,
    dirs: Dirs,
    working_dir: PathBuf,
}

impl VolumeSource {
    /// The targets, relative ones to the working directory of now; see [`missing`](Self::missing) for what is not there.
    ///
    /// # Errors
    /// When no target is there, or one that has to be looked into at once (`.`, `/`, one inside another) can't be.
    pub fn new(targets: Vec<PathBuf>, options: VolumeOptions) -> Result<Self, VolumeError> {
        if targets.is_empty() {
            return Err(VolumeError::NoTargets);
        }
        let unreadable = |cause| VolumeError::Unreadable {
            path: PathBuf::from("."),
            cause,
        };
        let needs_working_dir = targets.iter().any(|target| target.is_relative());
        let working_dir = if needs_working_dir {
            std::env::current_dir().map_err(unreadable)?
        } else {
            PathBuf::from("/")
        };
        let (mut present, mut missing, mut devices) = (Vec::new(), Vec::new(), HashMap::new());
        for target in targets {
            match rustix::fs::statat(CWD, &target, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => {
                    devices.insert(clean(&working_dir.join(&target)), stat.st_dev);
                    present.push(target);
                }
                Err(cause) => {
                    missing.push(Problem::from_error(
                        &target.to_string_lossy(),
                        "look at path",
                        &io::Error::from(cause),
                    ));
                }
            }
        }
        if present.is_empty() {
            return Err(VolumeError::AllMissing(missing));
        }
        Ok(Self {
            layout: Node::from_targets(&present)?,
            missing,
            metadata: Arc::new(Metadata::new(options.with_atime)),
            rules: Rules::new(options, devices),
            dirs: Dirs::default(),
            working_dir,
        })
    }

    /// Targets that are not there or can't be looked at; the others are read.
    #[must_use]
    pub fn missing(&self) -> &[Problem] {
        &self.missing
    }

    /// The entries that a path on this machine stands for: a target or what is below one, or all targets below it. None
    /// if it lies elsewhere. It need not be there any more; targets may be named through links.
    #[must_use]
    pub fn entries_of(&self, path: &Path) -> Vec<EntryPath> {
        let path = self.absolute(path);
        let paths = [Some(path.clone()), resolved(&path)];
        let mut found = Vec::new();
        for (at, target) in self.layout.targets() {
            let target = self.absolute(target);
            let targets = [target.canonicalize().ok(), Some(target)];
            for target in targets.iter().flatten() {
                for path in paths.iter().flatten() {
                    if target.starts_with(path) {
                        found.push(at.clone());
                    } else if let Ok(rest) = path.strip_prefix(target) {
                        found.push(at.join(rest.as_os_str().as_bytes()));
                    }
                }
            }
        }
        found.sort();
        found.dedup();
        found
    }

    /// The entries that are targets.
    #[must_use]
    pub fn targets(&self) -> Vec<EntryPath> {
        let targets = self.layout.targets().into_iter();
        targets.map(|(at, _)| at).collect()
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        clean(&self.working_dir.join(path))
    }

    /// Where a place lies on this machine.
    fn absolute_in(&self, target: &Path, rest: &[u8]) -> PathBuf {
        let path = self.absolute(target);
        if rest.is_empty() {
            path
        } else {
            path.join(OsStr::from_bytes(rest))
        }
    }

    /// An open directory at or below a target. Only the target's own path follows links, as the user wrote it.
    fn dir(&self, path: &EntryPath, target: &Path, target_len: usize) -> io::Result<Arc<OwnedFd>> {
        let (mut at, mut fd) = match self.dirs.nearest(&path.0) {
            Some((at, fd)) if at == path.0.len() => return Ok(fd),
            Some((at, fd)) if at >= target_len => (at, fd),
            _ => {
                let fd = rustix::fs::openat(CWD, target, PLACE_DIR, Mode::empty())?;
                (target_len, Arc::new(fd))
            }
        };
        self.dirs.keep(path.0.get(..at).unwrap_or_default(), &fd);
        while at < path.0.len() {
            let rest = path.0.get(at + 1..).unwrap_or_default();
            let component = rest.split(|byte| *byte == b'/').next().unwrap_or_default();
            fd = Arc::new(rustix::fs::openat(
                &*fd,
                component,
                PLACE_DIR,
                Mode::empty(),
            )?);
            at += 1 + component.len();
            self.dirs.keep(path.0.get(..at).unwrap_or_default(), &fd);
        }
        Ok(fd)
    }

    /// The same, opened anew so that its names can be read from the first.
    fn dir_to_list(
        &self,
        path: &EntryPath,
        target: &Path,
        target_len: usize,
    ) -> io::Result<Arc<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = if path.0.len() == target_len {
            open_quietly(CWD, target.as_os_str().as_bytes(), flags)?
        } else {
            let parent = self.dir(&path.parent().unwrap_or_default(), target, target_len)?;
            open_quietly(&*parent, path.name(), flags)?
        };
        let fd = Arc::new(fd);
        self.dirs.keep(&path.0, &fd);
        Ok(fd)
    }

    /// The content of a file, to be read as only a database is.
    pub(crate) fn open_file(&self, path: &EntryPath) -> Result<FileContent, SourceError> {
        let Some(Place::Real {
            target,
            target_len,
            rest,
        }) = self.layout.find(path)
        else {
            return Err(not_in_targets("open file", path));
        };
        let absolute = self.absolute_in(target, rest);
        let shown = absolute.to_string_lossy().into_owned();
        let metadata = Arc::clone(&self.metadata);
        let name = path.name().to_vec();
        if rest.is_empty() {
            let target = target.as_os_str().as_bytes();
            return FileContent::open(None, target, name, shown, metadata);
        }
        let parent = path.parent().unwrap_or_default();
        let dir = self
            .dir(&parent, target, target_len)
            .map_err(|cause| unreadable("open directory of", &absolute, cause))?;
        FileContent::open(Some(&dir), path.name(), name, shown, metadata)
    }

    fn list_virtual(&self, node: &Node) -> Listing {
        let mut listing = Listing::default();
        for (name, child) in &node.nodes {
            let entry = match (&child.path, &child.metadata) {
                (Some(path), _) => {
                    self.target_entry(name, path, child.explicit, &mut listing.problems)
                }
                (None, Some(path)) => self.leading_entry(name, path, &mut listing.problems),
                (None, None) => None,
            };
            listing.entries.extend(entry);
        }
        listing
    }

    /// The entry of a directory that only leads to targets. It may be a link on this machine and is a directory in the snapshot.
    fn leading_entry(
        &self,
        name: &[u8],
        path: &Path,
        problems: &mut Vec<Problem>,
    ) -> Option<Entry> {
        let shown = self.absolute(path).to_string_lossy().into_owned();
        let looked = rustix::fs::stat(path)
            .map_err(io::Error::from)
            .and_then(|stat| {
                let entry = self.metadata.entry(name.to_vec(), &stat);
                entry
                    .filter(|entry| entry.kind == EntryKind::Dir)
                    .ok_or_else(|| io::ErrorKind::NotADirectory.into())
            });
        match looked {
            Ok(mut entry) => {
                if let Ok(path) = CString::new(path.as_os_str().as_bytes()) {
                    metadata::read_xattrs(&mut entry, Of::Path(&path));
                }
                // Directories above the target are often not ours; what is not readable there is not asked for either.
                entry.error.clear();
                Some(entry)
            }
            Err(cause) => {
                problems.push(Problem::from_error(&shown, "look at directory", &cause));
                None
            }
        }
    }

    /// The entry of a target.
    fn target_entry(
        &self,
        name: &[u8],
        path: &Path,
        explicit: bool,
        problems: &mut Vec<Problem>,
    ) -> Option<Entry> {
        let absolute = self.absolute(path);
        let file_name = CString::new(path.as_os_str().as_bytes()).ok()?;
        if explicit {
            let stat = rustix::fs::statat(CWD, &file_name, AtFlags::SYMLINK_NOFOLLOW);
            let stat = stat
                .map_err(|cause| problems.push(cannot_look(&absolute, cause)))
                .ok()?;
            return self.describe(CWD, &file_name, name.to_vec(), &stat, &absolute, problems);
        }
        let parent = absolute.parent().unwrap_or(Path::new("/"));
        let rules = match rustix::fs::openat(
            CWD,
            parent,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        ) {
            Ok(dir) => self.rules.of_dir(&dir, parent),
            Err(cause) => {
                problems.push(cannot_look(&absolute, cause));
                return None;
            }
        };
        let own_name = absolute.file_name().unwrap_or_default().as_bytes();
        let stat = self.wanted(CWD, &file_name, own_name, &absolute, &rules, problems)?;
        self.describe(CWD, &file_name, name.to_vec(), &stat, &absolute, problems)
    }

    fn list_real(&self, dir: &OwnedFd, path: &Path) -> rustix::io::Result<Listing> {
        let names = names_in(dir)?;
        let rules = self.rules.of_dir(dir, path);
        let mut listing = Listing {
            entries: Vec::with_capacity(names.len()),
            problems: Vec::new(),
        };
        let mut full = path.to_path_buf();
        for name in names {
            full.push(OsStr::from_bytes(name.as_bytes()));
            if let Some(stat) = self.wanted(
                dir,
                &name,
                name.as_bytes(),
                &full,
                &rules,
                &mut listing.problems,
            ) {
                let entry = self.describe(
                    dir,
                    &name,
                    name.as_bytes().to_vec(),
                    &stat,
                    &full,
                    &mut listing.problems,
                );
                listing.entries.extend(entry);
            }
            full.pop();
        }
        Ok(listing)
    }

    /// What an entry is, if it is to be read; it is no problem that one is gone since its name was read.
    fn wanted(
        &self,
        dir: impl AsFd,
        file_name: &CString,
        name: &[u8],
        path: &Path,
        rules: &DirRules<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<Stat> {
        if !rules.lets_name(name) {
            return None;
        }
        match rustix::fs::statat(dir, file_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => rules.lets(path, &stat).then_some(stat),
            Err(Errno::NOENT) => None,
            Err(cause) => {
                problems.push(cannot_look(path, cause));
                None
            }
        }
    }

    /// The entry with all that a snapshot keeps. Sockets are passed over, as in restic: they mean nothing without their process.
    fn describe(
        &self,
        dir: impl AsFd,
        file_name: &CString,
        name: Vec<u8>,
        stat: &Stat,
        path: &Path,
        problems: &mut Vec<Problem>,
    ) -> Option<Entry> {
        let mut entry = self
            .metadata
            .entry(name, stat)
            .filter(|entry| entry.kind != EntryKind::Socket)?;
        if entry.kind == EntryKind::Symlink {
            match rustix::fs::readlinkat(&dir, file_name, Vec::new()) {
                Ok(target) => entry.link_target = target.into_bytes(),
                Err(Errno::NOENT) => return None,
                Err(cause) => {
                    metadata::note(&mut entry, format!("read link: {}", io::Error::from(cause)))
                }
            }
        }
        metadata::read_xattrs_in(&mut entry, dir.as_fd(), file_name, path);
        if !entry.error.is_empty() {
            problems.push(Problem {
                path: path.to_string_lossy().into_owned(),
                doing: "read metadata".to_owned(),
                why: entry.error.clone(),
            });
        }
        Some(entry)
    }
}

impl Source for VolumeSource {
    fn list(&self, dir: &EntryPath) -> Result<Listing, SourceError> {
        match self.layout.find(dir) {
            Some(Place::Virtual(node)) => Ok(self.list_virtual(node)),
            Some(Place::Real {
                target,
                target_len,
                rest,
            }) => {
                let path = self.absolute_in(target, rest);
                let listed = self
                    .dir_to_list(dir, target, target_len)
                    .and_then(|fd| Ok(self.list_real(&fd, &path)?));
                listed.map_err(|cause| unreadable("read directory", &path, cause))
            }
            None => Err(not_in_targets("read directory", dir)),
        }
    }

    fn open(&self, path: &EntryPath) -> Result<Box<dyn Content>, SourceError> {
        Ok(Box::new(self.open_file(path)?))
    }
}

fn cannot_look(path: &Path, cause: Errno) -> Problem {
    Problem::from_error(&path.to_string_lossy(), "look at", &io::Error::from(cause))
}

fn unreadable(doing: &'static str, path: &Path, cause: io::Error) -> SourceError {
    SourceError::Unreadable {
        doing,
        path: path.to_string_lossy().into_owned(),
        cause,
    }
}

fn not_in_targets(doing: &'static str, path: &EntryPath) -> SourceError {
    SourceError::Unreadable {
        doing,
        path: path.display(),
        cause: io::ErrorKind::NotFound.into(),
    }
}

/// A path without links in what leads to it; what does not exist any more has none.
fn resolved(path: &Path) -> Option<PathBuf> {
    let mut above = path.parent()?;
    loop {
        if let Ok(found) = above.canonicalize() {
            return Some(found.join(path.strip_prefix(above).ok()?));
        }
        above = above.parent()?;
    }
}
