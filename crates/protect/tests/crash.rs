//! The crash matrix: work that is stopped at any operation, of the backend or of the disk below, or that fails there.
//! The repository stays valid, nothing acknowledged is lost, and the next backup succeeds.

mod common;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{
    PASSWORD, Seen, back_up, check_all, copy, init, lock, open, restore, same, small_tree, soak,
};
use lifeboat_format::Id;
use lifeboat_repo::backend::{Backend, LocalBackend, MemoryBackend};
use lifeboat_repo::{Identity, KeyCost, RepoError, Repository, remove_locks};
use lifeboat_testkit::crash::CrashPoints;
use lifeboat_testkit::disk::SimulatedDisk;
use lifeboat_testkit::faults::{Fault, FaultPlan, FaultyBackend};
use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::{self, Note};

const ROOT: &str = "/srv/restic";
/// Points of a matrix that a normal run tries.
const SAMPLE: usize = 24;

/// Two states of one tree and a place to restore to.
struct Trees {
    tree: PathBuf,
    first: PathBuf,
    second: PathBuf,
    scratch: tempfile::TempDir,
}

impl Trees {
    fn new() -> Self {
        let scratch = common::scratch();
        let in_scratch = |name: &str| scratch.path().join(name);
        let (tree, first, second) = (
            in_scratch("tree"),
            in_scratch("first"),
            in_scratch("second"),
        );
        small_tree(&tree, 11);
        copy(&tree, &first);
        std::fs::remove_file(tree.join("a/file 1")).unwrap();
        std::fs::create_dir(tree.join("new")).unwrap();
        for number in 0..3 {
            let content = Random::new(number).bytes(150_000);
            std::fs::write(tree.join(format!("new/{number}")), content).unwrap();
        }
        copy(&tree, &second);
        Self {
            tree,
            first,
            second,
            scratch,
        }
    }

    fn assert_restores(&self, repository: &Arc<Repository>, snapshot: Id, state: &Path) {
        let to = tempfile::tempdir_in(self.scratch.path()).unwrap();
        let seen = Seen::default();
        let done = restore(repository, snapshot, &self.tree, to.path(), |_| {}, &seen);
        assert_eq!(done.unwrap().problems, 0, "{:?}", seen.problems());
        same().assert_same(state, to.path());
    }

    /// Looks at what is left, as the next process does: it is valid, every snapshot that was acknowledged restores
    /// and also any other that is there, and the next backup succeeds.
    fn assert_valid(&self, backend: impl Backend + 'static, acknowledged: &[(Id, &Path)]) {
        let repository = open(backend).unwrap();
        self.assert_sound(&repository, acknowledged);
        let seen = Seen::default();
        let next = back_up(&repository, &self.tree, &seen).unwrap();
        assert_eq!(seen.problems(), Vec::<String>::new());
        self.assert_restores(&repository, next.snapshot.unwrap(), &self.second);
    }

    fn assert_sound(&self, repository: &Arc<Repository>, acknowledged: &[(Id, &Path)]) {
        // Here the dead process has the number of the living one; the test of the program shows that this is not needed.
        remove_locks(repository, true).unwrap();
        let report = check_all(repository);
        assert!(!report.is_serious(), "{:?}", report.findings);
        let snapshots = repository.snapshots().unwrap();
        assert!(snapshots.damaged.is_empty());
        for (id, state) in acknowledged {
            assert!(
                snapshots.all.iter().any(|(found, _)| found == id),
                "{id} is lost"
            );
            self.assert_restores(repository, *id, state);
        }
        for (id, _) in &snapshots.all {
            if acknowledged.iter().all(|(known, _)| known != id) {
                self.assert_restores(repository, *id, &self.second);
            }
        }
    }

    /// A repository in memory with the first state, and its snapshot.
    fn repository(&self) -> (MemoryBackend, Id) {
        let backend = MemoryBackend::new();
        let repository = init(backend.clone());
        let first = back_up_state(&repository, &self.tree, &self.first);
        (backend, first)
    }
}

/// A backup of the tree as it was in another state.
fn back_up_state(repository: &Arc<Repository>, tree: &Path, state: &Path) -> Id {
    let aside = tree.with_extension("aside");
    std::fs::rename(tree, &aside).unwrap();
    copy(state, tree);
    let outcome = back_up(repository, tree, &Seen::default()).unwrap();
    std::fs::remove_dir_all(tree).unwrap();
    std::fs::rename(&aside, tree).unwrap();
    outcome.snapshot.unwrap()
}

