//! Copying and rewriting that is stopped at any operation, that finds damage, or that shares a key: what is left is valid,
//! the next run completes it, and no more is read than needed.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use common::{
    PASSWORD, Seen, back_up, check_all, copy, init, lock, open, restore, same, small_tree,
};
use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::{Id, MarkedPack, Node};
use lifeboat_repo::backend::{Backend, FileKind, FileName, MemoryBackend};
use lifeboat_repo::{
    Copier, CopyOptions, CopyOutcome, CopyPlan, Identity, IngestOptions, KeyCost, LockGuard,
    Migration, PackListing, RepoError, Repository, RewriteChange, RewriteOutcome, RewriteSelect,
    Rewriter, remove_locks,
};
use lifeboat_testkit::crash::CrashPoints;
use lifeboat_testkit::faults::{Fault, FaultPlan, FaultyBackend, Verb};
use lifeboat_testkit::replay::{self, Note};

/// Points of a matrix that a normal run tries.
const SAMPLE: usize = 16;

/// A source with two snapshots, of two states of a tree.
struct Source {
    tree: PathBuf,
    states: [PathBuf; 2],
    snapshots: [Id; 2],
    backend: MemoryBackend,
    /// The same repository before the first backup.
    empty: MemoryBackend,
    scratch: tempfile::TempDir,
}

impl Source {
    fn new() -> Self {
        let scratch = common::scratch();
        let [tree, first, second] =
            ["tree", "first", "second"].map(|name| scratch.path().join(name));
        let backend = MemoryBackend::new();
        let repository = init(backend.clone());
        let empty = backend.fork();
        let back_up = || {
            let done = back_up(&repository, &tree, &Seen::default());
            done.unwrap().snapshot.unwrap()
        };
        small_tree(&tree, 5);
        copy(&tree, &first);
        let one = back_up();
        std::fs::remove_file(tree.join("a/file 1")).unwrap();
        std::fs::write(tree.join("new"), vec![7; 300_000]).unwrap();
        copy(&tree, &second);
        let two = back_up();
        Self {
            tree,
            states: [first, second],
            snapshots: [one, two],
            backend,
            empty,
            scratch,
        }
    }

    fn open(&self) -> Arc<Repository> {
        open(self.backend.clone()).unwrap()
    }

    fn assert_restores(&self, repository: &Arc<Repository>, snapshot: Id, state: &Path) {
        let to = tempfile::tempdir_in(self.scratch.path()).unwrap();
        let seen = Seen::default();
        let done = restore(repository, snapshot, &self.tree, to.path(), |_| {}, &seen);
        assert_eq!(done.unwrap().problems, 0, "{:?}", seen.problems());
        same().assert_same(state, to.path());
    }

    /// Every snapshot that is there is a copy and restores; gives how many there are.
    fn assert_copies(&self, repository: &Arc<Repository>) -> usize {
        let report = check_all(repository);
        assert!(!report.is_serious(), "{:?}", report.findings);
        let snapshots = repository.snapshots().unwrap();
        assert!(snapshots.damaged.is_empty());
        for (id, snapshot) in &snapshots.all {
            let source = self
                .snapshots
                .iter()
                .position(|id| snapshot.original == Some(*id));
            self.assert_restores(repository, *id, &self.states[source.unwrap()]);
            assert_eq!(snapshot.parent, None);
        }
        snapshots.all.len()
    }
}

