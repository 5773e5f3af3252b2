//! Locks between processes: who waits for whom, who may be ignored, and who has to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lifeboat_flow::Cancel;
use lifeboat_format::{Id, Lock, LockOrigin};
use lifeboat_repo::backend::{Backend, FileKind, FileName, MemoryBackend};
use lifeboat_repo::{
    Identity, LockGuard, LockRequest, LockTiming, RepoError, Repository, all_locks, remove_locks,
};
use lifeboat_testkit::append_only::AppendOnlyBackend;
use lifeboat_testkit::bare::{PASSWORD, foreign_lock, memory};
use lifeboat_testkit::faults::{Fault, FaultPlan, FaultyBackend, Verb};
use lifeboat_testkit::heard::Notes;
use lifeboat_testkit::retrying::{IMPATIENT, retrying_by};
use lifeboat_testkit::wait::{PATIENCE, until};

/// Times as short as a busy machine allows; waits in these tests are longer by an order of magnitude.
const QUICK: LockTiming = LockTiming {
    settle: Duration::from_millis(2),
    refresh: Duration::from_millis(20),
    give_up: Duration::from_secs(20),
    lease: Duration::from_secs(60),
    watch: Duration::from_millis(300),
    watch_restic: Duration::from_millis(300),
    retry_first: Duration::from_millis(5),
    retry_max: Duration::from_millis(20),
};

fn repository_on(backend: impl Backend + 'static) -> Arc<Repository> {
    Arc::new(Repository::open(Arc::new(backend), PASSWORD, None).unwrap())
}

fn request(exclusive: bool) -> LockRequest {
    LockRequest {
        exclusive,
        retry_for: Duration::ZERO,
        timing: QUICK,
        early: false,
        reads: false,
    }
}

fn take_with(
    repository: &Arc<Repository>,
    request: LockRequest,
    seen: &Notes,
) -> Result<LockGuard, RepoError> {
    let who = Identity::of_this_process();
    LockGuard::take(repository, &who, request, seen, &Cancel::new())
}

fn take(repository: &Arc<Repository>, exclusive: bool) -> Result<LockGuard, RepoError> {
    take_with(repository, request(exclusive), &Notes::default())
}

fn ids(repository: &Repository) -> Vec<Id> {
    repository.ids(FileKind::Lock).unwrap()
}

/// A lock file of some other process.
fn plant(repository: &Repository, change: impl FnOnce(&mut Lock)) -> Id {
    let mut lock = foreign_lock();
    change(&mut lock);
    repository
        .save_json(FileKind::Lock, &lock.to_json())
        .unwrap()
}

#[test]
fn readers_and_writers_share_and_removers_are_alone() {
    for held in [false, true] {
        for wanted in [false, true] {
            let memory = memory();
            // Two processes, each with its own view of the repository.
            let (first, second) = (repository_on(memory.clone()), repository_on(memory));
            let guard = take(&first, held).unwrap();
            let result = take(&second, wanted).map(drop);
            match result {
                Ok(()) => assert!(!held && !wanted),
                Err(RepoError::Locked { exclusive, holder }) => {
                    assert!(held || wanted);
                    assert_eq!(exclusive, held);
                    assert!(holder.contains(&std::process::id().to_string()), "{holder}");
                }
                Err(other) => panic!("{other:?}"),
            }
            assert_eq!(
                ids(&first),
                [guard.id()],
                "who was refused leaves nothing behind"
            );
            guard.ensure().unwrap();
            drop(guard);
            assert_eq!(ids(&first), []);
            drop(take(&second, wanted).unwrap());
        }
    }
}

#[test]
fn a_refresh_replaces_the_file() {
    let repository = repository_on(memory());
    let guard = take(&repository, false).unwrap();
    let mut seen = vec![guard.id()];
    while seen.len() < 4 {
        until("a refresh", || guard.id() != *seen.last().unwrap());
        seen.push(guard.id());
        guard.ensure().unwrap();
        let left = ids(&repository);
        assert!(!left.is_empty() && left.len() <= 2, "{left:?}");
    }
    let times: Vec<_> = all_locks(&repository)
        .unwrap()
        .into_iter()
        .map(|(_, lock)| lock.unwrap().time)
        .collect();
    assert!(!times.is_empty());
    drop(guard);
    assert_eq!(ids(&repository), []);
}

