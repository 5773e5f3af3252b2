//! Backups that write many packs beside a prune that repacks, and that tries to remove whenever nobody holds a lock.
//! Whatever was acknowledged and not forgotten restores, and nothing is damaged, after each of many mixed histories.

#![expect(
    clippy::print_stdout,
    reason = "who reads a run wants to know how often they met"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use common::{Seen, check_all, draft, init, open, options, quick_lock, restore, soak};
use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::Id;
use lifeboat_protect::{Backup, BackupOptions, ProtectError};
use lifeboat_repo::backend::MemoryBackend;
use lifeboat_repo::prune::{MaxUnused, Prune, PruneOptions};
use lifeboat_repo::{
    Identity, IngestOptions, LockGuard, LockRequest, PackListing, RepoError, Repository, all_locks,
};
use lifeboat_state::{VolumeOptions, VolumeSource};
use lifeboat_testkit::faults::{FaultPlan, FaultyBackend};
use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::{self, Note};

const WRITERS: usize = 3;
/// Backups of each writer in one history.
const BACKUPS: usize = 8;
const HISTORIES: u64 = 3;
/// Of a busy machine more may be needed until everything has met, at most so many.
const HISTORIES_MAX: u64 = 30;
const HISTORIES_OF_ALL: u64 = 60;
/// Contents that files have: few, so that what was forgotten is soon relied on again.
const CONTENTS: u64 = 150;
const FILES: usize = 60;
/// The longest that an operation is held up, so that threads meet in other orders by each seed.
const HELD_UP_MICROSECONDS: u64 = 800;
/// For how long the prune tries to be alone, at most.
const ALONE_FOR_MILLISECONDS: u64 = 60;
/// For how long a writer waits, and whoever must be alone at the end.
const PATIENCE: Duration = Duration::from_secs(120);

type State = BTreeMap<String, u64>;

/// What was acknowledged and not forgotten: the snapshots of each writer with what they hold, oldest first.
type Acknowledged = Mutex<Vec<Vec<(Id, State)>>>;

/// What a prune did in one history.
#[derive(Debug, Default)]
struct Done {
    /// Backups that are running.
    writing: AtomicUsize,
    /// How often it looked and repacked while one was.
    beside: AtomicUsize,
    /// How often it copied anything.
    repacked: AtomicUsize,
    refused: AtomicUsize,
    removed: AtomicUsize,
    forgotten: AtomicUsize,
}

fn content(number: u64) -> Vec<u8> {
    Random::new(number).bytes(12_000 + usize::try_from(number % 5).unwrap() * 6_000)
}

fn ingest() -> IngestOptions {
    IngestOptions {
        pack_size_bytes: 40_000,
        // Several index files a run.
        index_max_age: Duration::from_millis(5),
        ..IngestOptions::default()
    }
}

fn lock(
    repository: &Arc<Repository>,
    exclusive: bool,
    retry_for: Duration,
) -> Result<LockGuard, RepoError> {
    let mut request = LockRequest {
        retry_for,
        ..quick_lock(exclusive)
    };
    request.timing.retry_first = Duration::from_millis(1);
    request.timing.retry_max = Duration::from_millis(4);
    let (who, seen) = (Identity::of_this_process(), Seen::default());
    LockGuard::take(repository, &who, request, &seen, &Cancel::new())
}

/// Makes a directory hold other files than before.
fn change(tree: &Path, random: &mut Random) -> State {
    let _ = std::fs::remove_dir_all(tree);
    std::fs::create_dir(tree).unwrap();
    let mut state = State::new();
    for number in 0..FILES {
        let (name, of) = (format!("file {number}"), random.below(CONTENTS));
        std::fs::write(tree.join(&name), content(of)).unwrap();
        state.insert(name, of);
    }
    state
}

