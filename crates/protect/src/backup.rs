//! Backs a source up: every entry into a node, every directory into a tree, the root into a snapshot that comes last.
//! It must never acknowledge what is not stored and indexed, and never leave out an entry without saying so.

mod changed;
mod file;
mod frame;
mod queue;
mod scan;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use lifeboat_flow::{
    Budget, Cancel, Cancelled, Counters, Event, EventSink, Problem, Source, SourceError,
};
use lifeboat_format::{
    BlobKind, Id, Node, NodeKind, Snapshot, SnapshotSummary, Timestamp, Tree, TreeError,
};
use lifeboat_plan::FilesRecordError;
use lifeboat_repo::{
    Index, Ingest, IngestOptions, LockGuard, Opener, RepoError, Repository, Sealer, chain,
    read_places,
};

pub use changed::ChangedPaths;
pub(crate) use file::VERIFYING;
use frame::Frame;
use queue::{Job, Queue};

/// Trees of the parent that are looked at to count what is gone; beyond, the numbers of the summary are not worth the time.
const GONE_MAX_TREES: usize = 10_000;

/// A backup or restore can't go on.
#[derive(Debug, thiserror::Error)]
pub enum ProtectError {
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The source can't be trusted as a whole.
    #[error("nothing was acknowledged, because what was read can't be relied on")]
    Source(#[from] SourceError),
    /// A directory gives its names out of order: a bug of a source.
    #[error("the source gave the entries of {path} out of order")]
    Order {
        /// The directory.
        path: String,
        /// Which names.
        #[source]
        cause: TreeError,
    },
    /// Two entries are to be at one place.
    #[error("{0} came twice")]
    Twice(String),
    /// The place to restore to failed as a whole, for example because it is full.
    #[error("the restore can't go on")]
    Target(#[from] lifeboat_flow::TargetError),
    /// What was asked for is not in the snapshot.
    #[error("{0}")]
    NotInSnapshot(String),
    /// Nothing is left to save.
    #[error(
        "the snapshot would be empty: there is nothing in what was named, or all of it is left out"
    )]
    Empty,
    /// The record of a capture can't be used.
    #[error(transparent)]
    Member(#[from] lifeboat_state::postgres::MemberError),
    /// The record of a capture of files can't be used.
    #[error(transparent)]
    Files(#[from] FilesRecordError),
    /// Somebody wished to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// When a file counts as unchanged.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChangeRule {
    /// Inode numbers are not compared: for file systems that give new ones at each mount.
    pub ignore_inode: bool,
    /// The inode's change time is not compared.
    pub ignore_ctime: bool,
    /// A file that was touched at this time or later is read, even if it looks the same: it may have been written again
    /// within one tick of the clock after the parent read it.
    pub settled_before: Option<Timestamp>,
}

/// The snapshot to compare with.
#[derive(Clone, Copy, Debug)]
pub struct Parent {
    /// Its ID.
    pub id: Id,
    /// Its tree.
    pub tree: Id,
    /// What it holds, if it says so.
    pub holds: Option<Amount>,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Files.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// What is in the files, in bytes.
    pub bytes: u64,
}

/// How to back up.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// The snapshot to compare with; without one every file is read.
    pub parent: Option<Parent>,
    /// What may differ from the parent; directories that are not concerned are taken over as they were. `None` looks at
    /// everything, as does a backup without a parent.
    pub changed: Option<ChangedPaths>,
    /// When a file counts as unchanged.
    pub change_rule: ChangeRule,
    /// Write no snapshot if its tree would be the parent's.
    pub skip_if_unchanged: bool,
    /// Fail if nothing is left to save: more often a mistake in what is left out than a wish.
    pub refuse_empty: bool,
    /// Threads that chunk, hash, compress and encrypt.
    pub workers: usize,
    /// Files that are read at once.
    pub readers: usize,
    /// Count what there is while backing up, for an estimate of the time left.
    pub scan: bool,
    /// How to store.
    pub ingest: IngestOptions,
}

/// A tree that is stored, to which no snapshot leads yet.
#[derive(Clone, Debug)]
pub struct TreeOutcome {
    /// The tree.
    pub tree: Id,
    /// What was done.
    pub summary: SnapshotSummary,
    /// Entries that could not be read completely.
    pub problems: u64,
}

/// What a backup did.
#[derive(Clone, Debug)]
pub struct BackupOutcome {
    /// The snapshot; `None` for a dry run or if nothing changed and that was to be skipped.
    pub snapshot: Option<Id>,
    /// The root tree.
    pub tree: Id,
    /// What was done.
    pub summary: SnapshotSummary,
    /// Entries that could not be read completely.
    pub problems: u64,
}

/// A backup that runs once.
pub struct Backup<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// Its index, compared with the listing of packs.
    pub index: &'a RwLock<Index>,
    /// The lock; a dry run has none.
    pub lock: Option<&'a LockGuard>,
    /// What to back up.
    pub source: &'a dyn Source,
    /// How.
    pub options: BackupOptions,
    /// Where progress is counted.
    pub counters: &'a Counters,
    /// Who is told of problems.
    pub events: &'a dyn EventSink,
    /// The wish to stop.
    pub cancel: &'a Cancel,
}

