//! `lifeboat repo forget`: removes snapshots by a policy, group by group, or by name.
//! It must never remove what no rule was asked about, and always says why it keeps what it keeps.

use clap::Args;
use lifeboat_format::{Id, Snapshot};
use lifeboat_plan::{Group, GroupBy, Retention, RetentionPolicy, TagList, group, retain};
use lifeboat_repo::prune::PruneOptions;
use serde_json::{Value, json};

use super::prune::{PruneArgs, lock, prune};
use super::select::{self, FilterArgs};
use super::session::{Locking, Session};
use super::snapshots::to_json;
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::ui::Ui;

/// Remove snapshots by a policy
///
/// What only they need stays in the repository until it is pruned: by --prune, or by `lifeboat repo prune`.
/// Example: lifeboat repo forget --keep-daily 14 --keep-weekly 8 --dry-run
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Forget {
    /// Remove these snapshots, whatever the policy
    #[arg(value_name = "SNAPSHOT")]
    ids: Vec<String>,
    /// Apply the policy to each group of: host, paths, tags
    #[arg(short, long, value_name = "GROUP", default_value = "host,paths")]
    group_by: String,
    /// Let a policy without rules remove everything that --host, --tag or --path name
    #[arg(long)]
    unsafe_allow_remove_all: bool,
    /// A shorter table
    #[arg(short, long)]
    compact: bool,
    /// Say what would be removed and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Prune afterwards; with --dry-run say what that would do
    #[arg(long)]
    prune: bool,
    // Here, or its heading would stand over what follows without one.
    #[command(flatten)]
    keep: KeepArgs,
    /// Only snapshots of this host; several by repeating it
    #[arg(long, value_name = "NAME", help_heading = "Which snapshots")]
    host: Vec<String>,
    /// Only snapshots with these tags, as `a,b` for both; several by repeating it for either
    #[arg(long, value_name = "TAGS", help_heading = "Which snapshots")]
    tag: Vec<String>,
    /// Only snapshots of this path; of all of them if repeated
    #[arg(long, value_name = "PATH", help_heading = "Which snapshots")]
    path: Vec<String>,
    #[command(flatten)]
    pruning: PruneArgs,
}

/// The rules.
#[derive(Args)]
#[command(next_help_heading = "What to keep")]
struct KeepArgs {
    /// The newest N; `unlimited` for all
    #[arg(short = 'l', long, value_name = "N", allow_negative_numbers = true)]
    keep_last: Option<String>,
    /// The newest of each of the last N hours that have one
    #[arg(short = 'H', long, value_name = "N", allow_negative_numbers = true)]
    keep_hourly: Option<String>,
    /// The newest of each of the last N days
    #[arg(short = 'd', long, value_name = "N", allow_negative_numbers = true)]
    keep_daily: Option<String>,
    /// The newest of each of the last N weeks
    #[arg(short = 'w', long, value_name = "N", allow_negative_numbers = true)]
    keep_weekly: Option<String>,
    /// The newest of each of the last N months
    #[arg(short = 'm', long, value_name = "N", allow_negative_numbers = true)]
    keep_monthly: Option<String>,
    /// The newest of each of the last N years
    #[arg(short = 'y', long, value_name = "N", allow_negative_numbers = true)]
    keep_yearly: Option<String>,
    /// All within a span before the newest, as `1y5m7d2h`
    #[arg(long, value_name = "SPAN")]
    keep_within: Option<String>,
    /// The newest of each hour within a span
    #[arg(long, value_name = "SPAN")]
    keep_within_hourly: Option<String>,
    /// The newest of each day within a span
    #[arg(long, value_name = "SPAN")]
    keep_within_daily: Option<String>,
    /// The newest of each week within a span
    #[arg(long, value_name = "SPAN")]
    keep_within_weekly: Option<String>,
    /// The newest of each month within a span
    #[arg(long, value_name = "SPAN")]
    keep_within_monthly: Option<String>,
    /// The newest of each year within a span
    #[arg(long, value_name = "SPAN")]
    keep_within_yearly: Option<String>,
    /// Those with these tags; several by repeating it for either
    #[arg(long, value_name = "TAGS")]
    keep_tag: Vec<String>,
}

