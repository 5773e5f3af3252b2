//! What the tests of this crate share: a tree with everything odd in it, walks, copies and rules that hold for any source and target.
//! It must never be lenient: a difference that is not named here is a failure.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part"
)]

pub mod conformance;
pub mod nobody;
pub mod odd_tree;

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use lifeboat_flow::{
    Entry, EntryKind, EntryPath, Problem, Source, SourceError, Target, TargetError, Timestamp,
};
use lifeboat_state::{TargetOptions, VolumeOptions, VolumeSource, VolumeTarget, Walk};

/// Entries with their content, by path below where the walk began.
pub type Tree = BTreeMap<Vec<u8>, (Entry, Vec<u8>)>;

/// A walk of a source.
#[derive(Debug, Default)]
pub struct Walked {
    pub tree: Tree,
    pub problems: Vec<Problem>,
    pub errors: Vec<SourceError>,
}

impl Walked {
    pub fn names(&self) -> Vec<String> {
        let names = self.tree.keys();
        names
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()
    }

    /// Fails the test if anything could not be read.
    pub fn whole(self) -> Tree {
        assert!(self.problems.is_empty(), "{:?}", self.problems);
        assert!(self.errors.is_empty(), "{:?}", self.errors);
        self.tree
    }
}

/// Where a path of this machine lies in the snapshot of itself.
pub fn entry_path(path: &Path) -> EntryPath {
    EntryPath(
        path.as_os_str()
            .as_bytes()
            .strip_prefix(b"/")
            .expect("absolute")
            .to_vec(),
    )
}

/// Reads all that is below a directory of a source, without recursion so that depth is no matter.
pub fn walk(source: &dyn Source, from: &EntryPath) -> Walked {
    let mut walked = Walked::default();
    let mut pending = vec![from.clone()];
    while let Some(dir) = pending.pop() {
        let listing = match source.list(&dir) {
            Ok(listing) => listing,
            Err(error) => {
                walked.errors.push(error);
                continue;
            }
        };
        conformance::listing_is_ordered(&listing);
        walked.problems.extend(listing.problems);
        for entry in listing.entries {
            let path = dir.join(&entry.name);
            let mut bytes = Vec::new();
            match entry.kind {
                EntryKind::Dir => pending.push(path.clone()),
                EntryKind::File => match read(source, &path) {
                    Ok((_, content)) => bytes = content,
                    Err(error) => walked.errors.push(error),
                },
                _ => {}
            }
            let below = path.0.get(from.0.len()..).expect("below the start");
            walked.tree.insert(
                below.strip_prefix(b"/").unwrap_or(below).to_vec(),
                (entry, bytes),
            );
        }
    }
    walked
}

/// Reads a file and what its content says about it at the end.
pub fn read(source: &dyn Source, path: &EntryPath) -> Result<(Entry, Vec<u8>), SourceError> {
    let mut content = source.open(path)?;
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).expect("a readable file");
    let entry = content.finish()?.expect("a volume knows its metadata");
    assert!(
        !content.changed(),
        "{} changed while nobody wrote to it",
        path.display()
    );
    Ok((entry, bytes))
}

/// All of a directory of this machine.
pub fn volume(root: &Path) -> Tree {
    let options = VolumeOptions::default();
    let source = VolumeSource::new(vec![root.to_path_buf()], options).expect("a readable volume");
    walk(&source, &entry_path(root)).whole()
}

pub fn target(root: &Path, walk: Walk) -> VolumeTarget {
    VolumeTarget::create(root, &TargetOptions { walk }).expect("a target")
}

/// Puts a tree into a target in the order that the contract asks for; gives what could not be set.
pub fn put(tree: &Tree, target: &dyn Target) -> Vec<TargetError> {
    let mut failures = Vec::new();
    let mut links: HashMap<(u64, u64), EntryPath> = HashMap::new();
    for (path, (entry, content)) in tree {
        let path = EntryPath(path.clone());
        let mut done = Ok(());
        match entry.kind {
            EntryKind::Dir => target.make_dir(&path).expect("a directory"),
            EntryKind::File => {
                let id = (entry.device_id, entry.inode);
                if entry.links > 1
                    && let Some(original) = links.get(&id)
                {
                    target.make_link(original, &path).expect("a hard link");
                    continue;
                }
                links.insert(id, path.clone());
                let file = target.open_file(&path, false).expect("a file");
                file.write_at(content, 0).expect("written");
                // Both ways to finish a file must do the same.
                done = if content.len() % 2 == 0 {
                    file.finish(entry)
                } else {
                    target.finish(&path, entry)
                };
            }
            _ => {
                target.make_special(&path, entry).expect("a special file");
                done = target.finish(&path, entry);
            }
        }
        failures.extend(done.err().unwrap_or_default());
    }
    for (path, (entry, _)) in tree
        .iter()
        .rev()
        .filter(|(_, (entry, _))| entry.kind == EntryKind::Dir)
    {
        let done = target.finish(&EntryPath(path.clone()), entry);
        failures.extend(done.err().unwrap_or_default());
    }
    failures
}

/// Fails unless two trees are the same in all that a restore can bring back.
pub fn assert_same(left: &Tree, right: &Tree) {
    let names = |tree: &Tree| {
        tree.keys()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(left), names(right));
    for ((name, (left_entry, left_bytes)), (right_entry, right_bytes)) in
        left.iter().zip(right.values())
    {
        let shown = String::from_utf8_lossy(name);
        assert_eq!(restorable(left_entry), restorable(right_entry), "{shown}");
        assert!(left_bytes == right_bytes, "the content of {shown} differs");
    }
}

/// Without what the file system decides: inode, device number, time of change.
pub fn restorable(entry: &Entry) -> Entry {
    let mut xattrs = entry.xattrs.clone();
    xattrs.sort_by(|a, b| a.name.cmp(&b.name));
    Entry {
        inode: 0,
        device_id: 0,
        changed: Timestamp::ZERO,
        xattrs,
        ..entry.clone()
    }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
