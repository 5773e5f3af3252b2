//! Which blobs snapshots need: all trees are walked from the roots, by several threads.
//! It must never leave a tree out: one that can't be read ends the walk with an error.

use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, PoisonError};

use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::{BlobKind, Id};

use super::facts::Facts;
use crate::{BlobReader, RepoError, Repository};

struct Work {
    todo: Vec<Id>,
    busy: usize,
    failed: Option<RepoError>,
}

/// Marks everything below these roots as used. A tree that is marked already is not walked again.
///
/// # Errors
/// When a tree can't be read, or a blob that a tree names is in no index file.
pub(super) fn walk(
    repository: &Repository,
    facts: &Facts,
    roots: &[Id],
    threads: usize,
    counters: &Counters,
    cancel: &Cancel,
) -> Result<(), RepoError> {
    let mut todo = Vec::new();
    for root in roots {
        if mark(facts, BlobKind::Tree, root)? {
            todo.push(*root);
        }
    }
    let work = Mutex::new(Work {
        todo,
        busy: 0,
        failed: None,
    });
    let changed = Condvar::new();
    let reader = BlobReader::new(repository, &facts.index);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let mut guard = work.lock().unwrap_or_else(PoisonError::into_inner);
                    let tree = loop {
                        if cancel.is_cancelled() || guard.failed.is_some() {
                            changed.notify_all();
                            return;
                        }
                        if let Some(next) = guard.todo.pop() {
                            break next;
                        }
                        if guard.busy == 0 {
                            changed.notify_all();
                            return;
                        }
                        guard = changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
                    };
                    guard.busy += 1;
                    drop(guard);
                    let below = walk_tree(&reader, facts, tree);
                    counters.files_done.fetch_add(1, Ordering::Relaxed);
                    let mut guard = work.lock().unwrap_or_else(PoisonError::into_inner);
                    guard.busy -= 1;
                    match below {
                        Ok(trees) => guard.todo.extend(trees),
                        Err(error) => guard.failed = Some(error),
                    }
                    changed.notify_all();
                }
            });
        }
    });
    cancel.check()?;
    let work = work.into_inner().unwrap_or_else(PoisonError::into_inner);
    work.failed.map_or(Ok(()), Err)
}

/// Marks what a tree names and gives the trees that were not marked before.
fn walk_tree(reader: &BlobReader<'_>, facts: &Facts, id: Id) -> Result<Vec<Id>, RepoError> {
    let tree = reader.tree(id).map_err(|cause| RepoError::NeedsUnknown {
        what: format!("tree {id}"),
        cause: Box::new(cause),
    })?;
    let mut below = Vec::new();
    for node in &tree.nodes {
        for blob in node.content.iter().flatten() {
            mark(facts, BlobKind::Data, blob)?;
        }
        if let Some(subtree) = node.subtree
            && mark(facts, BlobKind::Tree, &subtree)?
        {
            below.push(subtree);
        }
    }
    Ok(below)
}

/// Marks all places of a blob as used and says whether they were not before.
fn mark(facts: &Facts, kind: BlobKind, id: &Id) -> Result<bool, RepoError> {
    let mut numbers = facts.index.numbers(kind, id);
    let unknown = || RepoError::NeedsUnknown {
        what: format!("{} blob {id}", kind.word()),
        cause: Box::new(RepoError::BlobUnknown { kind, id: *id }),
    };
    let first = numbers.next().ok_or_else(unknown)?;
    // The first bit decides who walks a tree that several threads find.
    let is_new = facts.used.set(kind, first);
    for number in numbers {
        facts.used.set(kind, number);
    }
    Ok(is_new)
}

/// Marks what was used before, so that only new snapshots need to be walked.
///
/// # Errors
/// When any of it is in no index file any more.
pub(super) fn carry_over(before: &Facts, facts: &Facts) -> Result<(), RepoError> {
    for kind in [BlobKind::Data, BlobKind::Tree] {
        for number in 0..u32::try_from(before.index.len(kind)).unwrap_or(u32::MAX) {
            if before.used.has(kind, number)
                && let Some((id, ..)) = before.index.place_at(kind, number)
            {
                mark(facts, kind, &id)?;
            }
        }
    }
    Ok(())
}