fn plan_and_run(
    from: &Arc<Repository>,
    to: &Arc<Repository>,
    lock: &LockGuard,
) -> Result<(CopyOutcome, [u64; 3], usize), RepoError> {
    let cancel = Cancel::new();
    let snapshots = from.snapshots()?.all;
    let (from_index, _) = from.load_index(PackListing::Skip, &cancel)?;
    let (to_index, report) = to.load_index(PackListing::Compare, &cancel)?;
    let there = to.snapshots()?.all;
    let (to_index, to_marked) = (
        RwLock::new(to_index),
        report.marked_packs.into_iter().collect(),
    );
    let copier = Copier {
        from,
        from_index: &from_index,
        to,
        to_index: &to_index,
        to_marked: &to_marked,
        options: CopyOptions {
            readers: 2,
            ingest: IngestOptions {
                pack_size_bytes: 256 * 1024,
                ..IngestOptions::default()
            },
        },
        cancel: &cancel,
    };
    let plan: CopyPlan = copier.plan(snapshots, &there)?;
    let numbers = [plan.data_blobs, plan.packs(), plan.whole_packs];
    let refused_before = plan.refused.len();
    let skipped = plan.skipped.len();
    let mut outcome = copier.run(plan, Some(lock), &Counters::default())?;
    assert!(refused_before == 0 || outcome.refused.is_empty());
    if refused_before > 0 {
        outcome.refused = vec![(Id::default(), "by the plan".into()); refused_before];
    }
    Ok((outcome, numbers, skipped))
}

fn copy_all(from: &Arc<Repository>, to: &Arc<Repository>) -> Result<CopyOutcome, RepoError> {
    let lock = lock(to, false)?;
    plan_and_run(from, to, &lock).map(|(outcome, ..)| outcome)
}

fn points() -> (CrashPoints, Note) {
    let seed = replay::seed();
    (CrashPoints::sampled(seed, SAMPLE), Note::seed(seed))
}

fn stop_copies(source: &Source, empty: &MemoryBackend) {
    let (points, _seed) = points();
    points.run(
        || empty.fork(),
        |backend| {
            let to = open(backend).ok()?;
            copy_all(&source.open(), &to).ok()
        },
        |left, point, done| {
            assert!(point.is_some() || done.is_some());
            let to = open(left.clone()).unwrap();
            remove_locks(&to, true).unwrap();
            let copied = source.assert_copies(&to);
            if let Some(done) = done {
                assert_eq!((done.copied.len(), copied), (2, 2));
            }
            let next = copy_all(&source.open(), &to).unwrap();
            assert_eq!(next.copied.len() + copied, 2);
            assert_eq!(source.assert_copies(&to), 2);
        },
    );
}

#[test]
fn a_copy_is_stopped_and_goes_on() {
    let source = Source::new();
    let empty = MemoryBackend::new();
    init(empty.clone());
    stop_copies(&source, &empty);
}

#[test]
fn a_copy_of_whole_packs_is_stopped_and_goes_on() {
    let source = Source::new();
    stop_copies(&source, &source.empty);
}

#[test]
fn a_failure_of_either_side_loses_nothing() {
    let source = Source::new();
    let seed = replay::seed();
    let _seed = Note::seed(seed);
    let faults = [
        Fault::FailBefore,
        Fault::FailAfter,
        Fault::Truncate,
        Fault::FlipBit,
        Fault::HideNewest(1),
    ];
    for round in 0..20 {
        let _round = Note::new(format!("round {round}"));
        let plan = |salt| FaultPlan::random(seed ^ round ^ salt, 3, &faults);
        let from = FaultyBackend::new(source.backend.fork(), FaultPlan::none());
        let empty = match round % 2 {
            0 => source.empty.fork(),
            _ => {
                let empty = MemoryBackend::new();
                init(empty.clone());
                empty
            }
        };
        let to = FaultyBackend::new(empty, FaultPlan::none());
        let (opened_from, opened_to) = (open(from.clone()).unwrap(), open(to.clone()).unwrap());
        from.follow(plan(1 << 32));
        to.follow(plan(1 << 33));
        let done = copy_all(&opened_from, &opened_to);
        let left = open(to.inner().clone()).unwrap();
        remove_locks(&left, true).unwrap();
        let copied = source.assert_copies(&left);
        if let Ok(done) = done {
            assert!(done.copied.len() + done.refused.len() <= 2 && done.copied.len() == copied);
        }
        copy_all(&source.open(), &left).unwrap();
        assert_eq!(source.assert_copies(&left), 2);
    }
}

