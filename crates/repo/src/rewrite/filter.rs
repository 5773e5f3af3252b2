//! Leaves entries out of trees: a tree is written anew only when something in it or below it changed.
//! It must never rewrite a tree that it can't encode byte for byte, and never recurse: trees may be very deep.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::vec::IntoIter;

use lifeboat_flow::Event;
use lifeboat_format::{BlobKind, Id, Node, NodeKind, Tree};

use super::{RewriteSelect, Rewriter, TreeCounts};
use crate::{Ingest, Opener, RepoError, Sealer, read_blob};

/// Directories whose result is remembered at most: most snapshots share most of their trees.
const REMEMBERED_MAX: usize = 1 << 20;

/// What is left of a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    pub(super) tree: Id,
    pub(super) counts: TreeCounts,
}

/// Filters the trees of one repository.
pub(super) struct TreeFilter<'a, 'r> {
    rewriter: &'a Rewriter<'a>,
    select: &'a dyn RewriteSelect,
    ingest: &'a Ingest<'r>,
    opener: Opener,
    sealer: Sealer,
    /// By tree and path: what is left out depends on where a directory is.
    remembered: HashMap<(Id, Vec<u8>), Option<Left>>,
}

/// A directory that is being filtered.
struct Frame {
    path: Vec<u8>,
    tree: Id,
    json: Vec<u8>,
    todo: IntoIter<Node>,
    kept: Vec<Node>,
    /// The directory whose own frame lies above this one.
    below: Option<Node>,
    is_changed: bool,
    counts: TreeCounts,
}

impl<'a, 'r> TreeFilter<'a, 'r> {
    pub(super) fn new(
        rewriter: &'a Rewriter<'a>,
        select: &'a dyn RewriteSelect,
        ingest: &'a Ingest<'r>,
    ) -> Result<Self, RepoError> {
        Ok(Self {
            rewriter,
            select,
            ingest,
            opener: Opener::default(),
            sealer: ingest.sealer()?,
            remembered: HashMap::new(),
        })
    }

    /// What is left of a snapshot's root; `None` if nothing is and it need not stay.
    pub(super) fn root(&mut self, tree: Id) -> Result<Option<Left>, RepoError> {
        let mut stack = vec![self.open(tree, b"/".to_vec())?];
        loop {
            self.rewriter.cancel.check()?;
            let Some(frame) = stack.last_mut() else {
                return Ok(None);
            };
            if let Some((child, path)) = self.advance(frame)? {
                let opened = self.open(child, path)?;
                stack.push(opened);
                continue;
            }
            let Some(frame) = stack.pop() else {
                return Ok(None);
            };
            let left = self.finish(frame)?;
            match stack.last_mut() {
                None => return Ok(left),
                Some(above) => above.take(left),
            }
        }
    }

    /// Goes on with a directory until one below it has to be filtered first; gives its tree and path.
    fn advance(&mut self, frame: &mut Frame) -> Result<Option<(Id, Vec<u8>)>, RepoError> {
        while let Some(node) = frame.todo.next() {
            let path = join(&frame.path, &node.name);
            if !self.select.keeps(&path, &node) {
                frame.is_changed = true;
                let events = self.rewriter.events;
                if events.wants_items() {
                    events.event(Event::Item {
                        action: "excluded",
                        path: String::from_utf8_lossy(&path).into_owned(),
                        size_bytes: node.size_bytes,
                    });
                }
                continue;
            }
            if node.kind != NodeKind::Dir {
                if node.kind == NodeKind::File {
                    frame.counts.files += 1;
                    frame.counts.bytes = frame.counts.bytes.saturating_add(node.size_bytes);
                }
                frame.kept.push(node);
                continue;
            }
            let Some(subtree) = node.subtree else {
                let shown = String::from_utf8_lossy(&path).into_owned();
                return Err(RepoError::Refused(format!(
                    "the directory {shown} names no tree"
                )));
            };
            frame.below = Some(node);
            let key = (subtree, path);
            match self.remembered.get(&key) {
                Some(left) => frame.take(*left),
                None => return Ok(Some(key)),
            }
        }
        Ok(None)
    }

    fn open(&mut self, tree: Id, path: Vec<u8>) -> Result<Frame, RepoError> {
        let mut json = Vec::new();
        let index = self.rewriter.index.read();
        let index = index.unwrap_or_else(PoisonError::into_inner);
        let (repository, opener) = (self.rewriter.repository, &mut self.opener);
        read_blob(repository, &index, BlobKind::Tree, tree, opener, &mut json)?;
        drop(index);
        Ok(Frame {
            path,
            tree,
            todo: Tree::from_json(&json)?.nodes.into_iter(),
            json,
            kept: Vec::new(),
            below: None,
            is_changed: false,
            counts: TreeCounts::default(),
        })
    }

    fn finish(&mut self, frame: Frame) -> Result<Option<Left>, RepoError> {
        let key = (frame.tree, frame.path);
        let path = || String::from_utf8_lossy(&key.1).into_owned();
        let left = if frame.kept.is_empty() && !self.select.keeps_empty(&key.1) {
            None
        } else if !frame.is_changed {
            Some(frame.tree)
        } else {
            let original = Tree::from_json(&frame.json)?.to_json();
            if original.is_ok_and(|json| json == frame.json) {
                let refused = |cause| RepoError::Refused(format!("{}: {cause}", path()));
                let json = Tree { nodes: frame.kept }.to_json().map_err(refused)?;
                let id = Id::of(&json);
                self.ingest
                    .add(BlobKind::Tree, id, &json, &mut self.sealer)?;
                Some(id)
            } else {
                return Err(RepoError::NotRewritable {
                    path: path(),
                    id: frame.tree,
                });
            }
        };
        let left = left.map(|tree| Left {
            tree,
            counts: frame.counts,
        });
        if self.remembered.len() < REMEMBERED_MAX {
            self.remembered.insert(key, left);
        }
        Ok(left)
    }
}

impl Frame {
    /// Takes what is left of the directory below.
    fn take(&mut self, left: Option<Left>) {
        let Some(mut node) = self.below.take() else {
            return;
        };
        match left {
            None => self.is_changed = true,
            Some(left) => {
                self.is_changed |= node.subtree != Some(left.tree);
                node.subtree = Some(left.tree);
                self.counts.files += left.counts.files;
                self.counts.bytes = self.counts.bytes.saturating_add(left.counts.bytes);
                self.kept.push(node);
            }
        }
    }
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if dir.ends_with(b"/") { b"" } else { b"/" };
    [dir, slash, name].concat()
}
