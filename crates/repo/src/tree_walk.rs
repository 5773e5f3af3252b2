//! Walks the trees below some roots, each once, on several threads.
//! It must never end well before all of them were shown, nor pass a tree that can't be read for one without content.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use lifeboat_flow::Cancel;
use lifeboat_format::{BlobKind, Id, Tree};

use crate::{BlobReader, BlobSet, RepoError};

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
/// that the index knows is put into `trees`, and those that are in it are not walked. An error of `visit` ends the walk.
/// Gives the number of trees.
///
/// # Errors
/// That of `visit`, or when somebody wishes to stop.
pub fn walk_trees(
    reader: &BlobReader<'_>,
    roots: &[TreeRoot],
    trees: &BlobSet<'_>,
    threads: usize,
    cancel: &Cancel,
    visit: Visit<'_>,
) -> Result<u64, RepoError> {
    let walk = TreeWalk {
        read: &|id| reader.tree(id),
        meet: &|id| trees.insert(BlobKind::Tree, id),
        threads,
        cancel,
    };
    walk.run(roots, visit)
}

/// What looks at each tree. Its error ends the walk.
pub type Visit<'v> = &'v (dyn Fn(TreeSeen<'_>) -> Result<(), RepoError> + Sync);

/// The trees that a tree names. An entry of an unusual kind counts too: what it names is not to be lost.
pub(crate) fn subtrees(tree: &Tree) -> impl Iterator<Item = Id> + '_ {
    tree.nodes.iter().filter_map(|node| node.subtree)
}

/// How to walk.
pub(crate) struct TreeWalk<'w> {
    /// Reads a tree.
    pub(crate) read: &'w (dyn Fn(Id) -> Result<Tree, RepoError> + Sync),
    /// Notes a tree that was met and says whether it was not before; `None` if there is no place to note it.
    pub(crate) meet: &'w (dyn Fn(&Id) -> Option<bool> + Sync),
    pub(crate) threads: usize,
    pub(crate) cancel: &'w Cancel,
}

impl TreeWalk<'_> {
    /// Shows every tree below the roots to `visit`, and gives their number.
    ///
    /// # Errors
    /// The first of `visit`, or when somebody wishes to stop.
    pub(crate) fn run(&self, roots: &[TreeRoot], visit: Visit<'_>) -> Result<u64, RepoError> {
        let run = Run {
            walk: self,
            roots,
            visit,
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        };
        {
            let mut state = run.state();
            for (number, root) in roots.iter().enumerate() {
                run.meet(&mut state, root.tree, number as u32);
            }
            // The oldest last, so that it is walked first: later snapshots then only add what they changed.
            state.todo.reverse();
        }
        std::thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                scope.spawn(|| run.work());
            }
        });
        self.cancel.check()?;
        let state = run.state.into_inner();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        state.ended.map_or(Ok(state.count), Err)
    }
}

struct Run<'r> {
    walk: &'r TreeWalk<'r>,
    roots: &'r [TreeRoot],
    visit: Visit<'r>,
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
    ended: Option<RepoError>,
}

impl Run<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn meet(&self, state: &mut State, tree: Id, root: u32) {
        let is_new = (self.walk.meet)(&tree);
        if is_new.unwrap_or_else(|| state.unknown.insert(tree)) {
            state.todo.push((tree, root));
            state.count += 1;
        }
    }

    fn work(&self) {
        while let Some((id, root)) = self.next() {
            // Also when `visit` panics, or the other threads wait for ever.
            let _done = Done(self);
            let root_of = self.roots.get(root as usize);
            let snapshot = root_of.map_or_else(Id::default, |root| root.snapshot);
            let (visited, below) = match (self.walk.read)(id) {
                Ok(tree) => {
                    let seen = TreeSeen {
                        id,
                        snapshot,
                        tree: Ok(&tree),
                    };
                    ((self.visit)(seen), subtrees(&tree).collect())
                }
                Err(error) => {
                    let seen = TreeSeen {
                        id,
                        snapshot,
                        tree: Err(error),
                    };
                    ((self.visit)(seen), Vec::new())
                }
            };
            let mut state = self.state();
            if let Err(error) = visited {
                state.ended.get_or_insert(error);
                return;
            }
            for subtree in below {
                self.meet(&mut state, subtree, root);
            }
        }
    }

    /// The next tree, when there is one; `None` when all were shown or the walk is to end.
    fn next(&self) -> Option<(Id, u32)> {
        let mut state = self.state();
        loop {
            if self.walk.cancel.is_cancelled() || state.ended.is_some() {
                break;
            }
            if let Some(next) = state.todo.pop() {
                state.busy += 1;
                return Some(next);
            }
            if state.busy == 0 {
                break;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        self.changed.notify_all();
        None
    }
}

struct Done<'d, 'r>(&'d Run<'r>);

impl Drop for Done<'_, '_> {
    fn drop(&mut self) {
        self.0.state().busy -= 1;
        self.0.changed.notify_all();
    }
}
