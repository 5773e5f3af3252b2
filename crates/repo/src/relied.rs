//! A last look at what a new snapshot relies on, before it is written.
//! It must never take a failed listing for proof that something is there or gone.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use lifeboat_format::{Id, Snapshot};

use crate::backend::{FileKind, FileName};
use crate::{Index, LockGuard, RepoError, Repository};

impl Repository {
    /// Fails if a file is there that a listing lacks: then that listing is not whole, and nothing may be given up by it.
    pub(crate) fn refuse_if_there(&self, name: FileName) -> Result<(), RepoError> {
        match self.backend().size(name) {
            Err(error) if error.is_missing() => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => Err(RepoError::Refused(format!(
                "{name} is there, and a listing of {} lacks it: nothing is removed by a listing that is not whole",
                self.backend().location()
            ))),
        }
    }

    /// Looks once more for every pack that was relied on or stored since the index was loaded: another program may have
    /// pruned without a lock. To be asked right before a snapshot is written.
    ///
    /// # Errors
    /// [`RepoError::PacksVanished`] if some are gone; others when the packs can't be listed.
    pub fn confirm_relied(&self, index: &RwLock<Index>) -> Result<(), RepoError> {
        let relied = index
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .relied_packs();
        let mut relied: HashSet<Id> = relied.into_iter().collect();
        if relied.is_empty() {
            return Ok(());
        }
        self.backend().list(FileKind::Pack, &mut |id, _| {
            relied.remove(&id);
        })?;
        // A listing may be late with what was stored a moment ago; the pack itself is not.
        let mut relied: Vec<Id> = relied.into_iter().collect();
        relied.sort();
        for first in &relied {
            match self.backend().size(FileName::new(FileKind::Pack, *first)) {
                Ok(_) => {}
                Err(error) if error.is_missing() => {
                    return Err(RepoError::PacksVanished {
                        count: relied.len(),
                        first: *first,
                        location: self.backend().location(),
                    });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Writes a snapshot whose packs are there: the lock is asked before and after. One that appeared when the lock did
    /// not hold any more is removed again, because whoever prunes may not have seen it.
    ///
    /// # Errors
    /// When the snapshot can't be written, or the lock is lost: then nothing was acknowledged.
    pub fn save_snapshot_under(
        &self,
        lock: Option<&LockGuard>,
        snapshot: &Snapshot,
    ) -> Result<Id, RepoError> {
        let Some(lock) = lock else {
            return self.save_snapshot(snapshot);
        };
        lock.ensure()?;
        let id = self.save_snapshot(snapshot)?;
        if let Err(lost) = lock.ensure() {
            // Its own file, of which nobody was told, may go without a lock. If it stays, `check` says whether it is whole.
            self.backend().fence(None);
            let _ = self.remove_snapshot(id);
            return Err(lost);
        }
        Ok(id)
    }
}
