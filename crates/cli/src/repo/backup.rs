//! `lifeboat repo backup`: files, standard input or the output of a command become a snapshot.
//! It must never end with status 0 when something that was asked for is not in the snapshot.

mod excludes;
mod targets;
mod wildcards;

pub use excludes::patterns;
pub use targets::absolute_text;

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::sync::atomic::Ordering;
use std::time::Instant;

use clap::Args;
use lifeboat_flow::{Counters, EntryPath, EventSink, Source};
use lifeboat_format::{Id, Snapshot, SnapshotSummary, Timestamp};
use lifeboat_plan::{
    GroupBy, ParentQuery, SnapshotName, TagList, find_parent, parse_time, select_one,
};
use lifeboat_protect::{Amount, BackupOptions, BackupOutcome, ChangeRule, ChangedPaths, Parent};
use lifeboat_repo::{Identity, IndexReport, PackListing};
use lifeboat_state::{CommandSource, Pipe, StreamSource, VolumeSource};
use serde_json::json;

use super::session::{Locking, Session};
use super::store::StoreArgs;
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::progress::{self, Shown, workers};
use crate::ui::Ui;

/// Files that are read at once if nobody says otherwise, at least.
const READERS_MIN: usize = 2;

/// Back up files and directories into a new snapshot
///
/// Example: lifeboat repo backup --exclude-caches --tag nightly /srv/vaultwarden /etc
#[derive(Args)]
pub struct Backup {
    /// What to back up; with --stdin-from-command the command and its arguments
    #[arg(value_name = "PATH", trailing_var_arg = false)]
    paths: Vec<OsString>,
    /// Read paths from a file, one a line; wildcards are expanded, `#` begins a comment, `-` is standard input
    #[arg(long, value_name = "FILE", help_heading = "What to back up")]
    files_from: Vec<PathBuf>,
    /// Read paths from a file, one a line, as they are
    #[arg(long, value_name = "FILE", help_heading = "What to back up")]
    files_from_verbatim: Vec<PathBuf>,
    /// Read paths from a file, each ended by a zero byte, as they are
    #[arg(long, value_name = "FILE", help_heading = "What to back up")]
    files_from_raw: Vec<PathBuf>,
    /// Back up what comes in on standard input
    #[arg(long, help_heading = "What to back up", conflicts_with_all = ["stdin_from_command", "files_from", "files_from_verbatim", "files_from_raw"])]
    stdin: bool,
    /// Back up what the given command prints; if it fails, there is no snapshot
    #[arg(long, help_heading = "What to back up", conflicts_with_all = ["files_from", "files_from_verbatim", "files_from_raw"])]
    stdin_from_command: bool,
    /// The name of that file in the snapshot
    #[arg(
        long,
        value_name = "NAME",
        default_value = "stdin",
        help_heading = "What to back up"
    )]
    stdin_filename: OsString,
    /// Store access times too
    #[arg(long, help_heading = "What to back up")]
    with_atime: bool,
    /// A tag for the snapshot; several by commas or by repeating it
    #[arg(long, value_name = "TAG", help_heading = "The snapshot")]
    tag: Vec<String>,
    /// The host that the snapshot names
    #[arg(
        short = 'H',
        long,
        alias = "hostname",
        env = "RESTIC_HOST",
        value_name = "NAME",
        help_heading = "The snapshot"
    )]
    host: Option<String>,
    /// The time that the snapshot names, as `2026-11-21 03:00:00`
    #[arg(long, value_name = "TIME", help_heading = "The snapshot")]
    time: Option<String>,
    /// Write no snapshot if nothing changed
    #[arg(long, help_heading = "The snapshot")]
    skip_if_unchanged: bool,
    /// Read every file, whether it changed or not
    #[arg(
        short,
        long,
        conflicts_with = "parent",
        help_heading = "What counts as changed"
    )]
    force: bool,
    /// Compare with this snapshot instead of the newest of the same host and paths
    #[arg(long, value_name = "SNAPSHOT", help_heading = "What counts as changed")]
    parent: Option<String>,
    /// What the parent must have in common: host, paths, tags, or nothing
    #[arg(
        short,
        long,
        value_name = "GROUP",
        default_value = "host,paths",
        help_heading = "What counts as changed"
    )]
    group_by: String,
    /// Look only at the paths that this file names, one a line, and take the rest from the parent; it must name all that
    /// changed since then
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["force", "stdin", "stdin_from_command"],
        help_heading = "What counts as changed"
    )]
    changed_files: Option<PathBuf>,
    /// Take a file with another inode number or change time for the same
    #[arg(long, help_heading = "What counts as changed")]
    ignore_inode: bool,
    /// Take a file with another change time for the same
    #[arg(long, help_heading = "What counts as changed")]
    ignore_ctime: bool,
    /// Files to read at once
    #[arg(
        long,
        env = "RESTIC_READ_CONCURRENCY",
        value_name = "N",
        help_heading = "How to store"
    )]
    read_concurrency: Option<usize>,
    /// Do not count what there is, which the estimate of the time left needs
    #[arg(long, help_heading = "How to store")]
    no_scan: bool,
    /// Do everything but store, and say what would be added
    #[arg(short = 'n', long)]
    dry_run: bool,
    // Last, or their headings would stand over what follows.
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    excludes: excludes::ExcludeArgs,
}