fn points() -> (CrashPoints, Note) {
    let seed = replay::seed();
    (CrashPoints::sampled(seed, SAMPLE), Note::seed(seed))
}

#[test]
fn a_first_backup_is_stopped() {
    let trees = Trees::new();
    let empty = MemoryBackend::new();
    init(empty.clone());
    let (points, _seed) = points();
    points.run(
        || empty.fork(),
        |backend| {
            let repository = open(backend).ok()?;
            back_up(&repository, &trees.tree, &Seen::default())
                .ok()?
                .snapshot
        },
        |left, point, done| {
            assert!(point.is_some() || done.is_some());
            let acknowledged: Vec<_> = done
                .map(|id| (id, trees.second.as_path()))
                .into_iter()
                .collect();
            trees.assert_valid(left.clone(), &acknowledged);
        },
    );
}

#[test]
fn a_second_backup_is_stopped() {
    let trees = Trees::new();
    let (with_first, first) = trees.repository();
    let (points, _seed) = points();
    points.run(
        || with_first.fork(),
        |backend| {
            let repository = open(backend).ok()?;
            back_up(&repository, &trees.tree, &Seen::default())
                .ok()?
                .snapshot
        },
        |left, _, done| {
            let mut acknowledged = vec![(first, trees.first.as_path())];
            acknowledged.extend(done.map(|id| (id, trees.second.as_path())));
            trees.assert_valid(left.clone(), &acknowledged);
        },
    );
}

#[test]
fn retagging_is_stopped() {
    let trees = Trees::new();
    let (with_first, first) = trees.repository();
    CrashPoints::all().run(
        || with_first.fork(),
        |backend| retag(backend, first),
        |left, _, done| {
            let repository = open(left.clone()).unwrap();
            remove_locks(&repository, true).unwrap();
            assert!(!check_all(&repository).is_serious());
            // The old one or the new one, or both, but never none.
            let all = repository.snapshots().unwrap().all;
            assert!(!all.is_empty() && all.len() <= 2);
            for (id, _) in &all {
                trees.assert_restores(&repository, *id, &trees.first);
            }
            if let Ok(new) = done {
                assert!(
                    all.iter()
                        .any(|(id, snapshot)| *id == new && snapshot.tags == ["kept"])
                );
                assert_eq!(all.len(), 1);
            }
        },
    );
}

/// As the command `tag` does: the new snapshot is written before the old one goes.
fn retag(backend: impl Backend + 'static, id: Id) -> Result<Id, RepoError> {
    let repository = open(backend)?;
    let lock = lock(&repository, true)?;
    let mut snapshot = repository.snapshot(id)?;
    snapshot.tags = vec!["kept".into()];
    snapshot.original.get_or_insert(id);
    lock.ensure()?;
    let new = repository.save_snapshot(&snapshot)?;
    repository.remove_snapshot(id)?;
    Ok(new)
}

#[test]
fn forgetting_is_stopped() {
    let trees = Trees::new();
    let (backend, first) = trees.repository();
    let repository = open(backend.clone()).unwrap();
    let forgotten: Vec<Id> = (0..3)
        .map(|_| {
            back_up(&repository, &trees.tree, &Seen::default())
                .unwrap()
                .snapshot
                .unwrap()
        })
        .collect();
    CrashPoints::all().run(
        || backend.fork(),
        |backend| forget(backend, &forgotten),
        |left, point, done| {
            assert!(point.is_some() || done.is_ok());
            let repository = open(left.clone()).unwrap();
            if done.is_ok() {
                let all = repository.snapshots().unwrap().all;
                assert_eq!(all.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [first]);
            }
            trees.assert_valid(left.clone(), &[(first, &trees.first)]);
        },
    );
}

fn forget(backend: impl Backend + 'static, ids: &[Id]) -> Result<(), RepoError> {
    let repository = open(backend)?;
    let lock = lock(&repository, true)?;
    for id in ids {
        lock.ensure()?;
        repository.remove_snapshot(*id)?;
    }
    Ok(())
}

