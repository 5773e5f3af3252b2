//! `lifeboat db capture`: the files of a running PostgreSQL cluster with the log that makes them consistent.
//! It must never end with status 0 when the capture could not be recovered, or holds what is damaged.

use std::path::PathBuf;
use std::sync::RwLock;
use std::time::{Duration, Instant};

use clap::Args;
use lifeboat_flow::Counters;
use lifeboat_format::{Id, Snapshot, SnapshotSummary};
use lifeboat_protect::postgres::{CaptureOutcome, CaptureStage};
use lifeboat_protect::{BackupOptions, tags_of};
use lifeboat_repo::{Identity, PackListing};
use serde_json::json;

use super::dump::{DumpArgs, Prepared};
use super::name::MemberName;
use super::point::{self, Stored, Tie};
use super::server::ServerArgs;
use super::which::{filter, newest};
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::progress::{self, Shown, workers};
use crate::repo::session::{Locking, Session};
use crate::repo::store::StoreArgs;
use crate::ui::Ui;

/// Files that are read at once, at least.
const READERS_MIN: usize = 2;
/// What a chunk of relations may be long, in KiB.
const CHUNK_MIN_KIB: usize = 8;
const CHUNK_MAX_KIB: usize = 1024;

/// Capture a PostgreSQL cluster while it runs, or its databases as dumps
///
/// The server is put into backup mode, its files are read and their checksums compared, and the log
/// from beginning to end is taken along: the capture can be recovered by itself. Run it on the machine
/// of the server, as its user or root; with --remote, from anywhere, as a role with the attribute
/// REPLICATION. With --logical its databases are dumped by pg_dump, from any machine, each as of its
/// own instant. Examples:
///   lifeboat db capture --postgres postgresql://postgres@/postgres --name memos/db
///   lifeboat db capture --remote --postgres postgresql://copier@db/postgres --name memos/db
///   lifeboat db capture --logical --postgres postgresql://me@db/postgres --name memos/dumps
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Capture {
    /// The data directory, if it is not where the server says
    #[arg(long, value_name = "DIR", help_heading = "The server")]
    data: Option<PathBuf>,
    /// Let the server send its files over the connection (PostgreSQL 15 or newer): for one whose files are not at hand
    #[arg(long, conflicts_with = "data", help_heading = "The server")]
    remote: bool,
    /// What the capture is called: an app, and the database's name in it
    #[arg(
        long,
        value_name = "APP/MEMBER",
        default_value = "postgres/cluster",
        help_heading = "The capture"
    )]
    name: MemberName,
    /// The host that the snapshot names
    #[arg(
        short = 'H',
        long,
        env = "RESTIC_HOST",
        value_name = "NAME",
        help_heading = "The capture"
    )]
    host: Option<String>,
    /// Length of the chunks that tables are cut into, in KiB, a power of two from 8 to 1024; what is stored already is
    /// shared only with captures of the same length
    #[arg(long, value_name = "KIB", help_heading = "How to store")]
    chunk_size: Option<usize>,
    /// Do everything but store, and say what would be added
    #[arg(short = 'n', long)]
    dry_run: bool,
    // Last, or their headings would stand over what follows.
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    dumps: DumpArgs,
    #[command(flatten)]
    store: StoreArgs,
}

