//! A last look at what a new snapshot relies on, before it is written.
//! It must never take a failed listing for proof that something is there or gone.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use lifeboat_format::Id;

use crate::backend::FileKind;
use crate::{Index, RepoError, Repository};

impl Repository {
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
