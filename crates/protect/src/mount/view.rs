//! What a mounted repository holds at the moment: its snapshots by name, its index, trees that were read.
//! It must never show a snapshot before the index that it needs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lifeboat_flow::{Cancel, Event, EventSink, Problem};
use lifeboat_format::{BlobKind, Id, Snapshot, Tree};
use lifeboat_plan::{NamedSnapshot, SnapshotDir, SnapshotDirs, SnapshotFacts};
use lifeboat_repo::{BlobReader, Index, PackListing, RepoError, Repository, Snapshots};

use super::inode::Entry;
use super::{MountError, MountOptions};

/// How old the list of snapshots may be before it is looked for new ones (restic's).
const SNAPSHOTS_MAX_AGE: Duration = Duration::from_secs(60);
/// Entries of trees that are kept.
const TREE_NODES_MAX: usize = 200_000;

/// What a mounted repository holds.
pub(super) struct View {
    pub(super) repository: Arc<Repository>,
    pub(super) options: MountOptions,
    events: Arc<dyn EventSink>,
    cancel: Cancel,
    state: Mutex<State>,
    trees: Mutex<Trees>,
}

/// One look at the repository; it stays as it is while somebody reads by it.
pub(super) struct Look {
    dirs: SnapshotDirs,
    snapshots: HashMap<Id, Snapshot>,
    /// Snapshots that can't be read, so that they are not shown.
    damaged: HashSet<Id>,
    /// Index files that can't be used.
    damaged_index: HashSet<Id>,
    pub(super) index: Index,
}

struct State {
    look: Arc<Look>,
    looked: Instant,
}

#[derive(Default)]
struct Trees {
    held: HashMap<Id, (Arc<Tree>, u64)>,
    nodes: usize,
    clock: u64,
}

impl View {
    pub(super) fn open(
        repository: Arc<Repository>,
        options: MountOptions,
        events: Arc<dyn EventSink>,
        cancel: Cancel,
    ) -> Result<Self, MountError> {
        let snapshots = selected(&repository, &options)?;
        tell_of_damaged(&snapshots, &HashSet::new(), &*events);
        let look = look(&repository, &options, snapshots, None, &*events, &cancel)?;
        Ok(Self {
            repository,
            options,
            events,
            cancel,
            state: Mutex::new(State {
                look: Arc::new(look),
                looked: Instant::now(),
            }),
            trees: Mutex::default(),
        })
    }

    /// The newest look that is at hand.
    pub(super) fn now(&self) -> Arc<Look> {
        Arc::clone(&self.lock().look)
    }

    /// A look that is not older than a minute. When the repository can't be read, the old one and the error.
    pub(super) fn fresh(&self) -> (Arc<Look>, Option<MountError>) {
        let mut state = self.lock();
        if state.looked.elapsed() < SNAPSHOTS_MAX_AGE {
            return (Arc::clone(&state.look), None);
        }
        // Set before: a repository that can't be reached is not asked by every look-up.
        state.looked = Instant::now();
        let old = Arc::clone(&state.look);
        drop(state);
        let renewed = selected(&self.repository, &self.options)
            .map_err(MountError::from)
            .and_then(|snapshots| {
                tell_of_damaged(&snapshots, &old.damaged, &*self.events);
                let all = &snapshots.all;
                let same = all.len() == old.snapshots.len()
                    && all.iter().all(|(id, _)| old.snapshots.contains_key(id))
                    && snapshots.damaged.len() == old.damaged.len();
                if same {
                    return Ok(None);
                }
                let (options, events) = (&self.options, &*self.events);
                let (repository, cancel) = (&self.repository, &self.cancel);
                look(repository, options, snapshots, Some(&old), events, cancel).map(Some)
            });
        match renewed {
            Ok(None) => (old, None),
            Ok(Some(new)) => {
                let new = Arc::new(new);
                self.lock().look = Arc::clone(&new);
                (new, None)
            }
            Err(error) => (old, Some(error)),
        }
    }

    /// A tree, from memory if it was read a moment ago.
    pub(super) fn tree(&self, look: &Look, id: Id) -> Result<Arc<Tree>, RepoError> {
        {
            let mut trees = self.trees();
            trees.clock += 1;
            let now = trees.clock;
            if let Some((tree, used)) = trees.held.get_mut(&id) {
                *used = now;
                return Ok(Arc::clone(tree));
            }
        }
        let tree = Arc::new(BlobReader::new(&self.repository, &look.index).tree(id)?);
        self.trees().put(id, &tree);
        Ok(tree)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trees(&self) -> MutexGuard<'_, Trees> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trees {
    fn put(&mut self, id: Id, tree: &Arc<Tree>) {
        let now = self.clock;
        if self.held.insert(id, (Arc::clone(tree), now)).is_none() {
            self.nodes += tree.nodes.len() + 1;
        }
        while self.nodes > TREE_NODES_MAX && self.held.len() > 1 {
            let oldest = self.held.iter().filter(|(other, _)| **other != id);
            let Some(oldest) = oldest.min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id) else {
                break;
            };
            if let Some((tree, _)) = self.held.remove(&oldest) {
                self.nodes -= tree.nodes.len() + 1;
            }
        }
    }
}

