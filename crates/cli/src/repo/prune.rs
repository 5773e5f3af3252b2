//! `lifeboat repo prune`: removes what no snapshot needs; marked first, deleted a day later.
//! It must never say that space is free which is only marked, nor end with status 0 when it was kept from its work.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::{CompressionMode, Id, Timestamp};
use lifeboat_plan::parse_size;
use lifeboat_repo::prune::{
    Amount, Fate, Look, MaxUnused, Prune as Engine, PruneOptions, PruneStats, Removed, Repacked,
};
use lifeboat_repo::{Identity, LockGuard, LockRequest, LockTiming, RepoError, both};
use serde_json::{Value, json};

use super::session::{Locking, Session, retry_for};
use super::store::StoreArgs;
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format::{self, bytes, count};
use crate::progress::{self, Shown, workers};
use crate::ui::Ui;

/// Up to so many bytes are repacked while the repository is locked for this prune alone: that takes moments, or as long as a
/// limited rate lets it take.
const REPACK_ALONE_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Remove what no snapshot needs
///
/// Packs that hold nothing needed are marked, and deleted by a prune at least 23 hours later:
/// until then a backup by a program that takes no locks, as rustic, may rely on them.
/// Backups go on while packs are repacked. The last, short step needs the repository alone; up to
/// 64 MiB are repacked under its lock, and with --limit-upload that is not short.
/// Example: lifeboat repo prune --max-unused 10% --dry-run
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Prune {
    /// Say what would be done and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    options: PruneArgs,
}

/// What `forget --prune` takes as well.
#[derive(Args)]
#[command(next_help_heading = "How to prune")]
pub struct PruneArgs {
    /// How much may stay unused: a size, a part as 5%, or `unlimited`
    #[arg(long, value_name = "LIMIT", default_value = "5%")]
    max_unused: String,
    /// Repack at most so much, as 10G
    #[arg(long, value_name = "SIZE")]
    max_repack_size: Option<String>,
    /// Repack only what a cache holds: trees
    #[arg(long)]
    repack_cacheable_only: bool,
    /// Repack packs below four fifths of the pack size
    #[arg(long)]
    repack_small: bool,
    /// Repack packs below this size, as 8M
    #[arg(long, value_name = "SIZE")]
    repack_smaller_than: Option<String>,
    /// Repack what is not compressed
    #[arg(long)]
    repack_uncompressed: bool,
    /// How long packs stay marked before they are deleted, as 23h or 2d
    #[arg(long, value_name = "DURATION", default_value = "23h")]
    keep_delete: String,
    /// Delete at once; a rustic backup that runs meanwhile loses data by that
    #[arg(long)]
    instant_delete: bool,
    #[command(flatten)]
    store: StoreArgs,
}

impl PruneArgs {
    /// The options that they stand for.
    pub fn options(&self, global: &Global) -> Result<PruneOptions, Failure> {
        let size = |option: &str, text: &Option<String>| {
            let parsed = text.as_deref().map(parse_size).transpose();
            parsed.map_err(|error| Failure::from_error(&error).while_doing(option))
        };
        let ingest = self.store.options(global, false)?;
        if self.repack_uncompressed && ingest.compression == CompressionMode::Off {
            return Err(Failure::new(
                "--repack-uncompressed compresses, and --compression off forbids it; give one of them",
            ));
        }
        let pack_size_bytes = ingest.pack_size_bytes;
        let smaller_than = size("--repack-smaller-than", &self.repack_smaller_than)?;
        if smaller_than.is_some_and(|bytes| bytes == 0 || bytes > pack_size_bytes as u64) {
            return Err(Failure::new(format!(
                "--repack-smaller-than must be above zero and at most the pack size, {}",
                bytes(pack_size_bytes as u64)
            )));
        }
        let small = self.repack_small.then_some(pack_size_bytes as u64 / 5 * 4);
        Ok(PruneOptions {
            max_unused: max_unused(&self.max_unused)?,
            max_repack_bytes: size("--max-repack-size", &self.max_repack_size)?.unwrap_or(u64::MAX),
            small_pack_bytes: smaller_than.or(small),
            repack_uncompressed: self.repack_uncompressed,
            repack_cacheable_only: self.repack_cacheable_only,
            keep_delete: keep_delete(&self.keep_delete)?,
            instant_delete: self.instant_delete,
            ingest,
            threads: workers(),
        })
    }
}

