//! `lifeboat repo rewrite`: makes new snapshots of existing ones, with entries left out or other metadata.
//! It must never remove a snapshot before the one made from it is stored.

use std::path::PathBuf;
use std::sync::RwLock;

use clap::Args;
use lifeboat_flow::{Event, EventSink, Problem};
use lifeboat_format::{Node, NodeKind};
use lifeboat_plan::{PatternSet, parse_time};
use lifeboat_repo::{
    KeepAll, PackListing, RewriteChange, RewriteOutcome, RewriteSelect, Rewriter, Rewritten,
};
use serde_json::json;

use super::backup::patterns;
use super::select::{self, FilterArgs};
use super::session::{Locking, Session};
use super::store::StoreArgs;
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::ui::Ui;

/// Make new snapshots of existing ones, with files left out or other metadata
///
/// Without a snapshot or filter all are rewritten. The new ones get the tag `rewrite`, or take the place of the old
/// ones with --forget. What only the old ones need stays in the repository until it is pruned.
///
/// Example: lifeboat repo rewrite --exclude '*.iso' --forget --dry-run
#[derive(Args)]
pub struct Rewrite {
    /// The snapshots
    #[arg(value_name = "SNAPSHOT")]
    ids: Vec<String>,
    /// Remove the old snapshots when the new ones are stored
    #[arg(long)]
    forget: bool,
    /// Say what would be rewritten and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Set another host
    #[arg(long, value_name = "NAME")]
    new_host: Option<String>,
    /// Set another time, as `2026-11-21 03:00:00`
    #[arg(long, value_name = "TIME")]
    new_time: Option<String>,
    /// Add the numbers of files and bytes where they are missing
    #[arg(short = 's', long)]
    snapshot_summary: bool,
    #[command(flatten)]
    entries: EntryArgs,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    store: StoreArgs,
}

/// Which entries stay.
#[derive(Args)]
#[command(next_help_heading = "Which files")]
struct EntryArgs {
    /// Leave out what matches a pattern, as with backup
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// The same, upper and lower case alike
    #[arg(long, value_name = "PATTERN")]
    iexclude: Vec<String>,
    /// Read patterns from a file, one a line
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// The same, upper and lower case alike
    #[arg(long, value_name = "FILE")]
    iexclude_file: Vec<PathBuf>,
    /// Leave out what matches none of these patterns
    #[arg(short, long, value_name = "PATTERN")]
    include: Vec<String>,
    /// The same, upper and lower case alike
    #[arg(long, value_name = "PATTERN")]
    iinclude: Vec<String>,
    /// Read such patterns from a file, one a line
    #[arg(long, value_name = "FILE")]
    include_file: Vec<PathBuf>,
    /// The same, upper and lower case alike
    #[arg(long, value_name = "FILE")]
    iinclude_file: Vec<PathBuf>,
}

struct Exclude(PatternSet);

impl RewriteSelect for Exclude {
    fn keeps(&self, path: &[u8], _: &Node) -> bool {
        !self.0.decide(path).matched
    }

    fn keeps_empty(&self, _: &[u8]) -> bool {
        true
    }
}

struct Include(PatternSet);

impl RewriteSelect for Include {
    fn keeps(&self, path: &[u8], node: &Node) -> bool {
        let decided = self.0.decide(path);
        decided.matched || (node.kind == NodeKind::Dir && decided.child_may_match)
    }

    fn keeps_empty(&self, path: &[u8]) -> bool {
        self.0.decide(path).matched
    }
}

impl EntryArgs {
    fn select(&self) -> Result<Option<Box<dyn RewriteSelect>>, Failure> {
        let exclude = patterns(
            &self.exclude,
            &self.iexclude,
            &self.exclude_file,
            &self.iexclude_file,
            "exclude",
        )?;
        let include = patterns(
            &self.include,
            &self.iinclude,
            &self.include_file,
            &self.iinclude_file,
            "include",
        )?;
        match (exclude.is_empty(), include.is_empty()) {
            (true, true) => Ok(None),
            (false, true) => Ok(Some(Box::new(Exclude(exclude)))),
            (true, false) => Ok(Some(Box::new(Include(include)))),
            (false, false) => Err(Failure::new(
                "patterns of what to leave out and of what to keep can't be given together",
            )
            .hint("rewrite twice, first with the one and then with the other")),
        }
    }
}

