//! Captures of PostgreSQL and their way back: what `state` reads and writes joined with what `repo` keeps.
//! It must never acknowledge a capture that can't be recovered by itself.

mod archive;
mod capture;
mod early;
mod gather;
mod log_file;
mod logical;
mod look_ahead;
mod parts;
mod reception;
mod remote;
mod restore;
mod restore_plan;
mod round_trip;
mod stream;
mod verify;
mod waiting;

pub use archive::expiry::{
    Captured, Expired, ExpiryError, add_logs, captured, expire, naming_points,
};
pub use archive::fold::{Fold, FoldError, Folded};
pub use archive::{Archive, ArchiveError, Fetched, Holdings};
pub use capture::{Capture, CaptureError, CaptureOutcome, CaptureStage};
pub use log_file::{LogFile, LogFileError, ReadLogFile, own_file};
pub use logical::{
    DumpCapture, DumpCaptureError, DumpCaptureOutcome, DumpPlan, DumpPlanError, DumpRequest,
    DumpRestore, DumpRestoreError, DumpRestored, DumpStep, DumpVerification, globals_of,
    plan_dumps,
};
pub use look_ahead::LookAhead;
pub use parts::{member_of, record_of, subtree};
pub use restore::{ClusterRestore, ClusterRestoreError, ClusterRestored};
pub use restore_plan::{
    ClusterPlan, ClusterPlanError, ClusterTarget, Found, Link, Step, Written, plan,
};
pub use round_trip::{RoundTrip, RoundTripError, round_trip};
pub use stream::{LogReceiver, StreamEnd, StreamError, StreamEvent};
pub use verify::Verification;
pub use waiting::{QueueLimit, WhenFull, waiting, waiting_bytes};
