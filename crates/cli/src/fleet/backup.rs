//! `lifeboat backup`: captures what is due, writes recovery points, and copies both where they belong.
//! It must never end with status 0 when a member was left out or a copy failed.

use std::sync::Mutex;
use std::time::Instant;

use clap::Args;
use jiff::tz::TimeZone;
use lifeboat_flow::{Counters, Event, EventSink};
use lifeboat_plan::FleetPlan;
use lifeboat_protect::{FleetDone, FleetRun, RunEvents, StepDone, StepResult};
use lifeboat_repo::{Identity, IngestOptions};
use serde_json::json;

use super::file::FleetFile;
use super::known::{facts, planned};
use super::outside::World;
use super::{FleetGlobal, shown};
use crate::db::verify::path_dirs;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::progress::{self, Shown, workers};
use crate::signals::cancel_on_signal;
use crate::ui::Ui;

/// Capture what is due, and copy it where it belongs
///
/// Without an app: what is due by the schedules of the fleet file. With apps: all of them, now.
/// Examples:
///   lifeboat backup
///   lifeboat backup --dry-run memos
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Backup {
    /// These apps, whether their turn has come or not
    #[arg(value_name = "APP")]
    apps: Vec<String>,
    /// Make repositories that are not there
    #[arg(long)]
    init: bool,
    /// Do nothing, and say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    pub global: FleetGlobal,
}

impl Backup {
    pub fn run(&self, ui: &Ui) -> Outcome {
        let file = FleetFile::read(&self.global.file, ui)?;
        file.check_apps(&self.apps)?;
        let global = self.global.global();
        let ingest = IngestOptions {
            memory_bytes: global.memory_bytes()?,
            ..IngestOptions::default()
        };
        cancel_on_signal(&ui.wish);
        // Held to the end: of two runs one would start what the other one needs to stand still.
        let _alone = match self.dry_run {
            true => None,
            false => Some(file.alone(ui)?),
        };
        let world = World::new(&file.fleet, &file.dir, &self.global, ui);
        let world = world.making(self.init && !self.dry_run);
        let facts = facts(&file, &world, &self.apps, ui)?;
        let (plan, now) = planned(&file, &facts, &self.apps);
        if self.dry_run {
            shown::plan(ui, &plan, &file, now);
            return Ok(Exit::Done);
        }
        self.check_asked(&plan)?;
        if plan.is_empty() {
            shown::nothing(ui, &plan, &file, now);
            return Ok(Exit::Done);
        }
        ui.enter("backup");
        let local = TimeZone::system();
        let zone = file.fleet.time_zone(&local);
        let counters = Counters::default();
        let who = Identity::of_this_process();
        let run = FleetRun {
            fleet: &file.fleet,
            text: file.text.as_bytes(),
            dir: &file.dir,
            outside: &world,
            ingest,
            workers: workers(),
            who: &who,
            program: concat!("lifeboat ", env!("CARGO_PKG_VERSION")),
            scratch: &std::env::temp_dir(),
            program_dirs: &path_dirs(),
            counters: &counters,
            events: &Told { ui, zone },
            cancel: &ui.wish,
            now: lifeboat_repo::now,
            known: Mutex::default(),
        };
        let watched = Shown {
            noun: "files",
            stored: true,
            totals_known: false,
        };
        let began = Instant::now();
        let done = progress::during(ui, &counters, watched, || run.run(&plan))?;
        end(ui, &done, began)
    }
}

impl Backup {
    /// Whoever asks for an app must not be told that nothing is due.
    fn check_asked(&self, plan: &FleetPlan) -> Result<(), Failure> {
        let left = plan.apps.iter().find_map(|app| match &app.elsewhere {
            Some(host) => Some((&app.app, format!("lives on {host}"))),
            None if app.members.is_empty() => {
                Some((&app.app, "has no member that is protected".to_owned()))
            }
            None => None,
        });
        match left.filter(|_| !self.apps.is_empty()) {
            None => Ok(()),
            Some((app, why)) => Err(Failure::new(format!("{app} {why}"))
                .hint("nothing was done; leave it out, or ask there")),
        }
    }
}

