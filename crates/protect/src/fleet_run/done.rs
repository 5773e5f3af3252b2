//! What became of a run: each step with its result.
//! It must never count a step as done that left something out.

use std::time::Duration;

use lifeboat_flow::Timestamp;
use lifeboat_format::Id;
use lifeboat_plan::Flag;

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct FleetDone {
    /// Each step.
    pub steps: Vec<StepDone>,
    /// What failed besides, and belongs to no step: recovery points, hooks after captures.
    pub troubles: Vec<String>,
}

/// One member and one repository.
#[derive(Clone, Debug)]
pub struct StepDone {
    /// The app.
    pub app: String,
    /// The member.
    pub member: String,
    /// The repository.
    pub repository: String,
    /// What came of it.
    pub result: StepResult,
    /// How long it took.
    pub took: Duration,
}

/// What came of a step.
#[derive(Clone, Debug)]
pub enum StepResult {
    /// A capture was made.
    Captured {
        /// Its snapshot; none for a dry run.
        snapshot: Option<Id>,
        /// The instant that comes back.
        instant: Timestamp,
        /// What it holds, in bytes.
        bytes: u64,
        /// What was stored for it, in bytes.
        stored_bytes: u64,
        /// Faults in it: what could not be read, pages that are damaged.
        faults: u64,
        /// What is suspicious about it.
        flag: Option<Flag>,
    },
    /// Captures were copied.
    Copied {
        /// So many snapshots.
        snapshots: u64,
        /// What was stored for them, in bytes.
        stored_bytes: u64,
    },
    /// It failed.
    Failed(String),
}

impl StepDone {
    pub(super) fn failed(app: &str, member: &str, repository: &str, why: &str) -> Self {
        Self {
            app: app.to_owned(),
            member: member.to_owned(),
            repository: repository.to_owned(),
            result: StepResult::Failed(why.to_owned()),
            took: Duration::ZERO,
        }
    }
}

impl FleetDone {
    /// Steps that failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        let is_failed = |step: &&StepDone| matches!(step.result, StepResult::Failed(_));
        self.steps.iter().filter(is_failed).count()
    }

    /// Faults of captures that were made.
    #[must_use]
    pub fn faults(&self) -> u64 {
        let faults = self.steps.iter().map(|step| match step.result {
            StepResult::Captured { faults, .. } => faults,
            StepResult::Copied { .. } | StepResult::Failed(_) => 0,
        });
        faults.sum()
    }
}