/// The packs of a backend.
fn packs(backend: &MemoryBackend) -> BTreeSet<Id> {
    let files = backend.files().into_iter();
    let packs = files.filter(|(name, _)| name.kind == FileKind::Pack);
    packs.map(|(name, _)| name.id).collect()
}

#[test]
fn with_one_key_packs_are_copied_as_they_are_and_read_once() {
    let source = Source::new();
    let from = FaultyBackend::recording(source.backend.fork());
    let to = source.empty.fork();
    let (opened, there) = (open(from.clone()).unwrap(), open(to.clone()).unwrap());
    let held = lock(&there, false).unwrap();
    let before = from.log().len();
    let (_, [_, packs_read, whole], _) = plan_and_run(&opened, &there, &held).unwrap();
    assert_eq!(packs_read, whole);
    assert_eq!(packs(&to), packs(&source.backend));
    let sizes: Vec<u64> = (source.backend.files().iter())
        .filter(|(name, _)| name.kind == FileKind::Pack)
        .map(|(_, content)| content.len() as u64)
        .collect();
    let log = from.log();
    let reads = log[before..]
        .iter()
        .filter(|read| read.verb == Verb::LoadAt);
    let whole_reads = reads.filter(|read| sizes.contains(&read.bytes)).count() as u64;
    assert_eq!(whole_reads, whole);
    source.assert_copies(&there);

    // Of a pack that is needed in part, only that part is stored.
    let partly = source.empty.fork();
    let repository = open(partly.clone()).unwrap();
    let seen = Seen::default();
    let common_part = source.tree.join("a");
    back_up(&repository, &common_part, &seen).unwrap();
    let held = lock(&repository, false).unwrap();
    let (_, [_, packs_read, whole], _) = plan_and_run(&opened, &repository, &held).unwrap();
    assert!(whole < packs_read, "{whole} of {packs_read}");
    let report = check_all(&repository);
    assert!(!report.is_serious(), "{:?}", report.findings);
    let blobs = |backend: &MemoryBackend| {
        let opened = open(backend.clone()).unwrap();
        let (index, _) = opened
            .load_index(PackListing::Compare, &Cancel::new())
            .unwrap();
        let mut places = Vec::new();
        index.each(|kind, id, _| places.push((kind, id)));
        places
    };
    let all = blobs(&partly);
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!(all.len(), distinct.len(), "a blob was stored twice");
}

#[test]
fn a_pack_that_is_about_to_be_deleted_is_not_relied_on() {
    let source = Source::new();
    let to = source.empty.fork();
    let there = open(to.clone()).unwrap();
    copy_all(&source.open(), &there).unwrap();
    // As a prune in two phases leaves it: all packs marked, none indexed.
    for (id, _) in there.snapshots().unwrap().all {
        there.remove_snapshot(id).unwrap();
    }
    let mut marked = lifeboat_format::IndexFile::default();
    for id in there.ids(FileKind::Index).unwrap() {
        let file = there.load_index_file(id).unwrap();
        let packs = file.packs.into_iter().map(|pack| MarkedPack {
            id: pack.id,
            blobs: pack.blobs,
            time: None,
            size_bytes: None,
        });
        marked.packs_to_delete.extend(packs);
        there
            .backend()
            .remove(FileName::new(FileKind::Index, id))
            .unwrap();
    }
    there.save_json(FileKind::Index, &marked.to_json()).unwrap();
    let before = packs(&to);
    copy_all(&source.open(), &there).unwrap();
    for id in before {
        to.remove(FileName::new(FileKind::Pack, id)).unwrap();
    }
    assert_eq!(source.assert_copies(&there), 2);
}

