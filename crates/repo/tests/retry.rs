//! What may pass is tried again within bounds, what can't pass is not, and a wish to stop ends every wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lifeboat_flow::Cancel;
use lifeboat_format::Id;
use lifeboat_repo::RepoError;
use lifeboat_repo::backend::{
    Backend, BackendError, Creation, FileKind, FileName, LogName, MemoryBackend, RetryPolicy,
    RetryingBackend, Trouble,
};
use lifeboat_testkit::faults::{Fault, FaultPlan, FaultyBackend, Verb};
use lifeboat_testkit::heard::Notes;

const PACK: FileName = FileName {
    kind: FileKind::Pack,
    id: Id([1; 32]),
};
const LOCK: FileName = FileName {
    kind: FileKind::Lock,
    id: Id([2; 32]),
};
const LONG: Duration = Duration::from_secs(3600);

/// Waits of milliseconds, and bounds that end a test that hangs.
const QUICK: RetryPolicy = RetryPolicy {
    wait_first: Duration::from_millis(1),
    wait_max: Duration::from_millis(4),
    retry_after_max: Duration::from_millis(8),
    total: LONG,
    lock_total: LONG,
    unreachable_total: LONG,
    parting_total: LONG,
    quiet_tries: 0,
    note_interval: Duration::ZERO,
};

/// A place that fails in the same way as often as it is told to.
struct Broken {
    memory: MemoryBackend,
    trouble: Trouble,
    retry_after: Option<Duration>,
    /// The file whose requests fail; those of all, if none is named.
    only: Option<FileName>,
    failures: AtomicUsize,
    asked: AtomicUsize,
}

impl Broken {
    fn new(trouble: Trouble, failures: usize) -> Self {
        let memory = MemoryBackend::new();
        memory.create().unwrap();
        memory.save(PACK, &[b"content"]).unwrap();
        Self {
            memory,
            trouble,
            retry_after: None,
            only: None,
            failures: AtomicUsize::new(failures),
            asked: AtomicUsize::new(0),
        }
    }

    fn ask(&self, doing: &'static str, name: FileName) -> Result<(), BackendError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.only.is_some_and(|only| only != name) {
            return Ok(());
        }
        let left = self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        match left {
            Err(_) => Ok(()),
            Ok(_) => Err(BackendError::Remote {
                doing,
                what: name.to_string(),
                location: "s3:https://s3.example.net/bucket".into(),
                trouble: self.trouble,
                why: "the server answered 503 (SlowDown)".into(),
                retry_after: self.retry_after,
            }),
        }
    }
}

impl Backend for Broken {
    fn location(&self) -> String {
        "s3:https://s3.example.net/bucket".into()
    }

    fn create(&self) -> Result<(), BackendError> {
        self.memory.create()
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64)) -> Result<(), BackendError> {
        // It shows something before it breaks off.
        self.memory.list(kind, each)?;
        self.ask("list", PACK)
    }

    fn size(&self, name: FileName) -> Result<u64, BackendError> {
        self.ask("ask for the size of", name)?;
        self.memory.size(name)
    }

    fn load(&self, name: FileName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        self.ask("read", name)?;
        self.memory.load(name, limit_bytes)
    }

    fn load_at(&self, name: FileName, offset: u64, buf: &mut [u8]) -> Result<(), BackendError> {
        self.ask("read", name)?;
        self.memory.load_at(name, offset, buf)
    }

    fn save(&self, name: FileName, data: &[&[u8]]) -> Result<(), BackendError> {
        self.ask("write", name)?;
        self.memory.save(name, data)
    }

    fn remove(&self, name: FileName) -> Result<(), BackendError> {
        self.ask("remove", name)?;
        self.memory.remove(name)
    }

    fn log_create(&self, name: &LogName, data: &[&[u8]]) -> Result<Creation, BackendError> {
        self.ask("use the log of", FileName::CONFIG)?;
        self.memory.log_create(name, data)
    }

    fn log_load(&self, name: &LogName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        self.ask("use the log of", FileName::CONFIG)?;
        self.memory.log_load(name, limit_bytes)
    }

    fn log_list(
        &self,
        below: Option<&LogName>,
        each: &mut dyn FnMut(LogName, u64),
    ) -> Result<(), BackendError> {
        self.memory.log_list(below, each)?;
        self.ask("list", FileName::CONFIG)
    }

    fn log_remove(&self, name: &LogName) -> Result<(), BackendError> {
        self.ask("use the log of", FileName::CONFIG)?;
        self.memory.log_remove(name)
    }
}

fn retrying(broken: &Arc<Broken>, policy: RetryPolicy) -> (RetryingBackend, Arc<Notes>, Cancel) {
    let (seen, cancel) = (Arc::new(Notes::default()), Cancel::new());
    let backend = RetryingBackend::new(broken.clone(), policy, seen.clone(), cancel.clone());
    (backend, seen, cancel)
}

fn failing_always(trouble: Trouble) -> Arc<Broken> {
    Arc::new(Broken::new(trouble, usize::MAX))
}

