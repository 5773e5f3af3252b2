//! `lifeboat repo repair packs`: saves what is good in damaged packs, and fetches what is lost from another repository.
//! It must never remove a damaged pack of which no copy was kept, believe a cache that another is good, nor stay silent about a blob that is lost.

use std::collections::{BTreeSet, HashSet};

use clap::Args;
use lifeboat_flow::Counters;
use lifeboat_format::{BlobKind, Id};
use lifeboat_repo::backend::FileKind;
use lifeboat_repo::{
    BlobReader, CheckOptions, OtherRepository, PackListing, PacksPlan, PacksRepaired, RepoError,
    TreeRoot, users_of_lost,
};
use serde_json::{Value, json};

use super::keep_copy;
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::progress::{self, Shown, workers};
use crate::repo::access::FromArgs;
use crate::repo::copy::open_source;
use crate::repo::node_view::named;
use crate::repo::session::{Locking, Session};
use crate::ui::Ui;

/// Paths that need lost blobs which are shown at most.
const LOST_PATHS_MAX: usize = 20;

/// Save what is good in damaged packs
///
/// A copy of each damaged pack is kept in the current directory before it is removed.
/// With --from-repo, what is lost here is fetched from another repository that has it, a copy of
/// this one or one that the same files went to: without IDs everything that snapshots need.
/// Example: lifeboat repo repair packs --from-repo /mnt/offsite
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct RepairPacks {
    /// The damaged packs, as `check --read-data` names them
    #[arg(value_name = "PACK")]
    packs: Vec<String>,
    /// Read all packs to find the damaged ones; with --from-repo and without IDs
    #[arg(long, conflicts_with = "packs")]
    read_data: bool,
    /// Say what would be done and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    // Here, or its heading would stand over what follows without one.
    #[command(flatten)]
    from: FromArgs,
}