impl Rewrite {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let entries = self.entries.select()?;
        let select: Option<&dyn RewriteSelect> = match &entries {
            Some(select) => Some(select.as_ref()),
            None if self.snapshot_summary => Some(&KeepAll),
            None => None,
        };
        let time = self.new_time.as_deref().map(|text| {
            let (now, zone) = (lifeboat_repo::now(), jiff::tz::TimeZone::system());
            parse_time(text, now, &zone)
                .map_err(|error| Failure::from_error(&error).while_doing("--new-time"))
        });
        let change = RewriteChange {
            host: self.new_host.clone().filter(|host| !host.is_empty()),
            time: time.transpose()?,
            forget: self.forget,
        };
        if select.is_none() && change.host.is_none() && change.time.is_none() {
            return Err(Failure::new("nothing says what to change")
                .hint("give --exclude, --include, --new-host, --new-time or --snapshot-summary"));
        }
        let locking = match (self.dry_run, self.forget) {
            (true, _) => Locking::Read,
            (false, true) => Locking::Exclusive,
            (false, false) => Locking::Shared,
        };
        let session = Session::open(global, ui, locking)?;
        let ingest = self
            .store
            .options(global, self.dry_run)?
            .uploaders_for(session.repository.backend().as_ref());
        let snapshots = session.snapshots_and_damage(ui)?;
        let selected = select::among(&snapshots.all, ui, &self.ids, &self.filter.filter())?;
        let unread = match self.ids.as_slice() {
            [] => snapshots.damaged.len() as u64,
            _ => 0,
        };
        let index = RwLock::new(session.index(ui, PackListing::Compare)?.0);
        let rewriter = Rewriter {
            repository: &session.repository,
            index: &index,
            all: &snapshots.all,
            lock: session.lock.as_ref(),
            select,
            change,
            ingest,
            events: ui,
            cancel: &session.cancel,
        };
        let outcome = rewriter.run(selected)?;
        self.report(ui, &outcome, unread)
    }

    fn report(&self, ui: &Ui, outcome: &RewriteOutcome, unread: u64) -> Outcome {
        for rewritten in &outcome.rewritten {
            self.show(ui, rewritten);
        }
        for (id, why) in &outcome.refused {
            ui.event(Event::Problem(Problem {
                path: format!("snapshot {}", id.short()),
                doing: "rewrite".into(),
                why: why.clone(),
            }));
        }
        let (changed, unchanged) = (outcome.rewritten.len(), outcome.unchanged.len());
        let refused = outcome.refused.len() as u64 + unread;
        if ui.json {
            ui.object(&json!({"message_type": "summary", "dry_run": self.dry_run, "changed_snapshots": changed, "unchanged_snapshots": unchanged, "failed_snapshots": refused}));
        }
        let changed = format::count(changed as u64, "snapshot");
        if self.dry_run {
            ui.say(format_args!("dry run: {changed} would be rewritten"));
        } else {
            ui.say(format_args!("rewrote {changed}"));
        }
        if refused == 0 {
            return Ok(Exit::Done);
        }
        let refused = format::count(refused, "snapshot");
        Err(
            Failure::new(format!("{refused} can't be rewritten and stay as they are"))
                .hint("`lifeboat repo check` names everything that is damaged"),
        )
    }

    fn show(&self, ui: &Ui, rewritten: &Rewritten) {
        let new = rewritten.new.map(|id| id.to_string());
        let snapshot = &rewritten.snapshot;
        if ui.json {
            ui.object(&json!({
                "message_type": "changed", "old_snapshot_id": rewritten.old.to_string(), "new_snapshot_id": new,
                "tree": snapshot.tree.to_string(), "is_new_tree": rewritten.is_new_tree, "removed": self.forget && !self.dry_run,
            }));
            return;
        }
        let old = rewritten.old.short();
        if let Some(earlier) = rewritten.earlier {
            let removed = match self.dry_run {
                true => "would be removed",
                false => "removed",
            };
            ui.say(format_args!(
                "snapshot {old} {removed}: {} was made from it before",
                earlier.short()
            ));
            return;
        }
        let mut details = Vec::new();
        if rewritten.is_new_tree {
            let tree = snapshot.tree.short();
            let files = snapshot.summary.as_ref().map(|s| s.total_files_processed);
            details.push(match files {
                Some(files) => format!("tree {tree} with {}", format::count(files, "file")),
                None => format!("tree {tree}"),
            });
        }
        if self.new_host.is_some() {
            details.push(format!("host {}", snapshot.hostname));
        }
        if self.new_time.is_some() {
            details.push(format!("time {}", format::time(snapshot.time)));
        }
        let details = match details.is_empty() {
            true => "numbers of files and bytes".to_owned(),
            false => details.join(", "),
        };
        match (rewritten.new, self.forget) {
            (None, false) => ui.say(format_args!(
                "snapshot {old} would get a new one: {details}"
            )),
            (None, true) => ui.say(format_args!("snapshot {old} would be replaced: {details}")),
            (Some(new), false) => ui.say(format_args!(
                "snapshot {} saved, made from {old}: {details}",
                new.short()
            )),
            (Some(new), true) => ui.say(format_args!(
                "snapshot {} saved in place of {old}: {details}",
                new.short()
            )),
        }
    }
}
