//! The log on a server that lets through restic's own names alone: a nested repository with contents and claims.
//! It must never leave two contents under one name and call either of them the right one.
//!
//! A content lies in `data` under its hash. A claim, in `snapshots` under its hash, says which name that content has; it
//! is stored last, makes it reachable, and is never taken back. So that there is one claim of a name, an intent comes
//! before it, in `locks`, the one kind that append-only servers let go: who finds the intent of another gives way. Of two
//! who both claim, one stored his intent later and then found none, so that the other's claim was there before he looked
//! for claims, and he found that.

mod claim;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use lifeboat_format::{GrowingId, Id};

use super::RestBackend;
use super::server::Place;
use crate::at_once::each_number;
use crate::backend::turns::Turns;
use crate::backend::{Backend, BackendError, Creation, FileKind, FileName, LogName, Trouble};
use claim::{CLAIM_BYTES, Claim};

/// How long an intent of others counts after it was first seen: who left it there longer was stopped.
const INTENT_MAX: Duration = Duration::from_secs(30);
/// How long after the beginning of an intent its claim may still be stored: well before others take it for left behind.
const CLAIM_WITHIN: Duration = Duration::from_secs(10);

/// Claims by their IDs.
type Claims = BTreeMap<Id, Arc<Claim>>;

/// What somebody is about to claim.
#[derive(Clone)]
struct Intent {
    /// Nothing if it can't be read: then it may be about any name.
    claim: Option<Arc<Claim>>,
    seen: Instant,
}

/// What is known of a log.
#[derive(Default)]
pub(super) struct RestLog {
    nested: OnceLock<Arc<RestBackend>>,
    /// Claims that were read. They never change, but what is there only a listing tells.
    claims: Mutex<Claims>,
    intents: Mutex<BTreeMap<Id, Intent>>,
    /// Contents that were stored and have no claim yet.
    stored: Mutex<BTreeSet<Id>>,
    turns: Turns,
}

