//! A backend behind the retries of the product, with waits of milliseconds.
//! It must never retry by rules of its own: what tests see is what users get.

use std::sync::Arc;
use std::time::Duration;

use lifeboat_flow::Cancel;
pub use lifeboat_repo::backend::RetryingBackend;
use lifeboat_repo::backend::{Backend, RetryPolicy};

use crate::heard::Unheard;

/// Waits that a test can afford, and so much time in all that none comes near its end.
pub const QUICK: RetryPolicy = RetryPolicy {
    wait_first: Duration::from_millis(1),
    wait_max: Duration::from_millis(4),
    retry_after_max: Duration::from_millis(4),
    total: Duration::from_secs(60),
    lock_total: Duration::from_secs(60),
    unreachable_total: Duration::from_secs(60),
    parting_total: Duration::from_secs(60),
    quiet_tries: u32::MAX,
    note_interval: Duration::from_secs(60),
};

/// Gives up at once: a single failure that may pass is a place that is gone.
pub const IMPATIENT: RetryPolicy = RetryPolicy {
    total: Duration::ZERO,
    lock_total: Duration::ZERO,
    unreachable_total: Duration::ZERO,
    parting_total: Duration::ZERO,
    ..QUICK
};

/// The backend behind retries.
pub fn retrying(backend: impl Backend + 'static) -> RetryingBackend {
    retrying_by(QUICK, backend)
}

/// The backend behind retries of this policy.
pub fn retrying_by(policy: RetryPolicy, backend: impl Backend + 'static) -> RetryingBackend {
    RetryingBackend::new(Arc::new(backend), policy, Arc::new(Unheard), Cancel::new())
}
