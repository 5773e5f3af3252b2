//! Proof that a captured cluster comes back: a real server of ours recovers a scratch copy, and it is looked at.
//! It must never reach the live cluster, nor let what was restored reach anything outside the scratch.

mod amcheck;
mod baseline;
mod check;
mod fresh;
mod holder;
mod lasting;
mod measure;
mod pages;
mod preload;
mod programs;
mod recovery_end;
mod scratch;
mod server_log;
mod settings;
mod verdict;
mod verification;

pub use baseline::{
    Baseline, Closeness, DatabaseBaseline, ExtensionBaseline, Rows, Skipped, TableBaseline,
};
pub use check::{Check, Found};
pub use fresh::{FreshError, make_cluster};
pub(in crate::postgres) use measure::{Asked, of_connection};
pub use measure::{EXACT_UP_TO_BYTES, measure};
pub use preload::Preload;
pub(in crate::postgres) use preload::names as names_in_list;
pub use programs::{Programs, ProgramsError, major_of};
pub(in crate::postgres) use programs::{known_dirs, listed, version_of};
pub use recovery_end::{Progress, Recovered, WaitError};
pub use scratch::{ScratchError, ScratchOptions, ScratchServer};
pub use server_log::is_not_of_the_capture;
pub use verdict::{Proof, Report, Verdict};
pub use verification::{Request, verify};
