//! Restores a tree of a snapshot: directories first, content by pack in any order, names and metadata last.
//! It must never write outside its target, and never give a new file its name before it is whole.

mod comparer;
mod content;
mod file;
mod finish;
mod tasks;
mod verify;
mod walk;

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use lifeboat_flow::{Cancel, Counters, Entry, EntryPath, Event, EventSink, Problem, Target};
use lifeboat_format::{Id, NodeKind};
use lifeboat_repo::{BlobReader, Index, Repository};

use crate::backup::ProtectError;
pub(crate) use file::{LOST, METADATA};

/// What happens to files that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// Their content is compared and what differs is written.
    #[default]
    Always,
    /// Those of the same size and time are taken for the same.
    IfChanged,
    /// Only those older than in the snapshot are overwritten.
    IfNewer,
    /// They stay as they are.
    Never,
}

/// What to do with a path of the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selected {
    /// Restore it.
    pub restore: bool,
    /// Look at what is below it.
    pub descend: bool,
}

/// Decides about a path of the snapshot; the flag says whether it is a directory.
pub type SelectPath<'a> = &'a (dyn Fn(&EntryPath, bool) -> Selected + Sync);

/// How to restore.
#[derive(Clone, Copy)]
pub struct RestoreOptions<'a> {
    /// What happens to files that are there already.
    pub overwrite: Overwrite,
    /// Remove what is in restored directories and not in the snapshot.
    pub delete: bool,
    /// Read everything again afterwards and compare.
    pub verify: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// What to restore.
    pub select: Option<SelectPath<'a>>,
    /// Threads; a backend that is worth more requests at once gets more. Fewer where memory does not allow them.
    pub workers: usize,
    /// Memory for what is fetched, in bytes.
    pub memory_bytes: usize,
}

/// What a restore did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestoreOutcome {
    /// Files, directories and others that were restored.
    pub entries_restored: u64,
    /// Bytes of content that are right now, whether written or found so.
    pub bytes_restored: u64,
    /// Files that were left as they are.
    pub files_skipped: u64,
    /// Their bytes.
    pub bytes_skipped: u64,
    /// Entries that were removed.
    pub deleted: u64,
    /// Files whose content was compared after the restore.
    pub files_verified: u64,
    /// Entries that could not be restored completely.
    pub problems: u64,
}

/// A restore that runs once.
pub struct Restore<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// Its index.
    pub index: &'a Index,
    /// Where to restore to.
    pub target: &'a dyn Target,
    /// How.
    pub options: RestoreOptions<'a>,
    /// Where progress is counted.
    pub counters: &'a Counters,
    /// Who is told of problems.
    pub events: &'a dyn EventSink,
    /// The wish to stop.
    pub cancel: &'a Cancel,
}

#[derive(Default)]
struct Done {
    entries: AtomicU64,
    bytes: AtomicU64,
    files_skipped: AtomicU64,
    bytes_skipped: AtomicU64,
    deleted: AtomicU64,
    verified: AtomicU64,
}

/// What all threads of a restore share.
struct Run<'a> {
    restore: &'a Restore<'a>,
    reader: BlobReader<'a>,
    done: Done,
    /// An error that ends the whole restore.
    failed: Mutex<Option<ProtectError>>,
    open_files: AtomicU64,
    partial_names: AtomicU64,
    /// Sets the partial names of this run apart from those that a snapshot may hold.
    partial_token: u32,
    /// Files that have no final name yet.
    partials: Mutex<HashSet<EntryPath>>,
    /// Files that can't be restored: what is at their path now is something else.
    lost: Mutex<HashSet<EntryPath>>,
}

impl Restore<'_> {
    /// Restores a tree; its entries appear in the top of the target.
    ///
    /// # Errors
    /// When the tree itself can't be read, or the target fails as a whole (a full disk); what concerns single entries
    /// is a problem and the rest is restored.
    pub fn run(&self, tree: Id) -> Result<RestoreOutcome, ProtectError> {
        let run = Run {
            restore: self,
            reader: BlobReader::new(self.repository, self.index),
            done: Done::default(),
            failed: Mutex::default(),
            open_files: AtomicU64::new(0),
            partial_names: AtomicU64::new(0),
            partial_token: random_token(),
            partials: Mutex::default(),
            lost: Mutex::default(),
        };
        let done = run.all(tree);
        run.remove_partials();
        done?;
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Ok(RestoreOutcome {
            entries_restored: of(&run.done.entries),
            bytes_restored: of(&run.done.bytes),
            files_skipped: of(&run.done.files_skipped),
            bytes_skipped: of(&run.done.bytes_skipped),
            deleted: of(&run.done.deleted),
            files_verified: of(&run.done.verified),
            problems: of(&self.counters.problems),
        })
    }

    fn problem(&self, problem: Problem) {
        self.counters.problems.fetch_add(1, Ordering::Relaxed);
        self.events.event(Event::Problem(problem));
    }

    fn item(&self, action: &'static str, path: &EntryPath, size_bytes: u64) {
        if self.events.wants_items() {
            self.events.event(Event::Item {
                action,
                path: path.display(),
                size_bytes,
            });
        }
    }
}

/// A number that nobody could have known when the snapshot was written.
fn random_token() -> u32 {
    use std::hash::{BuildHasher, Hasher};
    let hash = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    (hash & u64::from(u32::MAX)) as u32
}

/// The tree of a directory inside another tree, for `SNAPSHOT:SUBFOLDER`.
///
/// # Errors
/// When a part of the path is not there or no directory.
pub fn subfolder(reader: &BlobReader<'_>, root: Id, path: &[u8]) -> Result<Id, ProtectError> {
    let mut tree = root;
    let mut seen = EntryPath::top();
    for name in path
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
    {
        seen = seen.join(name);
        let node = reader.tree(tree)?.find(name).cloned();
        let missing = |what: &str| {
            ProtectError::NotInSnapshot(format!("{} {what} in the snapshot", seen.display()))
        };
        let node = node.ok_or_else(|| missing("is not"))?;
        tree = node
            .subtree
            .filter(|_| node.kind == NodeKind::Dir)
            .ok_or_else(|| missing("is no directory"))?;
    }
    Ok(tree)
}

/// A directory of the target that is being restored.
struct MadeDir {
    path: EntryPath,
    entry: Entry,
}

/// What is left to do when all content is written.
#[derive(Default)]
struct Leftovers {
    /// In the order in which they were made: parents first.
    dirs: Vec<MadeDir>,
    /// Hard links: the path and the path of the file that was restored before.
    links: Vec<(EntryPath, EntryPath)>,
    /// Directories that existed, with the names that the snapshot has there.
    existing: Vec<(EntryPath, Vec<Vec<u8>>)>,
    /// Files, for verifying.
    files: Vec<(EntryPath, Vec<Id>)>,
    /// The first path of each inode with several links.
    originals: HashMap<(u64, u64), (EntryPath, Vec<Id>)>,
}