impl KeepArgs {
    fn policy(&self) -> Result<RetentionPolicy, Failure> {
        Ok(RetentionPolicy {
            last: parse("--keep-last", &self.keep_last)?,
            hourly: parse("--keep-hourly", &self.keep_hourly)?,
            daily: parse("--keep-daily", &self.keep_daily)?,
            weekly: parse("--keep-weekly", &self.keep_weekly)?,
            monthly: parse("--keep-monthly", &self.keep_monthly)?,
            yearly: parse("--keep-yearly", &self.keep_yearly)?,
            within: parse("--keep-within", &self.keep_within)?,
            within_hourly: parse("--keep-within-hourly", &self.keep_within_hourly)?,
            within_daily: parse("--keep-within-daily", &self.keep_within_daily)?,
            within_weekly: parse("--keep-within-weekly", &self.keep_within_weekly)?,
            within_monthly: parse("--keep-within-monthly", &self.keep_within_monthly)?,
            within_yearly: parse("--keep-within-yearly", &self.keep_within_yearly)?,
            tags: self
                .keep_tag
                .iter()
                .map(|list| list.parse::<TagList>().unwrap_or_default())
                .collect(),
        })
    }
}

fn parse<T>(option: &str, text: &Option<String>) -> Result<T, Failure>
where
    T: std::str::FromStr + Default,
    T::Err: std::error::Error,
{
    match text {
        None => Ok(T::default()),
        Some(text) => text
            .parse()
            .map_err(|error: T::Err| Failure::from_error(&error).while_doing(option)),
    }
}

