//! Puts nodes into trees that are stored already: the trees on the way to them are made anew.
//! It must never drop what was in such a tree, nor store anything itself before all of it is known.

use std::collections::HashMap;

use lifeboat_format::{BlobKind, Id, Node, NodeKind, Tree};
use lifeboat_repo::{BlobReader, Ingest, RepoError};

use crate::ProtectError;

/// Trees that are made of stored ones.
pub(crate) struct Grafts<'a> {
    reader: BlobReader<'a>,
    made: HashMap<Id, (Tree, Vec<u8>)>,
}

impl<'a> Grafts<'a> {
    pub(crate) fn new(reader: BlobReader<'a>) -> Self {
        Self {
            reader,
            made: HashMap::new(),
        }
    }

    /// A tree, stored or made.
    pub(crate) fn tree(&self, id: Id) -> Result<Tree, RepoError> {
        match self.made.get(&id) {
            Some((tree, _)) => Ok(tree.clone()),
            None => self.reader.tree(id),
        }
    }

    /// Puts nodes into a directory, in place of those of their names, and gives the new root.
    ///
    /// # Errors
    /// When a tree can't be read, or there is no such directory.
    pub(crate) fn put(
        &mut self,
        root: Id,
        dir: &[&[u8]],
        nodes: Vec<Node>,
    ) -> Result<Id, ProtectError> {
        let mut tree = self.tree(root)?;
        match dir.split_first() {
            None => {
                for node in nodes {
                    match tree
                        .nodes
                        .binary_search_by(|known| known.name.cmp(&node.name))
                    {
                        Ok(at) => {
                            if let Some(known) = tree.nodes.get_mut(at) {
                                *known = node;
                            }
                        }
                        Err(at) => tree.nodes.insert(at, node),
                    }
                }
            }
            Some((name, below)) => {
                let is_it = |node: &&mut Node| node.name == *name && node.kind == NodeKind::Dir;
                let child = tree.nodes.iter_mut().find(is_it);
                let subtree = child.as_ref().and_then(|child| child.subtree);
                let (Some(child), Some(subtree)) = (child, subtree) else {
                    let name = String::from_utf8_lossy(name);
                    return Err(ProtectError::NotInSnapshot(format!(
                        "there is no directory {name}"
                    )));
                };
                child.subtree = Some(self.put(subtree, below, nodes)?);
            }
        }
        self.add(tree)
    }

    /// A tree that is to be stored.
    ///
    /// # Errors
    /// When its names are out of order.
    pub(crate) fn add(&mut self, tree: Tree) -> Result<Id, ProtectError> {
        let json = tree.to_json().map_err(|cause| ProtectError::Order {
            path: "a tree that was put together".to_owned(),
            cause,
        })?;
        let id = Id::of(&json);
        self.made.insert(id, (tree, json));
        Ok(id)
    }

    /// What is to be stored.
    pub(crate) fn into_blobs(self) -> Vec<(Id, Vec<u8>)> {
        let made = self.made.into_iter();
        made.map(|(id, (_, json))| (id, json)).collect()
    }
}

/// Stores what was made.
///
/// # Errors
/// When it can't be stored.
pub(crate) fn store(ingest: &Ingest<'_>, blobs: &[(Id, Vec<u8>)]) -> Result<(), RepoError> {
    let mut sealer = ingest.sealer()?;
    for (id, json) in blobs {
        ingest.add(BlobKind::Tree, *id, json, &mut sealer)?;
    }
    Ok(())
}