fn end(ui: &Ui, done: &FleetDone, began: Instant) -> Outcome {
    let (failed, troubles) = (done.failed(), done.troubles.len());
    let steps = done.steps.len() - failed;
    if ui.json {
        ui.object(&json!({
            "message_type": "summary", "steps_done": steps, "steps_failed": failed, "troubles": done.troubles,
            "faults": done.faults(), "seconds_elapsed": began.elapsed().as_secs_f64(),
        }));
    } else {
        ui.say(format_args!(
            "{} done in {}",
            format::count(steps as u64, "step"),
            format::duration(began.elapsed())
        ));
    }
    for trouble in &done.troubles {
        ui.warn(trouble);
    }
    match (failed, troubles, done.faults()) {
        (0, 0, 0) => Ok(Exit::Done),
        (0, 0, _) => Ok(Exit::Incomplete),
        (0, _, _) => Err(Failure::new(
            "what belongs to the captures failed, see above",
        )),
        (failed, _, _) => Err(Failure::new(format!(
            "{} failed, see above; the others are done",
            format::count(failed as u64, "step")
        ))),
    }
}

/// Tells how a run goes on.
struct Told<'a> {
    ui: &'a Ui,
    zone: &'a TimeZone,
}

impl EventSink for Told<'_> {
    fn event(&self, event: Event) {
        self.ui.event(event);
    }

    fn wants_items(&self) -> bool {
        self.ui.wants_items()
    }
}

impl RunEvents for Told<'_> {
    fn begins(&self, app: &str, member: &str, repository: &str) {
        if self.ui.json {
            self.ui.object(&json!({"message_type": "begins", "app": app, "member": member, "repository": repository}));
        } else if self.ui.verbose > 0 {
            self.ui
                .say(format_args!("{app}/{member} into {repository}: begins"));
        }
    }

    fn ended(&self, step: &StepDone) {
        let ui = self.ui;
        let name = format!("{}/{} in {}", step.app, step.member, step.repository);
        if ui.json {
            let mut object = json!({
                "message_type": "step", "app": step.app, "member": step.member, "repository": step.repository,
                "seconds_elapsed": step.took.as_secs_f64(),
            });
            let more = match &step.result {
                StepResult::Captured {
                    snapshot,
                    instant,
                    bytes,
                    stored_bytes,
                    faults,
                    flag,
                } => json!({
                    "result": "captured", "snapshot_id": snapshot.map(|id| id.to_string()), "instant": instant, "bytes": bytes,
                    "stored_bytes": stored_bytes, "faults": faults, "flag": flag,
                }),
                StepResult::Copied {
                    snapshots,
                    stored_bytes,
                } => json!({
                    "result": "copied", "snapshots": snapshots, "stored_bytes": stored_bytes,
                }),
                StepResult::Failed(why) => json!({"result": "failed", "error": why}),
            };
            if let (Some(object), Some(more)) = (object.as_object_mut(), more.as_object()) {
                object.extend(more.clone());
            }
            ui.object(&object);
            return;
        }
        match &step.result {
            StepResult::Captured {
                instant,
                bytes,
                stored_bytes,
                faults,
                flag,
                ..
            } => {
                ui.say(format_args!(
                    "{name}: captured {} as of {}, stored {}, in {}",
                    format::bytes(*bytes),
                    shown::time(*instant, self.zone),
                    format::bytes(*stored_bytes),
                    format::duration(step.took)
                ));
                if *faults > 0 {
                    ui.warn(format_args!(
                        "{name}: {}, the capture is not whole",
                        format::count(*faults, "fault")
                    ));
                }
                if let Some(flag) = flag {
                    ui.warn(format_args!(
                        "{name}: the source is {flag} since the capture before; nothing older is removed on account of this one"
                    ));
                }
            }
            StepResult::Copied {
                snapshots,
                stored_bytes,
            } => ui.say(format_args!(
                "{name}: copied {}, stored {}, in {}",
                format::count(*snapshots, "capture"),
                format::bytes(*stored_bytes),
                format::duration(step.took)
            )),
            StepResult::Failed(why) => ui.fault(format_args!("{name}: {why}")),
        }
    }
}