fn max_unused(text: &str) -> Result<MaxUnused, Failure> {
    let text = text.trim();
    if text == "unlimited" {
        return Ok(MaxUnused::Unlimited);
    }
    if let Some(number) = text.strip_suffix('%') {
        let percent: Option<f64> = number.parse().ok();
        return percent
            .filter(|percent| (0.0..100.0).contains(percent))
            .map(MaxUnused::Percent)
            .ok_or_else(|| {
                Failure::new(format!(
                    "--max-unused {text:?} is no part: write a number from 0 to below 100 before the %"
                ))
            });
    }
    let bytes = parse_size(text)
        .map_err(|error| Failure::from_error(&error).while_doing("--max-unused"))?;
    Ok(MaxUnused::Bytes(bytes))
}

/// A length of time as rustic takes it: days have 24 hours.
fn keep_delete(text: &str) -> Result<Duration, Failure> {
    let refused = || {
        Failure::new(format!(
            "--keep-delete {text:?} is no length of time: write one as 23h, 90m or 2d"
        ))
    };
    let span: jiff::Span = text.trim().parse().map_err(|_| refused())?;
    let days = jiff::SpanRelativeTo::days_are_24_hours();
    let length = span.to_duration(days).map_err(|_| refused())?;
    Duration::try_from(length).map_err(|_| refused())
}

impl Prune {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let options = self.options.options(global)?;
        let locking = if self.dry_run {
            Locking::Read
        } else {
            Locking::Shared
        };
        let session = Session::open_early(global, ui, locking)?;
        prune(session, global, ui, options, self.dry_run, BTreeSet::new())
    }
}

/// Prunes what a session has open with a shared lock. Snapshots that a dry run would forget count as forgotten.
pub fn prune(
    mut session: Session,
    global: &Global,
    ui: &Ui,
    mut options: PruneOptions,
    dry_run: bool,
    forgotten: BTreeSet<Id>,
) -> Outcome {
    ui.enter("prune");
    let counters = Counters::default();
    let repository = Arc::clone(&session.repository);
    options.ingest = options.ingest.uploaders_for(&**repository.backend());
    let cancel = session.cancel.clone();
    let engine = Engine {
        repository: &repository,
        options,
        forgotten,
        counters: &counters,
        events: ui,
        cancel: &cancel,
    };
    let looking = Shown {
        noun: "trees",
        stored: false,
        totals_known: false,
    };
    let first = progress::during(ui, &counters, looking, || engine.look(lifeboat_repo::now()))
        .map_err(refused)?;
    // What somebody with the repository to themselves was about to do would be no plan any more.
    session.ensure()?;
    tell_plan(ui, &first, options);
    if dry_run {
        if ui.json {
            ui.object(&summary(&first.plan.stats, None, None, true));
        } else {
            ui.say("dry run: nothing was changed");
        }
        return Ok(Exit::Done);
    }
    let Some(shared) = session.lock.take() else {
        return Err(Failure::new("prune needs a lock"));
    };
    let is_short =
        !first.plan.is_empty() && first.plan.stats.repack.bytes <= REPACK_ALONE_MAX_BYTES;
    // A lock takes its time, and this work does not need it yet. One that is not to be had now is asked for again.
    let (alone, repacked) = both(
        || is_short.then(|| upgrade(&shared, ui, &cancel)),
        || repack(&engine, &first, &shared, &counters, ui),
    );
    let alone = alone.and_then(Result::ok);
    let repacked = repacked?;
    for pack in &repacked.damaged_packs {
        ui.warn(format_args!(
            "pack {pack} holds damaged blobs; what can't be read stays where it is"
        ));
    }
    let damaged = repacked.damaged_packs.len() as u64;
    let stored = repacked.stored;
    let mut removed = Removed::default();
    let mut last = first;
    if !last.plan.is_empty() {
        let (lock, shared) = match alone {
            Some(lock) => (lock, Some(shared)),
            None => {
                // Whoever waits for us to let go, as we wait for them, should not wait for ever.
                drop(shared);
                (exclusive(&session, global, ui, &last.plan.stats)?, None)
            }
        };
        reset(&counters);
        last = progress::during(ui, &counters, looking, || {
            engine.look_again(&last, repacked, lifeboat_repo::now())
        })
        .map_err(refused)?;
        reset(&counters);
        let shown = Shown {
            noun: "packs deleted",
            stored: false,
            totals_known: true,
        };
        // Neither touches what the other does.
        let (unfinished, gone) = both(
            || {
                drop(shared);
                engine.remove_unfinished()
            },
            || progress::during(ui, &counters, shown, || engine.remove(&last, &lock)),
        );
        drop(lock);
        removed = gone.map_err(not_removed)?;
        tidy(unfinished, ui);
    } else {
        tidy(engine.remove_unfinished(), ui);
    }
    if ui.json {
        ui.object(&summary(
            &last.plan.stats,
            Some(&removed),
            Some(stored.stored_bytes),
            false,
        ));
    } else {
        tell_done(ui, &last, &removed, stored.stored_bytes);
    }
    finish(&removed, damaged)
}

