//! Turns the wish of a user or a service manager to stop into the program's own.
//! It must never leave a second wish unheard: that one ends the process at once.

use std::sync::Once;

use lifeboat_flow::Cancel;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::Exit;

/// Cancels at the first signal and ends the process at the second. A command that opens two repositories asks twice, for
/// the same wish.
pub fn cancel_on_signal(cancel: &Cancel) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| listen(cancel));
}

fn listen(cancel: &Cancel) {
    if let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) {
        let wish = cancel.clone();
        std::thread::spawn(move || {
            let mut is_told = false;
            for signal in &mut signals {
                // Every restic on this host sends it to the holder of a lock, to see whether that is still alive.
                if signal == SIGHUP {
                    continue;
                }
                if is_told {
                    std::process::exit(Exit::Interrupted.code());
                }
                is_told = true;
                eprintln!("\nstopping at the next safe point; once more to stop at once");
                wish.cancel();
            }
        });
    }
}
