//! `lifeboat repo repair snapshots`: copies of snapshots without what is lost.
//! It must never remove a broken snapshot before what stands for it is stored, and names every path that lost something.

use clap::Args;
use lifeboat_repo::backend::{FileKind, FileName};
use lifeboat_repo::{
    Loss, LossKind, PackListing, RepairedSnapshot, SnapshotVerdict, SnapshotsRepair,
};
use serde_json::json;

use super::keep_copy;
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::repo::node_view::named;
use crate::repo::select::{self, FilterArgs};
use crate::repo::session::{Locking, Session};
use crate::ui::Ui;

/// A file of the repository that may be damaged in any way is read up to this length, in bytes.
const DAMAGED_FILE_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Make snapshots whole without what is lost
///
/// Files lose the parts that are gone, directories that can't be read become empty.
/// The repaired snapshot has the tag `repaired`; with --forget it takes the place of the broken one.
/// Repair the index and the packs first, and back up again what is still there: both bring data back.
/// Example: lifeboat repo repair snapshots --forget --dry-run
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct RepairSnapshots {
    /// Only these snapshots: IDs or `latest`; otherwise all
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    /// Remove the broken snapshots, also those of which nothing can be saved
    #[arg(long)]
    forget: bool,
    /// Say what would be done and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

impl RepairSnapshots {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let locking = match self.dry_run {
            true => Locking::Read,
            false => Locking::Exclusive,
        };
        let session = Session::open_afresh(global, ui, locking)?;
        let repository = &session.repository;
        let filter = self.filter.filter();
        // Snapshots before the index: what a snapshot names was indexed before it was written.
        let chosen = select::many(&session, ui, &self.snapshots, &filter)?;
        let known = repository.snapshots()?;
        let (index, report) = repository.load_index(PackListing::Compare, &session.cancel)?;
        let repair = SnapshotsRepair {
            repository,
            index: &index,
            report: &report,
            all: &known.all,
            lock: session.lock.as_ref(),
            forget: self.forget,
            dry_run: self.dry_run,
            cancel: &session.cancel,
        };
        let (mut changed, mut hopeless) = (0, 0);
        repair.run(&chosen, &mut |done| {
            match done.plan.verdict {
                SnapshotVerdict::Whole => {}
                SnapshotVerdict::Changed { .. } => changed += 1,
                SnapshotVerdict::Nothing => hopeless += 1,
            }
            self.tell(&done, ui);
        })?;
        let is_about_all = self.snapshots.is_empty() && filter.is_empty();
        let mut damaged = Vec::new();
        for (id, _) in &known.damaged {
            // Once more: what was garbled on the way or is only out of reach is not to be removed.
            match repository.snapshot(*id) {
                Err(error) if error.is_damage() => damaged.push(*id),
                Err(error) if is_about_all => return Err(error.into()),
                _ => {}
            }
        }
        let mut unreadable = 0;
        if is_about_all {
            for id in &damaged {
                let what = format!("snapshot {id}");
                if self.forget {
                    ui.step(
                        "remove",
                        &what,
                        "it is damaged; a copy of the file is kept in the current directory",
                    );
                } else {
                    unreadable += 1;
                    ui.step("leave", &what, "it is damaged; --forget removes it");
                }
                if self.forget && !self.dry_run {
                    let name = FileName::new(FileKind::Snapshot, *id);
                    let content = repository
                        .backend()
                        .load(name, DAMAGED_FILE_MAX_BYTES)
                        .map_err(lifeboat_repo::RepoError::from)?;
                    keep_copy("snapshot", *id, &content)?;
                    if let Some(lock) = &session.lock {
                        lock.ensure()?;
                    }
                    repository.remove_snapshot(*id)?;
                }
            }
        }
        if ui.json {
            ui.object(&json!({
                "message_type": "summary", "dry_run": self.dry_run, "snapshots": chosen.len(),
                "repaired_snapshots": changed, "hopeless_snapshots": hopeless, "damaged_snapshots": damaged.len(),
            }));
        } else if changed + hopeless == 0 {
            ui.say(format_args!(
                "nothing is lost of {}",
                format::count(chosen.len() as u64, "snapshot")
            ));
        } else {
            ui.say(format_args!(
                "{} {} of {}{}",
                if self.dry_run {
                    "dry run: would repair"
                } else {
                    "repaired"
                },
                changed,
                format::count(chosen.len() as u64, "snapshot"),
                match hopeless {
                    0 => String::new(),
                    hopeless => format!(", nothing can be saved of {hopeless}"),
                }
            ));
        }
        if !self.forget && hopeless + unreadable > 0 {
            return Err(Failure::new(format!(
                "{} can't be repaired",
                format::count(hopeless + unreadable, "snapshot")
            ))
            .hint("--forget removes them"));
        }
        if changed > 0 && !self.forget {
            ui.advise("the broken snapshots are still there: lifeboat repo repair snapshots --forget removes them");
        }
        Ok(Exit::Done)
    }

    /// Says what became of a snapshot.
    fn tell(&self, done: &RepairedSnapshot, ui: &Ui) {
        let id = done.plan.id;
        let what = format!(
            "snapshot {}",
            if ui.json { id.to_string() } else { id.short() }
        );
        match (done.plan.verdict, done.new) {
            (SnapshotVerdict::Whole, _) => return,
            (SnapshotVerdict::Changed { .. }, Some(new)) => {
                let removed = if done.removed {
                    ", which takes its place"
                } else {
                    ""
                };
                ui.step(
                    "repair",
                    &what,
                    &format!("repaired as {}{removed}", new.short()),
                );
            }
            (SnapshotVerdict::Changed { .. }, None) => {
                ui.step("repair", &what, "something of it is lost");
            }
            (SnapshotVerdict::Nothing, _) => {
                let (word, why) = match self.forget {
                    true => (
                        "remove",
                        "its top directory can't be read: nothing can be saved",
                    ),
                    false => (
                        "leave",
                        "its top directory can't be read; --forget removes it",
                    ),
                };
                ui.step(word, &what, why);
                return;
            }
        }
        if ui.json
            && let Some(new) = done.new
        {
            ui.object(&json!({"message_type": "changed", "old_snapshot_id": id.to_string(), "new_snapshot_id": new.to_string()}));
        }
        done.plan.losses.each(|loss| {
            let (path, why) = (named(&loss.path), reason(&loss));
            if ui.json {
                ui.object(&json!({"message_type": "lost", "snapshot_id": id.to_string(), "path": path, "reason": why}));
            } else {
                ui.say(format_args!("  {path}: {why}"));
            }
        });
    }
}

/// What became of an entry, for people.
fn reason(loss: &Loss) -> String {
    match &loss.kind {
        LossKind::Content {
            blobs,
            size_before_bytes,
            size_bytes,
        } => format!(
            "{} lost, {} of {} are left",
            format::count(*blobs, "part"),
            format::bytes(*size_bytes),
            format::bytes(*size_before_bytes)
        ),
        LossKind::Size {
            size_before_bytes,
            size_bytes,
        } => format!("its size said {size_before_bytes} bytes and is {size_bytes}"),
        LossKind::Directory => "the directory can't be read and is empty now".to_owned(),
        LossKind::Entry { kind } => format!("an entry of the impossible kind {kind:?} is left out"),
    }
}
