//! Which snapshots need a blob that can't be read.
//! It must never pass a snapshot whose tree leads to such a blob, nor refuse one that does not.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use lifeboat_format::{BlobKind, Id, Snapshot};

use super::{Copier, Lost};
use crate::RepoError;
use crate::tree_walk::subtrees;

/// Snapshots that are whole, and those that are not, with the reason.
pub(super) type Sorted = (Vec<(Id, Snapshot)>, Vec<(Id, String)>);

/// Which trees name a tree, and which trees need something that is lost.
#[derive(Default)]
struct Graph {
    above: HashMap<Id, Vec<Id>>,
    hurt: HashMap<Id, (BlobKind, Id)>,
}

impl Copier<'_> {
    /// Takes the snapshots apart that need what is lost.
    pub(super) fn hurt(
        &self,
        snapshots: Vec<(Id, Snapshot)>,
        lost: &Lost,
    ) -> Result<Sorted, RepoError> {
        let graph = Mutex::new(Graph::default());
        self.walk(&snapshots, &|seen| {
            let id = seen.id;
            let tree = match seen.tree {
                Err(error) if !error.is_damage() => return Err(error),
                tree => tree,
            };
            let mut graph = graph.lock().unwrap_or_else(PoisonError::into_inner);
            if lost.contains_key(&(BlobKind::Tree, id)) || tree.is_err() {
                graph.hurt.insert(id, (BlobKind::Tree, id));
            }
            for child in tree.iter().flat_map(|tree| subtrees(tree)) {
                graph.above.entry(child).or_default().push(id);
            }
            for node in tree.iter().flat_map(|tree| &tree.nodes) {
                let mut content = node.content.iter().flatten();
                let gone = content.find(|blob| lost.contains_key(&(BlobKind::Data, **blob)));
                if let Some(blob) = gone {
                    graph.hurt.entry(id).or_insert((BlobKind::Data, *blob));
                }
            }
            Ok(())
        })?;
        let graph = graph.into_inner().unwrap_or_else(PoisonError::into_inner);
        let hurt = graph.spread();
        let mut sorted = Sorted::default();
        for (id, snapshot) in snapshots {
            match hurt.get(&snapshot.tree) {
                None => sorted.0.push((id, snapshot)),
                Some(blob) => {
                    let unread = || format!("{} blob {} can't be read", blob.0.word(), blob.1);
                    sorted
                        .1
                        .push((id, lost.get(blob).cloned().unwrap_or_else(unread)));
                }
            }
        }
        Ok(sorted)
    }
}

impl Graph {
    /// Every tree that leads to something lost, with one such thing.
    fn spread(mut self) -> HashMap<Id, (BlobKind, Id)> {
        let mut todo: Vec<Id> = self.hurt.keys().copied().collect();
        while let Some(id) = todo.pop() {
            let Some(blob) = self.hurt.get(&id).copied() else {
                continue;
            };
            for above in self.above.get(&id).into_iter().flatten() {
                if self.hurt.insert(*above, blob).is_none() {
                    todo.push(*above);
                }
            }
        }
        self.hurt
    }
}
