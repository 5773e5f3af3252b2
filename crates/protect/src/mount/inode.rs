//! The numbers that the kernel knows entries by, for as long as it knows them.
//! It must never give a number to another entry while the kernel still holds it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lifeboat_format::{Id, Node};

/// The number of the top directory (FUSE's `FUSE_ROOT_ID`).
pub(super) const TOP: u64 = 1;

/// What an entry is.
#[derive(Clone)]
pub(super) enum Entry {
    /// A directory of names, by the names on the way to it: numbers of directories change when snapshots do.
    Names(Arc<[String]>),
    /// The root of a snapshot.
    Snapshot {
        /// Its tree.
        tree: Id,
        /// Its time, which the directory shows.
        seconds: i64,
    },
    /// A link to a snapshot beside it.
    Link(Arc<str>),
    /// An entry of a tree.
    Node(Arc<Node>),
}

/// What an entry is known by: its directory and its name there, and what it is, because `latest` changes.
type Key = (u64, Vec<u8>);

struct Known {
    entry: Entry,
    key: Option<Key>,
    /// How often the kernel was told the number and has not forgotten it.
    lookups: u64,
}

/// The entries that the kernel knows.
pub(super) struct Inodes(Mutex<Table>);

struct Table {
    known: HashMap<u64, Known>,
    numbers: HashMap<Key, u64>,
    next: u64,
}

impl Inodes {
    /// A table of the top directory alone.
    pub(super) fn new() -> Self {
        let top = Known {
            entry: Entry::Names(Arc::new([])),
            key: None,
            lookups: 1,
        };
        Self(Mutex::new(Table {
            known: HashMap::from([(TOP, top)]),
            numbers: HashMap::new(),
            next: TOP + 1,
        }))
    }

    /// What a number stands for.
    pub(super) fn get(&self, number: u64) -> Option<Entry> {
        Some(self.lock().known.get(&number)?.entry.clone())
    }

    /// The number of an entry that the kernel looks up; it holds it until it forgets it.
    pub(super) fn look_up(&self, parent: u64, name: &[u8], entry: Entry) -> u64 {
        let mut table = self.lock();
        let key = (parent, name.to_vec());
        if let Some(number) = table.numbers.get(&key).copied()
            && let Some(known) = table.known.get_mut(&number)
        {
            if known.entry.is_same(&entry) {
                known.lookups += 1;
                return number;
            }
            // Another thing has this name now; the old one keeps its number until it is forgotten.
            known.key = None;
        }
        let number = table.next;
        table.next += 1;
        table.numbers.insert(key.clone(), number);
        let known = Known {
            entry,
            key: Some(key),
            lookups: 1,
        };
        table.known.insert(number, known);
        number
    }

    /// The kernel forgets a number that it was told so often.
    pub(super) fn forget(&self, number: u64, lookups: u64) {
        let mut table = self.lock();
        let Some(known) = table.known.get_mut(&number).filter(|_| number != TOP) else {
            return;
        };
        known.lookups = known.lookups.saturating_sub(lookups);
        if known.lookups == 0
            && let Some(gone) = table.known.remove(&number)
            && let Some(key) = gone.key
        {
            table.numbers.remove(&key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Names(a), Self::Names(b)) => a == b,
            (Self::Snapshot { tree: a, .. }, Self::Snapshot { tree: b, .. }) => a == b,
            (Self::Link(a), Self::Link(b)) => a == b,
            (Self::Node(a), Self::Node(b)) => Arc::ptr_eq(a, b) || a == b,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_lives_as_long_as_the_kernel_holds_it() {
        let inodes = Inodes::new();
        let entry = |tree| Entry::Snapshot {
            tree: Id([tree; 32]),
            seconds: 0,
        };
        let first = inodes.look_up(TOP, b"a", entry(1));
        assert_eq!(inodes.look_up(TOP, b"a", entry(1)), first);
        let second = inodes.look_up(TOP, b"a", entry(2));
        assert_ne!(second, first, "another snapshot has the name now");
        inodes.forget(first, 1);
        assert!(inodes.get(first).is_some(), "it was looked up twice");
        inodes.forget(first, 1);
        assert!(inodes.get(first).is_none());
        assert_eq!(inodes.look_up(TOP, b"a", entry(2)), second);
        inodes.forget(TOP, 100);
        assert!(inodes.get(TOP).is_some());
    }
}
