//! Turns at the names of the log: in one process, one object is created or removed at a time by one thread.
//! It must never be taken for more: what other processes do at the same time, only the place can order.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};

use super::LogName;

/// Names that somebody is at work on.
#[derive(Default)]
pub(super) struct Turns {
    busy: Mutex<BTreeSet<LogName>>,
    idle: Condvar,
}

/// The right to work on a name, given back when dropped.
pub(super) struct Turn<'a>(&'a Turns, &'a LogName);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut busy = self.0.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.remove(self.1);
        self.0.idle.notify_all();
    }
}

impl Turns {
    /// Waits until nobody else is at work on the name.
    pub(super) fn turn<'a>(&'a self, name: &'a LogName) -> Turn<'a> {
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.idle.wait_while(busy, |busy| busy.contains(name));
        let mut busy = waited.unwrap_or_else(PoisonError::into_inner);
        busy.insert(name.clone());
        Turn(self, name)
    }
}