#[test]
fn a_lock_that_is_refreshed_all_the_time_is_always_seen() {
    let memory = memory();
    let holder = repository_on(memory.clone());
    let timing = LockTiming {
        refresh: Duration::from_millis(1),
        ..QUICK
    };
    let busy = LockRequest {
        timing,
        ..request(false)
    };
    let guard = take_with(&holder, busy, &Notes::default()).unwrap();
    let other = repository_on(memory);
    for _ in 0..300 {
        assert!(
            !all_locks(&other).unwrap().is_empty(),
            "a holder was overlooked"
        );
    }
    assert!(matches!(take(&other, true), Err(RepoError::Locked { .. })));
    guard.ensure().unwrap();
}

#[test]
fn a_lock_that_is_refreshed_between_listing_and_reading_is_seen() {
    let memory = memory();
    let other = repository_on(memory.clone());
    let old = plant(&other, |lock| lock.time.seconds -= 60);
    let first = AtomicBool::new(true);
    let files = memory.clone();
    let plan = FaultPlan::new(move |operation| {
        let is_read = operation.verb == Verb::Load && operation.kind == Some(FileKind::Lock);
        if is_read && first.swap(false, Ordering::SeqCst) {
            plant(&other, |_| {});
            files.remove(FileName::new(FileKind::Lock, old)).unwrap();
        }
        None
    });
    let repository = repository_on(FaultyBackend::new(memory, plan));
    let found = all_locks(&repository).unwrap();
    assert_eq!(found.len(), 1);
    assert!(found[0].0 != old && found[0].1.is_ok());
}

#[test]
fn a_holder_whose_file_is_removed_stops() {
    let repository = repository_on(memory());
    let guard = take(&repository, false).unwrap();
    guard.ensure().unwrap();
    remove_locks(&repository, true).unwrap();
    until("that the loss is noticed", || {
        // A refresh that was under way may have written one more file: then that is removed as well.
        remove_locks(&repository, true).unwrap();
        matches!(guard.ensure(), Err(RepoError::LockLost { .. }))
    });
    let error = guard.ensure().unwrap_err().to_string();
    assert!(error.contains("somebody removed its file"), "{error}");
    assert_eq!(ids(&repository), [], "it is not made anew");
    drop(guard);
}

/// Fails all writing of lock files while the switch is on.
fn breakable(memory: &MemoryBackend) -> (FaultyBackend<MemoryBackend>, Arc<AtomicBool>) {
    let is_broken = Arc::new(AtomicBool::new(false));
    let switch = is_broken.clone();
    let plan = FaultPlan::new(move |operation| {
        let is_write = operation.verb == Verb::Save && operation.kind == Some(FileKind::Lock);
        (is_write && switch.load(Ordering::SeqCst)).then_some(Fault::FailBefore)
    });
    (FaultyBackend::new(memory.clone(), plan), is_broken)
}

#[test]
fn a_holder_that_can_not_refresh_gives_up_before_others_call_it_stale() {
    let memory = memory();
    let (backend, is_broken) = breakable(&memory);
    let repository = repository_on(backend);
    let timing = LockTiming {
        give_up: Duration::from_secs(3),
        lease: Duration::from_secs(3600),
        ..QUICK
    };
    let quick = LockRequest {
        timing,
        ..request(false)
    };
    let guard = take_with(&repository, quick, &Notes::default()).unwrap();
    guard.ensure().unwrap();
    is_broken.store(true, Ordering::SeqCst);
    let began = Instant::now();
    until("giving up", || guard.ensure().is_err());
    assert!(
        began.elapsed() >= Duration::from_millis(500),
        "a short failure is no loss"
    );
    let error = guard.ensure().unwrap_err();
    assert!(matches!(error, RepoError::LockLost { .. }), "{error:?}");
    let kept: Vec<_> = all_locks(&repository).unwrap();
    assert_eq!(kept.len(), 1);
    // A lock that was lost stays lost, whatever works again.
    until("that it is recorded", || {
        guard
            .ensure()
            .unwrap_err()
            .to_string()
            .contains("failed by plan")
    });
    is_broken.store(false, Ordering::SeqCst);
    std::thread::sleep(QUICK.refresh * 10);
    assert!(guard.ensure().is_err());
}

