//! Walks the tree of a snapshot and makes directories, links and special files; files become tasks for the workers.
//! It must never trust a name: a snapshot may come from anybody who could write to the repository.

use std::cell::Cell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use lifeboat_flow::{EntryKind, EntryPath, Event, Existing, Problem};
use lifeboat_format::{Id, Node, NodeKind};
use lifeboat_plan::check_node_name;

use super::file::FileTask;
use super::tasks::Batch;
use super::{Leftovers, MadeDir, Overwrite, Run, Selected};
use crate::backup::ProtectError;
use crate::node::entry_of;

/// A directory of the snapshot; it is made when the first thing in it is.
struct Dir {
    path: EntryPath,
    node: Option<Node>,
    above: Option<Rc<Dir>>,
    made: Cell<Made>,
}

impl Drop for Dir {
    /// One after the other: a snapshot may nest deeper than a thread's stack allows.
    fn drop(&mut self) {
        let mut above = self.above.take();
        while let Some(dir) = above.and_then(Rc::into_inner) {
            above = { dir }.above.take();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    NotYet,
    /// It is there; the flag says that it was there before, so that its content has to be looked at.
    Yes {
        existed: bool,
    },
    Failed,
}

impl Run<'_> {
    /// Walks everything below a tree.
    pub(super) fn walk(
        &self,
        tree: Id,
        batch: &mut Batch<'_, '_>,
    ) -> Result<Leftovers, ProtectError> {
        let mut left = Leftovers::default();
        let existed = self.restore.options.dry_run || !self.names(&EntryPath::top()).is_empty();
        let top = Dir {
            path: EntryPath::top(),
            node: None,
            above: None,
            made: Cell::new(Made::Yes { existed }),
        };
        // A stack of our own: a snapshot may nest deeper than a thread's stack allows.
        let mut todo = vec![(Rc::new(top), tree)];
        let mut is_root = true;
        while let Some((dir, tree)) = todo.pop() {
            self.check()?;
            let mut tree = match self.reader.tree(tree) {
                Ok(tree) => tree,
                Err(error) if is_root || error.ends_all() => return Err(error.into()),
                Err(error) => {
                    self.restore.problem(Problem::from_error(
                        &dir.path.display(),
                        "read the directory from the repository",
                        &error,
                    ));
                    continue;
                }
            };
            is_root = false;
            let mut names = HashSet::new();
            tree.nodes
                .retain(|node| self.is_possible(&dir.path, node, &mut names));
            if let Made::Yes { existed: true } = dir.made.get()
                && self.restore.options.delete
            {
                left.existing
                    .push((dir.path.clone(), names.into_iter().collect()));
            }
            let mut below = Vec::new();
            for node in tree.nodes {
                self.visit(&dir, node, &mut below, batch, &mut left)?;
            }
            todo.extend(below.into_iter().rev());
        }
        Ok(left)
    }

    fn is_possible(&self, dir: &EntryPath, node: &Node, names: &mut HashSet<Vec<u8>>) -> bool {
        let refused = |why: String| {
            let path = format!(
                "{} {:?}",
                dir.display(),
                String::from_utf8_lossy(&node.name)
            );
            self.restore.problem(Problem {
                path,
                doing: "restore".into(),
                why,
            });
            false
        };
        if let Err(error) = check_node_name(&node.name) {
            return refused(format!(
                "{error}; the snapshot is damaged or was made to do harm"
            ));
        }
        if !names.insert(node.name.clone()) {
            return refused(
                "its directory has two entries of this name; the second is left out".into(),
            );
        }
        true
    }

    fn visit(
        &self,
        dir: &Rc<Dir>,
        node: Node,
        below: &mut Vec<(Rc<Dir>, Id)>,
        batch: &mut Batch<'_, '_>,
        left: &mut Leftovers,
    ) -> Result<(), ProtectError> {
        let path = dir.path.join(&node.name);
        let is_dir = node.kind == NodeKind::Dir;
        let selected = self.restore.options.select.map_or(
            Selected {
                restore: true,
                descend: true,
            },
            |select| select(&path, is_dir),
        );
        if !node.error.is_empty() && selected.restore {
            self.restore.events.event(Event::Note(format!(
                "{} was not complete when it was backed up: {}",
                path.display(),
                node.error
            )));
        }
        if is_dir {
            if !selected.restore && !selected.descend {
                return Ok(());
            }
            let Some(subtree) = node.subtree else {
                self.restore.problem(Problem {
                    path: path.display(),
                    doing: "restore".into(),
                    why: "the snapshot has no tree for this directory".into(),
                });
                return Ok(());
            };
            let below_dir = Rc::new(Dir {
                path,
                node: Some(node),
                above: Some(dir.clone()),
                made: Cell::new(Made::NotYet),
            });
            if selected.restore && !self.make(&below_dir, left)? {
                return Ok(());
            }
            if selected.descend {
                below.push((below_dir, subtree));
            }
            return Ok(());
        }
        if !selected.restore || !self.make(dir, left)? {
            return Ok(());
        }
        let existing = match dir.made.get() {
            Made::Yes { existed: true } => match self.restore.target.look(&path) {
                Ok(existing) => existing,
                Err(error) => return self.target_problem(&path, error),
            },
            _ => None,
        };
        if let Some(found) = &existing {
            if self.is_to_be_kept(&node, found) {
                self.restore.item("skipped", &path, node.size_bytes);
                self.done.files_skipped.fetch_add(1, Ordering::Relaxed);
                self.done
                    .bytes_skipped
                    .fetch_add(node.size_bytes, Ordering::Relaxed);
                return Ok(());
            }
            if found.kind == EntryKind::Dir && !self.clear_dir(&path)? {
                return Ok(());
            }
        }
        match node.kind {
            NodeKind::File => self.visit_file(path, node, existing, batch, left),
            _ => self.visit_special(path, &node, existing.is_some()),
        }
    }

    fn visit_file(
        &self,
        path: EntryPath,
        mut node: Node,
        existing: Option<Existing>,
        batch: &mut Batch<'_, '_>,
        left: &mut Leftovers,
    ) -> Result<(), ProtectError> {
        let Some(content) = node.content.take() else {
            self.restore.problem(Problem {
                path: path.display(),
                doing: "restore".into(),
                why: "the snapshot has no list of blobs for this file".into(),
            });
            return Ok(());
        };
        let Some(entry) = entry_of(&node) else {
            return Ok(());
        };
        if node.links > 1 {
            // Only what also has the same content is linked: inode numbers alone are easy to get wrong.
            let key = (node.device_id, node.inode);
            match left.originals.get(&key) {
                Some((original, blobs)) if *blobs == content => {
                    self.restore.item("restored", &path, 0);
                    left.links.push((path, original.clone()));
                    return Ok(());
                }
                Some(_) => {}
                None => {
                    left.originals.insert(key, (path.clone(), content.clone()));
                }
            }
        }
        self.restore
            .counters
            .files_total
            .fetch_add(1, Ordering::Relaxed);
        self.restore
            .counters
            .bytes_total
            .fetch_add(node.size_bytes, Ordering::Relaxed);
        if self.restore.options.verify {
            left.files.push((path.clone(), content.clone()));
        }
        self.restore.item(
            if existing.is_some() {
                "updated"
            } else {
                "restored"
            },
            &path,
            node.size_bytes,
        );
        if self.restore.options.dry_run {
            self.done.entries.fetch_add(1, Ordering::Relaxed);
            self.done
                .bytes
                .fetch_add(node.size_bytes, Ordering::Relaxed);
            return Ok(());
        }
        let is_delta = existing
            .as_ref()
            .is_some_and(|found| found.kind == EntryKind::File && found.links == 1);
        let is_same = is_delta
            && self.restore.options.overwrite == Overwrite::IfChanged
            && existing.is_some_and(|found| {
                found.size_bytes == node.size_bytes && found.modified == node.modified
            });
        // Nobody looks at the content of what is taken for the same.
        let content = if is_same { Vec::new() } else { content };
        batch.add(FileTask::new(path, entry, content, is_delta, is_same))
    }

    fn visit_special(
        &self,
        path: EntryPath,
        node: &Node,
        existed: bool,
    ) -> Result<(), ProtectError> {
        let Some(entry) = entry_of(node) else {
            self.restore.problem(Problem {
                path: path.display(),
                doing: "restore".into(),
                why: format!(
                    "an entry of type {:?} can't be restored here",
                    node.kind.word()
                ),
            });
            return Ok(());
        };
        self.restore
            .item(if existed { "updated" } else { "restored" }, &path, 0);
        if !self.restore.options.dry_run {
            if let Err(error) = self.restore.target.make_special(&path, &entry) {
                return self.target_problem(&path, error);
            }
            self.finish_problems(&path, self.restore.target.finish(&path, &entry));
        }
        self.done.entries.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Makes a directory and those above it; says whether something can be put into it.
    fn make(&self, dir: &Rc<Dir>, left: &mut Leftovers) -> Result<bool, ProtectError> {
        let mut chain = vec![dir.clone()];
        while let Some(above) = chain
            .last()
            .filter(|d| d.made.get() == Made::NotYet)
            .and_then(|d| d.above.clone())
        {
            chain.push(above);
        }
        let mut above_existed = true;
        for dir in chain.into_iter().rev() {
            match dir.made.get() {
                Made::Failed => return Ok(false),
                Made::Yes { existed } => above_existed = existed,
                Made::NotYet => {
                    let made = self.make_one(&dir, above_existed)?;
                    dir.made.set(made);
                    let Made::Yes { existed } = made else {
                        return Ok(false);
                    };
                    above_existed = existed;
                    if let Some(entry) = dir.node.as_ref().and_then(entry_of) {
                        left.dirs.push(MadeDir {
                            path: dir.path.clone(),
                            entry,
                        });
                    }
                }
            }
        }
        Ok(true)
    }

    fn make_one(&self, dir: &Dir, above_existed: bool) -> Result<Made, ProtectError> {
        let found = if above_existed {
            self.restore.target.look(&dir.path)
        } else {
            Ok(None)
        };
        let result = match found {
            Ok(found) => {
                let existed = found
                    .as_ref()
                    .is_some_and(|found| found.kind == EntryKind::Dir);
                let blocked = found.is_some()
                    && !existed
                    && self.restore.options.overwrite == Overwrite::Never;
                self.restore
                    .item(if existed { "updated" } else { "restored" }, &dir.path, 0);
                if blocked {
                    self.restore.problem(Problem { path: dir.path.display(), doing: "restore".into(), why: "something that is no directory is in its place and nothing may be overwritten".into() });
                    return Ok(Made::Failed);
                }
                if self.restore.options.dry_run {
                    Ok(existed)
                } else {
                    self.restore.target.make_dir(&dir.path).map(|()| existed)
                }
            }
            Err(error) => Err(error),
        };
        match result {
            Ok(existed) => Ok(Made::Yes { existed }),
            Err(error) => {
                self.target_problem(&dir.path, error)?;
                Ok(Made::Failed)
            }
        }
    }

    fn is_to_be_kept(&self, node: &Node, found: &Existing) -> bool {
        match self.restore.options.overwrite {
            Overwrite::Never => true,
            Overwrite::IfNewer => found.modified >= node.modified,
            Overwrite::Always | Overwrite::IfChanged => false,
        }
    }

    /// A directory is where a file belongs: it goes if it is empty or deleting was asked for.
    fn clear_dir(&self, path: &EntryPath) -> Result<bool, ProtectError> {
        if !self.restore.options.delete && !self.names(path).is_empty() {
            self.restore.problem(Problem {
                path: path.display(),
                doing: "restore".into(),
                why: "a directory that is not empty is in its place; --delete would remove it"
                    .into(),
            });
            return Ok(false);
        }
        if self.restore.options.dry_run {
            return Ok(true);
        }
        match self.restore.target.remove(path) {
            Ok(()) => Ok(true),
            Err(error) => {
                self.target_problem(path, error)?;
                Ok(false)
            }
        }
    }

    fn names(&self, path: &EntryPath) -> Vec<Vec<u8>> {
        // What can't be listed shows itself when something is to be put there.
        self.restore.target.names(path).unwrap_or_default()
    }
}
