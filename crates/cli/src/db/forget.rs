//! `lifeboat db forget`: captures and log go that no instant of a recovery window needs any more.
//! It must never remove what it did not say, nor say nothing when it keeps everything.

use std::collections::BTreeSet;

use clap::Args;
use lifeboat_plan::{
    ClusterCapture, LogPlan, StayReason, Window, WindowFacts, WindowPlan, interleaved, keep_window,
};
use lifeboat_protect::path_of;
use lifeboat_protect::postgres::{Captured, add_logs, captured, expire, naming_points};
use lifeboat_repo::{BlobReader, PackListing};
use serde_json::{Value, json};

use super::name::MemberName;
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::repo::session::{Locking, Session};
use crate::ui::Ui;

/// Remove captures and log that no recovery into a window needs
///
/// What stays: the newest good capture from before the window, all later ones, and all log from the
/// first of them on. So any instant of the window can be recovered. The newest good capture is never
/// removed, and while the newest one is damaged nothing is. The space of captures comes back by
/// `lifeboat repo prune`.
/// Example: lifeboat db forget --name memos/db --window 14d --dry-run
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Forget {
    /// What the captures are called
    #[arg(long, value_name = "APP/MEMBER", default_value = "postgres/cluster")]
    name: MemberName,
    /// How far back any instant can be recovered, as `14d`: weeks w, days d, hours h, seconds s
    #[arg(long, value_name = "LENGTH")]
    window: String,
    /// The host that the snapshots name; several by repeating it, if they are of one member
    #[arg(short = 'H', long, env = "RESTIC_HOST", value_name = "NAME")]
    host: Vec<String>,
    /// The fleet whose captures may go, if there are those of several
    #[arg(long, value_name = "UUID")]
    fleet: Option<String>,
    /// Say what would be removed and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl Forget {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let window: Window = self
            .window
            .parse()
            .map_err(|error| Failure::from_error(&error).while_doing("--window"))?;
        let locking = match self.dry_run {
            true => Locking::Read,
            false => Locking::Exclusive,
        };
        let session = Session::open(global, ui, locking)?;
        ui.enter("forget");
        let facts = self.facts(&session, ui)?;
        let plan = keep_window(facts, window, lifeboat_repo::now());
        match ui.json {
            true => ui.object(&self.to_json(&plan)),
            false => self.show(ui, &plan),
        }
        if let Some(newest) = &plan.frozen {
            let id = newest.id.short();
            let message = format!(
                "nothing is removed: the newest capture of {}, {id}, is damaged",
                self.name
            );
            return Err(Failure::new(message).hint(format!(
                "capture it again; or remove the damaged one with `lifeboat repo forget {id}`"
            )));
        }
        let Some(lock) = session.lock.as_ref().filter(|_| !self.dry_run) else {
            return Ok(Exit::Done);
        };
        let done = expire(&plan, &session.repository, lock, &session.cancel)?;
        match ui.json {
            true => ui.object(&json!({
                "message_type": "summary", "snapshots_removed": done.snapshots, "log_files_removed": done.log_files,
            })),
            false => ui.say(format_args!(
                "removed {} and {} of the log; what only they needed stays until it is pruned",
                format::count(done.snapshots, "snapshot"),
                format::count(done.log_files, "file")
            )),
        }
        Ok(Exit::Done)
    }

    /// The captures in the repository, those of the member apart, and the log of their clusters.
    fn facts(&self, session: &Session, ui: &Ui) -> Result<WindowFacts, Failure> {
        let (snapshots, index, _) = session.snapshots_and_index(ui, PackListing::Skip)?;
        if !snapshots.damaged.is_empty() {
            let count = format::count(snapshots.damaged.len() as u64, "snapshot");
            return Err(Failure::new(format!(
                "{count} can't be read, and nobody knows which log that needs"
            ))
            .hint("`lifeboat repo check` says more; nothing was removed"));
        }
        let reader = BlobReader::new(&session.repository, &index);
        let all = captured(&reader, &snapshots.all)?;
        let hosts: Vec<&String> = self.host.iter().filter(|host| !host.is_empty()).collect();
        let path = self.name.path();
        let is_of_host = |found: &Captured| hosts.is_empty() || hosts.contains(&&found.hostname);
        let (own, others): (Vec<Captured>, Vec<Captured>) = all
            .into_iter()
            .partition(|found| found.path == path && is_of_host(found));
        let Some(newest) = own.iter().max_by_key(|found| found.capture.completed) else {
            return Err(
                Failure::new(format!("there is no capture of {}", self.name))
                    .hint("`lifeboat repo snapshots --tag lifeboat` lists all captures"),
            );
        };
        let from: BTreeSet<&str> = own.iter().map(|found| found.hostname.as_str()).collect();
        if hosts.is_empty() && from.len() > 1 {
            let from: Vec<&str> = from.into_iter().collect();
            let message = format!(
                "captures of {} are from several hosts: {}",
                self.name,
                from.join(", ")
            );
            return Err(Failure::new(message).hint(
                "say with --host which to look at; repeat it for those that captured the same member",
            ));
        }
        let fleets: BTreeSet<&String> = own
            .iter()
            .filter_map(|found| found.capture.fleet.as_ref())
            .collect();
        let fleet = match (&self.fleet, fleets.len()) {
            (Some(fleet), _) if fleets.contains(fleet) => Some(fleet.clone()),
            (Some(fleet), _) => {
                let known: Vec<&str> = fleets.into_iter().map(String::as_str).collect();
                let message = format!("no capture of {} is of the fleet {fleet}", self.name);
                return Err(Failure::new(message).hint(match known.as_slice() {
                    [] => "they are of none".to_owned(),
                    known => format!("they are of {}", known.join(", ")),
                }));
            }
            (None, 0 | 1) => fleets.first().map(|fleet| (*fleet).clone()),
            (None, _) => {
                let newest = newest.capture.fleet.as_deref().unwrap_or("none");
                let message = format!(
                    "captures of {} belong to several fleets; that of the newest is {newest}",
                    self.name
                );
                return Err(Failure::new(message).hint("say with --fleet whose captures may go"));
            }
        };
        let hosts = own.iter().map(|found| found.hostname.clone()).collect();
        let of_app = path_of(&self.name.app);
        let captures =
            |found: Vec<Captured>| found.into_iter().map(|found| found.capture).collect();
        let mut facts = WindowFacts {
            captures: captures(own),
            others: captures(others),
            fleet,
            points: naming_points(&reader, &snapshots.all, &of_app, &hosts)
                .map_err(|error| Failure::of_database(&error))?,
            ..WindowFacts::default()
        };
        if let Some((one, other)) = interleaved(&facts.captures) {
            return Err(Failure::new(format!(
                "captures of {} are of two clusters at the same time, {one} and {other}, and each may need its own",
                self.name
            ))
            .hint(
                "give each cluster a name of its own; old captures can be removed with `lifeboat repo forget`",
            ));
        }
        add_logs(&reader, &snapshots.all, &mut facts, &session.cancel)?;
        Ok(facts)
    }

    fn show(&self, ui: &Ui, plan: &WindowPlan) {
        let begins = format::time(plan.begins);
        ui.say(format_args!(
            "window of {}: {} back, to {begins}",
            self.name, self.window
        ));
        let count = |number: usize, noun| format::count(number as u64, noun);
        ui.say(format_args!("keep {}:", count(plan.keep.len(), "capture")));
        for (capture, reason) in &plan.keep {
            ui.say(format_args!("  {}, {reason}", line(capture)));
        }
        if plan
            .keep
            .iter()
            .any(|(_, reason)| *reason == StayReason::Future)
        {
            ui.warn("captures are later than now: a clock is wrong, here or where they were made");
        }
        if plan.left_alone > 0 {
            ui.say(format_args!(
                "{} of another fleet, or of none, left alone",
                count(plan.left_alone, "capture")
            ));
        }
        let would = if self.dry_run {
            "would remove"
        } else {
            "remove"
        };
        if !plan.remove.is_empty() {
            ui.say(format_args!(
                "{would} {}:",
                count(plan.remove.len(), "capture")
            ));
            for capture in &plan.remove {
                ui.say(format_args!("  {}", line(capture)));
            }
        }
        if !plan.points.is_empty() {
            ui.say(format_args!(
                "{would} {} of them",
                count(plan.points.len(), "recovery point")
            ));
        }
        for log in &plan.logs {
            ui.say(format_args!(
                "log of the cluster {}: {}",
                log.system,
                describe(log, would)
            ));
        }
        let Some(reach) = &plan.reach else {
            return;
        };
        let oldest = format::time(reach.oldest);
        let newest = format::time(reach.newest);
        ui.say(match &reach.log_until {
            Some(segment) => format!(
                "recoverable afterwards: from {oldest} to {newest}, and on along the log to the end of {segment}"
            ),
            None => format!("recoverable afterwards: from {oldest} to {newest}"),
        });
    }

    fn to_json(&self, plan: &WindowPlan) -> Value {
        let object = |capture: &ClusterCapture| {
            json!({
                "snapshot_id": capture.id.to_string(), "completed": capture.completed, "system_id": capture.system.to_string(),
                "timeline": capture.timeline, "damaged": capture.is_damaged,
            })
        };
        let keep = plan.keep.iter().map(
            |(capture, reason)| json!({ "capture": object(capture), "reason": reason.to_string() }),
        );
        let logs = plan.logs.iter().map(|log| {
            json!({ "system_id": log.system.to_string(), "whole": log.is_whole, "remove": log.remove, "kept": log.kept, "folds": log.folds.iter().map(ToString::to_string).collect::<Value>() })
        });
        let reach = plan.reach.as_ref().map(|reach| {
            json!({ "oldest": reach.oldest, "newest": reach.newest, "log_until": reach.log_until })
        });
        json!({
            "message_type": "plan", "dry_run": self.dry_run, "name": self.name.to_string(), "window": self.window, "begins": plan.begins,
            "keep": keep.collect::<Value>(), "remove": plan.remove.iter().map(object).collect::<Value>(), "left_alone": plan.left_alone,
            "points": plan.points.iter().map(ToString::to_string).collect::<Value>(),
            "logs": logs.collect::<Value>(), "frozen": plan.frozen.as_ref().map(object), "reach": reach,
        })
    }
}

fn line(capture: &ClusterCapture) -> String {
    let damaged = if capture.is_damaged { ", damaged" } else { "" };
    format!(
        "{}  {}  cluster {}, timeline {}{damaged}",
        capture.id.short(),
        format::time(capture.completed),
        capture.system,
        capture.timeline
    )
}

fn describe(log: &LogPlan, would: &str) -> String {
    let kept = format!("keep {}", format::count(log.kept as u64, "file"));
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let mut gone = Vec::new();
    if let (Some(first), Some(last)) = (log.remove.first(), log.remove.last()) {
        let range = match log.remove.len() {
            1 => name(first),
            // A log that goes as a whole goes from its end.
            _ if log.is_whole => format!("{} to {}", name(last), name(first)),
            _ => format!("{} to {}", name(first), name(last)),
        };
        let count = format::count(log.remove.len() as u64, "file");
        gone.push(format!("{count}, {range}"));
    }
    if !log.folds.is_empty() {
        gone.push(format::count(log.folds.len() as u64, "fold"));
    }
    match gone.is_empty() {
        true => kept,
        false => format!("{would} {}; {kept}", gone.join(" and ")),
    }
}
