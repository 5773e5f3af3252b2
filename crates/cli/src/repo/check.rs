//! `lifeboat repo check`: is everything there that snapshots need, and is it what it says?
//! It must never say that all is well when something could not be looked at.

use std::sync::atomic::Ordering;
use std::time::Instant;

use clap::Args;
use lifeboat_flow::Counters;
use lifeboat_format::Id;
use lifeboat_plan::PackSubset;
use lifeboat_repo::backend::Destroyed;
use lifeboat_repo::{CheckOptions, CheckReport, Repair, Repository};
use serde_json::json;

use super::session::{Locking, Session};
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::progress::{self, Shown};
use crate::ui::Ui;
use crate::{format, progress::workers};

/// Check that everything is there that snapshots need
///
/// Example: lifeboat repo check --read-data-subset=1/7
///
/// With --try-delete, a tiny object is stored and then destroyed as thoroughly as the credentials in use allow. It proves
/// that these credentials cannot destroy backups, or that they can. It proves nothing about others: the owner of an
/// account or the administrator of a server may still be able to.
#[derive(Args)]
pub struct Check {
    /// Read every pack and compare every byte with its hash
    #[arg(long, conflicts_with = "read_data_subset")]
    read_data: bool,
    /// Read a part of the packs: `n/t` for the n-th of t parts, `5%`, or a size as `10G`
    #[arg(long, value_name = "SUBSET")]
    read_data_subset: Option<String>,
    /// Store an object and try to destroy it: fails unless the place refuses or keeps it
    #[arg(long)]
    try_delete: bool,
}

impl Check {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let subset = self
            .read_data_subset
            .as_deref()
            .map(str::parse::<PackSubset>)
            .transpose();
        let subset = subset
            .map_err(|error| Failure::from_error(&error).while_doing("--read-data-subset"))?;
        let locking = match self.try_delete {
            true => Locking::Shared,
            false => Locking::Read,
        };
        let session = Session::open_afresh(global, ui, locking)?;
        let read_packs = match (self.read_data, subset) {
            (false, None) => None,
            (true, _) => Some(session.repository.packs()?.into_keys().collect()),
            (false, Some(subset)) => Some(choose(&session.repository, subset)?),
        };
        let options = CheckOptions {
            read_packs,
            threads: workers(),
            memory_bytes: global.memory_bytes()?,
        };
        let counters = Counters::default();
        let began = Instant::now();
        let shown = Shown {
            noun: "packs",
            stored: false,
            totals_known: true,
        };
        let report = progress::during(ui, &counters, shown, || {
            session
                .repository
                .check(&options, &counters, &session.cancel)
        })?;
        let elapsed = began.elapsed();
        let untidy = report
            .findings
            .iter()
            .filter(|finding| !finding.serious)
            .count();
        for finding in &report.findings {
            if finding.serious {
                ui.finding(finding);
            } else if ui.verbose > 0 {
                ui.warn(finding);
            }
        }
        let serious = report.findings.len() - untidy;
        let tried = match self.try_delete {
            true => Some(session.repository.try_delete()?),
            false => None,
        };
        if ui.json {
            let mut summary = json!({
                "message_type": "summary", "num_errors": serious, "snapshots": report.snapshots, "trees": report.trees, "packs": report.packs,
                "packs_read": report.packs_read, "unindexed_packs": untidy, "unused_blobs": report.unused_blobs,
                "broken_packs": report.damaged_packs.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "suggest_repair_index": report.repairs.iter().any(is_index),
                "suggest_prune": untidy > 0 || report.repairs.contains(&Repair::Prune),
            });
            if let (Some(tried), Some(fields)) = (&tried, summary.as_object_mut()) {
                let (result, answer) = match tried {
                    Destroyed::Gone => ("gone", None),
                    Destroyed::Refused(answer) => ("refused", Some(answer)),
                    Destroyed::VersionKept(answer) => ("version_kept", Some(answer)),
                };
                let tried = json!({"result": result, "answer": answer});
                fields.insert("try_delete".into(), tried);
            }
            ui.object(&summary);
        } else {
            ui.say(format_args!(
                "checked {}, {}, {}",
                format::count(report.snapshots, "snapshot"),
                format::count(report.trees, "tree"),
                format::count(report.packs, "pack")
            ));
            if options.read_packs.is_some() {
                let bytes = counters.bytes_done.load(Ordering::Relaxed);
                ui.say(format_args!(
                    "read {} ({}, {})",
                    format::count(report.packs_read, "pack"),
                    format::bytes(bytes),
                    format::rate(bytes, elapsed)
                ));
            }
            if untidy > 0 {
                let packs = format::count(untidy as u64, "pack");
                let why = match report.repairs.first() {
                    Some(Repair::Index { .. }) => "what is missing may be in them",
                    _ => "left by an interrupted backup: harmless",
                };
                ui.say(format_args!("{packs} in no index file, {why}"));
            }
        }
        if serious > 0 {
            let failure = Failure::new(format!(
                "the repository has {}",
                format::count(serious as u64, "error")
            ));
            advise(&report, ui);
            return Err(failure.hint("restore still works for everything that is not named above; keep the repository as it is until it is repaired"));
        }
        match options.read_packs {
            Some(_) => ui.say("no errors were found"),
            None => {
                ui.say("no errors were found; the content of packs was not read, see --read-data")
            }
        }
        match tried {
            Some(tried) => judge(&tried, ui),
            None => Ok(Exit::Done),
        }
    }
}

