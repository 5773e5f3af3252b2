//! What a lost lock keeps from happening, however late it is lost: between two tries, between a write and its
//! acknowledgement, between a pack and the snapshot that needs it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::{Duration, Instant};

use lifeboat_flow::Cancel;
use lifeboat_format::{BlobKind, Id};
use lifeboat_repo::backend::{
    Backend, BackendError, FileKind, FileName, MemoryBackend, RetryPolicy, RetryingBackend,
};
use lifeboat_repo::{
    Appended, Identity, Index, Ingest, IngestOptions, LockGuard, LockRequest, LockTiming,
    PackListing, RepoError, Repository,
};
use lifeboat_testkit::bare::{PASSWORD, foreign_lock, memory, snapshot};
use lifeboat_testkit::faults::{Fault, FaultPlan, FaultyBackend, Operation, Verb};
use lifeboat_testkit::heard::Unheard;
use lifeboat_testkit::wait::until;

/// Times as short as a busy machine allows.
const QUICK: LockTiming = LockTiming {
    settle: Duration::from_millis(2),
    refresh: Duration::from_millis(20),
    give_up: Duration::from_secs(20),
    lease: Duration::from_secs(60),
    watch: Duration::from_secs(60),
    watch_restic: Duration::from_secs(60),
    retry_first: Duration::from_millis(5),
    retry_max: Duration::from_millis(20),
};

fn open(backend: impl Backend + 'static) -> Arc<Repository> {
    Arc::new(Repository::open(Arc::new(backend), PASSWORD, None).unwrap())
}

fn take(repository: &Arc<Repository>, timing: LockTiming, early: bool) -> LockGuard {
    let request = LockRequest {
        exclusive: false,
        retry_for: Duration::ZERO,
        timing,
        early,
        reads: false,
    };
    let who = Identity::of_this_process();
    LockGuard::take(repository, &who, request, &Unheard, &Cancel::new()).unwrap()
}

fn unlock(memory: &MemoryBackend) {
    let mut locks = Vec::new();
    memory
        .list(FileKind::Lock, &mut |id, _| locks.push(id))
        .unwrap();
    for id in locks {
        memory.remove(FileName::new(FileKind::Lock, id)).unwrap();
    }
}

fn snapshots(memory: &MemoryBackend) -> usize {
    let mut count = 0;
    memory
        .list(FileKind::Snapshot, &mut |_, _| count += 1)
        .unwrap();
    count
}

fn saves(operation: &Operation, kind: FileKind) -> bool {
    operation.verb == Verb::Save && operation.kind == Some(kind)
}

/// A laptop closes while the snapshot is tried again; until it opens, others have pruned what the snapshot needs.
#[test]
fn a_retry_does_not_outlive_its_lock() {
    let memory = memory();
    let is_down = Arc::new(AtomicBool::new(true));
    let tries = Arc::new(AtomicUsize::new(0));
    let plan = FaultPlan::new({
        let (is_down, tries) = (is_down.clone(), tries.clone());
        move |operation| {
            let is_failing = saves(operation, FileKind::Snapshot) && is_down.load(Ordering::SeqCst);
            is_failing.then(|| {
                tries.fetch_add(1, Ordering::SeqCst);
                Fault::TimeoutBefore
            })
        }
    });
    let policy = RetryPolicy {
        wait_first: Duration::from_millis(1),
        wait_max: Duration::from_millis(10),
        ..RetryPolicy::default()
    };
    let faulty = Arc::new(FaultyBackend::new(memory.clone(), plan));
    let retrying = RetryingBackend::new(faulty, policy, Arc::new(Unheard), Cancel::new());
    let repository = open(retrying);
    let guard = take(&repository, QUICK, false);
    let error = std::thread::scope(|scope| {
        let saving =
            scope.spawn(|| repository.save_snapshot_under(Some(&guard), &snapshot(Id([7; 32]))));
        until("some tries", || tries.load(Ordering::SeqCst) > 2);
        unlock(&memory);
        until("that the loss is noticed", || guard.ensure().is_err());
        is_down.store(false, Ordering::SeqCst);
        saving.join().unwrap().unwrap_err()
    });
    assert!(
        matches!(error, RepoError::Backend(BackendError::Fenced { .. })),
        "{error:?}"
    );
    assert!(error.to_string().contains("was not touched"), "{error}");
    assert_eq!(snapshots(&memory), 0);
    // What is not a lock is not removed either, and the lock is given back.
    let pack = FileName::new(FileKind::Pack, Id([1; 32]));
    assert!(repository.backend().remove(pack).is_err());
    // The log needs no lock: a database would wait for it until its disk is full.
    let name = lifeboat_testkit::conformance::log_name("wal/1/a");
    let appended = repository.log().append(&name, b"segment").unwrap();
    assert_eq!(appended, Appended::New);
    drop(guard);
    repository.backend().remove(pack).unwrap();
}