#[test]
fn changing_keys_is_stopped() {
    const NEW: &[u8] = b"new password";
    let trees = Trees::new();
    let (backend, first) = trees.repository();
    CrashPoints::all().run(
        || backend.fork(),
        |backend| {
            let mut repository = Repository::open(Arc::new(backend), PASSWORD, None)?;
            let old = repository.key_id();
            let new = repository.add_key(NEW, &Identity::default(), KeyCost::Test)?;
            repository.use_key(new);
            repository.remove_key(old)
        },
        |left, _, done| {
            let opens = |password| Repository::open(Arc::new(left.clone()), password, None);
            let (old, new) = (opens(PASSWORD), opens(NEW));
            if done.is_ok() {
                assert!(new.is_ok() && old.is_err());
            }
            let repository = Arc::new(new.or(old).unwrap());
            let report = check_all(&repository);
            assert!(!report.is_serious(), "{:?}", report.findings);
            trees.assert_restores(&repository, first, &trees.first);
        },
    );
}

#[test]
fn init_is_stopped_and_can_be_repeated() {
    let trees = Trees::new();
    CrashPoints::all().run(
        MemoryBackend::new,
        |backend| init_with(backend, PASSWORD).map(|repository| repository.config().id.clone()),
        |left, _, done| assert_init_can_be_repeated(&trees, left, done.ok()),
    );
}

fn init_with(backend: impl Backend + 'static, password: &[u8]) -> Result<Repository, RepoError> {
    let who = Identity::default();
    Repository::init(Arc::new(backend), password, 2, None, &who, KeyCost::Test)
}

