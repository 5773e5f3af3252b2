//! What is lost below a tree: of its own entries, and below its directories, which it shares with every tree above.
//! It must never hold a path of a level above: many snapshots share one damaged tree, and each has it elsewhere.

use std::fmt;
use std::sync::Arc;

use super::{Loss, LossKind};

/// What is lost below a tree. A copy costs nothing.
#[derive(Clone, Default)]
pub struct Losses(Arc<Node>);

#[derive(Default)]
struct Node {
    /// In the order of the tree's entries.
    entries: Vec<(Box<[u8]>, Entry)>,
    count: u64,
}

enum Entry {
    Lost(LossKind),
    Below(Losses),
}

/// Losses of a tree while its entries are gone through.
#[derive(Default)]
pub(super) struct LossesOf(Node);

impl LossesOf {
    /// An entry of the tree itself.
    pub(super) fn add(&mut self, name: &[u8], kind: LossKind) {
        self.0.entries.push((name.into(), Entry::Lost(kind)));
        self.0.count = self.0.count.saturating_add(1);
    }

    /// What is lost below one of its directories.
    pub(super) fn add_below(&mut self, name: &[u8], losses: Losses) {
        if !losses.is_empty() {
            self.0.count = self.0.count.saturating_add(losses.count());
            self.0.entries.push((name.into(), Entry::Below(losses)));
        }
    }

    pub(super) fn finish(self) -> Losses {
        Losses(Arc::new(self.0))
    }
}

impl Losses {
    /// That a whole tree is lost.
    pub(super) fn of_root() -> Self {
        let mut losses = LossesOf::default();
        losses.add(b"", LossKind::Directory);
        losses.finish()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.count
    }

    /// Whether nothing is lost.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Calls `each` with all of them, with their paths, in the order of the trees' entries.
    pub fn each(&self, mut each: impl FnMut(Loss)) {
        // No recursion: depth is no limit.
        let mut path = Vec::new();
        let mut stack = vec![(self, 0, 0)];
        while let Some((losses, next, prefix_bytes)) = stack.pop() {
            let Some((name, entry)) = losses.0.entries.get(next) else {
                continue;
            };
            stack.push((losses, next + 1, prefix_bytes));
            path.truncate(prefix_bytes);
            path.push(b'/');
            path.extend_from_slice(name);
            match entry {
                Entry::Lost(kind) => each(Loss {
                    path: path.clone(),
                    kind: kind.clone(),
                }),
                Entry::Below(below) => stack.push((below, 0, path.len())),
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let mut entries = std::mem::take(&mut self.entries);
        while let Some((_, entry)) = entries.pop() {
            if let Entry::Below(Losses(below)) = entry
                && let Some(mut below) = Arc::into_inner(below)
            {
                entries.append(&mut below.entries);
            }
        }
    }
}

impl fmt::Debug for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} losses", self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(losses: &Losses) -> Vec<String> {
        let mut paths = Vec::new();
        losses.each(|loss| paths.push(String::from_utf8(loss.path).unwrap()));
        paths
    }

    #[test]
    fn paths_are_those_of_whoever_asks() {
        let mut below = LossesOf::default();
        below.add(b"file", LossKind::Directory);
        below.add_below(b"whole", Losses::default());
        let below = below.finish();
        let mut top = LossesOf::default();
        top.add(b"a", LossKind::Directory);
        top.add_below(b"b", below.clone());
        top.add_below(b"c", below.clone());
        top.add(b"d", LossKind::Directory);
        let top = top.finish();
        assert_eq!(all(&top), ["/a", "/b/file", "/c/file", "/d"]);
        assert_eq!((top.count(), below.count()), (4, 1));
        assert_eq!(all(&Losses::of_root()), ["/"]);
        assert!(Losses::default().is_empty());
    }

    #[test]
    fn depth_is_no_limit() {
        let mut losses = Losses::of_root();
        for _ in 0..300_000 {
            let mut above = LossesOf::default();
            above.add_below(b"", losses);
            losses = above.finish();
        }
        let mut bytes = 0;
        losses.each(|loss| bytes += loss.path.len());
        assert_eq!(bytes, 300_001);
    }
}