#[test]
fn damage_refuses_what_it_hurts_and_nothing_else() {
    let source = Source::new();
    let from = source.open();
    let (index, _) = from.load_index(PackListing::Skip, &Cancel::new()).unwrap();
    // The content of the file that only the first snapshot has.
    let content = std::fs::read(source.states[0].join("a/file 1")).unwrap();
    let place = index
        .find(lifeboat_format::BlobKind::Data, &Id::of(&content))
        .unwrap();
    let damaged = source.backend.fork();
    let name = FileName::new(FileKind::Pack, place.pack);
    let mut pack = damaged.load(name, u64::MAX).unwrap();
    pack[place.offset_bytes as usize + 40] ^= 1;
    damaged.save(name, &[&pack]).unwrap();
    let other_key = MemoryBackend::new();
    init(other_key.clone());
    for empty in [source.empty.fork(), other_key] {
        let to = open(empty).unwrap();
        let outcome = copy_all(&open(damaged.clone()).unwrap(), &to).unwrap();
        assert_eq!(outcome.refused.len(), 1);
        assert_eq!(outcome.refused[0].0, source.snapshots[0]);
        assert!(outcome.refused[0].1.contains(&Id::of(&content).to_string()));
        assert_eq!(outcome.copied.len(), 1);
        assert_eq!(source.assert_copies(&to), 1);
        // When the source is whole again, the rest follows.
        copy_all(&source.open(), &to).unwrap();
        assert_eq!(source.assert_copies(&to), 2);
        // And what the destination has is not needed from the source.
        let again = copy_all(&open(damaged.clone()).unwrap(), &to).unwrap();
        assert_eq!((again.copied.len(), again.refused.len()), (0, 0));
    }
}

#[test]
fn a_tree_that_is_lost_is_taken_from_the_destination_or_refuses_its_snapshot() {
    let source = Source::new();
    let from = source.open();
    let root = from.snapshot(source.snapshots[0]).unwrap().tree;
    let (index, _) = from.load_index(PackListing::Skip, &Cancel::new()).unwrap();
    let place = index.find(lifeboat_format::BlobKind::Tree, &root).unwrap();
    let damaged = source.backend.fork();
    let name = FileName::new(FileKind::Pack, place.pack);
    let mut pack = damaged.load(name, u64::MAX).unwrap();
    pack[place.offset_bytes as usize + 40] ^= 1;
    damaged.save(name, &[&pack]).unwrap();
    let fresh = MemoryBackend::new();
    init(fresh.clone());
    let to = open(fresh).unwrap();
    let outcome = copy_all(&open(damaged.clone()).unwrap(), &to).unwrap();
    assert_eq!((outcome.copied.len(), outcome.refused.len()), (1, 1));
    copy_all(&source.open(), &to).unwrap();
    for (id, _) in to.snapshots().unwrap().all {
        to.remove_snapshot(id).unwrap();
    }
    let outcome = copy_all(&open(damaged).unwrap(), &to).unwrap();
    assert_eq!((outcome.copied.len(), outcome.refused.len()), (2, 0));
    assert_eq!(source.assert_copies(&to), 2);
}

