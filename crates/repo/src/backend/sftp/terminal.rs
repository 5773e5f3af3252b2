//! The terminal, lent to ssh while it may have to ask a person: for a password, or about a host key.
//! It must never stay lent, and never be taken from a program that had it before us.

use std::fs::File;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use rustix::process::Pid;
use rustix::termios::{tcgetpgrp, tcsetpgrp};

/// The terminal of this process, while another process group reads from it; it comes back when this is dropped.
pub(super) struct LentTerminal {
    terminal: File,
    ours: Pid,
}

impl LentTerminal {
    /// Lends it to the process group of a program, if it is ours to lend.
    pub(super) fn to(program: Pid) -> Option<Self> {
        let terminal = File::options()
            .read(true)
            .write(true)
            .open("/dev/tty")
            .ok()?;
        let ours = rustix::process::getpgrp();
        if tcgetpgrp(&terminal).ok()? != ours {
            return None;
        }
        tcsetpgrp(&terminal, program).ok()?;
        // It may have asked already, and was stopped because the terminal was not its own.
        let _ = rustix::process::kill_process(program, rustix::process::Signal::CONT);
        Some(Self { terminal, ours })
    }
}

impl Drop for LentTerminal {
    fn drop(&mut self) {
        // Who takes a terminal from the background is stopped, except a thread that does not hear the signal.
        let mut stop = SigSet::empty();
        stop.add(Signal::SIGTTOU);
        if let Ok(before) = stop.thread_swap_mask(SigmaskHow::SIG_BLOCK) {
            // It fails only if the terminal is gone.
            let _ = tcsetpgrp(&self.terminal, self.ours);
            let _ = before.thread_set_mask();
        }
    }
}
