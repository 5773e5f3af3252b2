//! Work that is done before somebody asks for it: what is planned, what is being done, and what came of it.
//! It must never keep what failed, hold a result for longer than it is good for, or let who asks wait for what nobody does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How a piece of work is done; `None` if it failed.
type Work<K, V> = Box<dyn Fn(&K) -> Option<V> + Send + Sync>;

/// Work that is done early, by name.
pub(super) struct Early<K, V> {
    work: Work<K, V>,
    at_once: usize,
    max_age: Duration,
    state: Mutex<State<K, V>>,
    changed: Condvar,
}

struct State<K, V> {
    planned: VecDeque<K>,
    known: BTreeMap<K, Known<V>>,
    workers: usize,
}

impl<K: Ord, V> State<K, V> {
    fn forget_old(&mut self, max_age: Duration) {
        self.known
            .retain(|_, known| !matches!(known, Known::Done(_, at) if at.elapsed() >= max_age));
    }
}

enum Known<V> {
    Running,
    Done(V, Instant),
}

impl<K: Clone + Ord + Send + 'static, V: Send + 'static> Early<K, V> {
    /// Work that so many threads do at once, and whose results are good for so long.
    pub(super) fn new(
        at_once: usize,
        max_age: Duration,
        work: impl Fn(&K) -> Option<V> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            work: Box::new(work),
            at_once,
            max_age,
            state: Mutex::new(State {
                planned: VecDeque::new(),
                known: BTreeMap::new(),
                workers: 0,
            }),
            changed: Condvar::new(),
        })
    }

    /// What came of a piece of work, which is forgotten; `None` if the one who asks has to do it himself. Waits while it is
    /// being done.
    pub(super) fn take(&self, key: &K) -> Option<V> {
        let mut state = self.state();
        while matches!(state.known.get(key), Some(Known::Running)) {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.planned.retain(|planned| planned != key);
        match state.known.remove(key) {
            Some(Known::Done(value, at)) if at.elapsed() < self.max_age => Some(value),
            _ => None,
        }
    }

    /// How many pieces are planned, being done, or wait to be taken; what got too old is forgotten.
    pub(super) fn count(&self) -> usize {
        let mut state = self.state();
        state.forget_old(self.max_age);
        state.planned.len() + state.known.len()
    }

    /// Whether a piece is planned, being done, or done.
    pub(super) fn knows(&self, key: &K) -> bool {
        let state = self.state();
        state.known.contains_key(key) || state.planned.contains(key)
    }

    /// Whether anything is being done.
    pub(super) fn is_busy(&self) -> bool {
        self.state().workers > 0
    }

    /// Has these done, in this order.
    pub(super) fn plan(self: &Arc<Self>, keys: Vec<K>) {
        let mut state = self.state();
        state.forget_old(self.max_age);
        for key in keys {
            if !state.known.contains_key(&key) && !state.planned.contains(&key) {
                state.planned.push_back(key);
            }
        }
        let is_running = |known: &&Known<V>| matches!(known, Known::Running);
        let running = state.known.values().filter(is_running).count();
        let wanted = self.at_once.min(running + state.planned.len());
        while state.workers < wanted {
            let early = Arc::clone(self);
            let worker = std::thread::Builder::new().name("ahead".into());
            if worker.spawn(move || early.work_off()).is_err() {
                // Without a thread nothing is done early.
                state.planned.clear();
                return;
            }
            state.workers += 1;
        }
    }

    fn work_off(&self) {
        let mut worker = Worker(Some(self));
        while let Some(mut turn) = self.next(&mut worker) {
            let value = (self.work)(&turn.key);
            turn.value = value;
        }
    }

    /// The next piece. A worker that finds none is counted out in the same moment: what is planned right after it needs
    /// another.
    fn next(&self, worker: &mut Worker<'_, K, V>) -> Option<Turn<'_, K, V>> {
        let mut state = self.state();
        let Some(key) = state.planned.pop_front() else {
            state.workers -= 1;
            worker.0 = None;
            return None;
        };
        state.known.insert(key.clone(), Known::Running);
        Some(Turn {
            early: self,
            key,
            value: None,
        })
    }
}

impl<K: Ord, V> Early<K, V> {
    fn state(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that works; it is counted out also when its work panics.
struct Worker<'a, K: Ord, V>(Option<&'a Early<K, V>>);

impl<K: Ord, V> Drop for Worker<'_, K, V> {
    fn drop(&mut self) {
        if let Some(early) = self.0 {
            early.state().workers -= 1;
        }
    }
}

/// A piece that is being done: whoever waits for it is woken in any case.
struct Turn<'a, K: Ord, V> {
    early: &'a Early<K, V>,
    key: K,
    value: Option<V>,
}

impl<K: Ord, V> Drop for Turn<'_, K, V> {
    fn drop(&mut self) {
        let mut state = self.early.state();
        match (state.known.get_mut(&self.key), self.value.take()) {
            (Some(known), Some(value)) => *known = Known::Done(value, Instant::now()),
            _ => drop(state.known.remove(&self.key)),
        }
        self.early.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn settled<V: Send + 'static>(early: &Arc<Early<u32, V>>) {
        lifeboat_testkit::wait::until("the work ended", || !early.is_busy());
    }

    #[test]
    fn what_was_done_is_given_once() {
        let early = Early::new(2, LONG, |number: &u32| Some(number * 2));
        early.plan(vec![1, 2, 3, 2]);
        settled(&early);
        assert_eq!((early.count(), early.knows(&3)), (3, true));
        assert_eq!((early.take(&2), early.take(&2)), (Some(4), None));
        assert_eq!(early.count(), 2);
    }

    #[test]
    fn who_asks_waits_for_what_is_being_done_and_for_nothing_else() {
        let (go, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let early = Early::new(1, LONG, move |number: &u32| {
            gate.lock().unwrap().recv().ok()?;
            Some(*number)
        });
        early.plan(vec![1, 2]);
        lifeboat_testkit::wait::until("the first is being done", || {
            early.state().planned.len() == 1
        });
        assert_eq!(early.take(&2), None, "who asks does it himself");
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| early.take(&1));
            go.send(()).unwrap();
            assert_eq!(asked.join().unwrap(), Some(1));
        });
        settled(&early);
        assert_eq!(early.count(), 0);
    }

    #[test]
    fn what_failed_or_got_old_is_forgotten() {
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = tries.clone();
        let early = Early::new(1, LONG, move |number: &u32| {
            counted.fetch_add(1, Ordering::SeqCst);
            assert!(*number != 2, "this work panics");
            (*number != 1).then_some(())
        });
        for round in 1..=2 {
            early.plan(vec![1]);
            settled(&early);
            assert_eq!((early.count(), tries.load(Ordering::SeqCst)), (0, round));
        }
        early.plan(vec![2]);
        settled(&early);
        assert_eq!((early.count(), early.take(&2)), (0, None));
        let old = Early::new(1, Duration::ZERO, |_: &u32| Some(()));
        old.plan(vec![1]);
        settled(&old);
        assert_eq!(old.take(&1), None);
        old.plan(vec![3]);
        settled(&old);
        assert_eq!(old.count(), 0);
    }
}
