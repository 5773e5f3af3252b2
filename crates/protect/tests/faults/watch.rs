//! Ends the whole run when one case hangs, and says which.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::case::CASE_VARIABLE;

/// Nothing in a case waits for more than milliseconds, so this is a hang on any machine.
const HANG_SECONDS: u64 = 300;

/// Watches a case until this is dropped.
pub(crate) struct Watch {
    _alive: Sender<()>,
}

impl Watch {
    pub(crate) fn new(case: &impl std::fmt::Display) -> Self {
        let (alive, ended) = channel::<()>();
        let text = case.to_string();
        std::thread::spawn(move || {
            if ended.recv_timeout(Duration::from_secs(HANG_SECONDS))
                == Err(RecvTimeoutError::Timeout)
            {
                eprintln!("{CASE_VARIABLE}={text} hangs");
                std::process::exit(101);
            }
        });
        Self { _alive: alive }
    }
}