fn finish(removed: &Removed, damaged: u64) -> Outcome {
    if let Some((id, error)) = removed.undeleted.first() {
        let failure = Failure::new(format!(
            "{} could not be deleted, the first is {id}: {}",
            count(removed.undeleted.len() as u64, "pack"),
            lifeboat_repo::chain(error)
        ));
        return Err(failure.hint("the repository is valid: these packs are in no index file any more, and a later prune marks and deletes them"));
    }
    if damaged > 0 {
        let failure = Failure::new(format!("{} with damaged blobs", count(damaged, "pack")));
        return Err(
            failure.hint("they were kept; `lifeboat repo check --read-data` names what is damaged")
        );
    }
    Ok(Exit::Done)
}

fn tidy(unfinished: Result<u64, RepoError>, ui: &Ui) {
    match unfinished {
        Ok(0) => {}
        Ok(pieces) => ui.say(format_args!(
            "removed {} that writers left unfinished",
            count(pieces, "file")
        )),
        Err(error) => ui.warn(format_args!(
            "what writers left unfinished was not removed: {}",
            lifeboat_repo::chain(&error)
        )),
    }
}

fn reset(counters: &Counters) {
    for counter in [
        &counters.files_done,
        &counters.bytes_done,
        &counters.files_total,
        &counters.bytes_total,
    ] {
        counter.store(0, Ordering::Relaxed);
    }
}

/// What is done while backups go on: what is needed is copied out of packs that go.
fn repack(
    engine: &Engine<'_>,
    look: &Look,
    lock: &LockGuard,
    counters: &Counters,
    ui: &Ui,
) -> Result<Repacked, Failure> {
    if !look.plan.is_empty() {
        // Before anything is written: what a refused prune wrote would stay.
        engine.prove_removal(look, lock).map_err(not_removed)?;
    }
    if !look.plan.reads_packs() {
        return Ok(Repacked::default());
    }
    reset(counters);
    let shown = Shown {
        noun: "packs",
        stored: true,
        totals_known: true,
    };
    Ok(progress::during(ui, counters, shown, || {
        engine.repack(look, lock)
    })?)
}

/// The lock for the last step, at once or not at all.
fn upgrade(shared: &LockGuard, ui: &Ui, cancel: &Cancel) -> Result<LockGuard, RepoError> {
    let request = LockRequest {
        exclusive: true,
        retry_for: Duration::ZERO,
        timing: LockTiming::default(),
        early: false,
        reads: false,
    };
    let lock = shared.upgrade(&Identity::of_this_process(), request, ui, cancel)?;
    lock.tell(ui.notes());
    Ok(lock)
}

