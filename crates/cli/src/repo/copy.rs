//! `lifeboat repo copy`: snapshots of another repository become snapshots of this one.
//! It must never call a snapshot copied whose content is not whole here, nor pass over one that could not be read.

use std::collections::HashSet;
use std::sync::RwLock;

use clap::Args;
use lifeboat_flow::{Counters, Event, EventSink, Problem};
use lifeboat_format::{Id, Snapshot};
use lifeboat_repo::{Copier, CopyOptions, CopyPlan, PackListing, both};
use serde_json::json;

use super::access::FromArgs;
use super::select::{self, FilterArgs};
use super::session::{Closed, Locking, Session, Start};
use super::store::StoreArgs;
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::progress::{self, Shown, workers};
use crate::ui::Ui;

/// Copy snapshots from another repository into this one
///
/// Without a snapshot or filter all are copied that are not here yet, and of them only what is not here; what is
/// compressed stays as it is. To cut files alike, so that backups into both repositories share what they hold, make
/// this one by `init` with --copy-chunker-params. With --no-lock the repository that is read from is not locked.
///
/// Example: lifeboat repo -r /mnt/offsite copy --from-repo /srv/backup --tag nightly
#[derive(Args)]
pub struct Copy {
    /// The snapshots to copy
    #[arg(value_name = "SNAPSHOT")]
    ids: Vec<String>,
    /// Say what would be copied and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    from: FromArgs,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    store: StoreArgs,
}

impl Copy {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let (from, to) = self.open(global, ui)?;
        let ingest = self
            .store
            .options(global, self.dry_run)?
            .uploaders_for(to.repository.backend().as_ref());
        if from.repository.config().chunker_polynomial != to.repository.config().chunker_polynomial
        {
            ui.event(Event::Note("the two repositories cut files differently, so what is copied is not shared with what backups store here; a repository that is made with `init --copy-chunker-params` avoids this".into()));
        }
        // Far away, each round trip counts: nothing of the one repository waits for the other.
        let (source, destination) = both(
            || from.snapshots_and_index(ui, PackListing::Skip),
            || to.snapshots_and_index(ui, PackListing::Compare),
        );
        let (snapshots, from_index, _) = source?;
        let (there, to_index, report) = destination?;
        let selected = select::among(&snapshots.all, ui, &self.ids, &self.filter.filter())?;
        // One that can't be read might have been asked for; one that was named was found.
        let unread = match self.ids.as_slice() {
            [] => snapshots.damaged.len() as u64,
            _ => 0,
        };
        let to_index = RwLock::new(to_index);
        let to_marked: HashSet<Id> = report.marked_packs.into_iter().collect();
        let copier = Copier {
            from: &from.repository,
            from_index: &from_index,
            to: &to.repository,
            to_index: &to_index,
            to_marked: &to_marked,
            options: CopyOptions {
                readers: from.repository.backend().connections().max(workers()),
                ingest,
            },
            cancel: &to.cancel,
        };
        let plan = copier.plan(selected, &there.all)?;
        from.ensure()?;
        to.ensure()?;
        show_plan(ui, &plan, self.dry_run);
        let mut tally = Tally {
            skipped: plan.skipped.len() as u64,
            refused: plan.refused.len() as u64 + unread,
            data_blobs: plan.data_blobs,
            tree_blobs: plan.tree_blobs,
            ..Tally::default()
        };
        for refused in &plan.refused {
            refuse(ui, refused);
        }
        if self.dry_run {
            tally.copied = plan.snapshots.len() as u64;
            return tally.end(ui, self.dry_run);
        }
        let counters = Counters::default();
        let shown = Shown {
            noun: "packs",
            stored: true,
            totals_known: true,
        };
        let outcome = progress::during(ui, &counters, shown, || {
            copier.run(plan, to.lock.as_ref(), &counters)
        })?;
        for (source, copy) in &outcome.copied {
            if ui.json {
                ui.object(&json!({"message_type": "copied", "source_snapshot_id": source.to_string(), "snapshot_id": copy.to_string()}));
            } else {
                ui.say(format_args!(
                    "snapshot {} saved, a copy of {}",
                    copy.short(),
                    source.short()
                ));
            }
        }
        for refused in &outcome.refused {
            refuse(ui, refused);
        }
        tally.copied = outcome.copied.len() as u64;
        tally.refused += outcome.refused.len() as u64;
        tally.data_blobs = outcome.stored.data_blobs;
        tally.tree_blobs = outcome.stored.tree_blobs;
        tally.stored_bytes = outcome.stored.stored_bytes;
        tally.end(ui, self.dry_run)
    }

    /// Both repositories, opened at once: a key takes its time. Questions to the user come one after the other.
    fn open(&self, global: &Global, ui: &Ui) -> Result<(Session, Session), Failure> {
        // As with restic, --no-lock is for what is read.
        let (to_global, locking) = match self.dry_run {
            true => (global.clone(), Locking::Read),
            false => {
                let global = Global {
                    no_lock: false,
                    ..global.clone()
                };
                (global, Locking::Shared)
            }
        };
        let from = Closed::from(global, &self.from, ui, Locking::Read).map_err(of_source)?;
        let to = Closed::own(&to_global, ui, locking)?;
        let (from, to) = both(
            || from.open(global, ui, Start::Early),
            || to.open(&to_global, ui, Start::Early),
        );
        Ok((from.map_err(of_source)?, to?))
    }
}

