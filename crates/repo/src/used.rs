//! Which blobs the snapshots use: a walk over all their trees, and a set of blobs that takes one bit for each entry of
//! the index. It must never take a tree that it could not read for one without content: that is how data is lost.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use lifeboat_flow::Cancel;
use lifeboat_format::{BlobKind, Id, NodeKind, Tree};

use crate::{BlobReader, Index, RepoError};

/// A set of blobs of an index.
pub struct BlobSet<'i> {
    index: &'i Index,
    data: Vec<AtomicU64>,
    trees: Vec<AtomicU64>,
}

impl<'i> BlobSet<'i> {
    /// The empty set.
    #[must_use]
    pub fn new(index: &'i Index) -> Self {
        let words = |kind| {
            let words = index.len(kind).div_ceil(64);
            (0..words).map(|_| AtomicU64::new(0)).collect()
        };
        Self {
            index,
            data: words(BlobKind::Data),
            trees: words(BlobKind::Tree),
        }
    }

    fn words(&self, kind: BlobKind) -> &[AtomicU64] {
        match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        }
    }

    /// Puts a blob in, with all its places, and says whether it is new; `None` if the index does not know it.
    pub fn insert(&self, kind: BlobKind, id: &Id) -> Option<bool> {
        // Of several places the one with the lowest number decides which of two threads was first.
        let first = self.index.numbers(kind, id).min()?;
        let is_new = self.set(kind, first);
        if is_new {
            for number in self.index.numbers(kind, id) {
                self.set(kind, number);
            }
        }
        Some(is_new)
    }

    fn set(&self, kind: BlobKind, number: u32) -> bool {
        let bit = 1 << (number % 64);
        self.words(kind)
            .get(number as usize / 64)
            .is_some_and(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
    }

    /// Whether a blob is in it.
    #[must_use]
    pub fn contains(&self, kind: BlobKind, id: &Id) -> bool {
        self.index
            .numbers(kind, id)
            .min()
            .is_some_and(|number| self.has_entry(kind, number))
    }

    /// Whether the blob of an entry is in it, by the entry's number in the index.
    #[must_use]
    pub fn has_entry(&self, kind: BlobKind, number: u32) -> bool {
        self.words(kind)
            .get(number as usize / 64)
            .is_some_and(|word| word.load(Ordering::Relaxed) >> (number % 64) & 1 == 1)
    }

    /// Calls `each` with every blob in it once, and its number.
    pub fn each(&self, mut each: impl FnMut(BlobKind, Id, u32)) {
        for kind in [BlobKind::Data, BlobKind::Tree] {
            for number in 0..self.index.len(kind) as u32 {
                if !self.has_entry(kind, number) {
                    continue;
                }
                if let Some((id, _)) = self.index.entry(kind, number)
                    && self.index.numbers(kind, &id).min() == Some(number)
                {
                    each(kind, id, number);
                }
            }
        }
    }

    /// Memory that it takes, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        (self.data.capacity() + self.trees.capacity()) * size_of::<AtomicU64>()
    }
}

/// Where a walk begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeRoot {
    /// The snapshot.
    pub snapshot: Id,
    /// Its tree.
    pub tree: Id,
}

/// A tree on the way of a walk.
pub struct TreeSeen<'t> {
    /// Its ID.
    pub id: Id,
    /// A snapshot that needs it: the one that the walk came from.
    pub snapshot: Id,
    /// What it holds, or why it can't be read.
    pub tree: Result<&'t Tree, RepoError>,
}

/// Walks all trees below the roots, each once, in threads; a tree that can't be read is shown with its error. Every tree
/// that the index knows is put into `trees`. The walk ends early when `visit` says no. Gives the number of trees.
///
/// # Errors
/// When somebody wishes to stop.
pub fn walk_trees(
    reader: &BlobReader<'_>,
    roots: &[TreeRoot],
    trees: &BlobSet<'_>,
    threads: usize,
    cancel: &Cancel,
    visit: &(dyn Fn(TreeSeen<'_>) -> bool + Sync),
) -> Result<u64, RepoError> {
    let walk = Walk {
        reader,
        roots,
        trees,
        state: Mutex::new(State::default()),
        changed: Condvar::new(),
    };
    {
        let mut state = walk.state();
        for (number, root) in roots.iter().enumerate() {
            walk.meet(&mut state, root.tree, number as u32);
        }
        // The oldest last, so that it is walked first: later snapshots then only add what they changed.
        state.todo.reverse();
    }
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| walk.work(cancel, visit));
        }
    });
    cancel.check()?;
    let count = walk.state().count;
    Ok(count)
}

struct Walk<'w, 'r> {
    reader: &'w BlobReader<'r>,
    roots: &'w [TreeRoot],
    trees: &'w BlobSet<'w>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Trees to read, each with the number of the root that it was met from.
    todo: Vec<(Id, u32)>,
    /// Trees that no index file names: there are none in a sound repository.
    unknown: HashSet<Id>,
    busy: usize,
    count: u64,
    is_ended: bool,
}