#[test]
fn what_passes_is_tried_until_it_has_passed_and_both_is_told() {
    let broken = Arc::new(Broken::new(Trouble::Transient, 5));
    let (backend, seen, _) = retrying(&broken, QUICK);
    assert_eq!(backend.load(PACK, 100).unwrap(), b"content");
    assert_eq!(broken.asked.load(Ordering::SeqCst), 6);
    let seen = seen.0.lock().unwrap();
    assert_eq!(seen.len(), 6, "{seen:?}");
    let first = &seen[0];
    assert!(
        first.starts_with("cannot read data/0101")
            && first.contains("503 (SlowDown); waiting 1 s, try 2, giving up at "),
        "{first}"
    );
    assert_eq!(
        seen[5],
        "s3:https://s3.example.net/bucket answers again, after 0 s"
    );
}

#[test]
fn one_failure_or_two_are_told_to_nobody() {
    let policy = RetryPolicy {
        quiet_tries: 2,
        note_interval: LONG,
        ..QUICK
    };
    for (failures, told) in [(2, 0), (3, 2), (30, 2)] {
        let broken = Arc::new(Broken::new(Trouble::Transient, failures));
        let (backend, seen, _) = retrying(&broken, policy);
        backend.size(PACK).unwrap();
        assert_eq!(seen.0.lock().unwrap().len(), told, "{failures}");
    }
}

#[test]
fn what_cannot_pass_is_tried_once() {
    for trouble in [
        Trouble::Tls,
        Trouble::Credentials,
        Trouble::Denied,
        Trouble::NoPlace,
        Trouble::Full,
        Trouble::HostKey,
        Trouble::Protocol,
    ] {
        let broken = failing_always(trouble);
        let (backend, seen, _) = retrying(&broken, QUICK);
        let error = backend.save(PACK, &[b"x"]).unwrap_err();
        assert_eq!(error.trouble(), Some(trouble));
        assert_eq!(broken.asked.load(Ordering::SeqCst), 1, "{trouble:?}");
        assert!(seen.0.lock().unwrap().is_empty());
    }
    let broken = Arc::new(Broken::new(Trouble::Transient, 0));
    let (backend, ..) = retrying(&broken, QUICK);
    assert!(backend.load(LOCK, 10).unwrap_err().is_missing());
    assert_eq!(broken.asked.load(Ordering::SeqCst), 1);
}

#[test]
fn giving_up_says_how_often_and_how_long() {
    let broken = failing_always(Trouble::Transient);
    let policy = RetryPolicy {
        total: Duration::from_secs(1),
        ..QUICK
    };
    let (backend, ..) = retrying(&broken, policy);
    let error = backend.load(PACK, 100).unwrap_err();
    let asked = broken.asked.load(Ordering::SeqCst);
    // The last request asked for something else, to see whether the place answers at all.
    let tries = asked - 1;
    assert!(
        matches!(&error, BackendError::GaveUp { tries: told, .. } if *told as usize == tries && tries > 1),
        "{error:?}"
    );
    assert_eq!(error.trouble(), Some(Trouble::Transient));
    let said = lifeboat_repo::chain(&error);
    let seconds = said
        .strip_prefix(&format!("gave up after {tries} tries and "))
        .and_then(|said| said.split_once(" s without success: cannot read data/"));
    let seconds = seconds.and_then(|(seconds, _)| seconds.parse::<u64>().ok());
    assert!(seconds.is_some_and(|seconds| seconds >= 1), "{said}");
    assert!(RepoError::from(error).ends_all());
    // The outage goes on: the next request does not begin it anew.
    let error = backend.size(PACK).unwrap_err();
    assert!(
        matches!(error, BackendError::GaveUp { tries: 1, .. }) && error.ends_all(),
        "{error:?}"
    );
    assert_eq!(broken.asked.load(Ordering::SeqCst), asked + 1);
    // It ends with the first answer.
    broken.failures.store(3, Ordering::SeqCst);
    assert!(backend.size(PACK).is_err());
    broken.failures.store(0, Ordering::SeqCst);
    backend.size(PACK).unwrap();
    broken.failures.store(2, Ordering::SeqCst);
    backend.size(PACK).unwrap();
}

#[test]
fn one_file_that_never_comes_is_no_end_of_everything() {
    let mut broken = Broken::new(Trouble::Transient, usize::MAX);
    broken.only = Some(PACK);
    let broken = Arc::new(broken);
    let policy = RetryPolicy {
        total: Duration::from_millis(500),
        ..QUICK
    };
    let (backend, ..) = retrying(&broken, policy);
    // Each such file has its own time.
    for _ in 0..2 {
        let error = backend.load(PACK, 100).unwrap_err();
        assert!(
            matches!(error, BackendError::GaveUp { tries, .. } if tries > 1) && !error.ends_all(),
            "{error:?}"
        );
    }
    backend.save(LOCK, &[b"x"]).unwrap();
}

