//! Logical captures in a repository: taken, planned back, restored, and proven on a server of our own.
//! It must never let a database have its name before all of it is there.

mod capture;
mod plan;
mod pour;
mod restore;
mod verify;

pub use capture::{DumpCapture, DumpCaptureError, DumpCaptureOutcome};
pub use plan::{DumpPlan, DumpPlanError, DumpRequest, DumpStep, plan_dumps};
pub use restore::{DumpRestore, DumpRestoreError, DumpRestored, globals_of};
pub use verify::DumpVerification;
