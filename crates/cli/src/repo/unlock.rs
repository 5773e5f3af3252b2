//! `lifeboat repo unlock`: removes locks whose holders are gone.
//! It must never remove the lock of a process that may still work, unless it is told to remove all.

use clap::Args;
use serde_json::json;

use super::session::{Locking, Session};
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::format;
use crate::ui::Ui;

/// Remove locks whose holders are gone
#[derive(Args)]
pub struct Unlock {
    /// Remove all locks; only when no other process works on the repository
    #[arg(long)]
    remove_all: bool,
}

impl Unlock {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let session = Session::open(global, ui, Locking::None)?;
        let removed = lifeboat_repo::remove_locks(&session.repository, self.remove_all)?;
        if ui.json {
            ui.object(&json!({"message_type": "summary", "locks_removed": removed}));
        }
        ui.say(format_args!(
            "removed {}",
            format::count(removed as u64, "lock")
        ));
        for (id, lock) in lifeboat_repo::all_locks(&session.repository)? {
            match lock {
                Ok(lock) => ui.say(format_args!(
                    "lock {} of PID {} on {} stays: its holder may still work",
                    id.short(),
                    lock.pid,
                    lock.hostname
                )),
                Err(error) => ui.warn(format_args!(
                    "lock {} can't be read and stays: {}",
                    id.short(),
                    lifeboat_repo::chain(&error)
                )),
            }
        }
        Ok(Exit::Done)
    }
}
