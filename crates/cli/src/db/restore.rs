//! `lifeboat db restore`: a capture becomes a data directory that a server recovers from when it starts.
//! It must never write into a place that holds something, nor let a server start on half of a cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use lifeboat_flow::Counters;
use lifeboat_protect::postgres::{
    ClusterPlan, ClusterRestore, ClusterTarget, Found, member_of, plan,
};
use lifeboat_repo::{BlobReader, PackListing};
use lifeboat_state::postgres::Member;
use lifeboat_state::postgres::recovery::{Action, Recovery, RecoveryTarget, RecoveryTimeline};
use serde_json::json;

use super::name::MemberName;
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::progress::{self, Shown, workers};
use crate::repo::select::{self, Filter};
use crate::repo::session::{Locking, Session};
use crate::ui::Ui;

/// Restore a captured PostgreSQL cluster into a new data directory
///
/// The server is not started: when it is, it replays the log that is in the capture, and then it is where the capture ended.
/// The archive of the original is switched off in what is restored. Examples:
///   lifeboat db restore --name memos/db --target /var/lib/postgresql/15/restored
///   lifeboat db restore 4bba301e --target /srv/pg --tablespace /mnt/fast=/srv/pg-fast --dry-run
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Restore {
    /// The capture: the ID of its snapshot, `latest` or `latest~1`
    #[arg(value_name = "SNAPSHOT", default_value = "latest")]
    snapshot: String,
    /// What the capture is called, for `latest`
    #[arg(long, value_name = "APP/MEMBER", default_value = "postgres/cluster")]
    name: MemberName,
    /// The host that the snapshot names
    #[arg(short = 'H', long, env = "RESTIC_HOST", value_name = "NAME")]
    host: Option<String>,
    /// The data directory that is made; it must be empty or not there
    #[arg(short, long, value_name = "DIR")]
    target: PathBuf,
    /// Another place for a tablespace; several by repeating it
    #[arg(long, value_name = "OLD=NEW", value_parser = mapping)]
    tablespace: Vec<(PathBuf, PathBuf)>,
    /// A directory for all tablespaces that have no other place, each in one of its own
    #[arg(long, value_name = "DIR")]
    tablespaces_below: Option<PathBuf>,
    /// Say what would be done and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
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
        let hosts = self.host.iter().filter(|host| !host.is_empty()).cloned();
        let filter = Filter::new(hosts.collect(), Vec::new(), vec![self.name.path()]);
        let found = select::one(&session, ui, &self.snapshot, &filter)?;
        let (index, _) = session.index(ui, PackListing::Skip)?;
        let reader = BlobReader::new(&session.repository, &index);
        let member = member_of(&reader, found.snapshot.tree)?;
        session.ensure()?;
        let plan =
            plan(&member, &self.target()?, look).map_err(|error| Failure::of_database(&error))?;
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
                "message_type": "summary", "target": self.target.to_string_lossy(), "snapshot_id": found.id.to_string(), "instant": member.instant,
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
            self.target.display(),
            member.engine_version,
            format::time(member.instant)
        ));
        Ok(Exit::Done)
    }

    fn target(&self) -> Result<ClusterTarget, Failure> {
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
            data: absolute(&self.target)?,
            spaces,
            spaces_below: self
                .tablespaces_below
                .as_deref()
                .map(absolute)
                .transpose()?,
            recovery: Some(Recovery {
                target: RecoveryTarget::Immediate,
                is_inclusive: true,
                timeline: RecoveryTimeline::Current,
                action: Action::Promote,
                restore_command: None,
            }),
        })
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
                "{} was found when it was captured; the first: {}",
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
fn look(path: &Path) -> Found {
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
