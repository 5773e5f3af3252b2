//! All locks of a repository: read, and removed when somebody asks for that.
//! It must never take a lock that can't be read for one that is not there.

use lifeboat_format::{Id, Lock};

use super::{Staleness, staleness};
use crate::backend::{FileKind, FileName};
use crate::clock::now;
use crate::{RepoError, Repository};

/// How often locks are listed at most when they change meanwhile.
const LISTINGS_MAX: u32 = 10;

/// A lock file: its ID, and what it says if it can be read.
pub type FoundLock = (Id, Result<Lock, RepoError>);

/// All locks; empty files are skipped: a backend that does not write whole files leaves them behind.
///
/// # Errors
/// When they can't be listed.
pub fn all_locks(repository: &Repository) -> Result<Vec<FoundLock>, RepoError> {
    locks_but(repository, &[])
}

/// All locks but these, which are not even read: far away, each costs a round trip.
pub(super) fn locks_but(repository: &Repository, own: &[Id]) -> Result<Vec<FoundLock>, RepoError> {
    let mut tries = LISTINGS_MAX;
    loop {
        tries -= 1;
        let mut ids = Vec::new();
        repository.backend().list(FileKind::Lock, &mut |id, size| {
            if size > 0 && !own.contains(&id) {
                ids.push(id);
            }
        })?;
        ids.sort();
        let mut locks = Vec::with_capacity(ids.len());
        let mut vanished = false;
        for id in ids {
            let name = FileName::new(FileKind::Lock, id);
            match repository.load_json(name).and_then(|json| {
                Lock::from_json(&json).map_err(|cause| repository.damaged(name, cause))
            }) {
                // Its holder let go between the listing and now, or refreshed it: then its new file was not listed yet.
                Err(error) if error.is_missing() && tries > 0 => vanished = true,
                found => locks.push((id, found)),
            }
        }
        if !vanished {
            return Ok(locks);
        }
    }
}

/// What became of the locks.
#[derive(Debug, Default)]
pub struct RemovedLocks {
    /// Locks that were removed.
    pub removed: usize,
    /// Those that stay because their holders may still work.
    pub live: Vec<(Id, Lock)>,
    /// Those that stay because nobody can read them, and why: everybody waits for them.
    pub unreadable: Vec<(Id, RepoError)>,
}

/// Removes locks: those that look stale, or all. Who wishes that knows whether a clock is wrong.
///
/// # Errors
/// When they can't be listed or removed, or nothing can be read at all.
pub fn remove_locks(repository: &Repository, all: bool) -> Result<RemovedLocks, RepoError> {
    let mut done = RemovedLocks::default();
    let remove = |id| {
        let name = FileName::new(FileKind::Lock, id);
        repository.backend().remove(name)
    };
    if all {
        for id in repository.ids(FileKind::Lock)? {
            remove(id)?;
            done.removed += 1;
        }
        return Ok(done);
    }
    for (id, found) in all_locks(repository)? {
        match found {
            Ok(lock) if !matches!(staleness(&lock, now()), Staleness::Live) => {
                remove(id)?;
                done.removed += 1;
            }
            Ok(lock) => done.live.push((id, lock)),
            // That nothing can be read now says nothing about this lock.
            Err(error) if error.ends_all() => return Err(error),
            // Its holder let go of it meanwhile.
            Err(error) if error.is_missing() => {}
            Err(error) => done.unreadable.push((id, error)),
        }
    }
    Ok(done)
}
