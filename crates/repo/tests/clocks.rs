//! Locks of machines whose clocks differ by hours, or are set while a lock is held: who refreshes a lock is never taken for
//! gone, whatever its clock says, and who is gone keeps nobody waiting for long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lifeboat_flow::Cancel;
use lifeboat_format::{Id, Lock, LockOrigin};
use lifeboat_repo::backend::{Backend, FileKind, FileName, MemoryBackend};
use lifeboat_repo::{
    Identity, LockGuard, LockRequest, LockTiming, RepoError, Repository, now, remove_locks,
};
use lifeboat_testkit::bare::{PASSWORD, foreign_lock, memory};
use lifeboat_testkit::faults::{FaultPlan, FaultyBackend, Verb};
use lifeboat_testkit::heard::Notes;
use lifeboat_testkit::wait::PATIENCE;

const HOUR: i64 = 3600;
/// How often the other machine refreshes: the watch is longer by more than any pause of a busy machine.
const REFRESH: Duration = Duration::from_millis(5);
const TIMING: LockTiming = LockTiming {
    settle: Duration::from_millis(2),
    refresh: Duration::from_millis(20),
    give_up: Duration::from_secs(20),
    lease: Duration::from_secs(60),
    watch: Duration::from_millis(1000),
    watch_restic: Duration::from_millis(1200),
    retry_first: Duration::from_millis(5),
    retry_max: Duration::from_millis(20),
};

fn repository_on(backend: impl Backend + 'static) -> Arc<Repository> {
    Arc::new(Repository::open(Arc::new(backend), PASSWORD, None).unwrap())
}

fn take(
    repository: &Arc<Repository>,
    exclusive: bool,
    retry_for: Duration,
    seen: &Notes,
) -> Result<LockGuard, RepoError> {
    let who = Identity::of_this_process();
    let request = LockRequest {
        exclusive,
        retry_for,
        timing: TIMING,
        early: false,
        reads: false,
    };
    LockGuard::take(repository, &who, request, seen, &Cancel::new())
}

/// Whose clock it is, and who uses it.
#[derive(Clone, Copy, Debug)]
struct Machine {
    ahead_seconds: i64,
    is_restic: bool,
    exclusive: bool,
}

impl Machine {
    /// Writes a lock file by its clock.
    fn write(self, repository: &Repository) -> Id {
        let mut time = now();
        time.seconds += self.ahead_seconds;
        let origin = LockOrigin {
            boot_id: "another machine".into(),
            pid_namespace: 1,
            started_ticks: 1,
            lease_seconds: 720,
        };
        let lock = Lock {
            time,
            exclusive: self.exclusive,
            origin: (!self.is_restic).then_some(origin),
            ..foreign_lock()
        };
        let json = lock.to_json();
        repository.save_json(FileKind::Lock, &json).unwrap()
    }

    /// Holds a lock that is refreshed as both programs do it: the new file, then the old one goes.
    fn hold(self, memory: &MemoryBackend) -> Holder {
        let (ends, memory) = (Arc::new(AtomicBool::new(false)), memory.clone());
        let repository = repository_on(memory.clone());
        let mut held = self.write(&repository);
        let thread = std::thread::spawn({
            let ends = Arc::clone(&ends);
            move || {
                while !ends.load(Ordering::SeqCst) {
                    std::thread::sleep(REFRESH);
                    let next = self.write(&repository);
                    memory.remove(FileName::new(FileKind::Lock, held)).unwrap();
                    held = next;
                }
                held
            }
        });
        Holder { ends, thread }
    }

    fn all() -> impl Iterator<Item = Self> {
        [-5 * HOUR, -HOUR, 0, HOUR, 5 * HOUR]
            .into_iter()
            .flat_map(|ahead_seconds| {
                [(false, false), (false, true), (true, false), (true, true)].map(
                    |(is_restic, exclusive)| Self {
                        ahead_seconds,
                        is_restic,
                        exclusive,
                    },
                )
            })
    }
}

struct Holder {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Id>,
}

