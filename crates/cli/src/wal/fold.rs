//! `lifeboat wal fold`: the archived log becomes a snapshot, which is smaller and which every restic can read.
//! It must never run beside another one, nor leave a file of the log in neither of the two places.

use std::sync::RwLock;

use clap::Args;
use lifeboat_format::{Id, Snapshot};
use lifeboat_plan::LogBound;
use lifeboat_protect::postgres::{Archive, Folded, captured};
use lifeboat_repo::{BlobReader, Identity, PackListing};
use serde_json::json;

use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::repo::session::{Locking, Session};
use crate::repo::store::StoreArgs;
use crate::ui::Ui;

/// Fold the archived log into a snapshot
///
/// The log lies beside what restic knows, a file for each segment. A fold is a snapshot of all of
/// it but the newest, with the path /wal/SYSTEM: restic copies, checks and restores it, and the
/// newest holds everything. What was folded is taken out of the log, and what no capture in the
/// repository needs is left out. `wal fetch` reads both. The repository is locked meanwhile;
/// servers go on archiving.
/// Example: lifeboat wal fold --dry-run
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Fold {
    /// Only this cluster, by its system identifier
    #[arg(long, value_name = "NUMBER")]
    system: Option<u64>,
    /// How many of the newest segments of each timeline are not folded
    #[arg(long, value_name = "N", default_value_t = 8)]
    unfolded: usize,
    /// The host that the snapshot names
    #[arg(short = 'H', long, env = "RESTIC_HOST", value_name = "NAME")]
    host: Option<String>,
    /// Say what would be folded and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    // Last, or its heading would stand over what follows.
    #[command(flatten)]
    store: StoreArgs,
}

impl Fold {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let ingest = self.store.options(global, self.dry_run)?;
        let locking = match self.dry_run {
            true => Locking::Read,
            false => Locking::Exclusive,
        };
        let session = Session::open(global, ui, locking)?;
        ui.enter("fold");
        let (snapshots, index, _) = session.snapshots_and_index(ui, PackListing::Compare)?;
        if !snapshots.damaged.is_empty() {
            return Err(Failure::new(
                "a snapshot can't be read: it may be a fold, or a capture that needs some of the log",
            )
            .hint("`lifeboat repo check` says more; nothing was changed"));
        }
        let captures = captured(
            &BlobReader::new(&session.repository, &index),
            &snapshots.all,
        )?;
        let clusters = match self.system {
            Some(system) => vec![system],
            None => Archive::clusters(&session.repository)
                .map_err(|error| Failure::of_database(&error))?,
        };
        if clusters.is_empty() && !ui.json {
            ui.line("no cluster archives into this repository");
        }
        let index = RwLock::new(index);
        for system_id in clusters {
            let of_it = captures.iter().map(|found| &found.capture);
            let of_it = of_it.filter(|capture| capture.system == system_id);
            let fold = lifeboat_protect::postgres::Fold {
                repository: &session.repository,
                index: &index,
                lock: session.lock.as_ref(),
                snapshots: &snapshots.all,
                system_id,
                bound: LogBound::of(of_it),
                unfolded: self.unfolded,
                ingest: ingest.uploaders_for(&**session.repository.backend()),
                cancel: &session.cancel,
            };
            ui.say(format_args!("folding the log of the cluster {system_id}"));
            let done = fold.run(self.draft(), lifeboat_repo::now, self.dry_run)?;
            self.report(ui, system_id, &done);
        }
        Ok(Exit::Done)
    }

    fn draft(&self) -> Snapshot {
        let who = Identity::of_this_process();
        let hostname = self.host.clone().filter(|host| !host.is_empty());
        Snapshot {
            time: lifeboat_repo::now(),
            parent: None,
            tree: Id::default(),
            paths: Vec::new(),
            hostname: hostname.unwrap_or(who.hostname),
            username: who.username,
            uid: who.uid,
            gid: who.gid,
            excludes: Vec::new(),
            tags: Vec::new(),
            original: None,
            whole: None,
            program_version: concat!("lifeboat ", env!("CARGO_PKG_VERSION")).to_owned(),
            summary: None,
        }
    }

    fn report(&self, ui: &Ui, system_id: u64, done: &Folded) {
        let plan = &done.plan;
        if ui.json {
            ui.object(&json!({
                "message_type": "fold", "dry_run": self.dry_run, "system_id": system_id.to_string(), "add": plan.add, "again": plan.again,
                "expire": plan.expire, "kept": plan.keep.len(), "snapshot_id": done.snapshot.map(|id| id.to_string()),
                "data_added": done.stored.plain_bytes, "data_added_packed": done.stored.stored_bytes,
                "taken_out": done.taken_out, "snapshots_removed": done.removed,
            }));
            return;
        }
        let count = |number: usize| format::count(number as u64, "file");
        let would = if self.dry_run { "would fold" } else { "folded" };
        let range = match (plan.add.first(), plan.add.last()) {
            (Some(first), Some(last)) => format!(", {first} to {last}"),
            _ => String::new(),
        };
        ui.say(format_args!(
            "{would} {}{range}, beside {}; {} expired",
            count(plan.add.len()),
            count(plan.keep.len()),
            count(plan.expire.len())
        ));
        if let Some(id) = done.snapshot {
            ui.line(format_args!(
                "snapshot {} of /wal/{system_id}: {}, stored as {}; took {} out of the log and removed {}",
                id.short(),
                format::bytes(done.stored.plain_bytes),
                format::bytes(done.stored.stored_bytes),
                format::count(done.taken_out, "file"),
                format::count(done.removed, "older fold")
            ));
        }
    }
}