impl RepairPacks {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        if self.packs.is_empty() && !self.from.is_given() {
            return Err(Failure::new("nothing says which packs are damaged").hint(
                "name them, as `lifeboat repo check --read-data` does, or name another repository with --from-repo",
            ));
        }
        let locking = match self.dry_run {
            true => Locking::Read,
            false => Locking::Exclusive,
        };
        let session = Session::open_afresh(global, ui, locking)?;
        let from = match self.from.is_given() {
            true => Some(open_source(&self.from, global, ui, Locking::Read)?),
            false => None,
        };
        let from_index = match &from {
            Some(from) => Some(from.index(ui, PackListing::Skip)?.0),
            None => None,
        };
        let other = from.as_ref().zip(from_index.as_ref());
        let other = other.map(|(from, index)| OtherRepository {
            repository: &from.repository,
            index,
        });
        if let Some(other) = other
            && other.repository.backend().location() == session.repository.backend().location()
        {
            return Err(Failure::new(
                "the repository to read from is the one that is to be repaired",
            ));
        }
        let packs = self.damaged(&session, global, ui)?;
        let counters = Counters::default();
        let shown = Shown {
            noun: "packs",
            stored: false,
            totals_known: true,
        };
        let plan = progress::during(ui, &counters, shown, || {
            session.repository.plan_packs_repair(
                &packs,
                other,
                workers(),
                &counters,
                &session.cancel,
            )
        })?;
        tell(&plan, other.is_some(), ui);
        let done = match self.dry_run {
            true => PacksRepaired {
                lost: plan.lost.clone(),
                ..PacksRepaired::default()
            },
            false => session.repository.repair_packs(
                &plan,
                other,
                global.memory_bytes()?,
                &mut |id, content| keep_copy("pack", id, content),
                session.lock.as_ref(),
                &session.cancel,
            )?,
        };
        let needed = self.name_lost(&session, ui, &done.lost)?;
        self.report(ui, &plan, &done);
        if needed && other.is_some() {
            return Err(
                Failure::new("the other repository does not have all that is lost").hint(
                    "lifeboat repo repair snapshots --forget makes the snapshots whole without it",
                ),
            );
        }
        if needed {
            ui.advise("if another repository has the lost data: lifeboat repo repair packs --from-repo LOCATION");
            ui.advise("a new backup stores again what is still there; then, to leave out what stays lost: lifeboat repo repair snapshots --forget");
        }
        Ok(Exit::Done)
    }

    /// The packs that are named, or those that a check finds.
    fn damaged(
        &self,
        session: &Session,
        global: &Global,
        ui: &Ui,
    ) -> Result<BTreeSet<Id>, Failure> {
        let repository = &session.repository;
        if !self.packs.is_empty() {
            return self
                .packs
                .iter()
                .map(|name| match name.parse::<Id>() {
                    Ok(id) => Ok(id),
                    Err(_) => Ok(repository.find(FileKind::Pack, name)?),
                })
                .collect();
        }
        let all = match self.read_data {
            true => Some(repository.packs()?.into_keys().collect()),
            false => None,
        };
        let options = CheckOptions {
            read_packs: all,
            threads: workers(),
            memory_bytes: global.memory_bytes()?,
        };
        let counters = Counters::default();
        let shown = Shown {
            noun: "packs",
            stored: false,
            totals_known: true,
        };
        let report = progress::during(ui, &counters, shown, || {
            repository.check(&options, &counters, &session.cancel)
        })?;
        Ok(report.damaged_packs.into_iter().collect())
    }

    fn report(&self, ui: &Ui, plan: &PacksPlan, done: &PacksRepaired) {
        if ui.json {
            ui.object(&json!({
                "message_type": "summary", "dry_run": self.dry_run, "packs": plan.packs.len(), "packs_removed": done.removed,
                "blobs_saved": done.saved, "blobs_fetched": done.fetched, "blobs_lost": done.lost.len(),
                "index_files_written": done.index.written, "index_files_removed": done.index.removed,
            }));
        } else if plan.is_empty() && done.lost.is_empty() {
            ui.say("nothing is damaged or missing; nothing to do");
        } else if self.dry_run {
            ui.say("dry run: nothing was changed");
        } else {
            ui.say(format_args!(
                "saved {}, fetched {}, removed {}; {} lost",
                format::count(done.saved, "blob"),
                format::count(done.fetched, "blob"),
                format::count(done.removed, "pack"),
                format::count(done.lost.len() as u64, "blob"),
            ));
        }
    }

    /// Names the files that need what is lost, and says whether any does.
    fn name_lost(
        &self,
        session: &Session,
        ui: &Ui,
        lost: &[(BlobKind, Id)],
    ) -> Result<bool, Failure> {
        if lost.is_empty() {
            return Ok(false);
        }
        let repository = &session.repository;
        let roots: Vec<TreeRoot> = repository
            .snapshots()?
            .all
            .iter()
            .map(|(id, snapshot)| TreeRoot {
                snapshot: *id,
                tree: snapshot.tree,
            })
            .collect();
        let (index, _) = repository.load_index(PackListing::Compare, &session.cancel)?;
        let reader = BlobReader::new(repository, &index);
        let lost: HashSet<_> = lost.iter().copied().collect();
        let (uses, more) = users_of_lost(&reader, &roots, &lost, LOST_PATHS_MAX, &session.cancel)?;
        for found in &uses {
            let path = named(&found.path);
            let snapshot = found.snapshot.short();
            if ui.json {
                ui.object(&json!({"message_type": "lost", "snapshot_id": found.snapshot.to_string(), "path": path}));
            } else {
                ui.warn(format_args!(
                    "a part of {path} in snapshot {snapshot} is lost"
                ));
            }
        }
        if more {
            ui.warn("and of more than these");
        }
        if uses.is_empty() {
            ui.say("no snapshot needs what is lost");
        }
        Ok(!uses.is_empty())
    }
}

/// Says what the plan is.
fn tell(plan: &PacksPlan, from: bool, ui: &Ui) {
    for pack in &plan.packs {
        let what = format!("pack {}", pack.id);
        let why = format!(
            "{} {} good, {} in other packs too, {} lost",
            format::count(pack.save.len() as u64, "blob"),
            if pack.save.len() == 1 { "is" } else { "are" },
            pack.elsewhere,
            pack.lost.len()
        );
        match pack.size_bytes {
            Some(_) => ui.step("salvage", &what, &why),
            None => ui.step("drop", &what, &format!("it is not there; {why}")),
        }
        if ui.json && !pack.lost.is_empty() {
            let lost: Vec<Value> = pack
                .lost
                .iter()
                .map(|(kind, id)| json!({"type": kind.word(), "id": id.to_string()}))
                .collect();
            ui.object(
                &json!({"message_type": "lost_blobs", "pack": pack.id.to_string(), "blobs": lost}),
            );
        }
    }
    for id in &plan.missing {
        ui.step("drop", &format!("pack {id}"), "it is not there");
    }
    if !plan.fetch.is_empty() {
        let what = format::count(plan.fetch.len() as u64, "blob");
        ui.step("fetch", &what, "lost here, and in the other repository");
    }
    // Without another repository nothing is looked for.
    for id in plan.unread.iter().filter(|_| from) {
        ui.warn(format_args!(
            "snapshot {} is damaged, so what it needs was not looked for",
            id.short()
        ));
    }
    for (kind, id) in &plan.lost {
        if ui.verbose > 0 {
            let error = RepoError::BlobUnknown {
                kind: *kind,
                id: *id,
            };
            ui.warn(format_args!("lost: {error}"));
        }
    }
}
