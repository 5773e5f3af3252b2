//! `lifeboat db capture --logical`: the databases of a server as dumps, and its roles beside them.
//! It must never end with status 0 when a database was not dumped as a whole.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use lifeboat_flow::Counters;
use lifeboat_format::{Id, Snapshot};
use lifeboat_protect::BackupOptions;
use lifeboat_protect::postgres::{DumpCapture, DumpCaptureOutcome};
use lifeboat_state::postgres::client::Address;
use lifeboat_state::postgres::dump::Flag;
use serde_json::json;

use super::capture::say_added;
use super::name::MemberName;
use super::point::{Stored, Tie};
use super::verify::path_dirs;
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::format;
use crate::progress::{self, Shown, workers};
use crate::ui::Ui;

/// Dumps that run at once, at most; each takes two connections of the server.
const DUMPS_AT_ONCE_MAX: usize = 4;

/// The options of a logical capture.
#[derive(Args)]
#[command(next_help_heading = "Dumps")]
pub struct DumpArgs {
    /// Dump databases and roles instead of copying the files of the server
    #[arg(long, conflicts_with_all = ["data", "chunk_size", "remote"])]
    pub logical: bool,
    /// A database to dump, instead of all that are no templates; several by repeating it
    #[arg(long, value_name = "NAME", requires = "logical")]
    database: Vec<String>,
    /// The directory of pg_dump and its siblings, if they are in no usual place
    #[arg(long, value_name = "DIR", requires = "logical")]
    programs: Option<PathBuf>,
}

/// What every capture has.
pub struct Prepared<'a> {
    pub tie: Tie<'a>,
    pub address: &'a Address,
    pub before: Option<(Id, &'a Snapshot)>,
    pub options: BackupOptions,
    pub counters: &'a Counters,
}

impl DumpArgs {
    pub fn run(&self, prepared: Prepared<'_>, ui: &Ui) -> Outcome {
        let Prepared {
            tie,
            address,
            before,
            options,
            counters,
        } = prepared;
        let draft = tie.draft.clone();
        let (session, index, name) = (tie.session, tie.index, tie.name);
        ui.say("dumping the databases");
        let dry_run = options.ingest.dry_run;
        let capture = DumpCapture {
            repository: &session.repository,
            index,
            lock: session.lock.as_ref(),
            address,
            databases: &self.database,
            programs: self.programs.as_deref(),
            other_dirs: &path_dirs(),
            app: &name.app,
            member: &name.member,
            fleet: tie.fleet,
            before,
            options: BackupOptions {
                readers: workers().min(DUMPS_AT_ONCE_MAX),
                scan: false,
                ..options
            },
            counters,
            events: ui,
            cancel: &session.cancel,
        };
        let shown = Shown {
            noun: "dumps",
            stored: true,
            totals_known: false,
        };
        let began = Instant::now();
        let outcome = progress::during(ui, counters, shown, || {
            capture.run(draft, lifeboat_repo::now)
        })?;
        report(ui, name, dry_run, &outcome, began.elapsed());
        let stored = Stored {
            engine: &outcome.member.engine,
            instant: outcome.member.instant,
            faults: 0,
            tree: outcome.tree,
        };
        tie.write(ui, &stored)?;
        Ok(Exit::Done)
    }
}

fn report(
    ui: &Ui,
    name: &MemberName,
    dry_run: bool,
    outcome: &DumpCaptureOutcome,
    elapsed: Duration,
) {
    let (member, summary) = (&outcome.member, &outcome.summary);
    let databases = &member.logical.databases;
    let names: Vec<&str> = databases.iter().map(|dump| &*dump.database.name).collect();
    if ui.json {
        ui.object(&json!({
            "message_type": "summary", "dry_run": dry_run, "snapshot_id": outcome.snapshot.map(|id| id.to_string()),
            "name": name.to_string(), "kind": member.kind, "instant": member.instant, "databases": names, "flags": member.flags,
            "total_files_processed": summary.total_files_processed, "total_bytes_processed": summary.total_bytes_processed,
            "data_added": summary.data_added, "data_added_packed": summary.data_added_packed,
            "seconds_elapsed": elapsed.as_secs_f64(),
        }));
        return;
    }
    ui.say(format_args!(
        "dumped {} with {} in {} ({}) by pg_dump {}",
        format::count(databases.len() as u64, "database"),
        format::bytes(member.bytes),
        format::duration(elapsed),
        format::rate(member.bytes, elapsed),
        member.logical.dump_version
    ));
    say_added(ui, dry_run, summary);
    for Flag::Emptied { database } in &member.flags {
        ui.warn(format_args!(
            "no table of {database} has a row any more, and some had: the capture is marked, so that nothing older goes for it"
        ));
    }
    if let Some(id) = outcome.snapshot {
        ui.line(format_args!(
            "snapshot {} of {name}: PostgreSQL {}, {}, as of {}",
            id.short(),
            member.engine_version,
            names.join(", "),
            format::time(member.instant)
        ));
    }
}
