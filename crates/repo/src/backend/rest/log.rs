//! The log on a server that lets through restic's own names alone: a nested repository with contents and claims.
//! It must never leave two contents under one name and call either of them the right one.
//!
//! A content lies in `data` under its hash. A claim, in `snapshots` under its hash, says which name that content has; it
//! is stored last, and makes it reachable. Two claims of one name are a quarrel: whoever finds his own beside another's
//! takes his own back and begins anew, so that a claim that was found alone once is never given up.

mod claim;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use lifeboat_format::{GrowingId, Id};

use super::RestBackend;
use super::server::Place;
use crate::at_once::each_number;
use crate::backend::turns::Turns;
use crate::backend::{Backend, BackendError, Creation, FileKind, FileName, LogName, Trouble};
use claim::{CLAIM_BYTES, Claim};

/// How long two claims of one name may be there before somebody must decide: who gives way needs a moment.
const QUARREL_MAX: Duration = Duration::from_secs(5);

/// Claims by their IDs.
type Claims = BTreeMap<Id, Arc<Claim>>;

/// What is known of a log.
#[derive(Default)]
pub(super) struct RestLog {
    nested: OnceLock<Arc<RestBackend>>,
    /// Claims that were read. They never change, but what is there only a listing tells.
    claims: Mutex<Claims>,
    turns: Turns,
    /// Since when the same two claims of a name and more were seen.
    quarrels: Mutex<BTreeMap<LogName, (Vec<Id>, Instant)>>,
}

impl RestBackend {
    /// Contents of one name that come at once from several processes quarrel, and one or none of them stays; who gave
    /// way is told of something that passes. A server from which nothing can be removed keeps both claims, and the name
    /// is of no use until somebody removes it with more rights.
    pub(super) fn create_object(
        &self,
        name: &LogName,
        data: &[&[u8]],
    ) -> Result<Creation, BackendError> {
        let _turn = self.log.turns.turn(name);
        let mut content = GrowingId::default();
        for piece in data {
            content.update(piece);
        }
        let content = content.finish();
        let nested = self.nested_or_made()?;
        if let Some(found) = self.settled(&nested, name, content)? {
            return Ok(found);
        }
        nested.save(FileName::new(FileKind::Pack, content), data)?;
        let claim = Claim {
            name: name.clone(),
            content,
            size_bytes: data.iter().map(|piece| piece.len() as u64).sum(),
        };
        let bytes = claim.to_bytes();
        nested.save(FileName::new(FileKind::Snapshot, Id::of(&bytes)), &[&bytes])?;
        self.settled(&nested, name, content)?
            .ok_or_else(|| self.quarrel(name, "the claim that was stored is gone again"))
    }

    /// What the claims of a name mean to somebody with this content; nothing if there are none.
    fn settled(
        &self,
        nested: &RestBackend,
        name: &LogName,
        content: Id,
    ) -> Result<Option<Creation>, BackendError> {
        let all = self.claims(nested)?;
        let of_name = claims_of(name, &all);
        match of_name.as_slice() {
            [] => Ok(None),
            [(_, claim)] if claim.content == content => Ok(Some(Creation::Created)),
            [_] => Ok(Some(Creation::Exists)),
            several => {
                let ours = several.iter().find(|(_, claim)| claim.content == content);
                let Some((id, _)) = ours else {
                    return Err(self.ambiguous("write", name, several));
                };
                nested.remove(FileName::new(FileKind::Snapshot, *id))?;
                // A content without a claim is only waste.
                let _ = remove_content(nested, *id, content, &all);
                Err(self.quarrel(name, "somebody else created it at this moment"))
            }
        }
    }