struct Without(&'static [u8]);

impl RewriteSelect for Without {
    fn keeps(&self, path: &[u8], _: &Node) -> bool {
        !path.ends_with(self.0)
    }

    fn keeps_empty(&self, _: &[u8]) -> bool {
        true
    }
}

fn rewrite(backend: impl Backend + 'static, forget: bool) -> Result<RewriteOutcome, RepoError> {
    let repository = open(backend)?;
    let held = lock(&repository, forget)?;
    let cancel = Cancel::new();
    let (index, _) = repository.load_index(PackListing::Compare, &cancel)?;
    let all = repository.snapshots()?.all;
    let mut selected = all.clone();
    selected.retain(|(_, snapshot)| snapshot.tags.is_empty());
    let rewriter = Rewriter {
        repository: &repository,
        all: &all,
        index: &RwLock::new(index),
        lock: Some(&held),
        select: Some(&Without(b"/large")),
        change: RewriteChange {
            forget,
            ..RewriteChange::default()
        },
        ingest: IngestOptions::default(),
        events: &Seen::default(),
        cancel: &cancel,
    };
    rewriter.run(selected)
}

#[test]
fn rewriting_is_stopped_and_goes_on() {
    let source = Source::new();
    let mut rewritten = source.states.clone();
    for state in &mut rewritten {
        let without = state.with_extension("without");
        copy(state, &without);
        std::fs::remove_file(without.join("c/large")).unwrap();
        // The time of the directory is as it was.
        let status = std::process::Command::new("touch")
            .arg("-r")
            .args([state.join("c"), without.join("c")])
            .status();
        assert!(status.unwrap().success());
        *state = without;
    }
    for forget in [false, true] {
        let (points, _seed) = points();
        points.run(
            || source.backend.fork(),
            |backend| rewrite(backend, forget).ok(),
            |left, point, done| {
                assert!(point.is_some() || done.is_some());
                let repository = open(left.clone()).unwrap();
                remove_locks(&repository, true).unwrap();
                let assert_all = || {
                    let report = check_all(&repository);
                    assert!(!report.is_serious(), "{:?}", report.findings);
                    let all = repository.snapshots().unwrap().all;
                    let mut states = [false; 2];
                    for (id, snapshot) in &all {
                        let at = |id| source.snapshots.iter().position(|known| *known == id);
                        let (state, number) = match at(*id) {
                            Some(number) => (&source.states[number], number),
                            None => {
                                let number = at(snapshot.original.unwrap()).unwrap();
                                (&rewritten[number], number)
                            }
                        };
                        source.assert_restores(&repository, *id, state);
                        states[number] = true;
                    }
                    // The old one or the new one, never none.
                    assert_eq!(states, [true; 2]);
                    all
                };
                assert_all();
                let next = rewrite(left.clone(), forget).unwrap();
                assert!(next.refused.is_empty());
                let all = assert_all();
                // What was made before is not made a second time.
                assert_eq!(all.len(), if forget { 2 } else { 4 });
                if forget {
                    assert!(all.iter().all(|(id, _)| !source.snapshots.contains(id)));
                }
            },
        );
    }
}

#[test]
fn an_upgrade_is_stopped_and_leaves_one_config() {
    let old = MemoryBackend::new();
    let who = Identity::default();
    let made = Repository::init(
        Arc::new(old.clone()),
        PASSWORD,
        1,
        None,
        &who,
        KeyCost::Test,
    );
    let id = made.unwrap().config().id.clone();
    let upgrade = |backend| {
        let repository = open(backend)?;
        let held = lock(&repository, true)?;
        repository.migrate(Migration::UpgradeRepoV2, &held)
    };
    CrashPoints::all().run(
        || old.fork(),
        upgrade,
        |left, _, done| {
            let repository = open(left.clone()).unwrap();
            assert_eq!(repository.config().id, id);
            assert!(done.is_err() || repository.config().version == 2);
            remove_locks(&repository, true).unwrap();
            if repository.config().version == 1 {
                let held = lock(&repository, true).unwrap();
                repository.migrate(Migration::UpgradeRepoV2, &held).unwrap();
            }
            assert_eq!(open(left.clone()).unwrap().config().version, 2);
        },
    );
    // One operation that fails, and all goes on: the config is the old one or the new one.
    for number in 0..30 {
        for fault in [Fault::FailBefore, Fault::FailAfter] {
            let backend = FaultyBackend::new(old.fork(), FaultPlan::at(number, fault));
            let done = upgrade(backend.clone());
            let version = open(backend.inner().clone()).unwrap().config().version;
            assert_eq!(
                done.is_ok(),
                version == 2,
                "{fault:?} at {number}: {done:?}"
            );
        }
    }
}