impl Capture {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let ingest = self.store.options(global, self.dry_run)?;
        let chunk_bytes = self.chunk_bytes()?;
        let address = self.server.address()?;
        let who = Identity::of_this_process();
        let hostname = self.host.clone().filter(|host| !host.is_empty());
        let hostname = hostname.unwrap_or_else(|| who.hostname.clone());
        let locking = match self.dry_run {
            true => Locking::None,
            false => Locking::Shared,
        };
        let session = Session::open_early(global, ui, locking)?;
        ui.enter("capture");
        let (snapshots, index, _) = session.snapshots_and_index(ui, PackListing::Compare)?;
        let same = filter(vec![hostname.clone()], &self.name);
        let before = newest(&snapshots.all, &same, lifeboat_repo::now());
        let fleet = point::fleet(&session, &hostname, self.dry_run)?;
        let index = RwLock::new(index);
        let counters = Counters::default();
        let is_watched = ui.is_terminal && !ui.json && !ui.quiet;
        let options = BackupOptions {
            parent: None,
            changed: None,
            change_rule: lifeboat_protect::ChangeRule::default(),
            skip_if_unchanged: false,
            refuse_empty: true,
            workers: workers(),
            readers: workers().max(READERS_MIN),
            scan: is_watched,
            ingest: ingest.uploaders_for(&**session.repository.backend()),
        };
        let shown = Shown {
            noun: "files",
            stored: true,
            totals_known: options.scan,
        };
        let stage = |stage: CaptureStage| {
            ui.say(match stage {
                CaptureStage::Checkpoint => "waiting for the server's checkpoint",
                CaptureStage::Files if self.remote => "receiving the data directory",
                CaptureStage::Files => "reading the data directory",
                CaptureStage::Log => "taking the log along",
            });
        };
        let draft = Snapshot {
            time: lifeboat_repo::now(),
            parent: None,
            tree: Id::default(),
            paths: vec![self.name.path()],
            hostname,
            username: who.username,
            uid: who.uid,
            gid: who.gid,
            excludes: Vec::new(),
            tags: fleet
                .as_ref()
                .map_or_else(Vec::new, |fleet| tags_of(&self.name.app, fleet)),
            original: None,
            whole: None,
            program_version: concat!("lifeboat ", env!("CARGO_PKG_VERSION")).to_owned(),
            summary: None,
        };
        let tie = Tie {
            name: &self.name,
            session: &session,
            index: &index,
            ingest,
            fleet: fleet.as_ref(),
            known: &snapshots.all,
            draft: draft.clone(),
        };
        if self.dumps.logical {
            return self.dumps.run(
                Prepared {
                    tie,
                    address: &address,
                    before,
                    options,
                    counters: &counters,
                },
                ui,
            );
        }
        let capture = lifeboat_protect::postgres::Capture {
            repository: &session.repository,
            index: &index,
            lock: session.lock.as_ref(),
            address: &address,
            data: self.data.as_deref(),
            app: &self.name.app,
            member: &self.name.member,
            fleet: fleet.as_ref(),
            chunk_bytes,
            before,
            options,
            counters: &counters,
            events: ui,
            stage: &stage,
            cancel: &session.cancel,
        };
        let began = Instant::now();
        let outcome = progress::during(ui, &counters, shown, || match self.remote {
            true => capture.run_remote(draft, lifeboat_repo::now),
            false => capture.run(draft, lifeboat_repo::now),
        })?;
        self.report(ui, &outcome, began.elapsed());
        let stored = Stored {
            engine: &outcome.member.engine,
            instant: outcome.member.instant,
            faults: outcome.member.faults_count,
            tree: outcome.tree,
        };
        tie.write(ui, &stored)?;
        Ok(match outcome.member.faults_count {
            0 => Exit::Done,
            _ => Exit::Incomplete,
        })
    }

    fn chunk_bytes(&self) -> Result<Option<usize>, Failure> {
        let Some(kib) = self.chunk_size else {
            return Ok(None);
        };
        if !kib.is_power_of_two() || !(CHUNK_MIN_KIB..=CHUNK_MAX_KIB).contains(&kib) {
            return Err(Failure::new(format!(
                "--chunk-size {kib} is no power of two from {CHUNK_MIN_KIB} to {CHUNK_MAX_KIB}"
            )));
        }
        Ok(Some(kib * 1024))
    }

    fn report(&self, ui: &Ui, outcome: &CaptureOutcome, elapsed: Duration) {
        let (member, summary) = (&outcome.member, &outcome.summary);
        let postgres = &member.postgres;
        if ui.json {
            ui.object(&json!({
                "message_type": "summary", "dry_run": self.dry_run, "snapshot_id": outcome.snapshot.map(|id| id.to_string()),
                "name": self.name.to_string(), "instant": member.instant, "system_id": postgres.system_id, "timeline": postgres.timeline,
                "start_lsn": postgres.start_lsn, "stop_lsn": postgres.stop_lsn, "segments": outcome.segments,
                "total_files_processed": summary.total_files_processed, "total_bytes_processed": summary.total_bytes_processed,
                "data_added": summary.data_added, "data_added_packed": summary.data_added_packed,
                "page_checksums": postgres.page_checksums, "faults": member.faults_count, "seconds_elapsed": elapsed.as_secs_f64(),
            }));
            return;
        }
        ui.say(format_args!(
            "read {} with {} in {} ({}), {} of log",
            format::count(summary.total_files_processed, "file"),
            format::bytes(summary.total_bytes_processed),
            format::duration(elapsed),
            format::rate(summary.total_bytes_processed, elapsed),
            format::count(outcome.segments, "segment")
        ));
        say_added(ui, self.dry_run, summary);
        if !postgres.page_checksums {
            ui.warn("the cluster has no page checksums: damage on its disk can't be seen; `pg_checksums --enable` makes them");
        }
        if member.faults_count > 0 {
            ui.warn(format_args!(
                "{} found: the capture holds what is there, and is marked as damaged",
                format::count(member.faults_count, "fault")
            ));
        }
        if let Some(id) = outcome.snapshot {
            ui.line(format_args!(
                "snapshot {} of {}: PostgreSQL {}, timeline {}, {} to {}, as of {}",
                id.short(),
                self.name,
                member.engine_version,
                postgres.timeline,
                postgres.start_lsn,
                postgres.stop_lsn,
                format::time(member.instant)
            ));
        }
    }
}

/// Says what a capture stores, or would.
pub fn say_added(ui: &Ui, dry_run: bool, summary: &SnapshotSummary) {
    let added = match dry_run {
        true => "would add",
        false => "added",
    };
    ui.say(format_args!(
        "{added} {}, stored as {}",
        format::bytes(summary.data_added),
        format::bytes(summary.data_added_packed)
    ));
}