    pub(super) fn load_object(
        &self,
        name: &LogName,
        limit_bytes: u64,
    ) -> Result<Vec<u8>, BackendError> {
        let missing = || BackendError::NoObject {
            name: name.clone(),
            location: self.location(),
        };
        let Some(nested) = self.nested()? else {
            return Err(missing());
        };
        let mut known = claims_of(name, &lock(&self.log.claims));
        let mut is_fresh = false;
        // Looking for one claim costs less than a listing, and tells whether it was taken back.
        if let [(id, _)] = known.as_slice() {
            match nested.size(FileName::new(FileKind::Snapshot, *id)) {
                Err(error) if error.is_missing() => known.clear(),
                found => drop(found?),
            }
        }
        loop {
            let claim = match known.as_slice() {
                [] if is_fresh => return Err(missing()),
                [(_, claim)] => claim,
                several if is_fresh => return Err(self.ambiguous("read", name, several)),
                _ => {
                    known = claims_of(name, &self.claims(&nested)?);
                    is_fresh = true;
                    continue;
                }
            };
            if claim.size_bytes > limit_bytes {
                return Err(BackendError::ObjectTooLong {
                    name: name.clone(),
                    location: self.location(),
                    size_bytes: claim.size_bytes,
                    limit_bytes,
                });
            }
            match nested.load(FileName::new(FileKind::Pack, claim.content), limit_bytes) {
                Err(error) if error.is_missing() && is_fresh => {
                    let why = format!("its content, data/{} beside it, is gone", claim.content);
                    return Err(self.trouble("read", name, Trouble::Other, why));
                }
                // It may have been removed and created anew since the claim was read.
                Err(error) if error.is_missing() => {
                    known = claims_of(name, &self.claims(&nested)?);
                    is_fresh = true;
                }
                Err(BackendError::TooLong {
                    size_bytes,
                    limit_bytes,
                    ..
                }) => {
                    return Err(BackendError::ObjectTooLong {
                        name: name.clone(),
                        location: self.location(),
                        size_bytes,
                        limit_bytes,
                    });
                }
                done => return done,
            }
        }
    }

    pub(super) fn list_objects(
        &self,
        below: Option<&LogName>,
        each: &mut dyn FnMut(LogName, u64),
    ) -> Result<(), BackendError> {
        let Some(nested) = self.nested()? else {
            return Ok(());
        };
        let all = self.claims(&nested)?;
        // What two quarrel about is one object, which can't be read.
        let by_name: BTreeMap<&LogName, u64> = all
            .values()
            .filter(|claim| claim.name.is_below(below))
            .map(|claim| (&claim.name, claim.size_bytes))
            .collect();
        for (name, size_bytes) in by_name {
            each(name.clone(), size_bytes);
        }
        Ok(())
    }

    /// Removes all claims of a name, and then what they led to.
    pub(super) fn remove_object(&self, name: &LogName) -> Result<(), BackendError> {
        let _turn = self.log.turns.turn(name);
        let Some(nested) = self.nested()? else {
            return Ok(());
        };
        let all = self.claims(&nested)?;
        for (id, claim) in claims_of(name, &all) {
            nested.remove(FileName::new(FileKind::Snapshot, id))?;
            remove_content(&nested, id, claim.content, &all)?;
        }
        Ok(())
    }

    /// The nested repository, if there is one: below this, or beside it.
    fn nested(&self) -> Result<Option<Arc<Self>>, BackendError> {
        if let Some(nested) = self.log.nested.get() {
            return Ok(Some(Arc::clone(nested)));
        }
        for place in [Place::Below, Place::Beside] {
            let Some(nested) = self.at(place) else {
                continue;
            };
            match nested.list(FileKind::Snapshot, &mut |_, _| {}) {
                Ok(()) => {
                    self.require_repository_once()?;
                    return Ok(Some(self.keep(nested)));
                }
                Err(BackendError::NoRepository { .. }) => {}
                // Beside the repositories of one user lie those of others, of whom nothing may be known.
                Err(error)
                    if place == Place::Beside
                        && matches!(
                            error.trouble(),
                            Some(Trouble::Denied | Trouble::Credentials)
                        ) => {}
                Err(error) => return Err(error),
            }
        }
        self.require_repository()?;
        Ok(None)
    }