/// The lock for the last step. Without it nothing is removed, and that must not look like success.
fn exclusive(
    session: &Session,
    global: &Global,
    ui: &Ui,
    stats: &PruneStats,
) -> Result<LockGuard, Failure> {
    lock(session, global, ui, true).map_err(|mut failure| {
        if failure.exit == Exit::Locked {
            let overdue = stats.due_since.map_or(String::new(), |since| {
                format!(
                    "; {} ({}) overdue since {}",
                    count(stats.delete.packs, "marked pack"),
                    bytes(stats.delete.bytes),
                    format::time(since)
                )
            });
            failure.message = format!(
                "nothing was marked or deleted: {}{overdue}",
                failure.message
            );
        }
        failure
    })
}

/// Takes one more lock for a session.
pub fn lock(
    session: &Session,
    global: &Global,
    ui: &Ui,
    exclusive: bool,
) -> Result<LockGuard, Failure> {
    let request = LockRequest {
        exclusive,
        retry_for: retry_for(global)?,
        timing: LockTiming::default(),
        early: false,
        reads: false,
    };
    let who = Identity::of_this_process();
    Ok(LockGuard::take(
        &session.repository,
        &who,
        request,
        ui,
        &session.cancel,
    )?)
}

/// An error that kept prune from knowing what is needed.
fn refused(error: RepoError) -> Failure {
    let is_damage = matches!(
        error,
        RepoError::NeedsUnknown { .. } | RepoError::Refused(_)
    );
    let failure = Failure::from(error);
    if is_damage && failure.hint.is_none() {
        return failure.hint("nothing was removed; `lifeboat repo check` names everything that is damaged, and prune works again when it is repaired");
    }
    failure
}

/// An error while the index was replaced.
fn not_removed(error: RepoError) -> Failure {
    let is_refusal = matches!(&error, RepoError::Backend(cause) if cause.is_refusal());
    let failure = Failure::from(error);
    if is_refusal {
        return failure.hint("the place does not allow to remove files (append-only, or missing rights); the repository is valid and nothing was deleted: prune from a place that may");
    }
    failure
}

fn amount(amount: Amount) -> String {
    format!("{}, {}", count(amount.packs, "pack"), bytes(amount.bytes))
}

fn tell_plan(ui: &Ui, look: &Look, options: PruneOptions) {
    let stats = &look.plan.stats;
    let blobs = |amount: Amount| format!("{:>10} blobs  {:>12}", amount.blobs, bytes(amount.bytes));
    ui.say(format_args!("used        {}", blobs(stats.used)));
    ui.say(format_args!("duplicates  {}", blobs(stats.duplicate)));
    ui.say(format_args!("unused      {}", blobs(stats.unused)));
    let all = stats.packs_used + stats.packs_partly_used + stats.packs_unused;
    ui.say(format_args!(
        "{}: {} used, {} used in part, {} not used",
        count(all, "pack"),
        stats.packs_used,
        stats.packs_partly_used,
        stats.packs_unused
    ));
    if look.plan.is_empty() {
        match stats.wait_until_first {
            Some(first) => ui.say(format_args!(
                "nothing to do now; marked are {}, to be deleted from {} on",
                amount(stats.wait),
                format::time(first)
            )),
            None => ui.say("nothing to do"),
        }
        return;
    }
    tell_steps(ui, stats, options);
    if ui.verbose > 0 {
        for (id, fate, size) in look.changes() {
            ui.say(format_args!("  {:<12} {id}, {}", word(fate), bytes(size)));
        }
    }
}

