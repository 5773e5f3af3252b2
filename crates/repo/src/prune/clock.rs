//! Whether this machine's clock may date a mark: a mark that is too old is deleted before its time by the next prune.
//! It must never guess the right time; what contradicts the clock is named.

use std::time::Duration;

use lifeboat_format::Timestamp;

use super::facts::Facts;
use super::stats::later;
use crate::RepoError;

/// How far clocks of machines that share a repository may be apart: far less than any grace period that is of use.
const CLOCK_SLACK: Duration = Duration::from_secs(60 * 60);
/// A mark that is further ahead is not believed: it was made by a clock that was wrong, and is made anew. Otherwise one
/// bad clock could keep everybody from marking for years, and nothing but prune changes a mark.
const MARK_AHEAD_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Refuses a clock that is behind what is in the repository, as that of a machine which starts in 1970.
///
/// # Errors
/// [`RepoError::ClockBehind`], which names the newest snapshot or mark.
pub(super) fn refuse_if_behind(facts: &Facts, now: Timestamp) -> Result<(), RepoError> {
    let soon = later(now, CLOCK_SLACK);
    let behind = |what: String, time| RepoError::ClockBehind { now, what, time };
    if let Some((id, time)) = facts.newest_snapshot.filter(|(_, time)| *time > soon) {
        return Err(behind(format!("snapshot {}", id.short()), time));
    }
    let believed = later(now, MARK_AHEAD_MAX);
    let marks = facts.packs.iter().filter_map(|pack| pack.mark?.time);
    match marks.filter(|time| *time > soon && *time <= believed).max() {
        Some(time) => Err(behind("a pack that an earlier prune marked".into(), time)),
        None => Ok(()),
    }
}
