//! A tree of files that grows in any order, in memory, and is stored from its leaves to its root when all of them are known.
//! It must never hold a content, nor let one file take the place of another.

use std::collections::BTreeMap;

use lifeboat_flow::{Entry, EntryKind, EntryPath, Timestamp};
use lifeboat_format::{Id, Node, Tree};
use lifeboat_repo::{Ingest, Sealer};

use crate::ProtectError;
use crate::backup::add_tree;
use crate::intake::TakenFile;
use crate::node::node_of;

/// Permissions of a directory that nobody described.
const OWNER_ONLY: u32 = 0o700;

/// What is known of a file or directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GrownMeta {
    pub(crate) permissions: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: Timestamp,
}

enum Grown {
    File(GrownMeta, TakenFile),
    Dir(Dir),
}

struct Dir {
    meta: GrownMeta,
    entries: BTreeMap<Vec<u8>, Grown>,
}

/// A tree that grows.
#[derive(Default)]
pub(crate) struct GrownTree {
    entries: BTreeMap<Vec<u8>, Grown>,
    /// What is wrong with files.
    errors: BTreeMap<EntryPath, String>,
    /// Files in it.
    pub(crate) files: u64,
    /// Their contents, in bytes.
    pub(crate) bytes: u64,
    /// Directories in it.
    pub(crate) dirs: u64,
}

impl GrownTree {
    /// Puts a directory at a path; one that is there is described anew.
    ///
    /// # Errors
    /// When a file is there, or on the way.
    pub(crate) fn put_dir(
        &mut self,
        path: &EntryPath,
        meta: GrownMeta,
    ) -> Result<(), ProtectError> {
        let entries = self.dir(&path.parent().unwrap_or_default(), meta)?;
        match entries.get_mut(path.name()) {
            Some(Grown::Dir(dir)) => dir.meta = meta,
            Some(Grown::File(..)) => return Err(taken(path)),
            None => {
                let dir = Dir {
                    meta,
                    entries: BTreeMap::new(),
                };
                entries.insert(path.name().to_vec(), Grown::Dir(dir));
                self.dirs += 1;
            }
        }
        Ok(())
    }

    /// Puts a file at a path; directories on the way are made, of the same owner.
    ///
    /// # Errors
    /// When something is there already.
    pub(crate) fn put_file(
        &mut self,
        path: &EntryPath,
        meta: GrownMeta,
        file: TakenFile,
    ) -> Result<(), ProtectError> {
        let entries = self.dir(&path.parent().unwrap_or_default(), meta)?;
        if entries.contains_key(path.name()) {
            return Err(taken(path));
        }
        entries.insert(path.name().to_vec(), Grown::File(meta, file));
        self.files += 1;
        self.bytes += file.size_bytes;
        Ok(())
    }

    /// Whether a file is at a path.
    pub(crate) fn has_file(&self, path: &EntryPath) -> bool {
        let mut entries = &self.entries;
        let mut names = path.0.split(|byte| *byte == b'/').peekable();
        while let Some(name) = names.next() {
            match entries.get(name) {
                Some(Grown::Dir(dir)) => entries = &dir.entries,
                Some(Grown::File(..)) => return names.peek().is_none(),
                None => return false,
            }
        }
        false
    }

    /// Notes what is wrong with a file; the first text stays.
    pub(crate) fn note_error(&mut self, path: EntryPath, why: &str) {
        self.errors.entry(path).or_insert_with(|| why.to_owned());
    }

    /// The entries of a directory, which is made if it is not there.
    fn dir(
        &mut self,
        path: &EntryPath,
        meta: GrownMeta,
    ) -> Result<&mut BTreeMap<Vec<u8>, Grown>, ProtectError> {
        let mut entries = &mut self.entries;
        let names = path.0.split(|byte| *byte == b'/');
        for name in names.filter(|name| !name.is_empty()) {
            let child = entries.entry(name.to_vec()).or_insert_with(|| {
                self.dirs += 1;
                Grown::Dir(Dir {
                    meta: GrownMeta {
                        permissions: OWNER_ONLY,
                        ..meta
                    },
                    entries: BTreeMap::new(),
                })
            });
            match child {
                Grown::Dir(dir) => entries = &mut dir.entries,
                Grown::File(..) => return Err(taken(path)),
            }
        }
        Ok(entries)
    }

    /// Stores all trees, with the chunks of each file, and gives the root.
    ///
    /// # Errors
    /// When storing failed.
    pub(crate) fn store(
        self,
        ingest: &Ingest<'_>,
        mut contents: Vec<Vec<Id>>,
    ) -> Result<Id, ProtectError> {
        let mut store = Store {
            ingest,
            sealer: ingest.sealer()?,
            contents: &mut contents,
            errors: &self.errors,
        };
        store.tree(self.entries, &EntryPath::top())
    }
}

/// What is needed to store trees.
struct Store<'a> {
    ingest: &'a Ingest<'a>,
    sealer: Sealer,
    contents: &'a mut Vec<Vec<Id>>,
    errors: &'a BTreeMap<EntryPath, String>,
}

impl Store<'_> {
    /// Stores a directory, those below it first: paths are only as deep as who made them allows.
    fn tree(
        &mut self,
        entries: BTreeMap<Vec<u8>, Grown>,
        path: &EntryPath,
    ) -> Result<Id, ProtectError> {
        let mut tree = Tree::default();
        for (name, grown) in entries {
            let path = path.join(&name);
            tree.nodes.push(match grown {
                Grown::Dir(dir) => {
                    let subtree = self.tree(dir.entries, &path)?;
                    Node {
                        subtree: Some(subtree),
                        ..node_of(entry(&name, EntryKind::Dir, dir.meta))
                    }
                }
                Grown::File(meta, file) => {
                    let content = self.contents.get_mut(file.number);
                    Node {
                        content: Some(content.map(std::mem::take).unwrap_or_default()),
                        size_bytes: file.size_bytes,
                        error: self.errors.get(&path).cloned().unwrap_or_default(),
                        ..node_of(entry(&name, EntryKind::File, meta))
                    }
                }
            });
        }
        add_tree(self.ingest, &mut self.sealer, &tree, || path.display())
    }
}

fn entry(name: &[u8], kind: EntryKind, meta: GrownMeta) -> Entry {
    Entry {
        permissions: meta.permissions,
        uid: meta.uid,
        gid: meta.gid,
        modified: meta.modified,
        accessed: meta.modified,
        changed: meta.modified,
        links: u64::from(kind == EntryKind::File),
        ..Entry::bare(name, kind)
    }
}

fn taken(path: &EntryPath) -> ProtectError {
    ProtectError::Twice(path.display())
}
