//! The wish to stop, shared by everything that works on one command.
//! It must never be cleared: who was cancelled once ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a sleep may go without looking at the wish.
const POLL_MILLISECONDS: u64 = 50;

/// The wish to stop. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

/// The work was stopped because somebody wished so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Cancelled;

impl Cancel {
    /// Nobody wishes to stop yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Wish it.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody wished it.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Ends the caller's work by `?` if somebody wished it.
    ///
    /// # Errors
    /// [`Cancelled`] if so.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }

    /// Sleeps, but wakes when somebody wishes to stop.
    ///
    /// # Errors
    /// [`Cancelled`] if so.
    pub fn sleep(&self, duration: Duration) -> Result<(), Cancelled> {
        let poll = Duration::from_millis(POLL_MILLISECONDS);
        let mut left = duration;
        while !left.is_zero() {
            self.check()?;
            let nap = left.min(poll);
            std::thread::sleep(nap);
            left -= nap;
        }
        self.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_shares_the_wish_and_a_sleep_ends_with_it() {
        let cancel = Cancel::new();
        assert_eq!(cancel.check(), Ok(()));
        cancel.clone().cancel();
        assert_eq!(cancel.sleep(Duration::from_secs(3600)), Err(Cancelled));
    }
}
