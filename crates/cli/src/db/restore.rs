//! `lifeboat db restore`: a capture becomes a data directory that a server recovers from when it starts.
//! It must never write into a place that holds something, nor let a server start on half of a cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use lifeboat_flow::Counters;
use lifeboat_protect::postgres::{
    Archive, ClusterPlan, ClusterRestore, ClusterTarget, Found, Holdings, plan, record_of,
};
use lifeboat_repo::{BlobReader, PackListing};
use lifeboat_state::postgres::dump::Record;
use lifeboat_state::postgres::{Member, SegmentBytes, Timeline, way};
use serde_json::json;

use super::into::{IntoArgs, Restoring};
use super::until::UntilArgs;
use super::which::WhichArgs;
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::progress::{self, Shown, workers};
use crate::repo::session::{Locking, Session};
use crate::ui::Ui;

/// Restore a captured PostgreSQL cluster into a new data directory, or dumped databases into a server
///
/// The server is not started: when it is, it replays the log that is in the capture, and then it is
/// where the capture ended. The archive of the original is switched off in what is restored. Of a
/// logical capture the dumps become files, or with --into new databases of a server that runs.
/// Examples:
///   lifeboat db restore --name memos/db --target /var/lib/postgresql/15/restored
///   lifeboat db restore 4bba301e --target /srv/pg --tablespace /mnt/fast=/srv/pg-fast --dry-run
///   lifeboat db restore --name memos/dumps --into postgresql://postgres@/postgres --database memos
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Restore {
    #[command(flatten)]
    which: WhichArgs,
    /// The directory that is made, for the data or the dumps; it must be empty or not there
    #[arg(short, long, value_name = "DIR", required_unless_present = "into")]
    target: Option<PathBuf>,
    /// Another place for a tablespace; several by repeating it
    #[arg(long, value_name = "OLD=NEW", value_parser = mapping)]
    tablespace: Vec<(PathBuf, PathBuf)>,
    /// A directory for all tablespaces that have no other place, each in one of its own
    #[arg(long, value_name = "DIR")]
    tablespaces_below: Option<PathBuf>,
    /// Say what would be done and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    // Last, or its heading would stand over what follows.
    #[command(flatten)]
    until: UntilArgs,
    #[command(flatten)]
    into: IntoArgs,
}

fn mapping(text: &str) -> Result<(PathBuf, PathBuf), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => Ok((old.into(), new.into())),
        _ => Err("it must be OLD=NEW".to_owned()),
    }
}

