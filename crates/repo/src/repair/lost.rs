//! Who needs what is lost: the snapshots and paths, each tree looked at once.
//! It must never fail for a tree that can't be read: that is one of the things to be named.

use std::collections::HashSet;

use lifeboat_flow::Cancel;
use lifeboat_format::{BlobKind, Id, NodeKind};

use crate::{BlobReader, BlobSet, RepoError, TreeRoot};

/// A file or directory that needs a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostUse {
    /// The first snapshot that was found to need it.
    pub snapshot: Id,
    /// Its path there.
    pub path: Vec<u8>,
}

/// The first `max` files and directories that need one of these blobs, and whether there are more.
///
/// # Errors
/// When somebody wishes to stop, or a tree is out of reach.
pub fn users_of_lost(
    reader: &BlobReader<'_>,
    roots: &[TreeRoot],
    lost: &HashSet<(BlobKind, Id)>,
    max: usize,
    cancel: &Cancel,
) -> Result<(Vec<LostUse>, bool), RepoError> {
    let seen = BlobSet::new(reader.index());
    let mut unknown = HashSet::new();
    let mut uses = Vec::new();
    for root in roots {
        let mut todo = vec![(root.tree, b"/".to_vec())];
        while let Some((tree, path)) = todo.pop() {
            cancel.check()?;
            let is_new = seen.insert(BlobKind::Tree, &tree);
            if !is_new.unwrap_or_else(|| unknown.insert(tree)) {
                continue;
            }
            let mut add = |path: Vec<u8>| {
                uses.push(LostUse {
                    snapshot: root.snapshot,
                    path,
                });
            };
            if lost.contains(&(BlobKind::Tree, tree)) {
                add(path);
            } else {
                let nodes = match reader.tree(tree) {
                    Ok(tree) => tree.nodes,
                    Err(error) if error.is_damage() => Vec::new(),
                    Err(error) => return Err(error),
                };
                for node in nodes {
                    let mut below = path.clone();
                    if below.last() != Some(&b'/') {
                        below.push(b'/');
                    }
                    below.extend_from_slice(&node.name);
                    let content = node.content.iter().flatten();
                    if let (NodeKind::Dir, Some(subtree)) = (&node.kind, node.subtree) {
                        todo.push((subtree, below));
                    } else if node.kind == NodeKind::File
                        && content
                            .into_iter()
                            .any(|id| lost.contains(&(BlobKind::Data, *id)))
                    {
                        add(below);
                    }
                }
            }
            if uses.len() > max {
                uses.truncate(max);
                return Ok((uses, true));
            }
        }
    }
    Ok((uses, false))
}
