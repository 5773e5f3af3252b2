//! Which blobs the snapshots use, found by a walk over all their trees.
//! It must never take a tree that it could not read for one without content: that is how data is lost.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use lifeboat_flow::Cancel;
use lifeboat_format::{BlobKind, Id, NodeKind};

use crate::{BlobReader, BlobSet, RepoError, TreeRoot, walk_trees};

/// A tree that a snapshot needs and that can't be read.
#[derive(Debug)]
pub struct UnreadTree {
    /// Its ID.
    pub id: Id,
    /// A snapshot that needs it.
    pub snapshot: Id,
    /// Why it can't be read.
    pub error: RepoError,
}

/// What snapshots use.
pub struct UsedBlobs<'i> {
    /// The blobs that the index knows: trees that were met, whether or not they could be read, and data blobs.
    pub blobs: BlobSet<'i>,
    /// How many trees are used, with those that the index does not know.
    pub trees: u64,
    /// Trees that could not be read. While there are any, nobody knows what else is used: nothing may be removed.
    pub unread: Vec<UnreadTree>,
    /// Data blobs that are used and that the index does not know, sorted.
    pub missing: Vec<Id>,
}

impl<'i> UsedBlobs<'i> {
    /// Finds out what these snapshots use.
    ///
    /// # Errors
    /// When somebody wishes to stop, or nothing can be read any more.
    pub fn find(
        reader: &BlobReader<'i>,
        roots: &[TreeRoot],
        threads: usize,
        cancel: &Cancel,
    ) -> Result<Self, RepoError> {
        let blobs = BlobSet::new(reader.index());
        let unread = Mutex::new(Vec::new());
        let missing = Mutex::new(HashSet::new());
        let trees = walk_trees(reader, roots, &blobs, threads, cancel, &|seen| {
            match seen.tree {
                Err(error) if error.ends_all() => return Err(error),
                Err(error) => {
                    let mut unread = unread.lock().unwrap_or_else(PoisonError::into_inner);
                    unread.push(UnreadTree {
                        id: seen.id,
                        snapshot: seen.snapshot,
                        error,
                    });
                }
                Ok(tree) => {
                    let files = tree.nodes.iter().filter(|n| n.kind == NodeKind::File);
                    for blob in files.flat_map(|node| node.content.iter().flatten()) {
                        if blobs.insert(BlobKind::Data, blob).is_none() {
                            let missing = missing.lock();
                            missing
                                .unwrap_or_else(PoisonError::into_inner)
                                .insert(*blob);
                        }
                    }
                }
            }
            Ok(())
        })?;
        let mut missing: Vec<Id> = missing
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .into_iter()
            .collect();
        missing.sort_unstable();
        Ok(Self {
            blobs,
            trees,
            unread: unread.into_inner().unwrap_or_else(PoisonError::into_inner),
            missing,
        })
    }
}
