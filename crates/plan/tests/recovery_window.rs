//! Retention by a window over random lives of a database: clusters, timelines, recoveries to the past, damaged captures.
//! What is restorable in the window must never become less by what goes, as a model tells that knows the whole life.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_format::{Id, Timestamp};
use lifeboat_plan::{
    ClusterCapture, Fork, StayReason, Window, WindowFacts, WindowPlan, WindowStep, keep_window,
};
use lifeboat_testkit::random::Random;
use proptest::prelude::*;

const SEGMENT: u64 = 16 << 20;
const WINDOW_SECONDS: i64 = 30;

/// The state of the database at a second.
#[derive(Clone, Copy, Debug)]
struct State {
    system: u64,
    timeline: u32,
    position: u64,
}

/// The whole life, and what is left in the repository of it.
struct Life {
    random: Random,
    now: i64,
    states: BTreeMap<i64, State>,
    forks: BTreeMap<u64, BTreeMap<u32, Vec<Fork>>>,
    all_captures: Vec<ClusterCapture>,
    all_log: BTreeSet<(u64, String)>,
    captures: Vec<ClusterCapture>,
    log: BTreeSet<(u64, String)>,
}

fn name(timeline: u32, number: u64) -> String {
    format!("{timeline:08X}{:08X}{:08X}", number / 256, number % 256)
}

impl Life {
    fn new(seed: u64) -> Self {
        let state = State {
            system: 1,
            timeline: 1,
            position: SEGMENT,
        };
        let mut life = Self {
            random: Random::new(seed),
            now: 0,
            states: [(0, state)].into(),
            forks: BTreeMap::new(),
            all_captures: Vec::new(),
            all_log: BTreeSet::new(),
            captures: Vec::new(),
            log: BTreeSet::new(),
        };
        life.archive(state.position, state);
        life
    }

    fn archive(&mut self, from: u64, state: State) {
        for number in from / SEGMENT..=state.position / SEGMENT {
            let file = (state.system, name(state.timeline, number));
            self.log.insert(file.clone());
            self.all_log.insert(file);
        }
    }

    fn pass(&mut self) {
        let mut state = self.states[&self.now];
        self.now += 1;
        match self.random.below(40) {
            // A major upgrade, or a new cluster in its place.
            0 => {
                state = State {
                    system: state.system + 1,
                    timeline: 1,
                    position: SEGMENT,
                };
                self.archive(state.position, state);
            }
            // A recovery to an instant of the window, from what is left.
            1 | 2 => {
                let back = i64::try_from(self.random.below(WINDOW_SECONDS as u64)).unwrap();
                if let Some(to) = self.states.get(&(self.now - 1 - back)).copied()
                    && to.system == state.system
                    && self.restorable(self.now - 1 - back, &self.captures, &self.log)
                {
                    let of_system = self.forks.entry(to.system).or_default();
                    let timeline = of_system.keys().max().copied().unwrap_or(1) + 1;
                    let mut past = of_system.get(&to.timeline).cloned().unwrap_or_default();
                    past.push(Fork {
                        timeline: to.timeline,
                        at: to.position,
                    });
                    of_system.insert(timeline, past);
                    state = State { timeline, ..to };
                    self.archive(state.position, state);
                }
            }
            3..=9 => self.capture(state),
            _ => {}
        }
        let from = state.position;
        state.position += self.random.below(3 * SEGMENT);
        self.archive(from, state);
        self.states.insert(self.now, state);
    }

    fn capture(&mut self, state: State) {
        let number = u8::try_from(self.all_captures.len()).unwrap();
        let capture = ClusterCapture {
            id: Id([number; Id::BYTES]),
            tree: Id::default(),
            completed: Timestamp::utc(self.now - 1, 0),
            system: state.system,
            timeline: state.timeline,
            start: state
                .position
                .saturating_sub(self.random.below(2 * SEGMENT)),
            stop: state.position,
            segment_bytes: SEGMENT,
            is_damaged: self.random.chance(15),
            fleet: None,
        };
        self.all_captures.push(capture.clone());
        self.captures.push(capture);
    }

