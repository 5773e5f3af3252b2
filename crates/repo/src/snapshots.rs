//! The snapshots of a repository: listed, read, written, removed.
//! It must never write a snapshot through here before what it names is stored: that is for its caller to have done.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use lifeboat_format::{Id, Snapshot};

use crate::backend::{FileKind, FileName};
use crate::{RepoError, Repository};

/// Snapshots by ID with what could not be read.
#[derive(Default)]
pub struct Snapshots {
    /// Those that could be read, oldest first.
    pub all: Vec<(Id, Snapshot)>,
    /// Those that could not.
    pub damaged: Vec<(Id, RepoError)>,
}

impl Repository {
    /// All snapshots, oldest first.
    ///
    /// # Errors
    /// When they can't be listed; single damaged ones are in the result.
    pub fn snapshots(&self) -> Result<Snapshots, RepoError> {
        self.snapshots_of(&self.ids(FileKind::Snapshot)?)
    }

    /// These snapshots, oldest first, without those that were forgotten meanwhile.
    ///
    /// # Errors
    /// When nothing can be read or, after one was missing, listed; single damaged ones are in the result.
    pub fn snapshots_of(&self, ids: &[Id]) -> Result<Snapshots, RepoError> {
        let (mut found, missing) = self.load_snapshots(ids)?;
        if !missing.is_empty() {
            // Forgotten since the listing; or listed and not to be found, as an object store does that lost a part. To
            // take the latter for forgotten would let a prune delete its data.
            let listed = self.ids(FileKind::Snapshot)?;
            let missing = missing.into_iter().map(|(id, _)| id);
            let still: Vec<Id> = missing
                .filter(|id| listed.binary_search(id).is_ok())
                .collect();
            let (again, missing) = self.load_snapshots(&still)?;
            found.all.extend(again.all);
            found.damaged.extend(again.damaged);
            found.damaged.extend(missing);
        }
        found
            .all
            .sort_by(|a, b| a.1.time.cmp(&b.1.time).then(a.0.cmp(&b.0)));
        found.damaged.sort_by_key(|(id, _)| *id);
        Ok(found)
    }

    /// These snapshots in no particular order, and apart those that are said to be missing.
    fn load_snapshots(&self, ids: &[Id]) -> Result<(Snapshots, Vec<(Id, RepoError)>), RepoError> {
        let next = AtomicUsize::new(0);
        let found = Mutex::new((Snapshots::default(), Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..self.loaders().min(ids.len()) {
                scope.spawn(|| {
                    while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let loaded = self.snapshot(*id);
                        if loaded.as_ref().is_err_and(RepoError::ends_all) {
                            // The others end too.
                            next.store(ids.len(), Ordering::Relaxed);
                        }
                        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                        let (found, missing) = &mut *found;
                        match loaded {
                            Ok(snapshot) => found.all.push((*id, snapshot)),
                            Err(error) if error.is_missing() => missing.push((*id, error)),
                            Err(error) => found.damaged.push((*id, error)),
                        }
                    }
                });
            }
        });
        let (mut found, missing) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        let ended = found.damaged.iter().position(|(_, error)| error.ends_all());
        match ended {
            Some(at) => Err(found.damaged.swap_remove(at).1),
            None => Ok((found, missing)),
        }
    }

    /// One snapshot.
    ///
    /// # Errors
    /// When it is not there or damaged.
    pub fn snapshot(&self, id: Id) -> Result<Snapshot, RepoError> {
        let name = FileName::new(FileKind::Snapshot, id);
        Snapshot::from_json(&self.load_json(name)?).map_err(|cause| self.damaged(name, cause))
    }

    /// Writes a snapshot. Everything that its tree names must be stored and indexed.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn save_snapshot(&self, snapshot: &Snapshot) -> Result<Id, RepoError> {
        self.save_json(FileKind::Snapshot, &snapshot.to_json())
    }

    /// Removes a snapshot; what only it names stays until a prune.
    ///
    /// # Errors
    /// When it is still there afterwards.
    pub fn remove_snapshot(&self, id: Id) -> Result<(), RepoError> {
        Ok(self
            .backend()
            .remove(FileName::new(FileKind::Snapshot, id))?)
    }

    /// Removes a snapshot in whose place another is stored.
    ///
    /// # Errors
    /// [`RepoError::OldSnapshotStays`] when it is still there afterwards.
    pub fn remove_replaced(&self, old: Id, new: Id) -> Result<(), RepoError> {
        self.remove_snapshot(old).map_err(|cause| match cause {
            cancelled @ RepoError::Cancelled(_) => cancelled,
            cause => RepoError::OldSnapshotStays {
                old,
                new,
                cause: Box::new(cause),
            },
        })
    }
}
