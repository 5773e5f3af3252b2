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
        let done = lifeboat_repo::remove_locks(&session.repository, self.remove_all)?;
        if ui.json {
            ui.object(&json!({
                "message_type": "summary", "locks_removed": done.removed,
                "locks_live": done.live.len(), "locks_unreadable": done.unreadable.len(),
            }));
        }
        ui.say(format_args!(
            "removed {}",
            format::count(done.removed as u64, "lock")
        ));
        for (id, lock) in &done.live {
            ui.say(format_args!(
                "lock {} of PID {} on {} stays: its holder may still work",
                id.short(),
                lock.pid,
                lock.hostname
            ));
        }
        for (id, error) in &done.unreadable {
            ui.warn(format_args!(
                "lock {} can't be read and stays: {}",
                id.short(),
                lifeboat_repo::chain(error)
            ));
        }
        if !done.unreadable.is_empty() {
            let stay = format::count(done.unreadable.len() as u64, "lock");
            ui.advise(format_args!("{stay} can't be read, and other commands are refused because of that; when nothing else works on the repository: lifeboat repo unlock --remove-all"));
        }
        Ok(Exit::Done)
    }
}
