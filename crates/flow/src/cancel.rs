//! The wish to stop, shared by everything that works on one command.
//! It must never be cleared: who was cancelled once ends.

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

#[derive(Debug, Default)]
struct Wish {
    cancelled: AtomicBool,
    sleepers: Mutex<()>,
    wake: Condvar,
}

/// The wish to stop. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Wish>);

/// The work was stopped because somebody wished so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

/// What is at the end of every chain of causes that a wish to stop began: errors that pass another on as themselves hide that
/// one in the chain, and never its cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
struct Wished;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Wished.fmt(f)
    }
}

impl Error for Cancelled {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&Wished)
    }
}

impl Cancelled {
    /// Whether an error only says that somebody wished to stop.
    #[must_use]
    pub fn is_cause_of(error: &(dyn Error + 'static)) -> bool {
        std::iter::successors(Some(error), |error| (*error).source())
            .any(|error| error.is::<Self>() || error.is::<Wished>())
    }
}

impl Cancel {
    /// Nobody wishes to stop yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Wish it.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Release);
        let _guard = self
            .0
            .sleepers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.0.wake.notify_all();
    }

    /// Whether somebody wished it.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// Ends the caller's work by `?` if somebody wished it.
    ///
    /// # Errors
    /// [`Cancelled`] if so.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() {
            Err(Cancelled)
        } else {
            Ok(())
        }
    }

    /// Sleeps, but wakes at once when somebody wishes to stop.
    ///
    /// # Errors
    /// [`Cancelled`] if so.
    pub fn sleep(&self, duration: Duration) -> Result<(), Cancelled> {
        let guard = self
            .0
            .sleepers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .0
            .wake
            .wait_timeout_while(guard, duration, |()| !self.is_cancelled());
        drop(waited);
        self.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error(transparent)]
        Cancelled(#[from] Cancelled),
        #[error("the store failed")]
        Store(#[source] Box<Outer>),
    }

    #[test]
    fn a_wish_is_found_below_errors_that_pass_it_on_as_themselves() {
        let deep = Outer::Store(Box::new(Cancelled.into()));
        assert!(Cancelled::is_cause_of(&deep));
        assert!(Cancelled::is_cause_of(&Cancelled));
        assert!(!Cancelled::is_cause_of(&std::io::Error::other(
            "interrupted"
        )));
        assert_eq!(crate::chain(&deep), "the store failed: interrupted");
        assert_eq!(crate::chain(&Cancelled), "interrupted");
    }

    #[test]
    fn a_clone_shares_the_wish_and_a_sleep_ends_with_it() {
        let cancel = Cancel::new();
        assert_eq!(cancel.check(), Ok(()));
        assert_eq!(cancel.sleep(Duration::from_millis(1)), Ok(()));
        let sleeper = std::thread::spawn({
            let cancel = cancel.clone();
            move || cancel.sleep(Duration::from_secs(3600))
        });
        cancel.cancel();
        assert_eq!(sleeper.join().unwrap(), Err(Cancelled));
    }
}
