//! Repairs: the index from what is there, packs from what is good in them, snapshots without what is lost.
//! They must never remove anything before what replaces it is stored, nor take what is out of reach for lost.

mod index;
mod losses;
mod lost;
mod packs;
mod snapshots;

use crate::RepoError;

pub(crate) use index::PackFacts;
pub use index::{IndexFacts, IndexPlan};
pub use losses::Losses;
pub use lost::{LostUse, users_of_lost};
pub use packs::{KeepPack, OtherRepository, PackPlan, PacksPlan, PacksRepaired};
pub use snapshots::{
    Loss, LossKind, RepairedSnapshot, SnapshotPlan, SnapshotVerdict, SnapshotsRepair,
};

/// Does what says that something is damaged once more: what a network or a memory garbled once is not lost.
fn sure<T>(mut work: impl FnMut() -> Result<T, RepoError>) -> Result<T, RepoError> {
    match work() {
        Err(error) if error.is_damage() => work(),
        other => other,
    }
}