impl Look {
    /// The names in a directory, each with what it is.
    pub(super) fn names(&self, path: &[String]) -> Option<Vec<(String, Entry)>> {
        let names = self.dir(path)?;
        let entry = |(name, what): (&String, &SnapshotDir)| {
            let entry = match what {
                SnapshotDir::Names(_) => {
                    let below: Vec<String> = path.iter().chain([name]).cloned().collect();
                    Entry::Names(below.into())
                }
                SnapshotDir::Link(to) => Entry::Link(to.as_str().into()),
                SnapshotDir::Snapshot(id) => {
                    let snapshot = self.snapshots.get(id)?;
                    Entry::Snapshot {
                        tree: snapshot.tree,
                        seconds: snapshot.time.seconds,
                    }
                }
            };
            Some((name.clone(), entry))
        };
        Some(names.iter().filter_map(entry).collect())
    }

    /// The size of everything that is stored, in bytes.
    pub(super) fn stored_bytes(&self) -> u64 {
        let mut bytes = 0;
        self.index.each(|kind, _, place| {
            if kind == BlobKind::Data {
                bytes += u64::from(place.length_bytes);
            }
        });
        bytes
    }

    fn dir(&self, path: &[String]) -> Option<&BTreeMap<String, SnapshotDir>> {
        let mut dir = SnapshotDirs::TOP;
        for name in path {
            match self.dirs.names(dir)?.get(name)? {
                SnapshotDir::Names(next) => dir = *next,
                _ => return None,
            }
        }
        self.dirs.names(dir)
    }
}

fn selected(repository: &Repository, options: &MountOptions) -> Result<Snapshots, RepoError> {
    let mut snapshots = repository.snapshots()?;
    snapshots
        .all
        .retain(|(id, snapshot)| (options.select)(&SnapshotFacts::of(*id, snapshot)));
    Ok(snapshots)
}

/// Says which snapshots are not shown because they can't be read, each once.
fn tell_of_damaged(snapshots: &Snapshots, told: &HashSet<Id>, events: &dyn EventSink) {
    for (id, error) in &snapshots.damaged {
        if !told.contains(id) {
            problem(&format!("snapshot {}", id.short()), error, events);
        }
    }
}

fn problem(what: &str, error: &RepoError, events: &dyn EventSink) {
    events.event(Event::Problem(Problem::from_error(what, "read", error)));
}

/// Snapshots come first: what they name was indexed before. What the old look told is not told again.
fn look(
    repository: &Repository,
    options: &MountOptions,
    snapshots: Snapshots,
    old: Option<&Look>,
    events: &dyn EventSink,
    cancel: &Cancel,
) -> Result<Look, MountError> {
    let (index, report) = repository.load_index(PackListing::Skip, cancel)?;
    let told = |id| old.is_some_and(|old| old.damaged_index.contains(id));
    for (id, error) in report.damaged.iter().filter(|(id, _)| !told(id)) {
        problem(&format!("index file {}", id.short()), error, events);
    }
    let damaged = snapshots.damaged.iter().map(|(id, _)| *id).collect();
    let snapshots = snapshots.all;
    let named: Vec<NamedSnapshot<'_>> = snapshots
        .iter()
        .map(|(id, snapshot)| NamedSnapshot {
            id: *id,
            time: snapshot.time,
            hostname: &snapshot.hostname,
            username: &snapshot.username,
            tags: &snapshot.tags,
        })
        .collect();
    let templates: Vec<&str> = options.path_templates.iter().map(String::as_str).collect();
    let dirs = SnapshotDirs::build(&named, &templates, &options.time_template)?;
    Ok(Look {
        dirs,
        snapshots: snapshots.into_iter().collect(),
        damaged,
        damaged_index: report.damaged.iter().map(|(id, _)| *id).collect(),
        index,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_repo::backend::{Backend, FileKind, FileName};
    use lifeboat_testkit::bare::{PASSWORD, memory, snapshot};

    #[derive(Default)]
    struct Seen(Mutex<Vec<String>>);

    impl EventSink for Seen {
        fn event(&self, event: Event) {
            if let Event::Problem(problem) = event {
                self.0.lock().unwrap().push(problem.path);
            }
        }
    }

    fn save_snapshot(repository: &Repository, number: u8) {
        let snapshot = snapshot(Id([number; 32]));
        repository.save_snapshot(&snapshot).unwrap();
    }

    #[test]
    fn an_index_file_that_can_not_be_used_is_told_once() {
        let memory = memory();
        let opened = Repository::open(Arc::new(memory.clone()), PASSWORD, None);
        let repository = Arc::new(opened.unwrap());
        let damage = |number: u8| {
            let name = FileName::new(FileKind::Index, Id([number; 32]));
            memory.save(name, &[b"no index"]).unwrap();
        };
        let options = MountOptions {
            place: "/mnt".into(),
            path_templates: vec!["ids/%i".into()],
            time_template: "2006-01-02T15:04:05".into(),
            select: Box::new(|_| true),
            allow_other: false,
            no_default_permissions: false,
            owner_root: false,
        };
        let seen = Arc::new(Seen::default());
        damage(1);
        let events: Arc<dyn EventSink> = Arc::clone(&seen) as _;
        let view = View::open(Arc::clone(&repository), options, events, Cancel::new()).unwrap();
        for number in 0..3 {
            // Each new snapshot is a reason to look at the index as well.
            save_snapshot(&repository, number);
            view.lock().looked = Instant::now().checked_sub(SNAPSHOTS_MAX_AGE).unwrap();
            let (look, error) = view.fresh();
            assert!(error.is_none(), "{error:?}");
            assert_eq!(look.snapshots.len(), usize::from(number) + 1);
            damage(2);
        }
        let told = seen.0.lock().unwrap().clone();
        assert_eq!(told, ["index file 01010101", "index file 02020202"]);
    }
}
