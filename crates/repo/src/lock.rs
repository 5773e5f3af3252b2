//! Locks that restic understands: taken before writing, refreshed while it lasts, given up when that fails.
//! It must never let a writer go on whose lock others may call stale, nor call a lock stale whose holder may still write.

mod acquire;
mod all;
mod origin;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lifeboat_flow::{Cancel, Event, EventSink};
use lifeboat_format::{Id, Lock, Timestamp};

use crate::backend::{Fence, FileKind, FileName, ListingDelay};
use crate::clock::now;
use crate::{Identity, RepoError, Repository, chain};

use acquire::{acquire, check_others};

pub use all::{FoundLock, RemovedLocks, all_locks, remove_locks};
pub use origin::{Staleness, staleness};

/// The times of a lock's life.
#[derive(Clone, Copy, Debug)]
pub struct LockTiming {
    /// Between writing a lock and looking whether another was written at the same time (restic's 200 ms).
    pub settle: Duration,
    /// Between two refreshes.
    pub refresh: Duration,
    /// Without a refresh for so long, the holder stops writing.
    pub give_up: Duration,
    /// Without a refresh for so long, others may call it stale; longer than `give_up` by what clocks may differ.
    pub lease: Duration,
    /// For how long a lock of another machine that looks stale is watched before that is believed: longer than the time
    /// between two refreshes, which would show that its machine's clock is behind.
    pub watch: Duration,
    /// The same for a lock of restic, which refreshes every five minutes.
    pub watch_restic: Duration,
    /// First wait of `--retry-lock`; it doubles.
    pub retry_first: Duration,
    /// Longest wait of `--retry-lock`.
    pub retry_max: Duration,
}

impl Default for LockTiming {
    fn default() -> Self {
        Self {
            settle: Duration::from_millis(200),
            refresh: Duration::from_secs(2 * 60),
            give_up: Duration::from_secs(8 * 60),
            lease: Duration::from_secs(12 * 60),
            watch: Duration::from_secs(150),
            watch_restic: Duration::from_secs(330),
            retry_first: Duration::from_secs(1),
            retry_max: Duration::from_secs(60),
        }
    }
}

/// How to lock.
#[derive(Clone, Copy, Debug)]
pub struct LockRequest {
    /// Alone, or together with others that write without removing.
    pub exclusive: bool,
    /// How long to wait for others.
    pub retry_for: Duration,
    /// The times of its life.
    pub timing: LockTiming,
    /// Whether work may begin before the second look, for a shared lock that waits for nobody:
    /// [`ensure`](LockGuard::ensure) then waits for that look, and what was read until then must not be relied on
    /// without it.
    pub early: bool,
    /// Nothing is written: then a lock that looks stale is believed to be, because a wrong clock can do no harm.
    pub reads: bool,
}

struct Held {
    id: Id,
    /// The time in the lock file, which is what others judge by.
    refreshed: Timestamp,
    /// The same moment by a clock that nobody sets.
    refreshed_at: Instant,
    /// Earlier lock files that could not be removed.
    replaced: Vec<Id>,
    /// Earlier lock files that nobody may remove with these credentials: they become stale by themselves.
    left: Vec<Id>,
    lost: Option<String>,
    settled: Settled,
}

/// What the second look showed.
enum Settled {
    /// It is still to come.
    Not,
    /// Nobody is in the way.
    Alone,
    /// Somebody is, or it can't be told.
    Failed(RepoError),
}

/// What became of a lock that was to be refreshed.
enum Refreshed {
    Done,
    Lost(String),
}

struct Shared {
    repository: Arc<Repository>,
    lock: Lock,
    timing: LockTiming,
    /// Locks that were watched and are stale.
    watched: Vec<Id>,
    held: Mutex<Held>,
    /// Tells of the second look.
    looked: Condvar,
    released: AtomicBool,
    wake: (Mutex<()>, Condvar),
    /// Who is told what nobody else can say any more when the lock is given back.
    events: OnceLock<Arc<dyn EventSink>>,
}

/// A lock that is held and refreshed until this is dropped.
pub struct LockGuard {
    shared: Arc<Shared>,
    refresher: Option<JoinHandle<()>>,
}