fn back_up(repository: &Arc<Repository>, tree: &Path, done: &Done) -> Result<Id, ProtectError> {
    let source = VolumeSource::new(vec![tree.to_path_buf()], VolumeOptions::default()).unwrap();
    let lock = lock(repository, false, PATIENCE)?;
    done.writing.fetch_add(1, Ordering::SeqCst);
    let _ends = Ends(&done.writing);
    let (index, _) = repository.load_index(PackListing::Compare, &Cancel::new())?;
    let backup = Backup {
        repository,
        index: &RwLock::new(index),
        lock: Some(&lock),
        source: &source,
        options: BackupOptions {
            ingest: ingest(),
            ..options(None)
        },
        counters: &Counters::default(),
        events: &Seen::default(),
        cancel: &Cancel::new(),
    };
    let outcome = backup.run(draft(None), lifeboat_repo::now)?;
    assert_eq!(outcome.problems, 0);
    Ok(outcome.snapshot.unwrap())
}

fn write(
    repository: &Arc<Repository>,
    tree: &Path,
    seed: u64,
    own: usize,
    all: &Acknowledged,
    done: &Done,
) {
    let mut random = Random::new(seed);
    for _ in 0..BACKUPS {
        let state = change(tree, &mut random);
        let id = back_up(repository, tree, done).unwrap();
        all.lock().unwrap()[own].push((id, state));
        // Now and then nobody writes, or a prune would never be alone.
        std::thread::sleep(Duration::from_millis(random.below(20)));
    }
}

/// Forgets all but the newest snapshot of each writer, if it can be alone.
fn forget(
    repository: &Arc<Repository>,
    all: &Acknowledged,
    alone_for: Duration,
    done: &Done,
) -> Result<(), RepoError> {
    let lock = lock(repository, true, alone_for)?;
    for of_writer in &mut *all.lock().unwrap() {
        let old = of_writer.len().saturating_sub(1);
        for (id, _) in of_writer.drain(..old) {
            lock.ensure()?;
            repository.remove_snapshot(id)?;
            done.forgotten.fetch_add(1, Ordering::SeqCst);
        }
    }
    Ok(())
}

