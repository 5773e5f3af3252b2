//! `lifeboat repo repair index`: makes the index say what is really there.
//! It must never read a pack as empty that it could not read, nor believe a cache, and prints with `--dry-run` exactly what it would do.

use clap::Args;
use lifeboat_flow::Counters;
use lifeboat_repo::{IndexPlan, IndexRewritten};
use serde_json::json;

use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::format;
use crate::progress::{self, Shown};
use crate::repo::session::{Locking, Session};
use crate::ui::Ui;

/// Make the index say what is really there
///
/// Example: lifeboat repo repair index --dry-run
#[derive(Args)]
pub struct RepairIndex {
    /// Read the headers of all packs, also of those whose size is right
    #[arg(long)]
    read_all_packs: bool,
    /// Say what would be done and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl RepairIndex {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let locking = match self.dry_run {
            true => Locking::Read,
            false => Locking::Exclusive,
        };
        let session = Session::open_afresh(global, ui, locking)?;
        let counters = Counters::default();
        let shown = Shown {
            noun: "pack headers",
            stored: false,
            totals_known: true,
        };
        let plan = progress::during(ui, &counters, shown, || {
            session
                .repository
                .plan_index_repair(self.read_all_packs, &counters, &session.cancel)
        })?;
        tell(&plan, ui);
        let done = match self.dry_run {
            true => IndexRewritten::default(),
            false => {
                session
                    .repository
                    .repair_index(&plan, session.lock.as_ref(), &session.cancel)?
            }
        };
        if ui.json {
            ui.object(&json!({
                "message_type": "summary", "dry_run": self.dry_run, "index_files_damaged": plan.damaged_files.len(),
                "index_files_written": done.written, "index_files_removed": done.removed,
                "packs_added": plan.add.len() - plan.corrected.len(), "packs_corrected": plan.corrected.len(),
                "packs_missing": plan.missing.len(), "packs_repeated": plan.repeated.len(), "packs_unreadable": plan.unreadable.len(),
            }));
        } else if plan.is_empty() {
            ui.say("the index says what is there; nothing to do");
        } else if self.dry_run {
            ui.say("dry run: nothing was changed");
        } else {
            ui.say(format_args!(
                "wrote {} and removed {}",
                format::count(done.written, "index file"),
                format::count(done.removed, "index file")
            ));
        }
        if !plan.unreadable.is_empty() {
            let ids: Vec<String> = plan
                .unreadable
                .iter()
                .map(|(id, _)| id.to_string())
                .collect();
            ui.advise(format_args!(
                "save what is good in the damaged packs: lifeboat repo repair packs {}",
                ids.join(" ")
            ));
        }
        if !plan.missing.is_empty() {
            ui.advise("if another repository has the lost data: lifeboat repo repair packs --from-repo LOCATION");
        }
        Ok(Exit::Done)
    }
}

/// Says what the plan is.
fn tell(plan: &IndexPlan, ui: &Ui) {
    for (id, why) in &plan.damaged_files {
        ui.step("remove", &format!("index file {id}"), why);
    }
    for pack in &plan.add {
        let id = pack.id;
        let blobs = format::count(pack.blobs.len() as u64, "blob");
        if plan.corrected.contains(&id) {
            let why = format!("its header says otherwise, {blobs}");
            ui.step("correct", &format!("pack {id}"), &why);
        } else {
            let why = format!("it was in no index file, {blobs}");
            ui.step("add", &format!("pack {id}"), &why);
        }
    }
    for id in &plan.missing {
        ui.step("drop", &format!("pack {id}"), "it is not there");
    }
    for id in &plan.repeated {
        let why = "several index files name it, one is enough";
        ui.step("unify", &format!("pack {id}"), why);
    }
    for (id, why) in &plan.unreadable {
        let why = format!("its header can't be read: {why}");
        ui.step("leave", &format!("pack {id}"), &why);
    }
}