#[derive(Default)]
struct Stats {
    files_new: AtomicU64,
    files_changed: AtomicU64,
    files_unmodified: AtomicU64,
    dirs_new: AtomicU64,
    dirs_changed: AtomicU64,
    dirs_unmodified: AtomicU64,
    /// What of the parent was looked at or is gone: the rest of it was taken over.
    files_before: AtomicU64,
    dirs_before: AtomicU64,
    bytes_before: AtomicU64,
    /// There was too much of it to be counted.
    is_uncounted: AtomicBool,
}

/// What the workers share.
struct Run<'a> {
    backup: &'a Backup<'a>,
    ingest: &'a Ingest<'a>,
    queue: Queue,
    budget: Budget,
    spare: Mutex<Vec<Vec<u8>>>,
    stats: Stats,
    root: Mutex<Option<Id>>,
    failed: Mutex<Option<ProtectError>>,
}

impl Backup<'_> {
    /// Runs it. `draft` is the snapshot with everything but tree and summary, and it is whole unless something can't be
    /// saved; `now` tells when it begins and ends,
    /// whatever time the snapshot names.
    ///
    /// # Errors
    /// When the repository fails or the source can't be trusted; entries that can't be read are problems, not errors.
    pub fn run(
        self,
        draft: Snapshot,
        now: impl Fn() -> Timestamp,
    ) -> Result<BackupOutcome, ProtectError> {
        let TreeOutcome {
            tree,
            summary,
            problems,
        } = self.tree(now)?;
        let unchanged = self
            .options
            .parent
            .is_some_and(|parent| parent.tree == tree);
        if self.options.refuse_empty
            && Tree::default()
                .to_json()
                .is_ok_and(|json| Id::of(&json) == tree)
        {
            return Err(ProtectError::Empty);
        }
        let skip = self.options.ingest.dry_run || (self.options.skip_if_unchanged && unchanged);
        let snapshot = if skip {
            None
        } else {
            let snapshot = Snapshot {
                tree,
                summary: Some(summary.clone()),
                // What could not be saved must be tried again.
                whole: draft.whole.filter(|_| problems == 0),
                ..draft
            };
            Some(acknowledge(
                self.repository,
                self.index,
                self.lock,
                self.cancel,
                &snapshot,
            )?)
        };
        Ok(BackupOutcome {
            snapshot,
            tree,
            summary,
            problems,
        })
    }

    /// Stores the tree of the source, and no snapshot.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn tree(&self, now: impl Fn() -> Timestamp) -> Result<TreeOutcome, ProtectError> {
        let started = now();
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        // Others may have counted before: a fleet has one set of counters for all its captures.
        let bytes_of_others = of(&self.counters.bytes_done);
        let problems_of_others = of(&self.counters.problems);
        let ((tree, stats), stored) = Ingest::run(
            self.repository,
            self.index,
            self.lock,
            self.options.ingest,
            |ingest| {
                let run = Run {
                    backup: self,
                    ingest,
                    queue: Queue::new(self.options.readers.max(1)),
                    budget: Budget::new(self.options.ingest.in_flight_bytes()),
                    spare: Mutex::default(),
                    stats: Stats::default(),
                    root: Mutex::default(),
                    failed: Mutex::default(),
                };
                run.all()
            },
        )?;
        let holds = self.options.parent.and_then(|parent| parent.holds);
        let is_counted = !stats.is_uncounted.load(Ordering::Relaxed);
        let taken = match holds.filter(|_| self.options.changed.is_some() && is_counted) {
            None => Amount::default(),
            Some(all) => Amount {
                files: all.files.saturating_sub(of(&stats.files_before)),
                dirs: all.dirs.saturating_sub(of(&stats.dirs_before)),
                bytes: all.bytes.saturating_sub(of(&stats.bytes_before)),
            },
        };
        let mut summary = SnapshotSummary {
            backup_start: Some(started),
            backup_end: Some(now()),
            files_new: of(&stats.files_new),
            files_changed: of(&stats.files_changed),
            files_unmodified: of(&stats.files_unmodified) + taken.files,
            dirs_new: of(&stats.dirs_new),
            dirs_changed: of(&stats.dirs_changed),
            dirs_unmodified: of(&stats.dirs_unmodified) + taken.dirs,
            data_blobs: i64::try_from(stored.data_blobs).unwrap_or(i64::MAX),
            tree_blobs: i64::try_from(stored.tree_blobs).unwrap_or(i64::MAX),
            data_added: stored.plain_bytes,
            data_added_packed: stored.stored_bytes,
            total_files_processed: 0,
            total_bytes_processed: of(&self.counters.bytes_done) - bytes_of_others + taken.bytes,
        };
        summary.total_files_processed =
            summary.files_new + summary.files_changed + summary.files_unmodified;
        Ok(TreeOutcome {
            tree,
            summary,
            problems: of(&self.counters.problems) - problems_of_others,
        })
    }

    fn problem(&self, problem: Problem) {
        self.counters.problems.fetch_add(1, Ordering::Relaxed);
        self.events.event(Event::Problem(problem));
    }

    fn item(&self, action: &'static str, path: impl FnOnce() -> String, size_bytes: u64) {
        if self.events.wants_items() {
            self.events.event(Event::Item {
                action,
                path: path(),
                size_bytes,
            });
        }
    }

    /// A tree of the parent. One that can't be read only costs time: its files are read again.
    fn parent_tree(&self, id: Id, opener: &mut Opener) -> Option<Tree> {
        let mut json = Vec::new();
        // Nobody who adds to the index waits for a backend.
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let places = index.find_all(BlobKind::Tree, &id);
        drop(index);
        let read = read_places(
            self.repository,
            &places,
            BlobKind::Tree,
            id,
            opener,
            &mut json,
        );
        match read.and_then(|()| Ok(Tree::from_json(&json)?)) {
            Ok(tree) => Some(tree),
            Err(error) => {
                self.events.event(Event::Note(format!(
                    "a tree of the parent snapshot can't be used, its files are read again: {}",
                    chain(&error)
                )));
                None
            }
        }
    }
}

