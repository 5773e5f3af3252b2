//! Stops a piece of work at each of its backend operations, to look at what it leaves behind.
//! It must never leave a point out in silence: a sample is taken only when asked for, and says its seed.

use std::fmt;

use lifeboat_repo::backend::Backend;

use crate::faults::{Fault, FaultPlan, FaultyBackend, Verb};
use crate::random::Random;
use crate::replay::Note;

/// Where the work was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashPoint {
    /// Number of the backend operation, from 0.
    pub operation: u64,
    /// Whether that operation had done its work.
    pub after: bool,
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = if self.after { "after" } else { "before" };
        write!(f, "stopped {when} backend operation {}", self.operation)
    }
}

/// Which points to stop at.
#[derive(Clone, Copy, Debug)]
pub struct CrashPoints {
    sample: Option<(u64, usize)>,
}

impl CrashPoints {
    /// All of them: before each operation, and after each that writes.
    #[must_use]
    pub fn all() -> Self {
        Self { sample: None }
    }

    /// So many, chosen by a seed. `LIFEBOAT_SOAK` in the environment means all.
    #[must_use]
    pub fn sampled(seed: u64, count: usize) -> Self {
        let soak = std::env::var_os("LIFEBOAT_SOAK").is_some();
        Self {
            sample: (!soak).then_some((seed, count)),
        }
    }

    /// Runs `work` on a new backend of `make`, first to its end, then stopped at each point; each time `check` gets what
    /// is left, without faults, and what `work` returned (which is what it believes to have done). The point is
    /// `None` for the run to its end. Returns the number of points.
    ///
    /// # Panics
    /// If `work` or `check` do; the point is named.
    pub fn run<B: Backend + Clone, T>(
        self,
        mut make: impl FnMut() -> B,
        mut work: impl FnMut(FaultyBackend<B>) -> T,
        mut check: impl FnMut(&B, Option<CrashPoint>, T),
    ) -> usize {
        let backend = FaultyBackend::recording(make());
        let done = work(backend.clone());
        check(backend.inner(), None, done);

        let mut points = Vec::new();
        for operation in backend.log() {
            points.push(CrashPoint {
                operation: operation.number,
                after: false,
            });
            // Stopped after a read is the same as stopped before what comes next.
            if operation.verb.writes() && operation.verb != Verb::Create {
                points.push(CrashPoint {
                    operation: operation.number,
                    after: true,
                });
            }
        }
        let _seed = self.sample.map(|(seed, count)| {
            points = sample(points.as_slice(), seed, count);
            Note::seed(seed)
        });

        for point in &points {
            let _point = Note::new(point.to_string());
            let fault = if point.after {
                Fault::CrashAfter
            } else {
                Fault::CrashBefore
            };
            let backend = FaultyBackend::new(make(), FaultPlan::at(point.operation, fault));
            let done = work(backend.clone());
            check(backend.inner(), Some(*point), done);
        }
        points.len()
    }
}

fn sample(points: &[CrashPoint], seed: u64, count: usize) -> Vec<CrashPoint> {
    let mut random = Random::new(seed);
    let mut left = points.to_vec();
    let mut chosen = Vec::new();
    while chosen.len() < count && !left.is_empty() {
        chosen.push(left.swap_remove(random.index(left.len())));
    }
    chosen.sort_by_key(|point| (point.operation, point.after));
    chosen
}

#[cfg(test)]
mod tests {
    use lifeboat_format::Id;
    use lifeboat_repo::backend::{FileKind, FileName, MemoryBackend};

    use super::*;

    #[test]
    fn every_operation_is_a_point() {
        let make = || {
            let memory = MemoryBackend::new();
            memory.create().unwrap();
            memory
        };
        let work = |backend: FaultyBackend<MemoryBackend>| {
            (0..3u8)
                .take_while(|byte| {
                    let name = FileName::new(FileKind::Pack, Id([*byte; 32]));
                    backend.save(name, &[b"x"]).is_ok() && backend.size(name).is_ok()
                })
                .count()
        };
        let mut seen = Vec::new();
        let points = CrashPoints::all().run(make, work, |left, point, done| {
            let files = left.files().len();
            assert!(
                files >= done && files <= done + 1,
                "{point:?}: {files} {done}"
            );
            seen.push((files, done));
        });
        assert_eq!(points, 9, "three saves with two points each, three sizes");
        assert_eq!(
            seen,
            [
                (3, 3),
                (0, 0),
                (1, 0),
                (1, 0),
                (1, 1),
                (2, 1),
                (2, 1),
                (2, 2),
                (3, 2),
                (3, 2)
            ]
        );
        let few = sample(
            &[CrashPoint {
                operation: 0,
                after: false,
            }; 9],
            1,
            4,
        );
        assert_eq!(few.len(), 4);
    }
}
