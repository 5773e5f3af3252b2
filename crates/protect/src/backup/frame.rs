//! A directory that is being backed up: its nodes so far, and how many of them are still waited for.
//! It must never become a tree before all of its nodes are complete.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lifeboat_flow::EntryPath;
use lifeboat_format::{Id, Node, Tree};

/// A directory that is being backed up.
pub(super) struct Frame {
    /// Its path.
    pub(super) path: EntryPath,
    /// Its tree in the parent snapshot.
    pub(super) parent_tree: Option<Id>,
    /// Whether the directory itself is as it was in the parent snapshot, whatever is in it.
    pub(super) is_same_itself: bool,
    above: Mutex<Option<(Arc<Frame>, usize)>>,
    /// `None` for an entry that could not be read and is left out.
    nodes: Mutex<Vec<Option<Node>>>,
    /// Nodes that are not complete yet, and one more until the listing is taken.
    waiting: AtomicUsize,
    error: Mutex<String>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Frame {
    fn new(
        path: EntryPath,
        parent_tree: Option<Id>,
        is_same_itself: bool,
        above: Option<(Arc<Frame>, usize)>,
        error: String,
    ) -> Self {
        Self {
            path,
            parent_tree,
            is_same_itself,
            above: Mutex::new(above),
            nodes: Mutex::default(),
            waiting: AtomicUsize::new(1),
            error: Mutex::new(error),
        }
    }

    /// The top.
    pub(super) fn root(parent_tree: Option<Id>) -> Self {
        Self::new(EntryPath::top(), parent_tree, true, None, String::new())
    }

    /// The directory of a node of this frame, and what it was in the parent snapshot.
    pub(super) fn below(above: &Arc<Self>, slot: usize, before: Option<&Node>) -> Arc<Self> {
        let parent_tree = before.and_then(|before| before.subtree);
        let is_same_itself = before.is_some_and(|before| {
            let of_now = above.get(slot, |node| Node {
                subtree: before.subtree,
                error: before.error.clone(),
                ..node.clone()
            });
            of_now.as_ref() == Some(before)
        });
        let (name, error) = above
            .get(slot, |node| (node.name.clone(), node.error.clone()))
            .unwrap_or_default();
        Arc::new(Self::new(
            above.path.join(&name),
            parent_tree,
            is_same_itself,
            Some((above.clone(), slot)),
            error,
        ))
    }

    /// Takes the listing, of which so many nodes are to be completed.
    pub(super) fn fill(&self, nodes: Vec<Option<Node>>, incomplete: usize) {
        *locked(&self.nodes) = nodes;
        self.waiting.fetch_add(incomplete, Ordering::AcqRel);
    }

    /// Looks at a node.
    pub(super) fn get<T>(&self, slot: usize, look: impl FnOnce(&Node) -> T) -> Option<T> {
        locked(&self.nodes).get(slot)?.as_ref().map(look)
    }

    /// Completes a node.
    pub(super) fn set(&self, slot: usize, change: impl FnOnce(&mut Node)) {
        if let Some(Some(node)) = locked(&self.nodes).get_mut(slot) {
            change(node);
        }
    }

    /// Leaves a node out.
    pub(super) fn leave_out(&self, slot: usize, why: &str) {
        let name = match locked(&self.nodes).get_mut(slot).and_then(Option::take) {
            Some(node) => String::from_utf8_lossy(&node.name).into_owned(),
            None => return,
        };
        self.note_error(&format!("not saved: {name}: {why}"));
    }

    /// Leaves a node out that nothing is missing without.
    pub(super) fn forget(&self, slot: usize) {
        if let Some(node) = locked(&self.nodes).get_mut(slot) {
            *node = None;
        }
    }

    /// Records what is missing in this directory; the first text stays, with a count.
    pub(super) fn note_error(&self, why: &str) {
        let mut error = locked(&self.error);
        if error.is_empty() {
            why.clone_into(&mut error);
        } else if !error.ends_with("and more") {
            error.push_str("; and more");
        }
    }

    /// What is missing in this directory.
    pub(super) fn error(&self) -> String {
        locked(&self.error).clone()
    }

    /// Counts one thing as done and says whether it was the last.
    pub(super) fn is_last(&self) -> bool {
        self.waiting.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// The complete tree.
    pub(super) fn take_tree(&self) -> Tree {
        Tree {
            nodes: std::mem::take(&mut *locked(&self.nodes))
                .into_iter()
                .flatten()
                .collect(),
        }
    }

    /// The directory above, once: so that a deep tree is not dropped recursively.
    pub(super) fn take_above(&self) -> Option<(Arc<Self>, usize)> {
        locked(&self.above).take()
    }
}

impl Drop for Frame {
    /// One after the other: when a backup ends early, directories may be open deeper than a thread's stack allows.
    fn drop(&mut self) {
        let mut above = self.take_above();
        while let Some(frame) = above.and_then(|(frame, _)| Arc::into_inner(frame)) {
            above = frame.take_above();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_depth_is_too_much_to_be_dropped() {
        let mut frame = Arc::new(Frame::root(None));
        for _ in 0..100_000 {
            frame = Frame::below(&frame, 0, None);
        }
        drop(frame);
    }
}