impl Restore {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let session = Session::open_early(global, ui, Locking::Read)?;
        ui.enter("restore");
        let found = self.which.find(&session, ui, self.until.time()?)?;
        let (index, _) = session.index(ui, PackListing::Skip)?;
        let reader = BlobReader::new(&session.repository, &index);
        let record = record_of(&reader, found.snapshot.tree)?;
        session.ensure()?;
        let member = match record {
            Record::Physical(member) => member,
            Record::Logical(member) => {
                self.only_for_physical()?;
                let restoring = Restoring {
                    session: &session,
                    index: &index,
                    id: found.id,
                    tree: found.snapshot.tree,
                    member: &member,
                    memory_bytes: global.memory_bytes()?,
                    dry_run: self.dry_run,
                };
                return self.into.run(&restoring, self.target.as_deref(), ui);
            }
        };
        let target = match &self.target {
            Some(target) if !self.into.is_used() => target,
            _ => {
                return Err(Failure::new(
                    "this is a physical capture: it has the files of a whole cluster, and no dumps of databases",
                )
                .hint("restore it into a data directory with --target DIR alone"));
            }
        };
        let plan = plan(&member, &self.place(&member, target, global)?, look)
            .map_err(|error| Failure::of_database(&error))?;
        if self.until.needs_archive() {
            self.check_log(&session, ui, &member)?;
        }
        self.say_plan(ui, &member, &plan);
        if self.dry_run {
            return Ok(Exit::Done);
        }
        let counters = Counters::default();
        let restore = ClusterRestore {
            repository: &session.repository,
            index: &index,
            tree: found.snapshot.tree,
            workers: workers(),
            memory_bytes: global.memory_bytes()?,
            counters: &counters,
            events: ui,
            cancel: &session.cancel,
        };
        let began = Instant::now();
        let shown = Shown {
            noun: "files",
            stored: false,
            totals_known: true,
        };
        let done = progress::during(ui, &counters, shown, || restore.run(&plan))?;
        let elapsed = began.elapsed();
        if ui.json {
            ui.object(&json!({
                "message_type": "summary", "target": target.to_string_lossy(), "snapshot_id": found.id.to_string(), "instant": member.instant,
                "total_files": done.entries, "total_bytes": done.bytes, "seconds_elapsed": elapsed.as_secs_f64(),
            }));
            return Ok(Exit::Done);
        }
        ui.say(format_args!(
            "restored {}, {} in {} ({})",
            format::count(done.entries, "entry"),
            format::bytes(done.bytes),
            format::duration(elapsed),
            format::rate(done.bytes, elapsed)
        ));
        ui.line(format_args!(
            "{} is ready: start PostgreSQL {} on it, and it recovers to {}",
            target.display(),
            member.engine_version,
            match self.until.needs_archive() {
                true => "where you said".to_owned(),
                false => format::time(member.instant),
            }
        ));
        Ok(Exit::Done)
    }

    /// What says something of a data directory says nothing of dumps.
    fn only_for_physical(&self) -> Result<(), Failure> {
        let is_for_files = !self.tablespace.is_empty() || self.tablespaces_below.is_some();
        if !is_for_files && !self.until.needs_archive() {
            return Ok(());
        }
        Err(Failure::new(
            "this is a logical capture: it has dumps, each as of its own instant, and neither a log nor tablespaces",
        )
        .hint("leave out how far to recover and where tablespaces go, or name a physical capture"))
    }

    fn place(
        &self,
        member: &Member,
        target: &Path,
        global: &Global,
    ) -> Result<ClusterTarget, Failure> {
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|error| {
                Failure::from_error(&error).while_doing(format_args!("find {}", path.display()))
            })
        };
        let mut spaces = BTreeMap::new();
        for (old, new) in &self.tablespace {
            spaces.insert(old.clone(), absolute(new)?);
        }
        Ok(ClusterTarget {
            data: absolute(target)?,
            spaces,
            spaces_below: self
                .tablespaces_below
                .as_deref()
                .map(absolute)
                .transpose()?,
            recovery: Some(self.until.recovery(member, global)?),
        })
    }

    /// Looks whether the log from the capture on has holes, before anything is restored that would stop at one.
    fn check_log(&self, session: &Session, ui: &Ui, member: &Member) -> Result<(), Failure> {
        let postgres = &member.postgres;
        let (Ok(system_id), Some(from)) = (postgres.system_id.parse(), postgres.log_after()) else {
            return Err(Failure::new(
                "the record of the capture does not tell its cluster and its end",
            ));
        };
        let size = SegmentBytes::new(postgres.segment_bytes);
        let holdings = Archive::new(&session.repository, system_id)
            .heeding(&session.cancel)
            .inventory(size);
        let Holdings {
            inventory,
            histories,
        } = match holdings.map_err(|error| Failure::of_database(&error))? {
            Some(holdings) if holdings.inventory.timelines().next().is_some() => holdings,
            _ if self.until.has_own_command() => return Ok(()),
            _ => {
                return Err(Failure::new(format!("nothing of the log of the cluster {system_id} is archived in this repository"))
                    .hint("leave out how far to recover, and the capture alone is recovered; or say with --restore-command where the log is"));
            }
        };
        let own = Timeline(postgres.timeline);
        let way = way(own, from, self.until.timeline(), &histories).ok_or_else(|| {
            Failure::new(format!("no history leads from timeline {own} of the capture to the timeline that is asked for"))
        })?;
        for gap in inventory.missing(&way) {
            let begins = gap.first.start(size.unwrap_or(SegmentBytes::DEFAULT));
            let text = match gap.first == gap.last {
                true => format!("the archive lacks {}", gap.first),
                false => format!("the archive lacks {} to {}", gap.first, gap.last),
            };
            match self.until.needs_all_until() {
                // Who says how the server gets the log may have it elsewhere.
                _ if self.until.has_own_command() => ui.warn(text),
                None => ui.warn(format_args!("{text}; a recovery that comes there stops")),
                Some(Some(lsn)) if begins.is_some_and(|begins| lsn < begins) => {}
                Some(_) => {
                    return Err(Failure::new(format!(
                        "{text}, and the recovery would have to pass it"
                    ))
                    .hint(
                        "recover to a moment or position before it with --to-time or --to-lsn, or from a later capture",
                    ));
                }
            }
        }
        Ok(())
    }

    fn say_plan(&self, ui: &Ui, member: &Member, plan: &ClusterPlan) {
        if ui.json {
            if self.dry_run {
                let steps: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
                ui.object(
                    &json!({ "message_type": "plan", "instant": member.instant, "steps": steps }),
                );
            }
            return;
        }
        ui.say(format_args!(
            "capture of {}/{} as of {}: PostgreSQL {}, system {}, timeline {}",
            member.app,
            member.member,
            format::time(member.instant),
            member.engine_version,
            member.postgres.system_id,
            member.postgres.timeline
        ));
        if member.faults_count > 0 {
            ui.warn(format_args!(
                "it was captured with {}, the first: {}",
                format::count(member.faults_count, "fault"),
                member.faults.first().map_or("not kept", String::as_str)
            ));
        }
        for step in plan.steps.iter().filter(|_| self.dry_run) {
            ui.line(step);
        }
    }
}

/// What is at a path: a directory that can't be looked into counts as full.
pub fn look(path: &Path) -> Found {
    match std::fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            None => Found::Nothing,
            Some(_) => Found::Something,
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => match path.is_symlink() {
            true => Found::Something,
            false => Found::Nothing,
        },
        Err(_) => Found::Something,
    }
}