fn prune(
    repository: &Arc<Repository>,
    random: &mut Random,
    alone_for: Duration,
    done: &Done,
) -> Result<(), RepoError> {
    let (counters, cancel, events) = (Counters::default(), Cancel::new(), Seen::default());
    let prune = Prune {
        repository,
        options: PruneOptions {
            max_unused: MaxUnused::Bytes(0),
            instant_delete: random.chance(50),
            keep_delete: Duration::ZERO,
            ingest: ingest(),
            ..PruneOptions::default()
        },
        forgotten: BTreeSet::new(),
        counters: &counters,
        events: &events,
        cancel: &cancel,
    };
    let shared = lock(repository, false, PATIENCE)?;
    let is_written = || done.writing.load(Ordering::SeqCst) > 0;
    let mut beside = is_written();
    let first = prune.look(lifeboat_repo::now())?;
    let copies = first.plan.stats.repack.packs > 0;
    let repacked = prune.repack(&first, &shared)?;
    beside |= is_written();
    assert!(repacked.damaged_packs.is_empty(), "packs are damaged");
    done.repacked
        .fetch_add(usize::from(copies), Ordering::SeqCst);
    done.beside.fetch_add(usize::from(beside), Ordering::SeqCst);
    drop(shared);
    let alone = lock(repository, true, alone_for)?;
    let last = prune.look_again(&first, repacked, lifeboat_repo::now())?;
    let removed = prune.remove(&last, &alone)?;
    assert!(removed.undeleted.is_empty());
    done.removed.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

fn assert_restores(repository: &Arc<Repository>, tree: &Path, id: Id, state: &State) {
    let to = common::scratch();
    let seen = Seen::default();
    let restored = restore(repository, id, tree, to.path(), |_| {}, &seen).unwrap();
    assert_eq!(restored.problems, 0, "{:?}", seen.problems());
    let found = std::fs::read_dir(to.path()).unwrap();
    assert_eq!(found.count(), state.len());
    for (name, number) in state {
        let is = std::fs::read(to.path().join(name)).unwrap();
        assert!(is == content(*number), "{name} is another");
    }
}

fn assert_all_restore(memory: &MemoryBackend, trees: &[PathBuf], all: &Acknowledged) {
    let repository = open(memory.clone()).unwrap();
    let report = check_all(&repository);
    assert!(!report.is_serious(), "{:?}", report.findings);
    let listed = repository.ids(lifeboat_repo::backend::FileKind::Snapshot);
    let all = all.lock().unwrap();
    let kept: usize = all.iter().map(Vec::len).sum();
    assert_eq!(listed.unwrap().len(), kept);
    for (tree, of_writer) in trees.iter().zip(&*all) {
        assert!(!of_writer.is_empty());
        for (id, state) in of_writer {
            assert_restores(&repository, tree, *id, state);
        }
    }
}

/// One history: writers and a prune side by side, then all of it looked at. Gives what the prune could do.
fn history(seed: u64) -> Done {
    let scratch = common::scratch();
    let trees: Vec<PathBuf> = (0..WRITERS)
        .map(|number| scratch.path().join(format!("tree {number}")))
        .collect();
    let memory = MemoryBackend::new();
    init(memory.clone());
    let plan = FaultPlan::new(move |operation| {
        let held_up = Random::new(seed ^ operation.number).below(HELD_UP_MICROSECONDS);
        std::thread::sleep(Duration::from_micros(held_up));
        None
    });
    let backend = FaultyBackend::new(memory.clone(), plan);
    let all: Acknowledged = Mutex::new(vec![Vec::new(); WRITERS]);
    let (done, writing) = (Done::default(), AtomicUsize::new(WRITERS));
    std::thread::scope(|scope| {
        for (own, tree) in trees.iter().enumerate() {
            let (all, done, writing) = (&all, &done, &writing);
            let backend = backend.clone();
            scope.spawn(move || {
                // Also when it panics, or the prune would go on for ever.
                let _ends = Ends(writing);
                let repository = open(backend).unwrap();
                write(&repository, tree, seed ^ (own as u64 + 1), own, all, done);
            });
        }
        let (all, done, writing) = (&all, &done, &writing);
        scope.spawn(move || {
            let repository = open(backend).unwrap();
            let mut random = Random::new(!seed);
            while writing.load(Ordering::SeqCst) > 0 {
                let alone_for = Duration::from_millis(random.below(ALONE_FOR_MILLISECONDS));
                let steps = [
                    forget(&repository, all, alone_for, done),
                    prune(&repository, &mut random, alone_for, done),
                ];
                for step in steps {
                    match step {
                        Ok(()) => {}
                        Err(RepoError::Locked { .. }) => {
                            done.refused.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(error) => panic!("{}", lifeboat_repo::chain(&error)),
                    }
                }
            }
        });
    });
    let repository = open(memory.clone()).unwrap();
    assert!(all_locks(&repository).unwrap().is_empty());
    assert_all_restore(&memory, &trees, &all);
    // What is left to be removed goes, and nothing else.
    let mut random = Random::new(seed);
    for _ in 0..3 {
        prune(&repository, &mut random, PATIENCE, &Done::default()).unwrap();
        assert_all_restore(&memory, &trees, &all);
    }
    done
}

struct Ends<'w>(&'w AtomicUsize);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn what_is_acknowledged_beside_a_prune_restores() {
    let seed = replay::seed();
    let _seed = Note::seed(seed);
    let histories = if soak() { HISTORIES_OF_ALL } else { HISTORIES };
    let mut met = [0; 5];
    let mut number = 0;
    while number < histories || number < HISTORIES_MAX && met.contains(&0) {
        let _note = Note::new(format!("history {number}"));
        let done = history(seed.wrapping_add(number));
        let of_this = [
            done.beside,
            done.repacked,
            done.refused,
            done.removed,
            done.forgotten,
        ];
        for (sum, number) in met.iter_mut().zip(of_this) {
            *sum += number.into_inner();
        }
        number += 1;
    }
    println!("beside backups, repacked, refused, removed, forgotten: {met:?}, seed {seed}");
    assert!(met.iter().all(|count| *count > 0), "they did not meet");
}