fn tell_steps(ui: &Ui, stats: &PruneStats, options: PruneOptions) {
    let line = |label: &str, text: String| ui.say(format_args!("{label:<14} {text}"));
    let go = if options.instant_delete {
        "deleted at once"
    } else {
        "marked"
    };
    if stats.repack.packs > 0 {
        line(
            "repack:",
            format!(
                "{}; of that {} in {} are left behind",
                amount(stats.repack),
                bytes(stats.repack_removes.bytes),
                count(stats.repack_removes.blobs, "blob")
            ),
        );
    }
    if stats.unneeded.packs > 0 {
        line("not needed:", format!("{}: {go}", amount(stats.unneeded)));
    }
    if stats.unindexed.packs > 0 {
        line("in no index:", format!("{}: {go}", amount(stats.unindexed)));
    }
    if let (1.., Some(since)) = (stats.delete.packs, stats.due_since) {
        let since = format::time(since);
        line(
            "delete now:",
            format!("{}; due since {since}", amount(stats.delete)),
        );
    } else if stats.delete.packs > 0 {
        line("delete now:", amount(stats.delete));
    }
    if let (Some(first), Some(last)) = (stats.wait_until_first, stats.wait_until_last) {
        let (first, last) = (format::time(first), format::time(last));
        line(
            "waiting:",
            if first == last {
                format!("{}, until {first}", amount(stats.wait))
            } else {
                format!("{}, from {first} to {last}", amount(stats.wait))
            },
        );
    }
    if stats.recover.packs > 0 {
        line("index again:", amount(stats.recover));
    }
    if stats.forget.packs > 0 {
        line(
            "not there:",
            format!("{}: no longer named", count(stats.forget.packs, "pack")),
        );
    }
    line(
        "index files:",
        format!(
            "{} of {} written anew",
            stats.index_files_rewritten, stats.index_files
        ),
    );
    line("stays unused:", bytes(stats.unused_after_bytes));
}

fn word(fate: Fate) -> &'static str {
    match fate {
        Fate::Keep => "keep",
        Fate::Repack => "repack",
        Fate::Mark => "mark",
        Fate::Wait => "waiting",
        Fate::Remark => "mark anew",
        Fate::Recover => "index again",
        Fate::Delete => "delete",
        Fate::Forget => "not there",
    }
}

fn tell_done(ui: &Ui, look: &Look, removed: &Removed, stored_bytes: u64) {
    if stored_bytes > 0 {
        ui.say(format_args!("repacked {}", bytes(stored_bytes)));
    }
    if removed.recovered > 0 {
        ui.say(format_args!(
            "indexed {} again",
            count(removed.recovered, "pack")
        ));
    }
    if removed.marked > 0 {
        let stats = &look.plan.stats;
        let marked = stats.unneeded.bytes.saturating_add(stats.unindexed.bytes);
        ui.say(format_args!(
            "marked {} ({}): a prune after {} deletes what is not needed until then",
            count(removed.marked, "pack"),
            bytes(marked),
            format::time(look.plan.due())
        ));
    }
    if removed.deleted > 0 {
        ui.say(format_args!(
            "deleted {}, {} are free",
            count(removed.deleted, "pack"),
            bytes(removed.deleted_bytes)
        ));
    }
}

fn summary(
    stats: &PruneStats,
    removed: Option<&Removed>,
    repacked_bytes: Option<u64>,
    dry_run: bool,
) -> Value {
    let blobs = |amount: Amount| json!({"blobs": amount.blobs, "bytes": amount.bytes});
    let packs = |amount: Amount| json!({"packs": amount.packs, "bytes": amount.bytes});
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    json!({
        "message_type": "summary", "dry_run": dry_run,
        "used": blobs(stats.used), "duplicate": blobs(stats.duplicate), "unused": blobs(stats.unused),
        "packs": {"used": stats.packs_used, "partly_used": stats.packs_partly_used, "unused": stats.packs_unused},
        "repack": packs(stats.repack), "repack_removes": blobs(stats.repack_removes),
        "unneeded": packs(stats.unneeded), "unindexed": packs(stats.unindexed),
        "waiting": packs(stats.wait), "waiting_until_first": time(stats.wait_until_first), "waiting_until_last": time(stats.wait_until_last),
        "delete": packs(stats.delete), "due_since": time(stats.due_since),
        "recover": packs(stats.recover), "missing": packs(stats.forget),
        "unused_after": stats.unused_after_bytes,
        "index_files": stats.index_files, "index_files_rewritten": stats.index_files_rewritten,
        "done": removed.map(|removed| json!({
            "repacked_bytes": repacked_bytes, "marked": removed.marked, "recovered": removed.recovered,
            "deleted": removed.deleted, "deleted_bytes": removed.deleted_bytes, "undeleted": removed.undeleted.len(),
            "index_files_written": removed.index_files_written, "index_files_removed": removed.index_files_removed,
        })),
    })
}
