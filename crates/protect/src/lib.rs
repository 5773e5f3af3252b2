//! The one executor of plans: backs members up, restores them, and is the only place where repository and state meet.
//! It must never decide what a plan has left open, and never print.

mod backup;
mod graft;
mod grown_tree;
mod intake;
mod mount;
mod node;
pub mod postgres;
mod restore;

pub use backup::{
    Amount, Backup, BackupOptions, BackupOutcome, ChangeRule, ChangedPaths, Parent, ProtectError,
    TreeOutcome,
};
pub use mount::{MountError, MountOptions, check_place, mount};
pub use node::{entry_of, node_of};
pub use restore::{
    Overwrite, Restore, RestoreOptions, RestoreOutcome, SelectPath, Selected, subfolder,
};