#[test]
fn a_short_failure_is_no_loss() {
    let memory = memory();
    let (backend, is_broken) = breakable(&memory);
    let repository = repository_on(backend.clone());
    let guard = take(&repository, false).unwrap();
    is_broken.store(true, Ordering::SeqCst);
    until("some failed refreshes", || backend.faults() > 3);
    is_broken.store(false, Ordering::SeqCst);
    let id = guard.id();
    until("a refresh", || guard.id() != id);
    guard.ensure().unwrap();
}

/// A holder whose machine is on standby when its refresher lists locks, for longer than it may go on without a refresh, and
/// than a short lease. What happens meanwhile is up to `meanwhile`; afterwards the lock is looked at.
fn after_standby(lease: Duration, meanwhile: impl FnOnce(&Repository)) -> Result<(), RepoError> {
    let memory = memory();
    let [is_asleep, is_over] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let plan = {
        let (is_asleep, is_over) = (is_asleep.clone(), is_over.clone());
        let taker = std::thread::current().id();
        FaultPlan::new(move |operation| {
            if operation.verb == Verb::List && std::thread::current().id() != taker {
                is_asleep.store(true, Ordering::SeqCst);
                until("the end", || is_over.load(Ordering::SeqCst));
            }
            None
        })
    };
    let backend = FaultyBackend::new(memory.clone(), plan);
    let repository = repository_on(backend.clone());
    let timing = LockTiming {
        give_up: Duration::from_millis(200),
        lease,
        ..QUICK
    };
    let wanted = LockRequest {
        timing,
        ..request(false)
    };
    let guard = take_with(&repository, wanted, &Notes::default()).unwrap();
    let began = Instant::now();
    until("the standby", || is_asleep.load(Ordering::SeqCst));
    meanwhile(&repository_on(memory));
    until("that it is noticed", || guard.ensure().is_err());
    until("the end of a short lease", || {
        lease > PATIENCE || began.elapsed() > lease
    });
    is_over.store(true, Ordering::SeqCst);
    // Either it goes on, or it says at last why not.
    let mut decided = Ok(());
    until("a decision", || {
        decided = guard.ensure();
        let is_open = |error: &RepoError| error.to_string().contains("it was not refreshed for");
        !decided.as_ref().is_err_and(is_open)
    });
    decided
}

#[test]
fn after_a_standby_a_holder_goes_on_only_if_nobody_could_call_it_stale() {
    let long = Duration::from_secs(3600);
    after_standby(long, |_| {}).unwrap();
    after_standby(long, |other| {
        plant(other, |lock| lock.exclusive = false);
    })
    .unwrap();
    // In all of these its file is still there: who calls a lock stale leaves it where it is.
    let error = after_standby(long, |other| {
        plant(other, |_| {});
    })
    .unwrap_err();
    assert!(matches!(error, RepoError::LockLost { .. }), "{error:?}");
    assert!(error.to_string().contains("locked exclusively"), "{error}");
    let error = after_standby(Duration::from_millis(300), |_| {}).unwrap_err();
    assert!(error.to_string().contains("its lease ended"), "{error}");
}

#[test]
fn who_may_wait_waits_and_succeeds() {
    let memory = memory();
    let (first, second) = (repository_on(memory.clone()), repository_on(memory));
    let guard = take(&first, true).unwrap();
    let (seen, is_free) = (Notes::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let patient = LockRequest {
                retry_for: PATIENCE,
                ..request(false)
            };
            let guard = take_with(&second, patient, &seen).unwrap();
            assert!(is_free.load(Ordering::SeqCst), "it did not wait");
            guard.ensure().unwrap();
        });
        until("the wait", || !seen.0.lock().unwrap().is_empty());
        // It asks a few times more, which is told once.
        std::thread::sleep(QUICK.retry_max * 5);
        is_free.store(true, Ordering::SeqCst);
        drop(guard);
        waiter.join().unwrap();
    });
    let notes = seen.0.into_inner().unwrap();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("waiting"), "{notes:?}");
    // Whose patience ends is told who holds it; who wishes to stop need not wait.
    let _guard = take(&first, true).unwrap();
    let impatient = LockRequest {
        retry_for: Duration::from_millis(60),
        ..request(true)
    };
    let began = Instant::now();
    let refused = take_with(&second, impatient, &Notes::default()).map(drop);
    assert!(matches!(refused, Err(RepoError::Locked { .. })));
    assert!(began.elapsed() >= Duration::from_millis(60));
    let cancel = Cancel::new();
    cancel.cancel();
    let patient = LockRequest {
        retry_for: PATIENCE,
        ..request(true)
    };
    let who = Identity::of_this_process();
    let stopped = LockGuard::take(&second, &who, patient, &Notes::default(), &cancel).map(drop);
    assert!(
        matches!(stopped, Err(RepoError::Cancelled(_))),
        "{stopped:?}"
    );
}