/// The lock goes while the snapshot is on its way.
#[test]
fn a_snapshot_that_arrives_without_a_lock_is_not_acknowledged() {
    let memory = memory();
    let guard: Arc<OnceLock<LockGuard>> = Arc::default();
    let plan = FaultPlan::new({
        let (memory, guard) = (memory.clone(), Arc::downgrade(&guard));
        move |operation| {
            if saves(operation, FileKind::Snapshot) {
                unlock(&memory);
                let guard = guard.upgrade().unwrap();
                let guard = guard.get().unwrap();
                until("that the loss is noticed", || guard.ensure().is_err());
            }
            None
        }
    });
    let repository = open(FaultyBackend::new(memory.clone(), plan));
    let guard = guard.get_or_init(|| take(&repository, QUICK, false));
    let error = repository
        .save_snapshot_under(Some(guard), &snapshot(Id([7; 32])))
        .unwrap_err();
    assert!(matches!(error, RepoError::LockLost { .. }), "{error:?}");
    assert_eq!(snapshots(&memory), 0);
}

#[test]
fn nobody_writes_under_an_early_lock_before_its_second_look() {
    let slow = LockTiming {
        settle: Duration::from_millis(300),
        ..QUICK
    };
    let memory = memory();
    let began = Instant::now();
    let guard = take(&open(memory.clone()), slow, true);
    guard.ensure().unwrap();
    assert!(began.elapsed() >= slow.settle, "it did not wait");
    drop(guard);

    let other = foreign_lock();
    // It comes after the look that follows our write, and before the second one.
    let (theirs, looks) = (open(memory.clone()), AtomicUsize::new(0));
    let plan = FaultPlan::new(move |operation| {
        let is_look = operation.verb == Verb::List && operation.kind == Some(FileKind::Lock);
        if is_look && looks.fetch_add(1, Ordering::SeqCst) == 2 {
            theirs.save_json(FileKind::Lock, &other.to_json()).unwrap();
        }
        None
    });
    let ours = open(FaultyBackend::new(memory.clone(), plan));
    let guard = take(&ours, slow, true);
    let error = ours
        .save_snapshot_under(Some(&guard), &snapshot(Id([7; 32])))
        .unwrap_err();
    assert!(matches!(error, RepoError::Locked { .. }), "{error:?}");
    let again = guard.ensure().unwrap_err();
    assert!(matches!(again, RepoError::Locked { .. }), "{again:?}");
    assert_eq!(snapshots(&memory), 0);
    drop(guard);
    assert_eq!(ours.ids(FileKind::Lock).unwrap().len(), 1, "theirs");
}