#[test]
fn a_lock_is_given_up_sooner() {
    let broken = failing_always(Trouble::Transient);
    let policy = RetryPolicy {
        lock_total: Duration::from_millis(30),
        ..QUICK
    };
    let (backend, ..) = retrying(&broken, policy);
    let lock = |result: Result<(), BackendError>| {
        assert!(matches!(result, Err(BackendError::GaveUp { .. })));
    };
    lock(backend.save(LOCK, &[b"x"]));
    lock(backend.remove(LOCK));
    lock(backend.list(FileKind::Lock, &mut |_, _| {}));
}

#[test]
fn a_server_that_never_answered_is_given_up_soon() {
    let policy = RetryPolicy {
        unreachable_total: Duration::from_millis(30),
        ..QUICK
    };
    let (backend, ..) = retrying(&failing_always(Trouble::Unreachable), policy);
    assert!(matches!(
        backend.size(FileName::CONFIG),
        Err(BackendError::GaveUp { .. })
    ));
    // One that answered, if only that something is missing, is waited for.
    let broken = Arc::new(Broken::new(Trouble::Unreachable, 0));
    let policy = RetryPolicy {
        unreachable_total: Duration::ZERO,
        ..QUICK
    };
    let (backend, ..) = retrying(&broken, policy);
    assert!(backend.size(FileName::CONFIG).unwrap_err().is_missing());
    broken.failures.store(5, Ordering::SeqCst);
    assert_eq!(backend.size(PACK).unwrap(), 7);
}

#[test]
fn the_wish_of_a_server_to_be_left_alone_is_honoured_within_bounds() {
    let mut broken = Broken::new(Trouble::Transient, 3);
    broken.retry_after = Some(LONG);
    let broken = Arc::new(broken);
    let (backend, ..) = retrying(&broken, QUICK);
    let began = Instant::now();
    backend.size(PACK).unwrap();
    // Three waits of the longest that a server can ask for; an hour would not have ended.
    assert!(began.elapsed() >= 3 * QUICK.retry_after_max);
}

#[test]
fn a_wish_to_stop_ends_a_wait_and_is_no_failure_of_the_place() {
    let policy = RetryPolicy {
        retry_after_max: LONG,
        ..QUICK
    };
    let mut broken = Broken::new(Trouble::Transient, usize::MAX);
    broken.retry_after = Some(LONG);
    let broken = Arc::new(broken);
    let (backend, seen, cancel) = retrying(&broken, policy);
    let error = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| backend.load(PACK, 100).unwrap_err());
        while seen.0.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }
        cancel.cancel();
        waiting.join().unwrap()
    });
    assert!(matches!(error, BackendError::Cancelled(_)), "{error:?}");
    assert!(matches!(RepoError::from(error), RepoError::Cancelled(_)));
}

#[test]
fn after_a_wish_to_stop_locks_are_still_given_back() {
    let broken = Arc::new(Broken::new(Trouble::Transient, 3));
    let (backend, _, cancel) = retrying(&broken, QUICK);
    cancel.cancel();
    backend.remove(LOCK).unwrap();
    assert_eq!(broken.asked.load(Ordering::SeqCst), 4);
    // But all of it together is bounded.
    broken.failures.store(usize::MAX, Ordering::SeqCst);
    let policy = RetryPolicy {
        parting_total: Duration::from_millis(20),
        ..QUICK
    };
    let (backend, _, cancel) = retrying(&broken, policy);
    cancel.cancel();
    assert!(backend.remove(LOCK).is_err());
    let asked = broken.asked.load(Ordering::SeqCst);
    assert!(backend.remove(PACK).is_err());
    assert_eq!(broken.asked.load(Ordering::SeqCst), asked + 1);
}

#[test]
fn a_listing_shows_each_file_once() {
    let broken = Arc::new(Broken::new(Trouble::Transient, 4));
    let (backend, ..) = retrying(&broken, QUICK);
    let mut found = Vec::new();
    let mut list = |backend: &RetryingBackend| {
        backend.list(FileKind::Pack, &mut |id, size_bytes| {
            found.push((id, size_bytes));
        })
    };
    list(&backend).unwrap();
    let broken = failing_always(Trouble::Denied);
    assert!(list(&retrying(&broken, QUICK).0).is_err());
    assert_eq!(found, [(PACK.id, 7)]);
}

#[test]
fn work_that_was_done_although_its_answer_was_lost_is_done() {
    let memory = MemoryBackend::new();
    memory.create().unwrap();
    let faulty = FaultyBackend::new(
        memory.clone(),
        FaultPlan::new(|operation| (operation.number % 2 == 0).then_some(Fault::FailAfter)),
    );
    let backend = RetryingBackend::new(
        Arc::new(faulty.clone()),
        QUICK,
        Arc::new(Notes::default()),
        Cancel::new(),
    );
    backend.save(PACK, &[b"con", b"tent"]).unwrap();
    assert_eq!(memory.load(PACK, 100).unwrap(), b"content");
    backend.remove(PACK).unwrap();
    assert!(memory.size(PACK).unwrap_err().is_missing());
    assert_eq!(faulty.count(Verb::Save, None), 2);
    assert_eq!(faulty.count(Verb::Remove, None), 2);
}
