//! A backend that tries again what may pass by itself: it waits, longer each time, says so, and gives up in the end.
//! It must never repeat what can't succeed, show a file of a listing twice, or let a lock wait longer than it lasts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use jiff::Zoned;
use lifeboat_flow::{Cancel, Event, EventSink, chain};
use lifeboat_format::Id;

use super::{
    Backend, BackendError, Creation, Destroyed, Fence, FileKind, FileName, ListingDelay, LogName,
    Trouble,
};

/// Doublings of the first wait after which it surely is the longest.
const DOUBLINGS_MAX: u32 = 20;

/// How long and how often to try again.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Longest first wait; a wait is drawn between nothing and its longest, so that many clients do not come back at once.
    pub wait_first: Duration,
    /// Longest wait; until then each is up to twice as long as the one before.
    pub wait_max: Duration,
    /// Longest wait that a server can ask for.
    pub retry_after_max: Duration,
    /// Time after which trying ends: of one request, or since anything last succeeded.
    pub total: Duration,
    /// The same for a lock file. It is far shorter than a lock's life without a refresh, because the refresh must be able
    /// to begin anew with what is true then.
    pub lock_total: Duration,
    /// The same while the server never answered at all: most likely its name is wrong.
    pub unreachable_total: Duration,
    /// The same, of all requests together, after somebody wished to stop: locks should still be given back.
    pub parting_total: Duration,
    /// Nothing is said of waits before a request was tried so often.
    pub quiet_tries: u32,
    /// Between two messages about one outage.
    pub note_interval: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            wait_first: Duration::from_millis(500),
            wait_max: Duration::from_secs(60),
            retry_after_max: Duration::from_secs(5 * 60),
            total: Duration::from_secs(15 * 60),
            lock_total: Duration::from_secs(2 * 60),
            unreachable_total: Duration::from_secs(20),
            parting_total: Duration::from_secs(10),
            quiet_tries: 2,
            note_interval: Duration::from_secs(30),
        }
    }
}

/// A time in which nothing succeeds.
#[derive(Clone, Copy)]
struct Outage {
    since: Instant,
    last: Instant,
    told: Option<Instant>,
}

#[derive(Default)]
struct Shared {
    has_answered: bool,
    outage: Option<Outage>,
    /// When the wish to stop was first noticed.
    parting: Option<Instant>,
    /// Who knows whether writing is still safe.
    fence: Option<Weak<dyn Fence>>,
}

/// A backend that tries again what may pass by itself.
pub struct RetryingBackend {
    inner: Arc<dyn Backend>,
    policy: RetryPolicy,
    events: Arc<dyn EventSink>,
    cancel: Cancel,
    shared: Mutex<Shared>,
}

