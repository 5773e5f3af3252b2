//! A last look at what a new snapshot relies on, before it is written.
//! It must never take a failed listing for proof that something is there or gone.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use lifeboat_format::Id;

use crate::backend::{FileKind, FileName};
use crate::{Index, RepoError, Repository};

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

    /// Looks once more for every pack that was relied on since the index was loaded: another program may have pruned
    /// without a lock. To be asked right before a snapshot is written.
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
        match relied.iter().min() {
            None => Ok(()),
            Some(first) => Err(RepoError::PacksVanished {
                count: relied.len(),
                first: *first,
                location: self.backend().location(),
            }),
        }
    }
}