    fn nested_or_made(&self) -> Result<Arc<Self>, BackendError> {
        self.require_repository_once()?;
        if let Some(nested) = self.nested()? {
            return Ok(nested);
        }
        let mut refused = None;
        for place in [Place::Below, Place::Beside] {
            let Some(nested) = self.at(place) else {
                continue;
            };
            match nested.create() {
                Ok(()) => return Ok(self.keep(nested)),
                // rest-server lets repositories lie two folders deep.
                Err(error) if error.trouble() == Some(Trouble::NoPlace) => {
                    refused = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(refused.unwrap_or_else(|| self.no_repository("the place of the log".into())))
    }

    fn at(&self, place: Place) -> Option<Self> {
        let nested = Self::of(self.server.other(place)?, self.connections);
        // It has no config: this repository has one.
        nested
            .is_created
            .store(true, std::sync::atomic::Ordering::Relaxed);
        nested.saw();
        Some(nested)
    }

    fn keep(&self, nested: Self) -> Arc<Self> {
        Arc::clone(self.log.nested.get_or_init(|| Arc::new(nested)))
    }

    /// All claims as they are now; only those are read that were not before.
    fn claims(&self, nested: &RestBackend) -> Result<Claims, BackendError> {
        let mut listed = BTreeMap::new();
        nested.list(FileKind::Snapshot, &mut |id, size_bytes| {
            listed.insert(id, size_bytes);
        })?;
        let mut found = lock(&self.log.claims).clone();
        found.retain(|id, _| listed.contains_key(id));
        listed.retain(|id, _| !found.contains_key(id));
        let new: Vec<(Id, u64)> = listed.into_iter().collect();
        let read = Mutex::new(found);
        let read_one = |(): &mut (), number: usize| {
            if let Some((id, size_bytes)) = new.get(number)
                && let Some(claim) = read_claim(nested, *id, *size_bytes)?
            {
                lock(&read).insert(*id, Arc::new(claim));
            }
            Ok::<(), BackendError>(())
        };
        each_number(self.connections, new.len(), || (), read_one)?;
        let found = read.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Others may have listed later, and read more: what is missing here is read again.
        lock(&self.log.claims).clone_from(&found);
        Ok(found)
    }

    fn quarrel(&self, name: &LogName, why: &str) -> BackendError {
        self.trouble("write", name, Trouble::Transient, why.to_owned())
    }

    /// What several claims of others mean: something that passes, unless they stay.
    fn ambiguous(
        &self,
        doing: &'static str,
        name: &LogName,
        claims: &[(Id, Arc<Claim>)],
    ) -> BackendError {
        let ids: Vec<Id> = claims.iter().map(|(id, _)| *id).collect();
        let mut quarrels = lock(&self.log.quarrels);
        let (seen, since) = quarrels
            .entry(name.clone())
            .or_insert_with(|| (ids.clone(), Instant::now()));
        if *seen != ids {
            (*seen, *since) = (ids, Instant::now());
        }
        let (trouble, why) = match since.elapsed() < QUARREL_MAX {
            true => (Trouble::Transient, "others are creating it at this moment"),
            false => (
                Trouble::Other,
                "two contents have this name: two wrote it at once, and one stopped before it gave way; removing the object removes both",
            ),
        };
        self.trouble(doing, name, trouble, why.to_owned())
    }

    fn trouble(
        &self,
        doing: &'static str,
        name: &LogName,
        trouble: Trouble,
        why: String,
    ) -> BackendError {
        self.server.trouble(doing, &name.path(), trouble, why)
    }
}

fn claims_of(name: &LogName, all: &Claims) -> Vec<(Id, Arc<Claim>)> {
    let of_name = all.iter().filter(|(_, claim)| claim.name == *name);
    of_name
        .map(|(id, claim)| (*id, Arc::clone(claim)))
        .collect()
}

/// Removes what a claim led to, unless another claim leads there too.
fn remove_content(
    nested: &RestBackend,
    claim: Id,
    content: Id,
    all: &Claims,
) -> Result<(), BackendError> {
    let mut others = all.iter().filter(|(id, _)| **id != claim);
    match others.any(|(_, other)| other.content == content) {
        true => Ok(()),
        false => nested.remove(FileName::new(FileKind::Pack, content)),
    }
}

/// A claim that was listed; nothing if it is gone again, or not whole yet.
fn read_claim(
    nested: &RestBackend,
    id: Id,
    size_bytes: u64,
) -> Result<Option<Claim>, BackendError> {
    // rclone writes in place to a directory: what is not whole was never acknowledged.
    if nested.server.is_rclone() && size_bytes < CLAIM_BYTES as u64 {
        return Ok(None);
    }
    let name = FileName::new(FileKind::Snapshot, id);
    let bytes = match nested.load(name, CLAIM_BYTES as u64) {
        Err(error) if error.is_missing() => return Ok(None),
        loaded => loaded?,
    };
    let claim = Some(&bytes).filter(|bytes| Id::of(bytes) == id);
    match claim.and_then(|bytes| Claim::parse(bytes)) {
        Some(claim) => Ok(Some(claim)),
        None => {
            let why = "it is damaged, so that nobody knows which object it names".to_owned();
            let what = name.to_string();
            Err(nested.server.trouble("read", &what, Trouble::Other, why))
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
