//! `lifeboat repo restore`: puts a snapshot back into a directory.
//! It must never write anywhere else, and never end with status 0 when something was not restored.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use lifeboat_flow::{Counters, EntryPath};
use lifeboat_protect::{Overwrite, RestoreOptions, RestoreOutcome, Selected};
use lifeboat_repo::{BlobReader, PackListing};
use lifeboat_state::{TargetOptions, VolumeTarget};
use serde_json::json;

use super::backup::patterns;
use super::near_path::subfolder;
use super::select::{self, FilterArgs};
use super::session::{Locking, Session};
use crate::args::{Global, OverwriteArg};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::progress::{self, Shown, workers};
use crate::ui::Ui;

/// Restore a snapshot into a directory
///
/// Over existing data only what differs is fetched and written. Examples:
///   lifeboat repo restore latest --target /srv/restored
///   lifeboat repo restore 4bba301e:/srv/vaultwarden --target /srv/vaultwarden --delete --dry-run
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Restore {
    /// The snapshot: an ID, `latest`, `latest~1`, or with a directory of it as ID:DIR
    #[arg(value_name = "SNAPSHOT[:DIR]")]
    snapshot: String,
    /// The directory to restore into; it is made if it is not there
    #[arg(short, long, value_name = "DIR")]
    target: PathBuf,
    /// Restore only what matches a pattern
    #[arg(short, long, value_name = "PATTERN", conflicts_with_all = ["exclude", "iexclude", "exclude_file", "iexclude_file"], help_heading = "What to restore")]
    include: Vec<String>,
    /// The same, upper and lower case alike
    #[arg(long, value_name = "PATTERN", conflicts_with_all = ["exclude", "iexclude", "exclude_file", "iexclude_file"], help_heading = "What to restore")]
    iinclude: Vec<String>,
    /// Read such patterns from a file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["exclude", "iexclude", "exclude_file", "iexclude_file"], help_heading = "What to restore")]
    include_file: Vec<PathBuf>,
    /// The same, upper and lower case alike
    #[arg(long, value_name = "FILE", conflicts_with_all = ["exclude", "iexclude", "exclude_file", "iexclude_file"], help_heading = "What to restore")]
    iinclude_file: Vec<PathBuf>,
    /// Restore all but what matches a pattern
    #[arg(short, long, value_name = "PATTERN", help_heading = "What to restore")]
    exclude: Vec<String>,
    /// The same, upper and lower case alike
    #[arg(long, value_name = "PATTERN", help_heading = "What to restore")]
    iexclude: Vec<String>,
    /// Read such patterns from a file
    #[arg(long, value_name = "FILE", help_heading = "What to restore")]
    exclude_file: Vec<PathBuf>,
    /// The same, upper and lower case alike
    #[arg(long, value_name = "FILE", help_heading = "What to restore")]
    iexclude_file: Vec<PathBuf>,
    /// What happens to files that are there already
    #[arg(long, value_enum, default_value = "always", value_name = "WHEN")]
    overwrite: OverwriteArg,
    /// Remove what is in restored directories and not in the snapshot
    #[arg(long)]
    delete: bool,
    /// Read everything again afterwards and compare it with the snapshot
    #[arg(long)]
    verify: bool,
    /// Say what would be done and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Accepted for restic's sake: runs of zeros always become holes
    #[arg(long, hide = true)]
    sparse: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Restore {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let includes = patterns(
            &self.include,
            &self.iinclude,
            &self.include_file,
            &self.iinclude_file,
            "include",
        )?;
        let excludes = patterns(
            &self.exclude,
            &self.iexclude,
            &self.exclude_file,
            &self.iexclude_file,
            "exclude",
        )?;
        let session = Session::open_early(global, ui, Locking::Read)?;
        ui.enter("restore");
        let found = select::one(&session, ui, &self.snapshot, &self.filter.filter())?;
        let (index, _) = session.index(ui, PackListing::Skip)?;
        let tree = subfolder(
            &BlobReader::new(&session.repository, &index),
            found.snapshot.tree,
            &found.subfolder,
        )?;
        session.ensure()?;
        // A dry run makes nothing: an empty directory stands for the one that would be made.
        let stand_in = if self.dry_run && !self.target.exists() {
            ui.say(format_args!("{} would be made", self.target.display()));
            let made = tempfile::tempdir().map_err(|error| Failure::from_error(&error));
            Some(made.map_err(|failure| failure.while_doing("make an empty directory"))?)
        } else {
            None
        };
        let root = stand_in
            .as_ref()
            .map_or(self.target.as_path(), |dir| dir.path());
        let target = VolumeTarget::create(root, &TargetOptions::default())
            .map_err(|error| Failure::from_error(&error))?;
        let select = |path: &EntryPath, is_dir: bool| {
            let mut full = Vec::with_capacity(path.0.len() + 1);
            full.push(b'/');
            full.extend_from_slice(&path.0);
            if !includes.is_empty() {
                let decided = includes.decide(&full);
                return Selected {
                    restore: decided.matched,
                    descend: is_dir && (decided.matched || decided.child_may_match),
                };
            }
            let matched = excludes.decide(&full).matched;
            Selected {
                restore: !matched,
                descend: is_dir && !matched,
            }
        };
        let selects = !includes.is_empty() || !excludes.is_empty();
        let options = RestoreOptions {
            overwrite: match self.overwrite {
                OverwriteArg::Always => Overwrite::Always,
                OverwriteArg::IfChanged => Overwrite::IfChanged,
                OverwriteArg::IfNewer => Overwrite::IfNewer,
                OverwriteArg::Never => Overwrite::Never,
            },
            delete: self.delete,
            verify: self.verify,
            dry_run: self.dry_run,
            select: if selects { Some(&select) } else { None },
            workers: workers(),
            memory_bytes: global.memory_bytes()?,
        };
        let counters = Counters::default();
        ui.say(format_args!(
            "restoring snapshot {} of {} by {} to {}",
            found.id.short(),
            format::time(found.snapshot.time),
            found.snapshot.hostname,
            self.target.display()
        ));
        let restore = lifeboat_protect::Restore {
            repository: &session.repository,
            index: &index,
            target: &target,
            options,
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
        let outcome = progress::during(ui, &counters, shown, || restore.run(tree))?;
        self.report(ui, &outcome, began.elapsed());
        Ok(if outcome.problems == 0 {
            Exit::Done
        } else {
            Exit::Failed
        })
    }

    fn report(&self, ui: &Ui, outcome: &RestoreOutcome, elapsed: std::time::Duration) {
        if ui.json {
            ui.object(&json!({
                "message_type": "summary", "seconds_elapsed": elapsed.as_secs(), "files_restored": outcome.entries_restored, "bytes_restored": outcome.bytes_restored,
                "files_skipped": outcome.files_skipped, "bytes_skipped": outcome.bytes_skipped, "files_deleted": outcome.deleted,
                "total_files": outcome.entries_restored + outcome.files_skipped, "total_bytes": outcome.bytes_restored + outcome.bytes_skipped,
                "files_verified": outcome.files_verified, "errors": outcome.problems, "dry_run": self.dry_run,
            }));
            return;
        }
        let would = if self.dry_run {
            "would restore"
        } else {
            "restored"
        };
        ui.say(format_args!(
            "{would} {}, {} in {} ({})",
            format::count(outcome.entries_restored, "entry"),
            format::bytes(outcome.bytes_restored),
            format::duration(elapsed),
            format::rate(outcome.bytes_restored, elapsed)
        ));
        if outcome.files_skipped > 0 {
            ui.say(format_args!(
                "left {} as they are ({})",
                format::count(outcome.files_skipped, "file"),
                format::bytes(outcome.bytes_skipped)
            ));
        }
        if outcome.deleted > 0 {
            ui.say(format_args!(
                "{} {}",
                if self.dry_run {
                    "would delete"
                } else {
                    "deleted"
                },
                format::count(outcome.deleted, "entry")
            ));
        }
        if self.verify && !self.dry_run {
            ui.say(format_args!("read {} again: the content of each that is not named above is that of the snapshot", format::count(outcome.files_verified, "file")));
        }
        if outcome.problems > 0 {
            ui.warn(format_args!("{} while restoring; what concerns them is named above, everything else is restored", format::count(outcome.problems, "problem")));
        }
    }
}