impl Backup {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let zone = jiff::tz::TimeZone::system();
        let now = lifeboat_repo::now();
        let time = match &self.time {
            None => now,
            Some(text) => parse_time(text, now, &zone)
                .map_err(|error| Failure::from_error(&error).while_doing("--time"))?,
        };
        let ingest = self.store.options(global, self.dry_run)?;
        if self.read_concurrency == Some(0) {
            return Err(Failure::new("--read-concurrency 0 would read nothing"));
        }
        let group_by: GroupBy = self
            .group_by
            .parse()
            .map_err(|error| Failure::from_error(&error).while_doing("--group-by"))?;
        let who = Identity::of_this_process();
        let hostname = self
            .host
            .clone()
            .filter(|host| !host.is_empty())
            .unwrap_or_else(|| who.hostname.clone());
        // A stream has no time of its own: its entries get that of the snapshot, as restic's do.
        let input = self.input(time, ui)?;
        let whole = input.asked.as_ref().map(|asked| {
            let asked = (&input.paths, &hostname, asked);
            Id::of(format!("lifeboat 1 {asked:?}").as_bytes())
        });
        let session = Session::open_early(
            global,
            ui,
            if self.dry_run {
                Locking::None
            } else {
                Locking::Shared
            },
        )?;
        ui.enter("archival");
        let tag_lists: Vec<TagList> = self
            .tag
            .iter()
            .map(|list| list.parse().unwrap_or_default())
            .collect();
        let tags = TagList::flatten(&tag_lists);
        let query = ParentQuery {
            time,
            hostname: &hostname,
            paths: &input.paths,
            tags: &tag_lists,
            group_by,
        };
        let (parent, index, report) = if self.force {
            let (index, report) = session.index(ui, PackListing::Compare)?;
            (None, index, report)
        } else {
            let (snapshots, index, report) =
                session.snapshots_and_index(ui, PackListing::Compare)?;
            (self.find_parent(snapshots.all, &query)?, index, report)
        };
        let changed = self.changed(&input, parent.as_ref(), whole, &report, ui);
        let index = RwLock::new(index);
        let counters = Counters::default();
        let is_watched = ui.is_terminal && !ui.json && !ui.quiet;
        let readers = self
            .read_concurrency
            .unwrap_or_else(|| workers().max(READERS_MIN));
        let options = BackupOptions {
            parent: parent.as_ref().map(|(id, snapshot)| Parent {
                id: *id,
                tree: snapshot.tree,
                holds: snapshot.summary.as_ref().map(holds),
            }),
            changed,
            change_rule: ChangeRule {
                ignore_inode: self.ignore_inode,
                ignore_ctime: self.ignore_ctime || self.ignore_inode,
                settled_before: None,
            },
            skip_if_unchanged: self.skip_if_unchanged,
            refuse_empty: true,
            workers: workers().max(self.read_concurrency.unwrap_or(1)),
            readers,
            scan: is_watched && !self.no_scan && !input.is_stream,
            ingest: ingest.uploaders_for(&**session.repository.backend()),
        };
        let totals_known = options.scan;
        for problem in &input.missing {
            counters.problems.fetch_add(1, Ordering::Relaxed);
            ui.event(lifeboat_flow::Event::Problem(problem.clone()));
        }
        self.say_parent(ui, parent.as_ref());
        let draft = Snapshot {
            time,
            parent: parent.as_ref().map(|(id, _)| *id),
            tree: Id::default(),
            paths: input.paths,
            hostname,
            username: who.username,
            uid: who.uid,
            gid: who.gid,
            excludes: self.excludes.for_snapshot(),
            tags,
            original: None,
            // What is not there can't be taken over by a later one.
            whole: whole.filter(|_| input.missing.is_empty()),
            program_version: concat!("lifeboat ", env!("CARGO_PKG_VERSION")).to_owned(),
            summary: None,
        };
        let backup = lifeboat_protect::Backup {
            repository: &session.repository,
            index: &index,
            lock: session.lock.as_ref(),
            source: input.source.as_ref(),
            options,
            counters: &counters,
            events: ui,
            cancel: &session.cancel,
        };
        let began = Instant::now();
        let shown = Shown {
            noun: "files",
            stored: true,
            totals_known,
        };
        let mut outcome = progress::during(ui, &counters, shown, || {
            backup.run(draft, lifeboat_repo::now)
        })?;
        outcome.problems += input.missing.len() as u64;
        self.report(ui, &outcome, began.elapsed());
        Ok(if outcome.problems > 0 {
            Exit::Incomplete
        } else {
            Exit::Done
        })
    }

    /// Where the content comes from.
    fn input(&self, time: Timestamp, ui: &Ui) -> Result<Input, Failure> {
        let name = self.stdin_filename.as_bytes();
        let stream = |source: Box<dyn Source>| Input {
            source,
            paths: vec![targets::path_of_stream(name)],
            missing: Vec::new(),
            changed: None,
            asked: None,
            targets: Vec::new(),
            is_stream: true,
        };
        if self.stdin_from_command {
            if self.paths.is_empty() {
                return Err(Failure::new("--stdin-from-command needs the command").hint("lifeboat repo backup --stdin-from-command --stdin-filename db.sql -- pg_dump app"));
            }
            let source = CommandSource::new(name, time, self.paths.clone(), None)
                .map_err(|error| Failure::from_error(&error))?;
            return Ok(stream(Box::new(source)));
        }
        if self.stdin {
            if !self.paths.is_empty() {
                return Err(Failure::new(
                    "--stdin backs up standard input and takes no paths",
                ));
            }
            let input = std::io::stdin().as_fd().try_clone_to_owned();
            let input = input
                .map_err(|error| Failure::from_error(&error).while_doing("read standard input"))?;
            let input = Pipe(std::fs::File::from(input));
            let source = StreamSource::new(name, time, Box::new(input))
                .map_err(|error| Failure::from_error(&error).while_doing("--stdin-filename"))?;
            return Ok(stream(Box::new(source)));
        }
        let lists = [
            &self.files_from,
            &self.files_from_verbatim,
            &self.files_from_raw,
        ];
        let lists = lists.into_iter().flatten().chain(&self.changed_files);
        let from_stdin = lists.filter(|file| file.as_os_str() == "-" || is_stdin(file));
        let patterns = self.excludes.files().filter(|file| is_stdin(file));
        if from_stdin.chain(patterns).count() > 1 {
            return Err(Failure::new(
                "standard input can be one list only: what read it first leaves nothing to the other",
            ));
        }
        let targets = targets::collect(
            &self.files_from,
            &self.files_from_verbatim,
            &self.files_from_raw,
            &self.paths,
            ui,
        )?;
        let paths = targets::absolute(&targets)?;
        let (options, rules) = self.excludes.volume_options(self.with_atime)?;
        let asked = format!("{targets:?} {rules}");
        let source = VolumeSource::new(targets::each_once(targets, ui), options);
        let source = source.map_err(|error| Failure::from_error(&error))?;
        let missing = source.missing().to_vec();
        let targets = source.targets();
        let changed = match &self.changed_files {
            None => None,
            Some(file) => Some(changed_entries(&targets::changed(file)?, &source, ui)),
        };
        Ok(Input {
            source: Box::new(source),
            paths,
            missing,
            changed,
            asked: Some(asked),
            targets,
            is_stream: false,
        })
    }

    /// What may differ from the parent, if somebody said so and the rest can be relied on.
    fn changed(
        &self,
        input: &Input,
        parent: Option<&(Id, Snapshot)>,
        whole: Option<Id>,
        index: &IndexReport,
        ui: &Ui,
    ) -> Option<ChangedPaths> {
        let Some(changed) = &input.changed else {
            return None;
        };
        let why_all = match parent {
            None => Some("there is no snapshot to take the rest from"),
            Some((_, parent)) if parent.whole.is_none() || parent.whole != whole => Some(
                "the snapshot to take the rest from is not complete, or was made of other paths or with other options",
            ),
            Some(_) if !(index.missing_packs.is_empty() && index.damaged.is_empty()) => {
                Some("something of the repository is missing, and may be here still")
            }
            Some(_) => None,
        };
        if let Some(why) = why_all {
            ui.warn(format_args!("everything is looked at: {why}"));
            return None;
        }
        Some(ChangedPaths::new(changed.iter().cloned(), &input.targets))
    }

    fn find_parent(
        &self,
        snapshots: Vec<(Id, Snapshot)>,
        query: &ParentQuery<'_>,
    ) -> Result<Option<(Id, Snapshot)>, Failure> {
        let mut facts = super::select::facts(&snapshots);
        let chosen = match &self.parent {
            None => find_parent(query, &facts).map(|parent| parent.id),
            Some(text) => {
                let name = super::select::parse(text)?.name;
                // `latest` is the newest that could be found without being named; an ID may be any.
                if matches!(name, SnapshotName::Latest { .. }) {
                    facts.retain(|snapshot| snapshot.time <= query.time);
                }
                let named = select_one(&name, &query.filter(), &facts)
                    .map_err(|error| Failure::from_error(&error).while_doing("--parent"))?;
                Some(named.id)
            }
        };
        Ok(snapshots.into_iter().find(|(id, _)| Some(*id) == chosen))
    }

    fn say_parent(&self, ui: &Ui, parent: Option<&(Id, Snapshot)>) {
        match parent {
            Some((id, snapshot)) => ui.say(format_args!(
                "comparing with snapshot {} of {}",
                id.short(),
                format::time(snapshot.time)
            )),
            None if self.force => ui.say("reading everything, as asked"),
            None => ui.say("no snapshot to compare with: reading everything"),
        }
    }

    fn report(&self, ui: &Ui, outcome: &BackupOutcome, elapsed: std::time::Duration) {
        let s = &outcome.summary;
        if ui.json {
            let mut object = json!({"message_type": "summary", "dry_run": self.dry_run, "total_duration": elapsed.as_secs_f64(), "errors": outcome.problems});
            if let Some(map) = object.as_object_mut() {
                for (name, number) in s.numbers() {
                    map.insert(name.into(), u64::try_from(number).unwrap_or(0).into());
                }
                for (name, time) in [
                    ("backup_start", s.backup_start),
                    ("backup_end", s.backup_end),
                ] {
                    map.insert(name.into(), time.unwrap_or_default().to_string().into());
                }
                if let Some(id) = outcome.snapshot {
                    map.insert("snapshot_id".into(), id.to_string().into());
                }
            }
            ui.object(&object);
            return;
        }
        ui.say("");
        ui.say(format_args!(
            "files:       {:>7} new, {:>7} changed, {:>7} unchanged",
            s.files_new, s.files_changed, s.files_unmodified
        ));
        ui.say(format_args!(
            "directories: {:>7} new, {:>7} changed, {:>7} unchanged",
            s.dirs_new, s.dirs_changed, s.dirs_unmodified
        ));
        let would = if self.dry_run {
            "would store"
        } else {
            "stored"
        };
        ui.say(format_args!(
            "{would}:      {} of new data in {}",
            format::bytes(s.data_added),
            format::bytes(s.data_added_packed)
        ));
        ui.say(format_args!(
            "processed:   {}, {} in {} ({})",
            format::count(s.total_files_processed, "file"),
            format::bytes(s.total_bytes_processed),
            format::duration(elapsed),
            format::rate(s.total_bytes_processed, elapsed)
        ));
        if outcome.problems > 0 {
            ui.warn(format_args!(
                "{} could not be saved completely; they are named above",
                format::count(outcome.problems, "entry")
            ));
        }
        match outcome.snapshot {
            Some(id) => ui.say(format_args!("snapshot {} saved", id.short())),
            None if self.dry_run => ui.say("dry run: nothing was stored"),
            None => ui.say("nothing changed: no snapshot was written"),
        }
    }
}