/// The repository that a command reads from.
pub fn open_source(
    from: &FromArgs,
    global: &Global,
    ui: &Ui,
    locking: Locking,
) -> Result<Session, Failure> {
    Closed::from(global, from, ui, locking)
        .and_then(|closed| closed.open(global, ui, Start::Locked))
        .map_err(of_source)
}

/// What failed with the repository that a command reads from, in words that say so.
fn of_source(failure: Failure) -> Failure {
    let hint = match failure.exit {
        Exit::WrongPassword => Some(
            "every key of that repository was tried; its password comes from --from-password-file, --from-password-command or RESTIC_FROM_PASSWORD",
        ),
        Exit::NoRepository => Some("check --from-repo and RESTIC_FROM_REPOSITORY"),
        _ => None,
    };
    let failure = failure.while_doing("open the repository to read from");
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn show_plan(ui: &Ui, plan: &CopyPlan, dry_run: bool) {
    for (source, copy) in &plan.skipped {
        if ui.json {
            ui.object(&json!({"message_type": "skipped", "source_snapshot_id": source.to_string(), "snapshot_id": copy.to_string()}));
        } else if ui.verbose > 0 {
            let (source, copy) = (source.short(), copy.short());
            ui.say(format_args!("snapshot {source} is here already, as {copy}"));
        }
    }
    for (id, snapshot) in &plan.snapshots {
        show_snapshot(ui, *id, snapshot, dry_run);
    }
    if ui.json {
        ui.object(&json!({
            "message_type": "plan", "snapshots": plan.snapshots.len(), "data_blobs": plan.data_blobs, "tree_blobs": plan.tree_blobs,
            "source_bytes": plan.source_bytes, "source_packs": plan.packs(), "whole_packs": plan.whole_packs,
        }));
    } else if !plan.snapshots.is_empty() {
        let whole = match plan.whole_packs {
            0 => String::new(),
            whole => format!(", {whole} of them as they are"),
        };
        ui.say(format_args!(
            "{} {} and {}, {} in {}{whole}",
            if dry_run { "would copy" } else { "copy" },
            format::count(plan.data_blobs, "data blob"),
            format::count(plan.tree_blobs, "tree"),
            format::bytes(plan.source_bytes),
            format::count(plan.packs(), "pack")
        ));
    }
}

fn show_snapshot(ui: &Ui, id: Id, snapshot: &Snapshot, dry_run: bool) {
    if ui.json {
        let word = if dry_run { "would_copy" } else { "copying" };
        ui.object(&json!({"message_type": word, "source_snapshot_id": id.to_string(), "time": snapshot.time.to_string(), "hostname": snapshot.hostname, "paths": snapshot.paths}));
    } else {
        ui.say(format_args!(
            "{} snapshot {} of {} at {}: {}",
            if dry_run { "would copy" } else { "copy" },
            id.short(),
            snapshot.hostname,
            format::time(snapshot.time),
            snapshot.paths.join(" ")
        ));
    }
}

fn refuse(ui: &Ui, (id, why): &(Id, String)) {
    ui.event(Event::Problem(Problem {
        path: format!("snapshot {}", id.short()),
        doing: "copy".into(),
        why: why.clone(),
    }));
}

#[derive(Default)]
struct Tally {
    copied: u64,
    skipped: u64,
    refused: u64,
    data_blobs: u64,
    tree_blobs: u64,
    stored_bytes: u64,
}

impl Tally {
    fn end(&self, ui: &Ui, dry_run: bool) -> Outcome {
        if ui.json {
            ui.object(&json!({
                "message_type": "summary", "dry_run": dry_run, "copied_snapshots": self.copied, "skipped_snapshots": self.skipped,
                "failed_snapshots": self.refused, "data_blobs": self.data_blobs, "tree_blobs": self.tree_blobs, "data_added_packed": self.stored_bytes,
            }));
        } else {
            let copied = format::count(self.copied, "snapshot");
            let here = match self.skipped {
                0 => String::new(),
                1 => ", 1 was here already".to_owned(),
                several => format!(", {several} were here already"),
            };
            if dry_run {
                ui.say(format_args!("dry run: {copied} would be copied{here}"));
            } else {
                let stored = format::bytes(self.stored_bytes);
                ui.say(format_args!("copied {copied}{here}; {stored} stored"));
            }
        }
        if self.refused == 0 {
            return Ok(Exit::Done);
        }
        let refused = format::count(self.refused, "snapshot");
        let could = if dry_run { "can" } else { "could" };
        Err(Failure::new(format!("{refused} {could} not be copied")).hint("`lifeboat repo check --read-data` on the repository to read from names everything that is damaged there; what was copied is whole"))
    }
}
