//! Visits every tree below some roots once, on several threads.
//! It must never visit a tree twice, and never end well before all of them were visited.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lifeboat_flow::Cancel;
use lifeboat_format::{Id, NodeKind, Tree};

use crate::RepoError;

/// How often a waiting thread looks whether somebody wishes to stop.
const CANCEL_POLL: Duration = Duration::from_millis(100);

struct Work {
    todo: Vec<Id>,
    seen: HashSet<Id>,
    busy: usize,
    failed: Option<RepoError>,
}

struct Shared {
    work: Mutex<Work>,
    changed: Condvar,
}

/// Reads every tree below the roots and shows it to `visit`, also when it can't be read. An error of `visit` ends the walk.
pub(crate) fn walk_trees(
    roots: impl IntoIterator<Item = Id>,
    threads: usize,
    cancel: &Cancel,
    read: impl Fn(Id) -> Result<Tree, RepoError> + Sync,
    visit: impl Fn(Id, Result<&Tree, RepoError>) -> Result<(), RepoError> + Sync,
) -> Result<(), RepoError> {
    let mut seen = HashSet::new();
    let todo: Vec<Id> = roots
        .into_iter()
        .filter(|root| seen.insert(*root))
        .collect();
    let shared = Shared {
        work: Mutex::new(Work {
            todo,
            seen,
            busy: 0,
            failed: None,
        }),
        changed: Condvar::new(),
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some(id) = shared.next(cancel) {
                    // A thread that panics must not leave the others waiting for what it was at.
                    let _done = Done(&shared);
                    let tree = read(id);
                    let (children, visited) = match tree {
                        Ok(tree) => (children(&tree), visit(id, Ok(&tree))),
                        Err(error) => (Vec::new(), visit(id, Err(error))),
                    };
                    shared.take(children, visited);
                }
            });
        }
    });
    cancel.check()?;
    match shared.lock().failed.take() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn children(tree: &Tree) -> Vec<Id> {
    let dirs = tree.nodes.iter().filter(|node| node.kind == NodeKind::Dir);
    dirs.filter_map(|node| node.subtree).collect()
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, cancel: &Cancel) -> Option<Id> {
        let mut work = self.lock();
        loop {
            if cancel.is_cancelled() || work.failed.is_some() {
                return None;
            }
            if let Some(id) = work.todo.pop() {
                work.busy += 1;
                return Some(id);
            }
            if work.busy == 0 {
                return None;
            }
            work = self
                .changed
                .wait_timeout(work, CANCEL_POLL)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn take(&self, children: Vec<Id>, visited: Result<(), RepoError>) {
        let mut work = self.lock();
        for child in children {
            if work.seen.insert(child) {
                work.todo.push(child);
            }
        }
        if let Err(error) = visited {
            work.failed.get_or_insert(error);
        }
    }
}

struct Done<'a>(&'a Shared);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        let mut work = self.0.lock();
        work.busy -= 1;
        if std::thread::panicking() {
            let why = "a thread that reads trees panicked".to_owned();
            work.failed.get_or_insert(RepoError::WriterFailed(why));
        }
        drop(work);
        self.0.changed.notify_all();
    }
}
