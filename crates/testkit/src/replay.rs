//! Seeds, and how a failed test says which one repeats it.
//! A test must never fail at random without saying how to fail again.

use std::env;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// Names the seed of all randomised tests, to repeat a failure.
pub const SEED_VARIABLE: &str = "LIFEBOAT_SEED";

/// The seed of this run: that of `LIFEBOAT_SEED`, else a new one. Keep a [`Note`] of it while it is used.
///
/// # Panics
/// If the variable is no number.
#[must_use]
pub fn seed() -> u64 {
    match env::var(SEED_VARIABLE) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{SEED_VARIABLE}={text} is no number")),
        Err(_) => {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            now.as_secs() << 20 | u64::from(now.subsec_micros())
        }
    }
}

/// Says where a test stood, if it panics while this lives.
#[derive(Debug)]
#[must_use = "a note that is dropped at once says nothing"]
pub struct Note(String);

impl Note {
    /// The note of a seed.
    pub fn seed(seed: u64) -> Self {
        Self(format!("repeat this with {SEED_VARIABLE}={seed}"))
    }

    /// Any other note.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A closed stderr is no reason to panic while panicking.
            let _ = writeln!(std::io::stderr(), "note: {}", self.0);
        }
    }
}
