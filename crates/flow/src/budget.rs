//! A budget of bytes that many threads take from, so that memory is bounded by a number and not by hope.
//! It must never make the only thread that could give bytes back wait: takers that can work inline use `try_take`.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

#[derive(Debug)]
struct Inner {
    free_bytes: Mutex<usize>,
    total_bytes: usize,
    returned: Condvar,
}

/// A budget of bytes. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

/// Bytes taken from a budget; they go back when this is dropped.
#[derive(Debug)]
pub struct BudgetShare {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(total_bytes: usize) -> Self {
        Self(Arc::new(Inner {
            free_bytes: Mutex::new(total_bytes),
            total_bytes,
            returned: Condvar::new(),
        }))
    }

    /// Takes bytes if they are free now.
    #[must_use]
    pub fn try_take(&self, bytes: usize) -> Option<BudgetShare> {
        let bytes = bytes.min(self.0.total_bytes);
        let mut free = self
            .0
            .free_bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *free = free.checked_sub(bytes)?;
        Some(BudgetShare {
            budget: self.clone(),
            bytes,
        })
    }

    /// Waits until so many bytes are free and takes them; more than the whole budget counts as the whole.
    #[must_use]
    pub fn take(&self, bytes: usize) -> BudgetShare {
        let bytes = bytes.min(self.0.total_bytes);
        let mut free = self
            .0
            .free_bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while *free < bytes {
            free = self
                .0
                .returned
                .wait(free)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *free -= bytes;
        BudgetShare {
            budget: self.clone(),
            bytes,
        }
    }
}

impl BudgetShare {
    /// Gives back all but so many bytes.
    pub fn shrink_to(&mut self, bytes: usize) {
        let given_back = self.bytes.saturating_sub(bytes);
        self.bytes -= given_back;
        let mut free = self
            .budget
            .0
            .free_bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *free += given_back;
        drop(free);
        self.budget.0.returned.notify_all();
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_that_shrinks_leaves_room_for_others() {
        let budget = Budget::new(10);
        let mut share = budget.take(8);
        share.shrink_to(9);
        assert!(budget.try_take(3).is_none(), "it never grows");
        share.shrink_to(4);
        let other = budget.try_take(6).unwrap();
        drop((share, other));
        assert!(budget.try_take(10).is_some());
    }

    #[test]
    fn shares_return_what_they_took() {
        let budget = Budget::new(10);
        let share = budget.take(8);
        assert!(budget.try_take(3).is_none());
        drop(share);
        assert!(
            budget.try_take(100).is_some(),
            "more than the budget counts as all of it"
        );
    }
}