impl LockGuard {
    /// Takes a lock, waiting for others as long as the request allows.
    ///
    /// # Errors
    /// [`RepoError::Locked`] if another one is in the way, [`RepoError::LockUnreadable`] if that can't be told.
    pub fn take(
        repository: &Arc<Repository>,
        who: &Identity,
        request: LockRequest,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<Self, RepoError> {
        Self::take_beside(None, repository, who, request, events, cancel)
    }

    /// Takes an exclusive lock while this shared one is held, which is not in its way. Locks that only look stale are.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn upgrade(
        &self,
        who: &Identity,
        request: LockRequest,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<Self, RepoError> {
        // Its own second look would take the other one for somebody else's.
        self.ensure()?;
        let repository = &self.shared.repository;
        Self::take_beside(Some(self), repository, who, request, events, cancel)
    }

    /// The lock files of this lock that may be there.
    fn files(&self) -> Vec<Id> {
        let held = self.shared.held();
        let earlier = held.replaced.iter().chain(&held.left);
        earlier.copied().chain([held.id]).collect()
    }

    fn take_beside(
        beside: Option<&Self>,
        repository: &Arc<Repository>,
        who: &Identity,
        request: LockRequest,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<Self, RepoError> {
        let lock = Lock {
            time: now(),
            exclusive: request.exclusive,
            hostname: who.hostname.clone(),
            username: who.username.clone(),
            pid: rustix::process::getpid().as_raw_pid().into(),
            uid: who.uid,
            gid: who.gid,
            origin: origin::of_this_process(request.timing.lease),
        };
        let asked = Instant::now();
        let mut wait = request.timing.retry_first;
        let mut told = false;
        let early = request.early && !request.exclusive && request.retry_for.is_zero();
        let request = LockRequest { early, ..request };
        let mut watched = Vec::new();
        let (id, refreshed, began) = loop {
            match acquire(
                beside,
                repository,
                &lock,
                request,
                &mut watched,
                events,
                cancel,
            ) {
                Ok(acquired) => break acquired,
                Err(error @ RepoError::Locked { .. }) => {
                    let left = request.retry_for.saturating_sub(asked.elapsed());
                    if left.is_zero() {
                        return Err(error);
                    }
                    if !told {
                        events.event(Event::Note(format!(
                            "{error}; waiting up to {:?} for it",
                            request.retry_for
                        )));
                        told = true;
                    }
                    cancel.sleep(wait.min(left))?;
                    wait = (wait * 2).min(request.timing.retry_max);
                }
                Err(error) => return Err(error),
            }
        };
        let held = Held {
            id,
            refreshed,
            refreshed_at: began,
            replaced: Vec::new(),
            left: Vec::new(),
            lost: None,
            // Without early, `acquire` has looked again. Where listings are prompt, the look after the write shows every
            // lock; who wants to be alone waits nevertheless, so that a place which does not quite keep its promise is
            // found out by the one that would do harm.
            settled: match repository.backend().listing_delay() {
                ListingDelay::Unknown if early => Settled::Not,
                _ => Settled::Alone,
            },
        };
        let shared = Arc::new(Shared {
            repository: repository.clone(),
            lock,
            timing: request.timing,
            watched,
            held: Mutex::new(held),
            looked: Condvar::new(),
            released: AtomicBool::new(false),
            wake: Default::default(),
            events: OnceLock::new(),
        });
        let fence: Weak<dyn Fence> = Arc::<Shared>::downgrade(&shared);
        repository.backend().fence(Some(fence));
        let refresher = std::thread::spawn({
            let shared = shared.clone();
            move || shared.keep()
        });
        Ok(Self {
            shared,
            refresher: Some(refresher),
        })
    }

    /// Whether writing is still safe. To be asked before every write that others would not expect.
    ///
    /// # Errors
    /// [`RepoError::LockLost`] if the lock could not be refreshed in time; for an early lock also what
    /// [`take`](Self::take) fails with.
    pub fn ensure(&self) -> Result<(), RepoError> {
        self.shared.ensure()
    }

    /// Tells this sink if a lock file may not be removed. That fails no command: the file becomes stale.
    pub fn tell(&self, events: Arc<dyn EventSink>) {
        // Who was named first stays the one.
        let _ = self.shared.events.set(events);
    }

    /// The ID of the lock file now.
    #[must_use]
    pub fn id(&self) -> Id {
        self.shared.held().id
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        self.shared.released.store(true, Ordering::Release);
        {
            let _guard = self
                .shared
                .wake
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            self.shared.wake.1.notify_all();
        }
        if let Some(refresher) = self.refresher.take() {
            // It ends by itself; if it panicked there is nothing more to stop.
            let _ = refresher.join();
        }
        let id = self.id();
        self.shared.held().replaced.push(id);
        self.shared.remove_replaced();
        self.shared.tell_of_left();
    }
}

impl Shared {
    /// The work of the refresher. It has a thread of its own: it must wait behind no upload.
    fn keep(&self) {
        // The clock on the wall is looked at often: after a standby, time has passed that no timer noticed.
        let poll = (self.timing.refresh / 10)
            .min(Duration::from_secs(5))
            .max(Duration::from_millis(1));
        if matches!(self.held().settled, Settled::Not) {
            let mut outcome = Outcome(self, None);
            let own = self.held().id;
            outcome.1 = Some(match self.wait(self.timing.settle) {
                true => self.check_others(&[own]),
                // Nobody asks any more.
                false => Ok(()),
            });
        }
        while self.wait(poll) {
            if self.age() >= self.timing.refresh {
                let lost = match self.refresh() {
                    Ok(Refreshed::Lost(why)) => why,
                    Err(error) if self.age() >= self.timing.give_up => chain(&error),
                    Ok(Refreshed::Done) | Err(_) => continue,
                };
                // It never comes back: another file now would only keep others waiting.
                self.lose(lost);
                return;
            }
        }
    }

    fn lose(&self, why: String) {
        if let Some(events) = self.events.get() {
            events.event(Event::Note(format!(
                "the lock on {} does not hold any more: {why}; nothing more is written, and what is read may be removed by others",
                self.repository.backend().location()
            )));
        }
        self.held().lost = Some(why);
    }

    /// Waits; not for the whole time, and `false`, when the lock is given back.
    fn wait(&self, length: Duration) -> bool {
        let end = Instant::now() + length;
        let mut guard = self.wake.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.released.load(Ordering::Acquire) {
                return false;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            let woken = self.wake.1.wait_timeout(guard, left);
            guard = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn age(&self) -> Duration {
        self.held().age()
    }

    /// Writes a new lock file, then removes the old one; otherwise says why the lock is lost.
    fn refresh(&self) -> Result<Refreshed, RepoError> {
        let old = self.held().id;
        if !exists(&self.repository, old)? {
            return Ok(Refreshed::Lost("somebody removed its file".into()));
        }
        let began = Instant::now();
        let (id, time) = write(&self.repository, &self.lock)?;
        if self.age() >= self.timing.give_up {
            std::thread::sleep(self.timing.settle);
            if let Some(why) = self.lost_meanwhile(old, id)? {
                remove_quietly(&self.repository, id);
                return Ok(Refreshed::Lost(why));
            }
        }
        let mut held = self.held();
        held.id = id;
        held.refreshed = time;
        held.refreshed_at = began;
        held.replaced.push(old);
        drop(held);
        self.remove_replaced();
        Ok(Refreshed::Done)
    }

    /// Why a lock that was not refreshed in time must not be held any longer. Its file proves nothing: whoever calls it
    /// stale leaves it where it is.
    fn lost_meanwhile(&self, old: Id, new: Id) -> Result<Option<String>, RepoError> {
        let age = self.age();
        if age >= self.timing.lease {
            let why = format!(
                "its lease ended, {} s after its last refresh",
                age.as_secs()
            );
            return Ok(Some(why));
        }
        if !exists(&self.repository, old)? {
            return Ok(Some("somebody removed its file".into()));
        }
        let mut own = vec![old, new];
        own.extend(&self.held().left);
        match self.check_others(&own) {
            Ok(()) => Ok(None),
            Err(error @ RepoError::Locked { .. }) => Ok(Some(error.to_string())),
            Err(error) => Err(error),
        }
    }

    fn check_others(&self, own: &[Id]) -> Result<(), RepoError> {
        check_others(&self.repository, &self.lock, own, &self.watched)
    }

    /// Removes earlier lock files; what can't be removed is tried again with the next refresh, unless it is not allowed.
    fn remove_replaced(&self) {
        let replaced = std::mem::take(&mut self.held().replaced);
        for id in replaced {
            let name = FileName::new(FileKind::Lock, id);
            match self.repository.backend().remove(name) {
                Ok(()) => {}
                Err(error) if error.is_refusal() => self.held().left.push(id),
                Err(_) => self.held().replaced.push(id),
            }
        }
    }

    fn tell_of_left(&self) {
        let left = self.held().left.len();
        let Some(events) = self.events.get().filter(|_| left > 0) else {
            return;
        };
        let files = if left == 1 {
            "1 lock file".to_owned()
        } else {
            format!("{left} lock files")
        };
        events.event(Event::Note(format!(
            "{} does not allow to remove {files} of this run; others wait for them for {} minutes at most",
            self.repository.backend().location(),
            self.timing.lease.as_secs().div_ceil(60)
        )));
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ensure(&self) -> Result<(), RepoError> {
        let held = self.held();
        let is_open = |held: &mut Held| matches!(held.settled, Settled::Not);
        let waited = self.looked.wait_while(held, is_open);
        let held = waited.unwrap_or_else(PoisonError::into_inner);
        let location = || self.repository.backend().location();
        // Whoever asks is told the same, however often.
        match &held.settled {
            Settled::Not | Settled::Alone => {}
            Settled::Failed(RepoError::Locked { holder, exclusive }) => {
                return Err(RepoError::Locked {
                    holder: holder.clone(),
                    exclusive: *exclusive,
                });
            }
            Settled::Failed(error) => {
                return Err(RepoError::LockLost {
                    location: location(),
                    why: chain(error),
                });
            }
        }
        if let Some(why) = &held.lost {
            return Err(RepoError::LockLost {
                location: location(),
                why: why.clone(),
            });
        }
        let age = held.age();
        if age >= self.timing.give_up {
            return Err(RepoError::LockLost {
                location: location(),
                why: format!("it was not refreshed for {} s", age.as_secs()),
            });
        }
        Ok(())
    }
}

/// The outcome of the second look, which is told whatever happens: somebody may wait for it.
struct Outcome<'a>(&'a Shared, Option<Result<(), RepoError>>);

impl Drop for Outcome<'_> {
    fn drop(&mut self) {
        self.0.held().settled = match self.1.take() {
            Some(Ok(())) => Settled::Alone,
            Some(Err(error)) => Settled::Failed(error),
            None => Settled::Failed(RepoError::WriterFailed(
                "the look for other locks was broken off".into(),
            )),
        };
        self.0.looked.notify_all();
    }
}

impl Fence for Shared {
    fn closed(&self) -> Option<String> {
        self.ensure().err().map(|error| chain(&error))
    }
}

impl Held {
    fn age(&self) -> Duration {
        age_of(self.refreshed, now(), self.refreshed_at.elapsed())
    }
}

/// Time since a refresh: the longer of what two clocks say. The wall's counts a standby, the other goes on when the
/// wall's is set back, and then others would call the lock stale while its holder thought it fresh.
fn age_of(refreshed: Timestamp, now: Timestamp, elapsed: Duration) -> Duration {
    let nanoseconds = now.unix_nanoseconds() - refreshed.unix_nanoseconds();
    let on_the_wall = Duration::from_nanos(u64::try_from(nanoseconds.max(0)).unwrap_or(u64::MAX));
    on_the_wall.max(elapsed)
}

fn exists(repository: &Repository, id: Id) -> Result<bool, RepoError> {
    Ok(repository.ids(FileKind::Lock)?.contains(&id))
}

/// Writes a lock file of now. One that may have been written although that failed is removed again: nobody would
/// refresh it, and until it is stale it would keep others waiting.
fn write(repository: &Repository, lock: &Lock) -> Result<(Id, Timestamp), RepoError> {
    let time = now();
    let json = Lock {
        time,
        ..lock.clone()
    }
    .to_json();
    let (id, sealed) = repository.seal_json(FileKind::Lock, &json)?;
    let saved = repository
        .backend()
        .save(FileName::new(FileKind::Lock, id), &[&sealed]);
    if let Err(error) = saved {
        remove_quietly(repository, id);
        return Err(error.into());
    }
    Ok((id, time))
}

/// Removes a lock file; one that can't be removed becomes stale by itself.
fn remove_quietly(repository: &Repository, id: Id) {
    let _ = repository
        .backend()
        .remove(FileName::new(FileKind::Lock, id));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_standby_nor_a_clock_set_back_hides_the_age_of_a_lock() {
        let refreshed = Timestamp::utc(10_000, 0);
        let minute = Duration::from_secs(60);
        let at = |seconds, elapsed| age_of(refreshed, Timestamp::utc(seconds, 0), elapsed);
        assert_eq!(at(10_060, minute), minute);
        assert_eq!(at(13_600, Duration::ZERO), 60 * minute, "a standby");
        assert_eq!(at(6_400, minute), minute, "the clock was set back");
    }
}