    /// Whether the state of a second comes back from these captures and this log.
    fn restorable(
        &self,
        at: i64,
        captures: &[ClusterCapture],
        log: &BTreeSet<(u64, String)>,
    ) -> bool {
        let Some(state) = self.states.get(&at) else {
            return false;
        };
        let forks = self.forks.get(&state.system);
        let past = forks.and_then(|forks| forks.get(&state.timeline));
        // The timelines on the way to it, each with its end.
        let mut way: Vec<(u32, u64)> = past
            .into_iter()
            .flatten()
            .map(|fork| (fork.timeline, fork.at))
            .collect();
        way.push((state.timeline, state.position));
        let comes_there = |capture: &ClusterCapture| {
            let begins = way
                .iter()
                .position(|(timeline, end)| capture.timeline == *timeline && capture.stop <= *end);
            let Some(begins) = begins else {
                return false;
            };
            // The capture holds its own log up to the end of a segment.
            let mut next = (capture.stop - 1) / SEGMENT + 1;
            way[begins..]
                .iter()
                .enumerate()
                .all(|(number, (timeline, end))| {
                    let is_last = begins + number + 1 == way.len();
                    // Where a timeline was left in a segment, the next one has that segment.
                    let last = if is_last {
                        end / SEGMENT + 1
                    } else {
                        end / SEGMENT
                    };
                    let mut needed = next..last;
                    next = next.max(last);
                    needed.all(|number| log.contains(&(state.system, name(*timeline, number))))
                })
        };
        captures.iter().any(|capture| {
            !capture.is_damaged
                && capture.system == state.system
                && capture.completed <= Timestamp::utc(at, 0)
                && comes_there(capture)
        })
    }

    fn plan(&self) -> WindowPlan {
        let mut logs: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for (system, name) in &self.log {
            let path = format!("{}/{name}", &name[..8]);
            logs.entry(*system).or_default().push(path);
        }
        let facts = WindowFacts {
            captures: self.captures.clone(),
            logs,
            forks: self.forks.clone(),
            ..WindowFacts::default()
        };
        let window: Window = format!("{WINDOW_SECONDS}s").parse().unwrap();
        keep_window(facts, window, Timestamp::utc(self.now, 0))
    }

    fn apply(&mut self, step: &WindowStep<'_>) {
        match step {
            WindowStep::Snapshot(id) => self.captures.retain(|capture| capture.id != *id),
            WindowStep::Log(system, path) => {
                let name = path.rsplit('/').next().unwrap().to_owned();
                assert!(self.log.remove(&(*system, name)));
            }
        }
    }

    /// Everything in the window comes back that would if nothing had ever gone.
    fn check(&self) -> Result<(), TestCaseError> {
        for at in (self.now - WINDOW_SECONDS).max(0)..=self.now {
            let was = self.restorable(at, &self.all_captures, &self.all_log);
            let is = self.restorable(at, &self.captures, &self.log);
            prop_assert!(is || !was, "{} of {}: {:?}", at, self.now, self.states[&at]);
        }
        let newest = |captures: &[ClusterCapture]| {
            let good = captures.iter().filter(|capture| !capture.is_damaged);
            good.max_by_key(|capture| (capture.completed, capture.id))
                .map(|capture| capture.id)
        };
        prop_assert_eq!(newest(&self.captures), newest(&self.all_captures));
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_instant_of_the_window_comes_back(seed: u64) {
        let mut life = Life::new(seed);
        let mut went = 0;
        while life.now < 200 {
            life.pass();
            if life.random.chance(20) {
                let plan = life.plan();
                let steps = plan.steps();
                // Broken off anywhere, and begun again.
                let stop = life.random.index(steps.len() + 1);
                for step in &steps[..stop] {
                    life.apply(step);
                }
                life.check()?;
                let again = life.plan();
                let left: Vec<_> = again.steps();
                prop_assert_eq!(&left[..], &steps[stop..]);
                for step in &left {
                    life.apply(step);
                }
                went += steps.len();
                prop_assert!(life.plan().steps().is_empty());
                life.check()?;
            }
        }
        // The window is short against the life: what is older goes, but for what something still needs.
        let plan = life.plan();
        let is_old = plan.keep.iter().filter(|(_, reason)| {
            !matches!(reason, StayReason::Within | StayReason::Future)
        });
        prop_assert!(plan.frozen.is_some() || is_old.count() <= 1 + life.forks.len() + life.all_captures.len() / 2);
        prop_assert!(went > 0 || plan.frozen.is_some() || life.all_captures.len() < 8);
    }
}
