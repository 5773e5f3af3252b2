//! `lifeboat repo snapshots`: what is there, from when.
//! It must never hide a snapshot that can't be read.

use clap::Args;
use lifeboat_format::{Id, Snapshot};
use lifeboat_plan::{GroupBy, group};
use serde_json::{Value, json};

use super::select::{self, FilterArgs};
use super::session::{Locking, Session};
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::ui::Ui;

/// List snapshots
///
/// Example: lifeboat repo snapshots --host web --latest 3
#[derive(Args)]
pub struct Snapshots {
    /// Only these snapshots: IDs or `latest`
    #[arg(value_name = "SNAPSHOT")]
    ids: Vec<String>,
    /// Only the newest N of each host and set of paths
    #[arg(long, value_name = "N")]
    latest: Option<usize>,
    /// Show them in groups: host, paths, tags
    #[arg(short, long, value_name = "GROUP")]
    group_by: Option<String>,
    /// A shorter table
    #[arg(short, long)]
    compact: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Snapshots {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let group_by = self
            .group_by
            .as_deref()
            .map(str::parse::<GroupBy>)
            .transpose();
        let group_by =
            group_by.map_err(|error| Failure::from_error(&error).while_doing("--group-by"))?;
        let session = Session::open(global, ui, Locking::Read)?;
        let mut all = select::many(&session, ui, &self.ids, &self.filter.filter())?;
        if let Some(newest) = self.latest {
            all = latest(all, newest);
        }
        let Some(group_by) = group_by else {
            if ui.json {
                ui.object(&Value::Array(
                    all.iter()
                        .map(|(id, snapshot)| to_json(*id, snapshot))
                        .collect(),
                ));
            } else {
                table(ui, &all, self.compact);
            }
            return Ok(Exit::Done);
        };
        let facts = select::facts(&all);
        let mut objects = Vec::new();
        for part in group(&facts, group_by) {
            let members: Vec<_> = all
                .iter()
                .filter(|(id, _)| part.snapshots.iter().any(|member| member.id == *id))
                .cloned()
                .collect();
            if ui.json {
                let list: Vec<Value> = members
                    .iter()
                    .map(|(id, snapshot)| to_json(*id, snapshot))
                    .collect();
                objects.push(json!({"group_key": part.key, "snapshots": list}));
            } else {
                ui.say(format_args!("snapshots of {}:", part.key));
                table(ui, &members, self.compact);
                ui.say("");
            }
        }
        if ui.json {
            ui.object(&Value::Array(objects));
        }
        Ok(Exit::Done)
    }
}

/// The newest of each host and set of paths, as restic's `--latest` takes them.
fn latest(all: Vec<(Id, Snapshot)>, newest: usize) -> Vec<(Id, Snapshot)> {
    let mut seen: std::collections::HashMap<(String, Vec<String>), usize> =
        std::collections::HashMap::new();
    let mut kept: Vec<_> = all
        .into_iter()
        .rev()
        .filter(|(_, snapshot)| {
            let count = seen
                .entry((snapshot.hostname.clone(), snapshot.paths.clone()))
                .or_default();
            *count += 1;
            *count <= newest
        })
        .collect();
    kept.reverse();
    kept
}

/// A snapshot as restic's JSON has it: the file's content with its ID.
pub fn to_json(id: Id, snapshot: &Snapshot) -> Value {
    let mut value: Value = serde_json::from_slice(&snapshot.to_json()).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        map.insert("id".into(), id.to_string().into());
        map.insert("short_id".into(), id.short().into());
    }
    value
}

/// Snapshots for people.
pub fn table(ui: &Ui, all: &[(Id, Snapshot)], compact: bool) {
    let host_width = all
        .iter()
        .map(|(_, s)| s.hostname.chars().count())
        .max()
        .unwrap_or(0)
        .max(4);
    let tag_width = all
        .iter()
        .map(|(_, s)| s.tags.join(",").chars().count())
        .max()
        .unwrap_or(0)
        .max(4);
    ui.say(format_args!(
        "{:8}  {:19}  {:host_width$}  {:tag_width$}  {:>11}  Paths",
        "ID", "Time", "Host", "Tags", "Size"
    ));
    for (id, snapshot) in all {
        let size = snapshot
            .summary
            .as_ref()
            .map_or_else(String::new, |summary| {
                format::bytes(summary.total_bytes_processed)
            });
        let head = format!(
            "{:8}  {:19}  {:host_width$}  {:tag_width$}  {size:>11}",
            id.short(),
            format::time(snapshot.time),
            snapshot.hostname,
            snapshot.tags.join(",")
        );
        let indent = head.chars().count();
        let paths: Vec<&str> = snapshot.paths.iter().map(String::as_str).collect();
        if compact {
            ui.say(format_args!("{head}  {}", paths.join(", ")));
            continue;
        }
        ui.say(format_args!(
            "{head}  {}",
            paths.first().copied().unwrap_or_default()
        ));
        for path in paths.iter().skip(1) {
            ui.say(format_args!("{:indent$}  {path}", ""));
        }
    }
    ui.say(format::count(all.len() as u64, "snapshot"));
}
