//! Waiting for what must come, however busy the machine is.
//! A test must never wait for a while and then believe that something has happened.

use std::time::{Duration, Instant};

/// How long anything may take that must come.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Waits until something is so.
///
/// # Panics
/// If it does not come to that.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::sleep(LOOK_EVERY);
    }
}