impl RetryingBackend {
    /// Tries again what `inner` could not do, and tells `events` when that takes long.
    #[must_use]
    pub fn new(
        inner: Arc<dyn Backend>,
        policy: RetryPolicy,
        events: Arc<dyn EventSink>,
        cancel: Cancel,
    ) -> Self {
        Self {
            inner,
            policy,
            events,
            cancel,
            shared: Mutex::default(),
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`retry`](Self::retry), for what changes a file: between two tries, and before the first, so much time may pass
    /// that others call the lock stale.
    fn change(
        &self,
        name: FileName,
        mut work: impl FnMut() -> Result<(), BackendError>,
    ) -> Result<(), BackendError> {
        self.retry(Some(name.kind), || match self.closed(name) {
            Some(why) => Err(BackendError::Fenced {
                name,
                location: self.inner.location(),
                why,
            }),
            None => work(),
        })
    }

    fn closed(&self, name: FileName) -> Option<String> {
        if name.kind == FileKind::Lock {
            return None;
        }
        let fence = self.shared().fence.as_ref().and_then(Weak::upgrade);
        fence?.closed()
    }

    fn retry<T>(
        &self,
        kind: Option<FileKind>,
        mut work: impl FnMut() -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        let began = Instant::now();
        let is_parting = self.cancel.is_cancelled();
        let mut tries = 0u32;
        loop {
            tries = tries.saturating_add(1);
            let error = match work() {
                Err(error) if error.is_transient() => error,
                done => {
                    self.answered();
                    return done;
                }
            };
            let (left, failing) = self.left(kind, &error, began, is_parting);
            if left.is_zero() {
                return Err(BackendError::GaveUp {
                    tries,
                    seconds: failing.as_secs(),
                    place_answers: tries > 1 && !is_parting && self.place_answers(&error),
                    cause: Box::new(error),
                });
            }
            let asked = error.retry_after().unwrap_or_default();
            let wait = self
                .drawn(tries)
                .max(asked.min(self.policy.retry_after_max));
            let wait = wait.min(left);
            self.tell(&error, tries, wait, left);
            if is_parting {
                std::thread::sleep(wait);
            } else {
                self.cancel.sleep(wait)?;
            }
        }
    }

    /// Whether only this request never succeeds: one file of many may be behind a broken disk of the server.
    fn place_answers(&self, error: &BackendError) -> bool {
        if error.trouble() == Some(Trouble::Unreachable) {
            return false;
        }
        let answers =
            !matches!(self.inner.size(FileName::CONFIG), Err(error) if error.is_transient());
        if answers {
            self.answered();
        }
        answers
    }

    /// How long this request may still be tried, and since when nothing succeeded.
    fn left(
        &self,
        kind: Option<FileKind>,
        error: &BackendError,
        began: Instant,
        is_parting: bool,
    ) -> (Duration, Duration) {
        let policy = &self.policy;
        let now = Instant::now();
        let mut shared = self.shared();
        let fresh = Outage {
            since: began,
            last: now,
            told: None,
        };
        // What failed long ago says nothing about now.
        let outage = shared
            .outage
            .filter(|outage| now - outage.last < policy.total)
            .unwrap_or(fresh);
        shared.outage = Some(Outage {
            last: now,
            ..outage
        });
        let mut total = match kind {
            Some(FileKind::Lock) => policy.lock_total,
            _ => policy.total,
        };
        if error.trouble() == Some(Trouble::Unreachable) && !shared.has_answered {
            total = total.min(policy.unreachable_total);
        }
        let failing = (now - began).max(now - outage.since);
        let mut left = total.saturating_sub(failing);
        if is_parting {
            let parted = *shared.parting.get_or_insert(began);
            left = left.min(policy.parting_total.saturating_sub(now - parted));
        }
        (left, failing)
    }

    /// A wait between nothing and the longest for this try.
    fn drawn(&self, tries: u32) -> Duration {
        let doublings = (tries - 1).min(DOUBLINGS_MAX);
        let longest = self.policy.wait_first.saturating_mul(1 << doublings);
        let longest = longest.min(self.policy.wait_max);
        // Without randomness all wait longest, which is only less polite.
        let share = getrandom::u32().unwrap_or(u32::MAX);
        longest.mul_f64(f64::from(share) / f64::from(u32::MAX))
    }

    fn tell(&self, error: &BackendError, tries: u32, wait: Duration, left: Duration) {
        let policy = &self.policy;
        if tries <= policy.quiet_tries && wait < policy.note_interval {
            return;
        }
        let now = Instant::now();
        {
            let mut shared = self.shared();
            let Some(outage) = &mut shared.outage else {
                return;
            };
            let is_due = outage
                .told
                .is_none_or(|told| now - told >= policy.note_interval);
            if !is_due {
                return;
            }
            outage.told = Some(now);
        }
        let seconds = wait.as_secs_f64().ceil();
        let end = Zoned::now().saturating_add(left).strftime("%H:%M:%S");
        self.events.event(Event::Note(format!(
            "{}; waiting {seconds} s, try {}, giving up at {end}",
            chain(error),
            tries + 1
        )));
    }

    /// Notes that the place is there, and says so if it was said that it is not.
    fn answered(&self) {
        let outage = {
            let mut shared = self.shared();
            shared.has_answered = true;
            shared.outage.take()
        };
        let Some(outage) = outage.filter(|outage| outage.told.is_some()) else {
            return;
        };
        self.events.event(Event::Note(format!(
            "{} answers again, after {} s",
            self.inner.location(),
            outage.since.elapsed().as_secs()
        )));
    }
}

impl Backend for RetryingBackend {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn listing_delay(&self) -> ListingDelay {
        self.inner.listing_delay()
    }