/// A lock of a process of this machine that is gone.
fn dead(lock: &mut Lock) {
    let repository = repository_on(memory());
    let _guard = take(&repository, true).unwrap();
    let (_, ours) = all_locks(&repository).unwrap().remove(0);
    let ours = ours.unwrap();
    lock.hostname = ours.hostname;
    lock.origin = ours.origin.map(|origin| LockOrigin {
        started_ticks: origin.started_ticks + 1,
        ..origin
    });
    lock.pid = ours.pid;
}

#[test]
fn stale_locks_are_ignored_noted_and_removed_alone() {
    let repository = repository_on(memory());
    let old = |seconds: i64| move |lock: &mut Lock| lock.time.seconds -= seconds;
    let stale = [
        plant(&repository, old(31 * 60)),
        plant(&repository, |lock| {
            dead(lock);
        }),
    ];
    let seen = Notes::default();
    let guard = take_with(&repository, request(true), &seen).unwrap();
    let notes = seen.0.into_inner().unwrap();
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(
        notes[0].contains("looks stale, unless the clock"),
        "{notes:?}"
    );
    for id in stale {
        assert!(
            notes.iter().any(|note| note.contains(&id.short())),
            "{notes:?}"
        );
    }
    assert_eq!(ids(&repository).len(), 3, "ignored is not removed");
    let live = plant(&repository, old(29 * 60));
    let done = remove_locks(&repository, false).unwrap();
    assert_eq!(
        (done.removed, done.live.len(), done.unreadable.len()),
        (2, 2, 0)
    );
    let mut left = [live, guard.id()];
    left.sort();
    let found = ids(&repository);
    assert!(
        found.contains(&live) && found.len() == 2,
        "{found:?} {left:?}"
    );
    drop(guard);
    assert!(matches!(
        take(&repository, false),
        Err(RepoError::Locked { .. })
    ));
    assert_eq!(remove_locks(&repository, false).unwrap().removed, 0);
    assert_eq!(remove_locks(&repository, true).unwrap().removed, 1);
    drop(take(&repository, true).unwrap());
}

#[test]
fn empty_files_are_no_locks_and_unreadable_ones_stop_everybody() {
    let memory = memory();
    let repository = repository_on(memory.clone());
    let name = FileName::new(FileKind::Lock, Id::of(b"never written"));
    memory.save(name, &[]).unwrap();
    drop(take(&repository, true).unwrap());
    for content in [b"x".as_slice(), &[7; 200]] {
        let id = Id::of(content);
        let name = FileName::new(FileKind::Lock, id);
        memory.save(name, &[content]).unwrap();
        for exclusive in [false, true] {
            match take(&repository, exclusive).map(drop) {
                Err(RepoError::LockUnreadable { id: named, .. }) => assert_eq!(named, id),
                other => panic!("{other:?}"),
            }
        }
        let done = remove_locks(&repository, false).unwrap();
        assert_eq!(done.removed, 0, "not known to be stale");
        let told: Vec<Id> = done.unreadable.iter().map(|(id, _)| *id).collect();
        assert_eq!(told, [id]);
        memory.remove(name).unwrap();
    }
    drop(take(&repository, true).unwrap());
}

#[test]
fn a_place_that_is_gone_makes_no_lock_unreadable() {
    let memory = memory();
    let stale = plant(&repository_on(memory.clone()), |lock| {
        lock.time.seconds -= 31 * 60;
    });
    let gone = FaultPlan::new(|operation| {
        let is_read = operation.verb == Verb::Load && operation.kind == Some(FileKind::Lock);
        is_read.then_some(Fault::Unreachable)
    });
    let faulty = FaultyBackend::new(memory.clone(), gone);
    let repository = repository_on(retrying_by(IMPATIENT, faulty));
    let done = remove_locks(&repository, false);
    assert!(done.is_err_and(|error| error.ends_all()));
    assert_eq!(ids(&repository_on(memory)), [stale]);
}

