//! The one executor of plans: backs members up, restores them, and is the only place where repository and state meet.
//! It must never decide what a plan has left open, and never print.

mod backup;
mod below;
mod files_capture;
mod fleet;
mod fleet_run;
mod graft;
mod grown_tree;
mod intake;
mod mount;
mod node;
mod point;
pub mod postgres;
mod record;
mod restore;
mod small_tree;

pub use backup::{
    Amount, Backup, BackupOptions, BackupOutcome, ChangeRule, ChangedPaths, Parent, ProtectError,
    TreeOutcome,
};
pub use below::Below;
pub use files_capture::{DATA_DIR, FilesCapture, FilesCaptured, files_record_of};
pub use fleet::{FLEET_VERSION, Fleet, FleetError};
pub use fleet_run::{
    FleetDone, FleetRun, Outside, OutsideError, RunEvents, StepDone, StepResult, Store,
};
pub use mount::{MountError, MountOptions, check_place, mount};
pub use node::{entry_of, node_of};
pub use point::{
    CLOCK_SLACK, OWN_TAG, PointFailure, PointWriter, newest_point, path_of, point_of, tags_of,
};
pub use restore::{
    Overwrite, Restore, RestoreOptions, RestoreOutcome, SelectPath, Selected, subfolder,
};