impl Holder {
    /// It dies; gives the file that it leaves.
    fn die(self) -> Id {
        self.ends.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

#[test]
fn who_refreshes_lives_whatever_its_clock_says() {
    for machine in Machine::all() {
        let memory = memory();
        let repository = repository_on(memory.clone());
        let holder = machine.hold(&memory);
        for exclusive in [false, true] {
            let seen = Notes::default();
            let taken = take(&repository, exclusive, Duration::ZERO, &seen).map(drop);
            let notes = seen.0.into_inner().unwrap();
            if exclusive || machine.exclusive {
                assert!(
                    matches!(taken, Err(RepoError::Locked { .. })),
                    "{machine:?}: {taken:?}, {notes:?}"
                );
            } else {
                assert!(taken.is_ok(), "{machine:?}: {taken:?}");
            }
            let is_behind = machine.ahead_seconds < 0 && (exclusive || machine.exclusive);
            assert_eq!(
                notes.iter().any(|note| note.contains("looks stale")),
                is_behind,
                "{machine:?}: {notes:?}"
            );
        }
        holder.die();
    }
}

#[test]
fn who_is_gone_is_waited_for_as_long_as_its_clock_leaves_open() {
    let is_waited_for = |machine: Machine| {
        let memory = memory();
        let repository = repository_on(memory.clone());
        let left = machine.hold(&memory).die();
        let (seen, began) = (Notes::default(), Instant::now());
        let taken = take(&repository, true, Duration::ZERO, &seen).map(drop);
        let notes = seen.0.into_inner().unwrap();
        if machine.ahead_seconds < 0 {
            assert!(taken.is_ok(), "{machine:?}: {taken:?}");
            let watch = match machine.is_restic {
                true => TIMING.watch_restic,
                false => TIMING.watch,
            };
            assert!(began.elapsed() >= watch, "{:?}", began.elapsed());
            assert_eq!(notes.len(), 2, "{notes:?}");
            assert!(notes[1].contains(&left.short()), "{notes:?}");
        } else {
            // Not a minute of its lease is over, or its time is to come: nothing says that it is gone.
            assert!(matches!(taken, Err(RepoError::Locked { .. })), "{taken:?}");
            assert!(notes.is_empty(), "{notes:?}");
        }
        // Who knows that it is gone says so.
        let is_behind = usize::from(machine.ahead_seconds < 0);
        assert_eq!(remove_locks(&repository, false).unwrap().removed, is_behind);
        remove_locks(&repository, true).unwrap();
    };
    std::thread::scope(|scope| {
        for machine in Machine::all() {
            scope.spawn(move || is_waited_for(machine));
        }
    });
}

/// After a disaster a lock of the lost machine may be there, and every look at the repository would take minutes.
#[test]
fn who_only_reads_waits_for_nobody_that_looks_gone() {
    let memory = memory();
    let repository = repository_on(memory.clone());
    let machine = Machine {
        ahead_seconds: -HOUR,
        is_restic: true,
        exclusive: true,
    };
    machine.hold(&memory).die();
    let request = LockRequest {
        exclusive: false,
        retry_for: Duration::ZERO,
        timing: LockTiming {
            watch: PATIENCE,
            watch_restic: PATIENCE,
            ..TIMING
        },
        early: false,
        reads: true,
    };
    let (who, seen, began) = (Identity::default(), Notes::default(), Instant::now());
    LockGuard::take(&repository, &who, request, &seen, &Cancel::new()).unwrap();
    assert!(began.elapsed() < PATIENCE);
    let notes = seen.0.into_inner().unwrap();
    assert!(notes[0].starts_with("ignoring the stale lock"), "{notes:?}");
}

#[test]
fn who_may_wait_gets_the_lock_when_a_clock_that_is_behind_lets_go() {
    let memory = memory();
    let repository = repository_on(memory.clone());
    let machine = Machine {
        ahead_seconds: -HOUR,
        is_restic: false,
        exclusive: true,
    };
    let holder = machine.hold(&memory);
    let is_free = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let seen = Notes::default();
            let guard = take(&repository, true, PATIENCE, &seen).unwrap();
            assert!(is_free.load(Ordering::SeqCst), "it did not wait");
            guard.ensure().unwrap();
        });
        std::thread::sleep(TIMING.watch * 3);
        // What it leaves is looked at as long as anything that looks stale.
        is_free.store(true, Ordering::SeqCst);
        holder.die();
        waiter.join().unwrap();
    });
}

#[test]
fn who_comes_meanwhile_with_an_old_time_lives() {
    let (memory, first) = (memory(), AtomicBool::new(true));
    let other = repository_on(memory.clone());
    let machine = Machine {
        ahead_seconds: -HOUR,
        is_restic: true,
        exclusive: true,
    };
    // It writes its lock at the moment at which we write ours, so that only the second look sees it.
    let plan = FaultPlan::new(move |operation| {
        let is_ours = operation.verb == Verb::Save && operation.kind == Some(FileKind::Lock);
        if is_ours && first.swap(false, Ordering::SeqCst) {
            machine.write(&other);
        }
        None
    });
    let repository = repository_on(FaultyBackend::new(memory.clone(), plan));
    let taken = take(&repository, false, Duration::ZERO, &Notes::default()).map(drop);
    assert!(matches!(taken, Err(RepoError::Locked { .. })), "{taken:?}");
    assert_eq!(
        repository.ids(FileKind::Lock).unwrap().len(),
        1,
        "who was refused leaves nothing behind"
    );
}

#[test]
fn a_watch_ends_with_the_wish_to_stop() {
    let memory = memory();
    let repository = repository_on(memory.clone());
    let machine = Machine {
        ahead_seconds: -HOUR,
        is_restic: false,
        exclusive: true,
    };
    machine.write(&repository);
    let (who, cancel) = (Identity::of_this_process(), Cancel::new());
    cancel.cancel();
    let request = LockRequest {
        exclusive: true,
        retry_for: Duration::ZERO,
        timing: LockTiming {
            watch: PATIENCE,
            ..TIMING
        },
        early: false,
        reads: false,
    };
    let began = Instant::now();
    let taken = LockGuard::take(&repository, &who, request, &Notes::default(), &cancel).map(drop);
    assert!(matches!(taken, Err(RepoError::Cancelled(_))), "{taken:?}");
    assert!(began.elapsed() < PATIENCE);
}