impl RestBackend {
    /// Who gives way to others is told of something that passes. After a kill between intent and claim that lasts for
    /// [`INTENT_MAX`]. Only who is held up for longer than that while he stores a claim makes a second one: then the name
    /// is of no use until somebody removes it.
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
        let claim = Claim {
            name: name.clone(),
            content: content.finish(),
            size_bytes: data.iter().map(|piece| piece.len() as u64).sum(),
            attempt: None,
        };
        let nested = self.nested_or_made()?;
        if let Some(found) = self.settled(&nested, &claim)? {
            return Ok(found);
        }
        // Who gave way and tries again need not send it once more.
        if !lock(&self.log.stored).contains(&claim.content) {
            nested.save(FileName::new(FileKind::Pack, claim.content), data)?;
            lock(&self.log.stored).insert(claim.content);
        }
        let begun = Instant::now();
        let attempt = getrandom::u64()
            .map_err(|cause| self.trouble("write", name, Trouble::Other, cause.to_string()))?;
        let intent = Claim {
            attempt: Some(attempt),
            ..claim.clone()
        };
        let intent = store(&nested, FileKind::Lock, &intent)?;
        let may_claim = self.may_claim(&nested, &claim, begun);
        if matches!(may_claim, Ok(None)) {
            // If this fails it may still arrive, and until it surely does not the intent must stay.
            store(&nested, FileKind::Snapshot, &claim)?;
        }
        if may_claim.is_ok() {
            lock(&self.log.stored).remove(&claim.content);
        }
        // One that stays counts for nothing in a while.
        let _ = nested.remove(intent);
        Ok(may_claim?.unwrap_or(Creation::Created))
    }

    /// Nothing if a claim may be stored now, or what others' claims mean.
    fn may_claim(
        &self,
        nested: &RestBackend,
        claim: &Claim,
        begun: Instant,
    ) -> Result<Option<Creation>, BackendError> {
        // Those with our content we left behind ourselves when an answer was lost.
        let is_others = |intent: &Intent| {
            intent
                .claim
                .as_ref()
                .is_none_or(|intent| intent.name == claim.name && intent.content != claim.content)
        };
        let passing =
            |why: &str| self.trouble("write", &claim.name, Trouble::Transient, why.to_owned());
        if self.intents(nested)?.values().any(is_others) {
            return Err(passing("somebody else is creating it at this moment"));
        }
        let found = self.settled(nested, claim)?;
        if found.is_none() && begun.elapsed() > CLAIM_WITHIN {
            return Err(passing(
                "the server takes too long to say who else is creating it",
            ));
        }
        Ok(found)
    }

    /// What the claims of a name mean to somebody with this content; nothing if there are none.
    fn settled(
        &self,
        nested: &RestBackend,
        wanted: &Claim,
    ) -> Result<Option<Creation>, BackendError> {
        match claims_of(&wanted.name, &self.claims(nested)?).as_slice() {
            [] => Ok(None),
            [(_, claim)] if claim.content == wanted.content => Ok(Some(Creation::Created)),
            [_] => Ok(Some(Creation::Exists)),
            _ => Err(self.ambiguous("write", &wanted.name)),
        }
    }

    /// What others are about to claim. What was left behind is removed.
    fn intents(&self, nested: &RestBackend) -> Result<BTreeMap<Id, Intent>, BackendError> {
        let mut listed = Vec::new();
        nested.list(FileKind::Lock, &mut |id, _| listed.push(id))?;
        let mut found = lock(&self.log.intents).clone();
        found.retain(|id, _| listed.contains(id));
        for id in listed {
            if found.contains_key(&id) {
                continue;
            }
            let bytes = match small_file(nested, FileName::new(FileKind::Lock, id)) {
                Err(BackendError::TooLong { .. }) => Some(Vec::new()),
                loaded => loaded?,
            };
            if let Some(bytes) = bytes {
                let claim = Claim::parse(&bytes).map(Arc::new);
                let seen = Instant::now();
                found.insert(id, Intent { claim, seen });
            }
        }
        lock(&self.log.intents).clone_from(&found);
        let is_left = |intent: &Intent| intent.seen.elapsed() > INTENT_MAX;
        for (id, _) in found.iter().filter(|(_, intent)| is_left(intent)) {
            nested.remove(FileName::new(FileKind::Lock, *id))?;
        }
        found.retain(|_, intent| !is_left(intent));
        Ok(found)
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
                _ if is_fresh => return Err(self.ambiguous("read", name)),
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
        // What has two claims is one object, which can't be read.
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
            // Of this kind there is never anything: whether the place is there costs no long listing.
            match nested.list(FileKind::Key, &mut |_, _| {}) {
                Ok(()) => {
                    self.require_repository_once()?;
                    return Ok(Some(self.keep(nested)?));
                }
                Err(BackendError::NoRepository { .. }) => {}
                // Beside the repositories of one user lie those of others, of whom nothing may be known. Where nothing can
                // lie below, the log may be in what is denied.
                Err(error)
                    if place == Place::Beside
                        && self.at(Place::Below).is_some()
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
                Ok(()) => return self.keep(nested),
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

    fn keep(&self, nested: Self) -> Result<Arc<Self>, BackendError> {
        // Its next prune would take our contents for packs that nobody needs.
        if nested.server.find(FileName::CONFIG)?.is_some() {
            let why = format!("another repository lies there: {}", nested.location());
            let what = "the place of the log";
            return Err(self.server.trouble("use", what, Trouble::Other, why));
        }
        Ok(Arc::clone(self.log.nested.get_or_init(|| Arc::new(nested))))
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

    fn ambiguous(&self, doing: &'static str, name: &LogName) -> BackendError {
        let why = "two contents have this name, because somebody was held up while he stored one; removing the object removes both";
        self.trouble(doing, name, Trouble::Other, why.to_owned())
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
    let Some(bytes) = small_file(nested, name)? else {
        return Ok(None);
    };
    match Claim::parse(&bytes).filter(|claim| Id::of(&bytes) == id && claim.attempt.is_none()) {
        Some(claim) => Ok(Some(claim)),
        None => {
            let why = "it is damaged, so that nobody knows which object it names".to_owned();
            let what = name.to_string();
            Err(nested.server.trouble("read", &what, Trouble::Other, why))
        }
    }
}

/// A claim or an intent as it was stored; nothing if it is gone again.
fn small_file(nested: &RestBackend, name: FileName) -> Result<Option<Vec<u8>>, BackendError> {
    match nested.load(name, CLAIM_BYTES as u64) {
        Err(error) if error.is_missing() => Ok(None),
        loaded => loaded.map(Some),
    }
}

/// Stores a claim, or an intent.
fn store(nested: &RestBackend, kind: FileKind, claim: &Claim) -> Result<FileName, BackendError> {
    let bytes = claim.to_bytes();
    let name = FileName::new(kind, Id::of(&bytes));
    nested.save(name, &[&bytes])?;
    Ok(name)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
