//! How a lock is taken: look, write, wait, look again; and whether the locks of others count.
//! It must never believe that a lock is stale before its holder had the time to show that it lives.

use std::time::Instant;

use lifeboat_flow::{Cancel, Event, EventSink};
use lifeboat_format::{Id, Lock, Timestamp};

use super::all::locks_but;
use super::{LockGuard, LockRequest, Staleness, remove_quietly, staleness, write};
use crate::backend::ListingDelay;
use crate::clock::now;
use crate::{RepoError, Repository};

/// Stale locks that are named at most; the others are counted.
const STALE_NAMED_MAX: usize = 3;

/// Look, write, wait, look again: whoever sees the other backs off. Early means without the wait: the caller looks once
/// more. The look after the write is needed all the same, because what is read next would otherwise be what somebody
/// removes who has let go of the lock before the last look.
pub(super) fn acquire(
    beside: Option<&LockGuard>,
    repository: &Repository,
    lock: &Lock,
    request: LockRequest,
    watched: &mut Vec<Id>,
    events: &dyn EventSink,
    cancel: &Cancel,
) -> Result<(Id, Timestamp, Instant), RepoError> {
    let own = || beside.map(LockGuard::files).unwrap_or_default();
    let mut found = others(repository, lock, &own())?;
    // An upgrade is had at once or not at all.
    if beside.is_none() && watch(&found, request, watched, events, cancel)? {
        found = others(repository, lock, &own())?;
    }
    tell_of_stale(&judge(found, watched)?, events);
    let began = Instant::now();
    let (id, time) = write(repository, lock)?;
    // Who writes before looking needs no time between the two where every look shows every write.
    if !request.early && repository.backend().listing_delay() != ListingDelay::None {
        std::thread::sleep(request.timing.settle);
    }
    let mut own = own();
    own.push(id);
    check_others(repository, lock, &own, watched)
        .inspect_err(|_| remove_quietly(repository, id))?;
    Ok((id, time, began))
}

/// A lock of somebody else that is in the way, if it counts.
struct Other {
    id: Id,
    lock: Lock,
    staleness: Staleness,
}

/// The locks of others that this one can't be held beside.
fn others(repository: &Repository, ours: &Lock, own: &[Id]) -> Result<Vec<Other>, RepoError> {
    let mut others = Vec::new();
    for (id, found) in locks_but(repository, own)? {
        let lock = found.map_err(|cause| match cause {
            // That nothing can be read now says nothing about this lock.
            cause if cause.ends_all() => cause,
            cause => RepoError::LockUnreadable {
                id,
                cause: Box::new(cause),
            },
        })?;
        if ours.exclusive || lock.exclusive {
            let staleness = staleness(&lock, now());
            others.push(Other {
                id,
                lock,
                staleness,
            });
        }
    }
    Ok(others)
}

/// Waits for as long as shows whether locks are refreshed that only look stale, and adds those that are not known yet to
/// `watched`; says whether it did. Nothing is waited for where a living lock is in the way anyhow, or who asks only reads.
fn watch(
    others: &[Other],
    request: LockRequest,
    watched: &mut Vec<Id>,
    events: &dyn EventSink,
    cancel: &Cancel,
) -> Result<bool, RepoError> {
    let is_new = |other: &&Other| {
        matches!(other.staleness, Staleness::Silent(_)) && !watched.contains(&other.id)
    };
    let silent: Vec<&Other> = others.iter().filter(is_new).collect();
    let is_live = |other: &Other| matches!(other.staleness, Staleness::Live);
    let Some(first) = silent.first().filter(|_| !others.iter().any(is_live)) else {
        return Ok(false);
    };
    let length = match silent.iter().any(|other| other.lock.origin.is_none()) {
        true => request.timing.watch_restic,
        false => request.timing.watch,
    };
    if request.reads {
        watched.extend(silent.iter().map(|other| other.id));
        return Ok(false);
    }
    events.event(Event::Note(format!(
        "the lock of {} looks stale, unless the clock of its machine is behind: watching for {} s whether it is refreshed; if nothing runs there, `unlock` removes it at once",
        describe(&first.lock),
        length.as_secs()
    )));
    watched.extend(silent.iter().map(|other| other.id));
    cancel.sleep(length)?;
    Ok(true)
}

/// The stale ones among these locks; an error if another is among them. One that only looks stale and was not there when
/// others were watched was written since, so its holder lives, whatever its clock says.
fn judge(others: Vec<Other>, watched: &[Id]) -> Result<Vec<String>, RepoError> {
    let mut stale = Vec::new();
    for other in others {
        let why = match other.staleness {
            Staleness::Stale(why) => why,
            Staleness::Silent(why) if watched.contains(&other.id) => why,
            Staleness::Silent(_) | Staleness::Live => {
                return Err(RepoError::Locked {
                    holder: describe(&other.lock),
                    exclusive: other.lock.exclusive,
                });
            }
        };
        stale.push(format!(
            "{} of {}: {why}",
            other.id.short(),
            describe(&other.lock)
        ));
    }
    Ok(stale)
}

/// Looks once more, when ours is written.
pub(super) fn check_others(
    repository: &Repository,
    ours: &Lock,
    own: &[Id],
    watched: &[Id],
) -> Result<(), RepoError> {
    judge(others(repository, ours, own)?, watched).map(drop)
}

/// Names the first ones and counts the others: where nobody may remove files, each run leaves some.
fn tell_of_stale(stale: &[String], events: &dyn EventSink) {
    for one in stale.iter().take(STALE_NAMED_MAX) {
        events.event(Event::Note(format!("ignoring the stale lock {one}")));
    }
    let more = stale.len().saturating_sub(STALE_NAMED_MAX);
    if more > 0 {
        events.event(Event::Note(format!("ignoring {more} more stale locks")));
    }
}

fn describe(lock: &Lock) -> String {
    let user = if lock.username.is_empty() {
        String::new()
    } else {
        format!(" by {}", lock.username)
    };
    format!(
        "PID {} on {}{user}, since {}",
        lock.pid, lock.hostname, lock.time
    )
}
