//! Finds directories that no snapshot leads to any more, so that a snapshot can be made of them.
//! It must never take a tree for one that nothing leads to because the tree above it was not looked at.

mod marked;
mod unindexed;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::{BlobKind, Id, Mode, Node, NodeKind, Snapshot, Timestamp, Tree};

use crate::{BlobReader, Index, RepoError, Repository, chain};

pub use unindexed::Unindexed;

/// Permissions of the directories in a recovered snapshot (restic's).
const DIR_MODE: u32 = 0o755;

/// What was found.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Trees that nothing leads to, sorted.
    pub roots: Vec<Id>,
    /// Trees that can't be read, each with the reason.
    pub unreadable: Vec<(Id, String)>,
    /// Trees that were looked at.
    pub trees: u64,
}

impl Repository {
    /// Finds the trees that neither another tree nor a snapshot names. The number of trees is put into the counters
    /// before reading starts.
    ///
    /// # Errors
    /// When the repository as a whole can't be read; damaged trees are in the result.
    pub fn find_lost_roots(
        &self,
        index: &Index,
        snapshots: &[(Id, Snapshot)],
        threads: usize,
        counters: &Counters,
        cancel: &Cancel,
    ) -> Result<Recovered, RepoError> {
        let mut trees = HashSet::new();
        index.each(|kind, id, _| {
            if kind == BlobKind::Tree {
                trees.insert(id);
            }
        });
        let mut trees: Vec<Id> = trees.into_iter().collect();
        trees.sort();
        counters
            .files_total
            .store(trees.len() as u64, Ordering::Relaxed);
        let named: HashSet<Id> = snapshots.iter().map(|(_, s)| s.tree).collect();
        let (named, unreadable, failed) =
            (Mutex::new(named), Mutex::new(Vec::new()), Mutex::new(None));
        let reader = BlobReader::new(self, index);
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1).min(trees.len()) {
                scope.spawn(|| {
                    while let Some(id) = trees.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if cancel.is_cancelled() {
                            return;
                        }
                        match reader.tree(*id) {
                            Ok(tree) => named
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .extend(children(&tree)),
                            Err(error) if error.is_damage() => unreadable
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .push((*id, chain(&error))),
                            Err(error) => {
                                let mut failed =
                                    failed.lock().unwrap_or_else(PoisonError::into_inner);
                                failed.get_or_insert(error);
                                next.store(trees.len(), Ordering::Relaxed);
                            }
                        }
                        counters.files_done.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        cancel.check()?;
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let named = named.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut unreadable = unreadable
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        unreadable.sort();
        let is_unreadable = |id: &Id| {
            unreadable
                .binary_search_by(|(unread, _)| unread.cmp(id))
                .is_ok()
        };
        let roots = trees.iter().filter(|id| !named.contains(*id));
        Ok(Recovered {
            // What can't be read would only make the new snapshot one that can't be read either.
            roots: roots.filter(|id| !is_unreadable(id)).copied().collect(),
            unreadable,
            trees: trees.len() as u64,
        })
    }
}

fn children(tree: &Tree) -> impl Iterator<Item = Id> + '_ {
    let dirs = tree.nodes.iter().filter(|node| node.kind == NodeKind::Dir);
    dirs.filter_map(|node| node.subtree)
}

/// The tree that holds lost roots, each in a directory that is named by the first digits of its ID.
#[must_use]
pub fn recovered_tree(roots: &[Id], now: Timestamp) -> Tree {
    let mut shorts: Vec<String> = roots.iter().map(Id::short).collect();
    shorts.sort();
    let is_shared = |short: &String| {
        let after = shorts.partition_point(|other| other <= short);
        after - shorts.partition_point(|other| other < short) > 1
    };
    let node = |root: &Id| {
        let short = root.short();
        let name = if is_shared(&short) {
            root.to_string()
        } else {
            short
        };
        Node {
            mode: Mode(DIR_MODE),
            modified: now,
            accessed: now,
            changed: now,
            subtree: Some(*root),
            ..Node::bare(name.as_bytes(), NodeKind::Dir)
        }
    };
    let mut nodes: Vec<Node> = roots.iter().map(node).collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Tree { nodes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_in_order_and_named_apart() {
        let id = |first: u8, last: u8| {
            let mut bytes = [first; 32];
            bytes[31] = last;
            Id(bytes)
        };
        let tree = recovered_tree(&[id(9, 0), id(3, 2), id(3, 1), id(1, 0)], Timestamp::ZERO);
        assert!(tree.check_order().is_ok());
        let names: Vec<usize> = tree.nodes.iter().map(|node| node.name.len()).collect();
        assert_eq!(names, [8, 64, 64, 8]);
        assert!(tree.nodes.iter().all(|node| node.mode.0 == 0o755));
    }
}