impl Forget {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let policy = self.keep.policy()?;
        let pruning = self.pruning.options(global)?;
        let group_by: GroupBy = self
            .group_by
            .parse()
            .map_err(|error| Failure::from_error(&error).while_doing("--group-by"))?;
        // `-H` means another thing here than elsewhere, as with restic, so the options stand on their own.
        let filter = FilterArgs {
            host: self.host.clone(),
            tag: self.tag.clone(),
            path: self.path.clone(),
        }
        .filter();
        let session = Session::open(
            global,
            ui,
            if self.dry_run {
                Locking::Read
            } else {
                Locking::Exclusive
            },
        )?;
        if !self.ids.is_empty() {
            if !policy.is_empty() {
                return Err(Failure::new(
                    "snapshots were named together with rules of what to keep",
                )
                .hint("name snapshots to remove exactly them, or give rules"));
            }
            let named = select::many(&session, ui, &self.ids, &filter)?;
            let ids: Vec<Id> = named.iter().map(|(id, _)| *id).collect();
            self.remove(&session, ui, &ids)?;
            return self.prune(session, global, ui, pruning, ids);
        }
        policy
            .check(self.unsafe_allow_remove_all, filter.is_empty())
            .map_err(|error| Failure::from_error(&error))?;
        let all = select::many(&session, ui, &[], &filter)?;
        let facts = select::facts(&all);
        let groups = group(&facts, group_by);
        let zone = jiff::tz::TimeZone::system();
        let now = lifeboat_repo::now();
        // All groups are decided before the first snapshot goes: a rule that is refused removes nothing.
        let plans: Vec<(&Group<'_>, Retention<'_>)> = groups
            .iter()
            .map(|group| {
                Ok((
                    group,
                    retain(&policy, group, now, &zone)
                        .map_err(|error| Failure::from_error(&error))?,
                ))
            })
            .collect::<Result<_, Failure>>()?;
        let mut remove: Vec<Id> = Vec::new();
        let mut objects = Vec::new();
        for (group, plan) in &plans {
            remove.extend(plan.remove.iter().map(|snapshot| snapshot.id));
            if ui.json {
                objects.push(plan_json(group, plan, &all))
            } else {
                self.show(ui, group, plan, &all)
            }
        }
        if ui.json {
            ui.object(&Value::Array(objects));
        }
        self.remove(&session, ui, &remove)?;
        self.prune(session, global, ui, pruning, remove)
    }

    /// Prunes if that is wanted, also when nothing was forgotten: what was marked may be due.
    fn prune(
        &self,
        mut session: Session,
        global: &Global,
        ui: &Ui,
        options: PruneOptions,
        forgotten: Vec<Id>,
    ) -> Outcome {
        if !self.prune {
            return Ok(Exit::Done);
        }
        if !self.dry_run {
            // Backups may go on while packs are read: that needs no more than a shared lock.
            session.lock = None;
            session.lock = Some(lock(&session, global, ui, false)?);
        }
        let forgotten = forgotten.into_iter().collect();
        prune(session, global, ui, options, self.dry_run, forgotten)
    }

    fn show(&self, ui: &Ui, group: &Group<'_>, plan: &Retention<'_>, all: &[(Id, Snapshot)]) {
        ui.say(format_args!("snapshots of {}:", group.key));
        ui.say(format_args!(
            "keep {}:",
            format::count(plan.keep.len() as u64, "snapshot")
        ));
        for kept in &plan.keep {
            let reasons: Vec<String> = kept.matches.iter().map(ToString::to_string).collect();
            let time = format::time(kept.snapshot.time);
            ui.say(format_args!(
                "  {}  {time}  {}",
                kept.snapshot.id.short(),
                reasons.join(", ")
            ));
        }
        if !plan.remove.is_empty() {
            let gone: Vec<(Id, Snapshot)> = all
                .iter()
                .filter(|(id, _)| plan.remove.iter().any(|snapshot| snapshot.id == *id))
                .cloned()
                .collect();
            ui.say(if self.dry_run {
                "would remove:"
            } else {
                "remove:"
            });
            super::snapshots::table(ui, &gone, self.compact);
        }
        ui.say("");
    }

    fn remove(&self, session: &Session, ui: &Ui, ids: &[Id]) -> Outcome {
        if self.dry_run {
            ui.say(format_args!(
                "dry run: {} would be removed",
                format::count(ids.len() as u64, "snapshot")
            ));
            return Ok(Exit::Done);
        }
        let mut removed = 0;
        for id in ids {
            session.cancel.check()?;
            if let Some(lock) = &session.lock {
                lock.ensure()?;
            }
            session.repository.remove_snapshot(*id)?;
            removed += 1;
        }
        let rest = if self.prune {
            ""
        } else {
            "; what only they needed stays until it is pruned"
        };
        let count = format::count(removed, "snapshot");
        ui.say(format_args!("removed {count}{rest}"));
        Ok(Exit::Done)
    }
}

/// A decided group in restic's shape.
fn plan_json(group: &Group<'_>, plan: &Retention<'_>, all: &[(Id, Snapshot)]) -> Value {
    let object = |id: Id| {
        all.iter()
            .find(|(known, _)| *known == id)
            .map(|(id, snapshot)| to_json(*id, snapshot))
    };
    let list = |ids: Vec<Id>| -> Value {
        if ids.is_empty() {
            Value::Null
        } else {
            ids.into_iter().filter_map(object).collect()
        }
    };
    let reasons: Vec<Value> = plan
        .keep
        .iter()
        .map(|kept| json!({"snapshot": object(kept.snapshot.id), "matches": kept.matches}))
        .collect();
    let key = json!(group.key);
    json!({
        "tags": key.get("tags"), "host": group.key.hostname, "paths": key.get("paths"),
        "keep": list(plan.keep.iter().map(|kept| kept.snapshot.id).collect()),
        "remove": list(plan.remove.iter().map(|snapshot| snapshot.id).collect()),
        "reasons": reasons,
    })
}