/// A mount or a long restore would otherwise keep prunes elsewhere waiting for as long as it lives.
#[test]
fn a_lock_that_is_lost_is_not_written_again() {
    let memory = memory();
    let writes = Arc::new(AtomicUsize::new(0));
    let plan = FaultPlan::new({
        let writes = writes.clone();
        move |operation| {
            if saves(operation, FileKind::Lock) {
                writes.fetch_add(1, Ordering::SeqCst);
            }
            None
        }
    });
    let repository = open(FaultyBackend::new(memory.clone(), plan));
    // Each refresh comes later than anybody would believe in the lock.
    let late = LockTiming {
        give_up: Duration::from_millis(1),
        lease: Duration::from_millis(1),
        ..QUICK
    };
    let guard = take(&repository, late, false);
    until("the first late refresh", || {
        writes.load(Ordering::SeqCst) == 2
    });
    std::thread::sleep(QUICK.refresh * 20);
    assert_eq!(writes.load(Ordering::SeqCst), 2);
    assert!(guard.ensure().is_err());
}

fn store(repository: &Repository, index: &RwLock<Index>) -> Id {
    let content = b"something that is new";
    let id = Id::of(content);
    Ingest::run(
        repository,
        index,
        None,
        IngestOptions::default(),
        |ingest| {
            let mut sealer = ingest.sealer()?;
            ingest.add(BlobKind::Data, id, content, &mut sealer)?;
            Ok::<(), RepoError>(())
        },
    )
    .unwrap();
    id
}

/// A prune without locks took, meanwhile, what this run itself had stored.
#[test]
fn a_pack_of_this_run_that_vanished_is_noticed() {
    let memory = memory();
    let hides = Arc::new(AtomicBool::new(false));
    let plan = FaultPlan::new({
        let hides = hides.clone();
        move |operation| {
            let is_late = operation.verb == Verb::List
                && operation.kind == Some(FileKind::Pack)
                && hides.load(Ordering::SeqCst);
            is_late.then_some(Fault::HideNewest(1))
        }
    });
    let repository = open(FaultyBackend::new(memory.clone(), plan));
    let (index, _) = repository
        .load_index(PackListing::Compare, &Cancel::new())
        .unwrap();
    let index = RwLock::new(index);
    repository.confirm_relied(&index).unwrap();
    store(&repository, &index);
    repository.confirm_relied(&index).unwrap();
    hides.store(true, Ordering::SeqCst);
    repository
        .confirm_relied(&index)
        .expect("a listing that is late is no loss");
    hides.store(false, Ordering::SeqCst);
    for pack in repository.ids(FileKind::Pack).unwrap() {
        memory.remove(FileName::new(FileKind::Pack, pack)).unwrap();
    }
    let error = repository.confirm_relied(&index).unwrap_err();
    assert!(
        matches!(error, RepoError::PacksVanished { count: 1, .. }),
        "{error:?}"
    );
}

#[test]
fn a_shared_lock_is_not_in_the_way_of_its_own_upgrade_and_others_are() {
    let memory = memory();
    let repository = open(memory.clone());
    let who = Identity::of_this_process();
    let alone = LockRequest {
        exclusive: true,
        retry_for: Duration::ZERO,
        timing: QUICK,
        early: false,
        reads: false,
    };
    let upgrade = |shared: &LockGuard| shared.upgrade(&who, alone, &Unheard, &Cancel::new());
    let slow = LockTiming {
        settle: Duration::from_millis(100),
        ..QUICK
    };
    let shared = take(&repository, slow, true);
    let exclusive = upgrade(&shared).unwrap();
    std::thread::sleep(slow.settle * 2);
    shared.ensure().unwrap();
    assert_eq!(repository.ids(FileKind::Lock).unwrap().len(), 2);
    let other = open(memory.clone());
    let refused = LockGuard::take(
        &other,
        &who,
        LockRequest {
            exclusive: false,
            ..alone
        },
        &Unheard,
        &Cancel::new(),
    );
    assert!(matches!(refused.map(drop), Err(RepoError::Locked { .. })));
    drop(shared);
    exclusive.ensure().unwrap();
    drop(exclusive);

    let (ours, theirs) = (take(&repository, QUICK, false), take(&other, QUICK, false));
    let refused = upgrade(&ours).map(drop);
    assert!(
        matches!(refused, Err(RepoError::Locked { .. })),
        "{refused:?}"
    );
    drop(theirs);
    upgrade(&ours).unwrap();
}