fn assert_init_can_be_repeated(
    trees: &Trees,
    left: &(impl Backend + Clone + 'static),
    made: Option<String>,
) {
    match open(left.clone()) {
        Ok(repository) => assert!(made.is_none_or(|id| id == repository.config().id)),
        Err(error) => {
            let is_absent = matches!(
                &error,
                RepoError::Backend(lifeboat_repo::backend::BackendError::NoRepository { .. })
            );
            assert!(made.is_none() && is_absent, "{error:?}");
            if let Err(error) = init_with(left.clone(), PASSWORD) {
                panic!("init can't be repeated: {error}");
            }
        }
    }
    trees.assert_valid(left.clone(), &[]);
}

#[test]
fn keys_without_a_config_are_not_locked_out() {
    // What is left of a repository that lost its config is no interrupted init.
    let trees = Trees::new();
    let (backend, _) = trees.repository();
    backend
        .remove(lifeboat_repo::backend::FileName::CONFIG)
        .unwrap();
    let before = backend.files().len();
    assert!(matches!(
        init_with(backend.clone(), PASSWORD).map(drop),
        Err(RepoError::Refused(_))
    ));
    // Nor is what another password was chosen for.
    let other = MemoryBackend::new();
    init(other.clone());
    other
        .remove(lifeboat_repo::backend::FileName::CONFIG)
        .unwrap();
    assert!(matches!(
        init_with(other.clone(), b"other").map(drop),
        Err(RepoError::Refused(_))
    ));
    assert_eq!((backend.files().len(), other.files().len()), (before, 1));
    assert_eq!(
        init_with(other.clone(), PASSWORD)
            .unwrap()
            .keys()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_backup_fails_cleanly_or_succeeds_when_one_operation_fails() {
    let trees = Trees::new();
    let (with_first, first) = trees.repository();
    let recording = FaultyBackend::recording(with_first.fork());
    let repository = open(recording.clone()).unwrap();
    back_up(&repository, &trees.tree, &Seen::default()).unwrap();
    let operations = recording.log().len() as u64;
    let seed = replay::seed();
    let _seed = Note::seed(seed);
    let mut random = Random::new(seed);
    let mut failed = 0;
    for number in 0..operations {
        for fault in [
            Fault::FailBefore,
            Fault::FailAfter,
            Fault::Truncate,
            Fault::FlipBit,
            Fault::HideNewest(1),
        ] {
            if !soak() && !random.chance(20) {
                continue;
            }
            let _note = Note::new(format!("{fault:?} at operation {number}"));
            let backend = FaultyBackend::new(with_first.fork(), FaultPlan::at(number, fault));
            let done = open(backend.clone())
                .map_err(Into::into)
                .and_then(|repository| back_up(&repository, &trees.tree, &Seen::default()));
            let mut acknowledged = vec![(first, trees.first.as_path())];
            match done {
                Ok(outcome) => {
                    assert_eq!(outcome.problems, 0);
                    acknowledged.push((outcome.snapshot.unwrap(), trees.second.as_path()));
                }
                Err(_) => failed += 1,
            }
            trees.assert_valid(backend.inner().clone(), &acknowledged);
        }
    }
    assert!(failed > 0, "no fault was noticed");
}

/// A disk with a repository that holds the first state.
fn disk_with_repository(trees: &Trees) -> (SimulatedDisk, Id) {
    let disk = SimulatedDisk::new();
    let repository = init(LocalBackend::on(disk.clone(), ROOT));
    let first = back_up_state(&repository, &trees.tree, &trees.first);
    (disk, first)
}

/// Cuts the power at operations of the disk, chosen by a seed or all, and looks at several reboots of each.
fn cut_power<T>(
    disk: &SimulatedDisk,
    sample: usize,
    work: impl Fn(LocalBackend<SimulatedDisk>) -> T,
    check: impl Fn(LocalBackend<SimulatedDisk>, &T),
) {
    let seed = replay::seed();
    let _seed = Note::seed(seed);
    let mut random = Random::new(seed);
    let copy = || disk.after_power_loss(seed);
    let on = |disk: &SimulatedDisk| LocalBackend::on(disk.clone(), ROOT);
    let whole = copy();
    work(on(&whole));
    let operations = whole.operations();
    assert!(operations > 10, "{operations}");
    let mut moments: Vec<u64> = (0..=operations).collect();
    while !soak() && moments.len() > sample {
        moments.swap_remove(random.index(moments.len()));
    }
    for moment in moments {
        let disk = copy();
        disk.cut_power_after(moment);
        let done = work(on(&disk));
        for reboot in 0..3 {
            let _note = Note::new(format!("power cut at {moment}, reboot {reboot}"));
            let left = disk.after_power_loss(seed ^ (moment << 16) ^ reboot);
            check(on(&left), &done);
        }
    }
}

#[test]
fn the_power_goes_during_a_backup() {
    let trees = Trees::new();
    let (disk, first) = disk_with_repository(&trees);
    cut_power(
        &disk,
        SAMPLE / 2,
        |backend| {
            let repository = open(backend).ok()?;
            back_up(&repository, &trees.tree, &Seen::default())
                .ok()?
                .snapshot
        },
        |left, done| {
            let mut acknowledged = vec![(first, trees.first.as_path())];
            acknowledged.extend(done.map(|id| (id, trees.second.as_path())));
            trees.assert_valid(left, &acknowledged);
        },
    );
}

#[test]
fn the_power_goes_while_snapshots_are_forgotten() {
    let trees = Trees::new();
    let (disk, first) = disk_with_repository(&trees);
    let repository = open(LocalBackend::on(disk.clone(), ROOT)).unwrap();
    let forgotten: Vec<Id> = (0..3)
        .map(|_| {
            back_up(&repository, &trees.tree, &Seen::default())
                .unwrap()
                .snapshot
                .unwrap()
        })
        .collect();
    cut_power(
        &disk,
        SAMPLE / 2,
        |backend| {
            let gone = RefCell::new(Vec::new());
            let done = (|| {
                let repository = open(backend)?;
                // The power may have brought the locks of earlier backups back.
                remove_locks(&repository, true)?;
                let lock = lock(&repository, true)?;
                for id in &forgotten {
                    lock.ensure()?;
                    repository.remove_snapshot(*id)?;
                    gone.borrow_mut().push(*id);
                }
                Ok::<(), RepoError>(())
            })();
            (gone.into_inner(), done.is_ok())
        },
        |left, (gone, _)| {
            let repository = open(left).unwrap();
            let all = repository.snapshots().unwrap().all;
            assert!(
                all.iter().all(|(id, _)| !gone.contains(id)),
                "forgotten and back"
            );
            trees.assert_sound(&repository, &[(first, &trees.first)]);
        },
    );
}

#[test]
fn the_power_goes_during_init() {
    let trees = Trees::new();
    cut_power(
        &SimulatedDisk::new(),
        SAMPLE,
        |backend| {
            init_with(backend, PASSWORD)
                .ok()
                .map(|repository| repository.config().id.clone())
        },
        |left, done| assert_init_can_be_repeated(&trees, &Arc::new(left), done.clone()),
    );
}