impl Walk<'_, '_> {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn meet(&self, state: &mut State, tree: Id, root: u32) {
        let is_new = self.trees.insert(BlobKind::Tree, &tree);
        if is_new.unwrap_or_else(|| state.unknown.insert(tree)) {
            state.todo.push((tree, root));
            state.count += 1;
        }
    }

    fn work(&self, cancel: &Cancel, visit: &(dyn Fn(TreeSeen<'_>) -> bool + Sync)) {
        loop {
            let mut state = self.state();
            let (id, root) = loop {
                if cancel.is_cancelled() || state.is_ended {
                    self.changed.notify_all();
                    return;
                }
                if let Some(next) = state.todo.pop() {
                    break next;
                }
                if state.busy == 0 {
                    self.changed.notify_all();
                    return;
                }
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            };
            state.busy += 1;
            drop(state);
            // Also when `visit` panics, or the other threads wait for ever.
            let _done = Done(self);
            let snapshot = self
                .roots
                .get(root as usize)
                .map_or_else(Id::default, |root| root.snapshot);
            let goes_on = match self.reader.tree(id) {
                Err(error) => visit(TreeSeen {
                    id,
                    snapshot,
                    tree: Err(error),
                }),
                Ok(tree) => {
                    let goes_on = visit(TreeSeen {
                        id,
                        snapshot,
                        tree: Ok(&tree),
                    });
                    let mut state = self.state();
                    for node in &tree.nodes {
                        if let (NodeKind::Dir, Some(subtree)) = (&node.kind, node.subtree) {
                            self.meet(&mut state, subtree, root);
                        }
                    }
                    goes_on
                }
            };
            if !goes_on {
                self.state().is_ended = true;
            }
        }
    }
}

struct Done<'w, 'a, 'r>(&'w Walk<'a, 'r>);

impl Drop for Done<'_, '_, '_> {
    fn drop(&mut self) {
        self.0.state().busy -= 1;
        self.0.changed.notify_all();
    }
}

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
        let ended = Mutex::new(None);
        let locked = PoisonError::into_inner;
        let trees = walk_trees(
            reader,
            roots,
            &blobs,
            threads,
            cancel,
            &|seen| match seen.tree {
                Err(error) if error.ends_all() => {
                    ended
                        .lock()
                        .unwrap_or_else(|e| e.into_inner())
                        .get_or_insert(error);
                    false
                }
                Err(error) => {
                    unread.lock().unwrap_or_else(locked).push(UnreadTree {
                        id: seen.id,
                        snapshot: seen.snapshot,
                        error,
                    });
                    true
                }
                Ok(tree) => {
                    let files = tree.nodes.iter().filter(|n| n.kind == NodeKind::File);
                    for blob in files.flat_map(|node| node.content.iter().flatten()) {
                        if blobs.insert(BlobKind::Data, blob).is_none() {
                            missing
                                .lock()
                                .unwrap_or_else(|e| e.into_inner())
                                .insert(*blob);
                        }
                    }
                    true
                }
            },
        )?;
        if let Some(error) = ended.into_inner().unwrap_or_else(|e| e.into_inner()) {
            return Err(error);
        }
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

#[cfg(test)]
mod tests {
    use lifeboat_format::{IndexBlob, IndexPack};

    use super::*;

    #[test]
    fn a_blob_is_in_the_set_with_all_its_places_and_counts_once() {
        let id = |number: u32| Id::of(&number.to_le_bytes());
        let pack = |name: u32, blobs: &[u32]| IndexPack {
            id: id(1000 + name),
            blobs: blobs
                .iter()
                .map(|blob| IndexBlob {
                    id: id(*blob),
                    kind: BlobKind::Data,
                    offset_bytes: 0,
                    length_bytes: 40,
                    raw_length_bytes: 0,
                })
                .collect(),
        };
        let mut index = Index::new();
        index.insert(&pack(1, &[1, 2, 3]), true);
        index.insert(&pack(2, &[2, 4]), false);
        let set = BlobSet::new(&index);
        assert_eq!(set.insert(BlobKind::Data, &id(2)), Some(true));
        assert_eq!(set.insert(BlobKind::Data, &id(2)), Some(false));
        assert_eq!(set.insert(BlobKind::Data, &id(9)), None);
        assert_eq!(set.insert(BlobKind::Tree, &id(2)), None);
        let set_entries: Vec<u32> = (0..5)
            .filter(|n| set.has_entry(BlobKind::Data, *n))
            .collect();
        assert_eq!(set_entries, [1, 3]);
        assert!(set.contains(BlobKind::Data, &id(2)) && !set.contains(BlobKind::Data, &id(1)));
        let mut all = Vec::new();
        set.each(|_, blob, number| all.push((blob, number)));
        assert_eq!(all, [(id(2), 1)]);
    }
}