    fn fence(&self, fence: Option<Weak<dyn Fence>>) {
        self.shared().fence = fence;
    }

    fn connections(&self) -> usize {
        self.inner.connections()
    }

    fn create(&self) -> Result<(), BackendError> {
        self.retry(None, || self.inner.create())
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64)) -> Result<(), BackendError> {
        // A listing that failed may have shown a part, so nothing is passed on before one is complete.
        let mut found = self.retry(Some(kind), || {
            let mut found = Vec::new();
            self.inner
                .list(kind, &mut |id, size_bytes| found.push((id, size_bytes)))?;
            Ok(found)
        })?;
        // Some places name a file twice. Of two sizes the smaller one counts: what is too short is not relied upon.
        found.sort_unstable();
        found.dedup_by_key(|(id, _)| *id);
        for (id, size_bytes) in found {
            each(id, size_bytes);
        }
        Ok(())
    }

    fn size(&self, name: FileName) -> Result<u64, BackendError> {
        self.retry(Some(name.kind), || self.inner.size(name))
    }

    fn load(&self, name: FileName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        self.retry(Some(name.kind), || self.inner.load(name, limit_bytes))
    }

    fn load_at(
        &self,
        name: FileName,
        offset_bytes: u64,
        buf: &mut [u8],
    ) -> Result<(), BackendError> {
        self.retry(Some(name.kind), || {
            self.inner.load_at(name, offset_bytes, buf)
        })
    }

    fn save(&self, name: FileName, data: &[&[u8]]) -> Result<(), BackendError> {
        self.change(name, || self.inner.save(name, data))
    }

    fn remove(&self, name: FileName) -> Result<(), BackendError> {
        self.change(name, || self.inner.remove(name))
    }

    // A try whose answer was lost finds its own object: by contract that is no other's.
    fn log_create(&self, name: &LogName, data: &[&[u8]]) -> Result<Creation, BackendError> {
        self.retry(None, || self.inner.log_create(name, data))
    }

    fn log_load(&self, name: &LogName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        self.retry(None, || self.inner.log_load(name, limit_bytes))
    }

    fn log_list(
        &self,
        below: Option<&LogName>,
        each: &mut dyn FnMut(LogName, u64),
    ) -> Result<(), BackendError> {
        let mut found = self.retry(None, || {
            let mut found = Vec::new();
            self.inner.log_list(below, &mut |name, size_bytes| {
                found.push((name, size_bytes))
            })?;
            Ok(found)
        })?;
        found.sort_unstable();
        found.dedup_by(|(later, _), (first, _)| later == first);
        for (name, size_bytes) in found {
            each(name, size_bytes);
        }
        Ok(())
    }

    fn log_remove(&self, name: &LogName) -> Result<(), BackendError> {
        self.retry(None, || self.inner.log_remove(name))
    }

    fn load_tree_at(
        &self,
        name: FileName,
        offset_bytes: u64,
        buf: &mut [u8],
    ) -> Result<(), BackendError> {
        self.retry(Some(name.kind), || {
            self.inner.load_tree_at(name, offset_bytes, buf)
        })
    }

    fn remove_unfinished(&self, older_than: Duration) -> Result<u64, BackendError> {
        self.retry(None, || self.inner.remove_unfinished(older_than))
    }

    fn destroy(&self, name: FileName) -> Result<Destroyed, BackendError> {
        self.retry(Some(name.kind), || self.inner.destroy(name))
    }
}