/// Whether a path is another name of standard input.
fn is_stdin(path: &Path) -> bool {
    ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"]
        .iter()
        .any(|name| path == Path::new(name))
}

/// The entries that changed paths stand for.
fn changed_entries(paths: &[PathBuf], source: &VolumeSource, ui: &Ui) -> Vec<EntryPath> {
    let (mut entries, mut elsewhere) = (Vec::new(), 0);
    for path in paths {
        let found = source.entries_of(path);
        elsewhere += u64::from(found.is_empty());
        entries.extend(found);
    }
    if elsewhere > 0 {
        let count = format::count(elsewhere, "changed path");
        ui.say(format_args!("{count} outside of what is backed up"));
    }
    entries
}

/// What a snapshot holds, as it says itself.
fn holds(summary: &SnapshotSummary) -> Amount {
    Amount {
        files: summary.total_files_processed,
        dirs: summary.dirs_new + summary.dirs_changed + summary.dirs_unmodified,
        bytes: summary.total_bytes_processed,
    }
}

/// What is backed up.
struct Input {
    source: Box<dyn Source>,
    /// For the snapshot.
    paths: Vec<String>,
    missing: Vec<lifeboat_flow::Problem>,
    /// What somebody says has changed.
    changed: Option<Vec<EntryPath>>,
    /// What was named and what is to be left out, as a text, if it is files.
    asked: Option<String>,
    /// The entries that this leads to.
    targets: Vec<EntryPath>,
    is_stream: bool,
}