/// Writes the snapshot, after a last look whether everything that it relies on is still there.
pub(crate) fn acknowledge(
    repository: &Repository,
    index: &RwLock<Index>,
    lock: Option<&LockGuard>,
    cancel: &Cancel,
    snapshot: &Snapshot,
) -> Result<Id, ProtectError> {
    cancel.check()?;
    repository.confirm_relied(index)?;
    Ok(repository.save_snapshot_under(lock, snapshot)?)
}

impl Run<'_> {
    fn all(self) -> Result<(Id, Stats), ProtectError> {
        self.queue.push_dir(Arc::new(Frame::root(
            self.backup.options.parent.map(|parent| parent.tree),
        )));
        std::thread::scope(|scope| {
            if self.backup.options.scan {
                scope.spawn(|| scan::count(self.backup, &self.queue));
            }
            for _ in 1..self.backup.options.workers.max(1) {
                scope.spawn(|| self.work());
            }
            self.work();
        });
        if let Some(error) = self
            .failed
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
        {
            return Err(error);
        }
        self.backup.cancel.check()?;
        let root = self
            .root
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let root = root.ok_or_else(|| RepoError::WriterFailed("a worker panicked".into()))?;
        Ok((root, self.stats))
    }

    fn work(&self) {
        // A worker that panics must wake the others, which would wait for its jobs for ever.
        let _stop = StopOnPanic(&self.queue);
        let result = (|| {
            let mut tools = file::Tools::new(self.ingest)?;
            while let Some(job) = self.queue.next(self.backup.cancel) {
                match job {
                    Job::Dir(frame) => self.list(&frame, &mut tools)?,
                    Job::File(frame, slot, is_new) => {
                        let read = self.read_file(&frame, slot, is_new, &mut tools);
                        self.queue.file_done();
                        read?;
                    }
                    Job::Blob(blob) => self.seal_blob(blob, &mut tools)?,
                }
            }
            Ok::<(), ProtectError>(())
        })();
        if let Err(error) = result {
            self.failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(error);
            self.queue.stop();
        }
    }

    /// Lists a directory, takes over what did not change and queues the rest.
    fn list(&self, frame: &Arc<Frame>, tools: &mut file::Tools) -> Result<(), ProtectError> {
        let backup = self.backup;
        let listing = match backup.source.list(&frame.path) {
            Ok(listing) => listing,
            Err(error @ SourceError::Fatal { .. }) => return Err(error.into()),
            Err(error) => {
                let problem = Problem::from_error(&frame.path.display(), "read directory", &error);
                frame.note_error(&problem.why);
                backup.problem(problem);
                if let Some(tree) = frame.parent_tree {
                    self.count_gone(tree, tools);
                }
                return self.finish_frames(frame.clone(), tools);
            }
        };
        if !listing.problems.is_empty() {
            frame.note_error(&match listing.problems.as_slice() {
                [one] => format!("not saved: {one}"),
                several => format!("{} entries could not be saved", several.len()),
            });
        }
        for problem in listing.problems {
            backup.problem(problem);
        }
        let parent = frame
            .parent_tree
            .and_then(|id| backup.parent_tree(id, &mut tools.opener))
            .unwrap_or_default();
        parent.nodes.iter().for_each(|node| self.count_before(node));
        let mut parents = parent.nodes.into_iter().peekable();
        let mut nodes = Vec::with_capacity(listing.entries.len());
        let mut subdirs = Vec::new();
        let mut files = Vec::new();
        for (slot, entry) in listing.entries.into_iter().enumerate() {
            let mut node = crate::node::node_of(entry);
            while let Some(gone) = parents.next_if(|p| p.name < node.name) {
                self.count_subtree_gone(&gone, tools);
            }
            let before = parents.next_if(|p| p.name == node.name);
            if let Some(before) = before.as_ref().filter(|p| p.kind != node.kind) {
                self.count_subtree_gone(before, tools);
            }
            match node.kind {
                NodeKind::Dir => match self.taken_over(frame, &node, before.as_ref()) {
                    Some(tree) => node.subtree = Some(tree),
                    None => subdirs.push((slot, before)),
                },
                NodeKind::File => {
                    let is_new = before.is_none();
                    match before
                        .filter(|before| self.is_unchanged(before, &node))
                        .and_then(|before| before.content)
                    {
                        Some(content) => {
                            node.content = Some(content);
                            self.count_file(
                                &self.stats.files_unmodified,
                                "unchanged",
                                frame,
                                &node,
                            );
                        }
                        None => files.push((slot, is_new)),
                    }
                }
                _ => {}
            }
            nodes.push(Some(node));
        }
        parents.for_each(|gone| self.count_subtree_gone(&gone, tools));
        frame.fill(nodes, subdirs.len() + files.len());
        let dirs = subdirs
            .into_iter()
            .map(|(slot, before)| Frame::below(frame, slot, before.as_ref()))
            .collect();
        self.queue.push_all(frame, dirs, files);
        self.finish_one(frame.clone(), tools)
    }

    /// The tree of a directory in which nothing changed, as a watcher says.
    fn taken_over(&self, above: &Frame, now: &Node, before: Option<&Node>) -> Option<Id> {
        let changed = self.backup.options.changed.as_ref()?;
        let before = before.filter(|before| before.kind == now.kind && before.error.is_empty())?;
        let tree = before.subtree?;
        let is_there = self.ingest.known(BlobKind::Tree, &tree).is_some();
        if !is_there || changed.concerns(&above.path.join(&now.name)) {
            return None;
        }
        // It is counted with all that is in it.
        self.stats.dirs_before.fetch_sub(1, Ordering::Relaxed);
        Some(tree)
    }

    /// Counts a node of the parent that is looked at anew.
    fn count_before(&self, node: &Node) {
        match node.kind {
            NodeKind::File => {
                self.stats.files_before.fetch_add(1, Ordering::Relaxed);
                let bytes = &self.stats.bytes_before;
                bytes.fetch_add(node.size_bytes, Ordering::Relaxed);
            }
            NodeKind::Dir => {
                self.stats.dirs_before.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// Counts what was in a directory of the parent that is no more.
    fn count_subtree_gone(&self, node: &Node, tools: &mut file::Tools) {
        if let Some(tree) = node.subtree {
            self.count_gone(tree, tools);
        }
    }

    /// Counts what was in a tree of the parent. Only who takes over the rest needs to know.
    fn count_gone(&self, tree: Id, tools: &mut file::Tools) {
        let mut trees = match self.backup.options.changed {
            Some(_) => vec![tree],
            None => Vec::new(),
        };
        let mut seen = 0;
        while let Some(id) = trees.pop() {
            if self.backup.cancel.is_cancelled() {
                return;
            }
            seen += 1;
            if seen + trees.len() > GONE_MAX_TREES {
                self.stats.is_uncounted.store(true, Ordering::Relaxed);
                return;
            }
            let tree = self.backup.parent_tree(id, &mut tools.opener);
            for node in tree.unwrap_or_default().nodes {
                self.count_before(&node);
                trees.extend(node.subtree);
            }
        }
    }

    fn is_unchanged(&self, before: &Node, now: &Node) -> bool {
        let rule = self.backup.options.change_rule;
        let is_settled = |time: Timestamp| now.changed < time && now.modified < time;
        before.kind == now.kind
            && before.error.is_empty()
            && rule.settled_before.is_none_or(is_settled)
            && before.size_bytes == now.size_bytes
            && before.modified == now.modified
            && (rule.ignore_ctime || before.changed == now.changed)
            && (rule.ignore_inode || before.inode == now.inode)
            && before.content.as_ref().is_some_and(|content| {
                content
                    .iter()
                    .all(|id| self.ingest.known(BlobKind::Data, id).is_some())
            })
    }

    fn count_file(&self, counter: &AtomicU64, action: &'static str, frame: &Frame, node: &Node) {
        counter.fetch_add(1, Ordering::Relaxed);
        let counters = self.backup.counters;
        counters.files_done.fetch_add(1, Ordering::Relaxed);
        counters
            .bytes_stored
            .store(self.ingest.stored_bytes(), Ordering::Relaxed);
        if action == "unchanged" {
            counters
                .bytes_done
                .fetch_add(node.size_bytes, Ordering::Relaxed);
        }
        self.backup.item(
            action,
            || frame.path.join(&node.name).display(),
            node.size_bytes,
        );
    }

    /// Ends a directory whose listing failed: it has no entries.
    fn finish_frames(
        &self,
        frame: Arc<Frame>,
        tools: &mut file::Tools,
    ) -> Result<(), ProtectError> {
        frame.fill(Vec::new(), 0);
        self.finish_one(frame, tools)
    }

    /// One of the things that a frame waits for is done; frames that wait for nothing more become trees, upwards.
    fn finish_one(&self, frame: Arc<Frame>, tools: &mut file::Tools) -> Result<(), ProtectError> {
        let mut current = Some(frame);
        while let Some(frame) = current.take().filter(|frame| frame.is_last()) {
            let tree = frame.take_tree();
            let path = || frame.path.display();
            let id = add_tree(self.ingest, &mut tools.sealer, &tree, path)?;
            let counter = match frame.parent_tree {
                None => &self.stats.dirs_new,
                Some(before) if before == id && frame.is_same_itself => &self.stats.dirs_unmodified,
                Some(_) => &self.stats.dirs_changed,
            };
            match frame.take_above() {
                Some((above, slot)) => {
                    counter.fetch_add(1, Ordering::Relaxed);
                    above.set(slot, |node| {
                        node.subtree = Some(id);
                        node.error = frame.error();
                    });
                    current = Some(above);
                }
                None => {
                    *self.root.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
                    self.queue.stop();
                }
            }
        }
        Ok(())
    }
}

/// Stores a tree, which an error names by its path.
pub(crate) fn add_tree(
    ingest: &Ingest<'_>,
    sealer: &mut Sealer,
    tree: &Tree,
    path: impl FnOnce() -> String,
) -> Result<Id, ProtectError> {
    let json = tree.to_json().map_err(|cause| ProtectError::Order {
        path: path(),
        cause,
    })?;
    let id = Id::of(&json);
    ingest.add(BlobKind::Tree, id, &json, sealer)?;
    Ok(id)
}

struct StopOnPanic<'a>(&'a Queue);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}