/// Says what to run, in the order in which it helps.
fn advise(report: &CheckReport, ui: &Ui) {
    for repair in &report.repairs {
        match repair {
            Repair::Index { read_all_packs } => ui.advise(format_args!(
                "to make the index say what is there: lifeboat repo repair index{}",
                if *read_all_packs {
                    " --read-all-packs"
                } else {
                    ""
                }
            )),
            Repair::Packs(packs) => {
                let ids: Vec<String> = packs.iter().map(ToString::to_string).collect();
                ui.advise(format_args!(
                    "to save what is good in damaged packs: lifeboat repo repair packs {}",
                    ids.join(" ")
                ));
            }
            Repair::Prune => {
                ui.advise("to keep what is marked for deletion and needed: lifeboat repo prune");
            }
            // What is lost is known when the index is right.
            Repair::Snapshots { .. } if report.repairs.iter().any(is_index) => {
                ui.advise("then check again: it says what is still lost");
            }
            Repair::Snapshots { data: false } => ui.advise(
                "to remove the damaged snapshots, of which copies are kept: lifeboat repo repair snapshots --forget",
            ),
            Repair::Snapshots { data: true } => {
                ui.advise("if another repository has what is lost: lifeboat repo repair packs --from-repo LOCATION");
                ui.advise("a new backup stores again what is still there; then, to leave out what stays lost: lifeboat repo repair snapshots --forget");
            }
        }
    }
}

fn is_index(repair: &Repair) -> bool {
    matches!(repair, Repair::Index { .. })
}

/// What an attempt to destroy something proves.
fn judge(tried: &Destroyed, ui: &Ui) -> Outcome {
    let said = match tried {
        Destroyed::Gone => {
            return Err(Failure::new(
                "these credentials can destroy what is in the repository: an object that was stored to try it is gone for good",
            )
            .hint("who steals them can delete every backup; let a REST server run with --append-only, or give the bucket versions and object lock"));
        }
        Destroyed::Refused(answer) => {
            format!("an object that was stored to try it could not be removed: {answer}")
        }
        Destroyed::VersionKept(answer) => format!(
            "an object that was stored to try it lost its name, but its content is kept and could not be removed: {answer}"
        ),
    };
    ui.say(format_args!(
        "these credentials cannot destroy what is in the repository: {said}"
    ));
    ui.say("this proves nothing about others, such as the owner of the account or the administrator of the server");
    Ok(Exit::Done)
}

fn choose(repository: &Repository, subset: PackSubset) -> Result<Vec<Id>, Failure> {
    let packs: Vec<(Id, u64)> = repository.packs()?.into_iter().collect();
    // A sample that is drawn anew each time reads everything in the end.
    let seed = lifeboat_repo::now().unix_nanoseconds() as u64;
    Ok(subset.choose(&packs, seed))
}
