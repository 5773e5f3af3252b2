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

/// How often what seems damaged is read before that is believed: what is given up then is gone.
const SURE_TRIES: usize = 4;

/// Does what says that something is damaged a few times more: what a network or a memory garbled now and then is not lost.
fn sure<T>(mut work: impl FnMut() -> Result<T, RepoError>) -> Result<T, RepoError> {
    let mut done = work();
    for _ in 1..SURE_TRIES {
        match done {
            Err(error) if error.is_damage() => done = work(),
            _ => break,
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_believed_when_it_is_found_each_time() {
        let damage = || RepoError::BlobUnknown {
            kind: lifeboat_format::BlobKind::Tree,
            id: lifeboat_format::Id::default(),
        };
        for good_at in 1..=SURE_TRIES + 1 {
            let mut tries = 0;
            let done = sure(|| {
                tries += 1;
                if tries == good_at {
                    Ok(())
                } else {
                    Err(damage())
                }
            });
            assert_eq!(done.is_ok(), good_at <= SURE_TRIES);
            assert_eq!(tries, good_at.min(SURE_TRIES));
        }
        let mut tries = 0;
        let refused = || RepoError::Refused(String::new());
        let done = sure::<()>(|| {
            tries += 1;
            Err(refused())
        });
        assert!(
            done.is_err() && tries == 1,
            "what is no damage is told at once"
        );
    }
}