#[test]
fn a_lock_whose_writing_fails_after_all_keeps_nobody_waiting() {
    let memory = memory();
    let plan = FaultPlan::new(|operation| {
        let is_write = operation.verb == Verb::Save && operation.kind == Some(FileKind::Lock);
        is_write.then_some(Fault::FailAfter)
    });
    let repository = repository_on(FaultyBackend::new(memory.clone(), plan));
    assert!(matches!(
        take(&repository, true),
        Err(RepoError::Backend(_))
    ));
    assert_eq!(ids(&repository_on(memory)), []);
}

#[test]
fn a_file_that_was_replaced_and_not_removed_goes_with_the_lock() {
    let memory = memory();
    let is_broken = Arc::new(AtomicBool::new(true));
    let switch = is_broken.clone();
    let plan = FaultPlan::new(move |operation| {
        (operation.verb == Verb::Remove && switch.load(Ordering::SeqCst))
            .then_some(Fault::FailBefore)
    });
    let repository = repository_on(FaultyBackend::new(memory, plan));
    let guard = take(&repository, false).unwrap();
    until("refreshes", || ids(&repository).len() > 3);
    guard.ensure().unwrap();
    is_broken.store(false, Ordering::SeqCst);
    drop(guard);
    assert_eq!(ids(&repository), []);
}

/// Two that want to be alone at the same moment, and one that wants to share: never two of which one is alone.
#[test]
fn of_two_that_race_at_most_one_wins() {
    const ROUNDS: usize = 150;
    let memory = memory();
    let inside = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (won, broken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let barrier = std::sync::Barrier::new(3);
    std::thread::scope(|scope| {
        for exclusive in [true, true, false] {
            let (memory, inside, barrier) = (memory.clone(), &inside, &barrier);
            let (won, broken) = (&won, &broken);
            scope.spawn(move || {
                let repository = repository_on(memory);
                for _ in 0..ROUNDS {
                    barrier.wait();
                    match take(&repository, exclusive) {
                        Ok(guard) => {
                            let mine = if exclusive { &inside.0 } else { &inside.1 };
                            mine.fetch_add(1, Ordering::SeqCst);
                            std::thread::sleep(Duration::from_millis(1));
                            let (alone, sharing) = (
                                inside.0.load(Ordering::SeqCst),
                                inside.1.load(Ordering::SeqCst),
                            );
                            // A panic here would leave the others at the barrier.
                            let is_broken = alone + sharing.min(1) > 1;
                            broken.fetch_add(usize::from(is_broken), Ordering::SeqCst);
                            mine.fetch_sub(1, Ordering::SeqCst);
                            won.fetch_add(1, Ordering::SeqCst);
                            drop(guard);
                        }
                        Err(RepoError::Locked { .. }) => {}
                        Err(_) => {
                            broken.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            });
        }
    });
    let broken = broken.into_inner();
    assert_eq!(
        broken, 0,
        "two were inside, or a lock was refused for a wrong reason"
    );
    assert!(won.into_inner() > 0, "nobody ever won");
    assert_eq!(ids(&repository_on(memory)), []);
}

#[test]
fn where_nothing_may_be_removed_a_lock_is_refreshed_and_left_to_become_stale() {
    let memory = memory();
    let repository = repository_on(AppendOnlyBackend::new(memory.clone(), &[]));
    let seen = Arc::new(Notes::default());
    let quick = LockRequest {
        timing: LockTiming {
            lease: Duration::from_secs(12 * 60),
            ..QUICK
        },
        ..request(true)
    };
    let guard = take_with(&repository, quick, &seen).unwrap();
    guard.tell(seen.clone());
    until("three refreshes", || ids(&repository).len() >= 4);
    guard.ensure().unwrap();
    assert!(seen.0.lock().unwrap().is_empty());
    drop(guard);
    let left = ids(&repository).len();
    let told = seen.0.lock().unwrap().clone();
    assert_eq!(
        told,
        [format!(
            "memory does not allow to remove {left} lock files of this run; others wait for them for 12 minutes at most"
        )]
    );
    // They name this process, which lives, so they count until their lease ends.
    assert!(matches!(
        take(&repository, true),
        Err(RepoError::Locked { .. })
    ));
}
