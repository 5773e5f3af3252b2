//! Which places of the index snapshots need: what their trees name is marked in the facts.
//! It must never leave a tree out: one that can't be read ends the walk with an error.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::{BlobKind, Id, Tree};

use super::facts::Facts;
use super::needs_unknown;
use crate::tree_walk::TreeWalk;
use crate::{BlobReader, RepoError, Repository, TreeRoot};

/// Blobs that are marked together, in the order of the index: that of the trees would lead all over it. 16 MiB of IDs.
const MARKED_AT_ONCE: usize = 512 * 1024;

/// Marks everything below these roots as used. A tree that is marked already is not walked again.
///
/// # Errors
/// When a tree can't be read, or a blob that a tree names is in no index file.
pub(super) fn walk(
    repository: &Repository,
    facts: &Facts,
    roots: &[TreeRoot],
    threads: usize,
    counters: &Counters,
    cancel: &Cancel,
) -> Result<(), RepoError> {
    let reader = BlobReader::new(repository, &facts.index);
    let walk = TreeWalk {
        read: &|id| reader.tree(id),
        meet: &|id| facts.used.insert(&facts.index, BlobKind::Tree, id),
        threads,
        cancel,
    };
    let waiting = Mutex::new(Vec::new());
    walk.run(roots, &|seen| {
        let tree = seen.tree.map_err(|cause| unread(seen.id, cause))?;
        let full = {
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.extend(content(tree));
            (waiting.len() >= MARKED_AT_ONCE).then(|| std::mem::take(&mut *waiting))
        };
        mark_data(facts, full.unwrap_or_default())?;
        counters.files_done.fetch_add(1, Ordering::Relaxed);
        Ok(())
    })?;
    let rest = waiting.into_inner().unwrap_or_else(PoisonError::into_inner);
    mark_data(facts, rest)
}

fn unread(tree: Id, cause: RepoError) -> RepoError {
    let what = match &cause {
        RepoError::BlobUnknown { .. } => format!("tree blob {tree}"),
        _ => format!("tree {tree}"),
    };
    needs_unknown(what, cause)
}

fn content(tree: &Tree) -> impl Iterator<Item = Id> + '_ {
    let content = tree.nodes.iter().flat_map(|node| node.content.iter());
    content.flatten().copied()
}

fn mark_data(facts: &Facts, mut blobs: Vec<Id>) -> Result<(), RepoError> {
    blobs.sort_unstable();
    blobs.dedup();
    blobs
        .iter()
        .try_for_each(|blob| mark(facts, BlobKind::Data, blob))
}

/// Marks all places of a blob as used.
fn mark(facts: &Facts, kind: BlobKind, id: &Id) -> Result<(), RepoError> {
    let known = facts.used.insert(&facts.index, kind, id);
    known.map(drop).ok_or_else(|| RepoError::NeedsUnknown {
        what: format!("{} blob {id}", kind.word()),
        cause: Box::new(RepoError::BlobUnknown { kind, id: *id }),
    })
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
