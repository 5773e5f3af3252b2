//! Judges whether the holder of a lock can still be writing.
//! It must never take a process number for proof where that number may belong to another name space.

use std::time::Duration;

use lifeboat_format::{Lock, LockOrigin, Timestamp};
use rustix::process::{Pid, test_kill_process};

/// A lock of restic is stale after this time without a refresh (its `StaleLockTimeout`), in seconds.
const RESTIC_LEASE_SECONDS: i64 = 30 * 60;

/// The inode of the first process name space (Linux `PROC_PID_INIT_INO`): whoever is in it is in no container.
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// What is known of a lock's holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Staleness {
    /// It may be working.
    Live,
    /// It can't be writing any more, and this is why.
    Stale(String),
    /// Its time is too long ago, and that is all that is known: it can't be writing any more, unless the clock of its
    /// machine is behind. Then it is refreshed with times as old.
    Silent(String),
}

/// What tells this process from all others; `None` where the system does not say.
pub(super) fn of_this_process(lease: Duration) -> Option<LockOrigin> {
    let pid = u32::try_from(rustix::process::getpid().as_raw_pid()).ok()?;
    Some(LockOrigin {
        boot_id: boot_id()?,
        pid_namespace: pid_namespace()?,
        started_ticks: started_ticks(pid)?,
        lease_seconds: u32::try_from(lease.as_secs().max(1)).ok()?,
    })
}

fn boot_id() -> Option<String> {
    Some(
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .ok()?
            .trim()
            .to_owned(),
    )
}

fn pid_namespace() -> Option<u64> {
    Some(rustix::fs::stat("/proc/self/ns/pid").ok()?.st_ino)
}

/// Field 22 of `/proc/PID/stat`; the name in field 2 may hold anything, so counting starts after its closing bracket.
fn started_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

fn is_running(pid: i64) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    // No permission to signal it means that it is there.
    !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

/// Whether the holder of a lock can still be writing.
///
/// - Any lock whose time is longer ago than its lease is stale, if it was written by this machine since it started, and
///   so by the clock that it is compared with; else it is silent. The lease is 30 minutes for restic, and what the lock
///   says for ours.
/// - A lock of ours from the same boot and the same process name space is stale if its process is gone, or if
///   another process has its number now.
/// - A lock of restic from this host is stale if its process is gone, but only where process numbers count for the
///   whole host: not in a container, where other containers may carry the same host name.
#[must_use]
pub fn staleness(lock: &Lock, now: Timestamp) -> Staleness {
    let lease = lock.origin.as_ref().map_or(RESTIC_LEASE_SECONDS, |origin| {
        i64::from(origin.lease_seconds).min(RESTIC_LEASE_SECONDS)
    });
    let age = now.seconds.saturating_sub(lock.time.seconds);
    let is_old = age > lease;
    let old = format!("it was not refreshed for {} minutes", age / 60);
    let gone = |what: &str| Staleness::Stale(format!("{what}, process {}", lock.pid));
    if let Some(origin) = &lock.origin {
        let same_clock = boot_id().as_deref() == Some(&origin.boot_id);
        match (is_old, same_clock) {
            (true, true) => return Staleness::Stale(old),
            (true, false) => return Staleness::Silent(old),
            (false, true) if pid_namespace() == Some(origin.pid_namespace) => {}
            (false, _) => return Staleness::Live,
        }
        let started = u32::try_from(lock.pid).ok().and_then(started_ticks);
        return match started {
            None if !is_running(lock.pid) => gone("its process is gone"),
            Some(ticks) if ticks != origin.started_ticks => {
                gone("its process is gone and another has its number")
            }
            _ => Staleness::Live,
        };
    }
    let same_host = rustix::system::uname().nodename().to_string_lossy() == lock.hostname.as_str();
    if same_host && pid_namespace() == Some(FIRST_PID_NAMESPACE) && !is_running(lock.pid) {
        return gone("its process on this host is gone");
    }
    match is_old {
        true => Staleness::Silent(old),
        false => Staleness::Live,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> Lock {
        Lock {
            time: crate::clock::now(),
            exclusive: false,
            hostname: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            username: String::new(),
            pid: rustix::process::getpid().as_raw_pid().into(),
            uid: 0,
            gid: 0,
            origin: of_this_process(Duration::from_secs(60)),
        }
    }

    fn is_stale(lock: &Lock) -> bool {
        matches!(staleness(lock, crate::clock::now()), Staleness::Stale(_))
    }

    fn is_silent(lock: &Lock) -> bool {
        matches!(staleness(lock, crate::clock::now()), Staleness::Silent(_))
    }

    #[test]
    fn a_living_process_keeps_its_lock_until_the_lease_ends() {
        let mut lock = ours();
        assert!(lock.origin.is_some(), "this system tells what is needed");
        assert!(!is_stale(&lock));
        lock.time.seconds -= 61;
        assert!(is_stale(&lock), "not refreshed for its lease");
        lock.origin = None;
        assert!(!is_stale(&lock), "restic's lease is longer");
        lock.time.seconds -= 30 * 60;
        assert!(is_silent(&lock), "whose clock this was is not known");
    }

    #[test]
    fn an_old_time_proves_nothing_where_another_clock_wrote_it() {
        let mut lock = ours();
        lock.time.seconds -= 61;
        if let Some(origin) = &mut lock.origin {
            origin.pid_namespace += 1;
        }
        assert!(is_stale(&lock), "another container, the same clock");
        if let Some(origin) = &mut lock.origin {
            origin.boot_id.push('x');
        }
        assert!(is_silent(&lock));
        lock.time.seconds += 2 * 3600;
        assert!(
            !is_stale(&lock) && !is_silent(&lock),
            "a clock that is ahead"
        );
    }

    #[test]
    fn a_number_that_another_process_has_now_is_no_proof_of_life() {
        let mut lock = ours();
        if let Some(origin) = &mut lock.origin {
            origin.started_ticks += 1;
        }
        assert!(
            is_stale(&lock),
            "as after a container restarted: same host name, same process number"
        );
    }

    #[test]
    fn a_number_from_another_name_space_proves_nothing() {
        let mut lock = ours();
        lock.pid = i64::from(i32::MAX);
        assert!(is_stale(&lock), "no such process here");
        if let Some(origin) = &mut lock.origin {
            origin.pid_namespace += 1;
        }
        assert!(!is_stale(&lock), "as seen from another container");
        if let Some(origin) = &mut lock.origin {
            origin.boot_id.push('x');
        }
        assert!(
            !is_stale(&lock),
            "as seen from another machine with the same name"
        );
    }

    #[test]
    fn restics_lock_of_a_dead_process_counts_only_outside_containers() {
        let mut lock = ours();
        lock.origin = None;
        lock.pid = i64::from(i32::MAX);
        assert_eq!(
            is_stale(&lock),
            pid_namespace() == Some(FIRST_PID_NAMESPACE)
        );
        lock.hostname.push_str("-other");
        assert!(!is_stale(&lock));
    }
}
