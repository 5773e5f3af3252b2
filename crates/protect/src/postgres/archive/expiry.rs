//! Carries out what retention by a recovery window has decided: captures of a database and files of its log go.
//! It must never remove what the plan does not name, nor go on when its lock is lost.

use std::collections::BTreeSet;

use lifeboat_flow::{Cancel, Cancelled};
use lifeboat_format::{Id, Snapshot};
use lifeboat_plan::{
    ClusterCapture, Fork, NamingPoint, PointError, WindowFacts, WindowPlan, WindowStep,
};
use lifeboat_repo::backend::LogNameError;
use lifeboat_repo::{BlobReader, LockGuard, LogError, RepoError, Repository};
use lifeboat_state::postgres::dump::Record;
use lifeboat_state::postgres::{Lsn, Member, MemberError, SegmentBytes, Timeline, WalName};

use super::folds::Folds;
use super::{Archive, ArchiveError, FOLDER};
use crate::ProtectError;
use crate::point::{APPS, FLEET_TAG, OWN_TAG, PointFailure, point_of};
use crate::postgres::parts::record_of;

/// A physical capture, and whose it is.
#[derive(Clone, Debug)]
pub struct Captured {
    /// What is decided on.
    pub capture: ClusterCapture,
    /// The path of its snapshot, which names app and member.
    pub path: String,
    /// The host that its snapshot names.
    pub hostname: String,
}

/// What a plan has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Snapshots.
    pub snapshots: u64,
    /// Files of logs.
    pub log_files: u64,
}

/// Retention can't go on.
#[derive(Debug, thiserror::Error)]
pub enum ExpiryError {
    /// A capture can't be read, so that nobody knows what it needs.
    #[error("read which log the capture {} needs", .snapshot.short())]
    Record {
        /// Its snapshot.
        snapshot: Id,
        /// Why.
        #[source]
        cause: ProtectError,
    },
    /// A capture does not tell what it needs.
    #[error("the record of the capture {} does not tell which log it needs", .snapshot.short())]
    Position {
        /// Its snapshot.
        snapshot: Id,
    },
    /// The archive can't be looked at.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A file of the log can't be removed.
    #[error("remove {path} from the archive of the cluster {system}")]
    Log {
        /// The cluster.
        system: u64,
        /// The path below the cluster's.
        path: String,
        /// Why.
        #[source]
        cause: LogError,
    },
    /// It has no name that the log knows.
    #[error(transparent)]
    LogName(#[from] LogNameError),
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// Somebody wished to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// All physical captures among these snapshots.
///
/// # Errors
/// When one that may be such a capture can't be read.
pub fn captured(
    reader: &BlobReader<'_>,
    snapshots: &[(Id, Snapshot)],
) -> Result<Vec<Captured>, ExpiryError> {
    let mut found = Vec::new();
    for (id, snapshot) in snapshots {
        let is_of_app = |path: &String| path.starts_with(APPS);
        let is_ours = snapshot.tags.iter().any(|tag| tag == OWN_TAG);
        if !is_ours && !snapshot.paths.iter().any(is_of_app) {
            continue;
        }
        let member = match record_of(reader, snapshot.tree) {
            Ok(Record::Physical(member)) => member,
            // A dump, another engine, or no database at all.
            Ok(_)
            | Err(ProtectError::NotInSnapshot(_) | ProtectError::Member(MemberError::Engine(_))) => {
                continue;
            }
            Err(cause) => {
                return Err(ExpiryError::Record {
                    snapshot: *id,
                    cause,
                });
            }
        };
        let capture = facts_of(*id, snapshot, &member);
        found.push(Captured {
            capture: capture.ok_or(ExpiryError::Position { snapshot: *id })?,
            path: snapshot.paths.first().cloned().unwrap_or_default(),
            hostname: snapshot.hostname.clone(),
        });
    }
    Ok(found)
}

fn facts_of(id: Id, snapshot: &Snapshot, member: &Member) -> Option<ClusterCapture> {
    let postgres = &member.postgres;
    let position = |text: &str| text.parse().ok().map(|lsn: Lsn| lsn.0);
    let ended = snapshot.summary.as_ref().and_then(|all| all.backup_end);
    let fleet = snapshot.tags.iter();
    let fleet = fleet.filter_map(|tag| tag.strip_prefix(FLEET_TAG)).next();
    Some(ClusterCapture {
        id,
        tree: snapshot.tree,
        // A standby's instant is that of its last restartpoint: what comes back is newer.
        completed: ended.map_or(member.instant, |ended| ended.max(member.instant)),
        system: postgres.system_id.parse().ok()?,
        timeline: postgres.timeline,
        start: position(&postgres.start_lsn)?,
        stop: position(&postgres.stop_lsn)?,
        segment_bytes: SegmentBytes::new(postgres.segment_bytes)?.get(),
        is_damaged: member.faults_count > 0,
        fleet: fleet.map(str::to_owned),
    })
}

/// The recovery points with this path, of these hosts. One that is damaged names nothing, and stays.
///
/// # Errors
/// When the repository fails.
pub fn naming_points(
    reader: &BlobReader<'_>,
    snapshots: &[(Id, Snapshot)],
    path: &str,
    hosts: &BTreeSet<String>,
) -> Result<Vec<NamingPoint>, PointFailure> {
    let of_app = snapshots.iter().filter(|(_, snapshot)| {
        snapshot.paths.iter().any(|known| known == path) && hosts.contains(&snapshot.hostname)
    });
    let mut points = Vec::new();
    for (id, snapshot) in of_app {
        let members = match point_of(reader, snapshot.tree) {
            Ok(point) => point.members,
            // One of a later program may name what goes; it is left to that.
            Err(PointFailure::Record(PointError::Version(_))) => continue,
            Err(error) if error.is_of_point() => continue,
            Err(error) => return Err(error),
        };
        points.push(NamingPoint {
            id: *id,
            trees: members.values().filter_map(|member| member.tree).collect(),
        });
    }
    Ok(points)
}

/// What is archived of the clusters of the member's captures, in the log and in folds among these snapshots, added to what
/// retention is decided on.
///
/// # Errors
/// When an archive can't be listed, or a history or a fold in it can't be read.
pub fn add_logs(
    reader: &BlobReader<'_>,
    snapshots: &[(Id, Snapshot)],
    facts: &mut WindowFacts,
    cancel: &Cancel,
) -> Result<(), ExpiryError> {
    let systems = facts.captures.iter().map(|capture| capture.system);
    let systems: BTreeSet<u64> = systems.collect();
    for system in systems {
        let archive = Archive::new(reader.repository(), system).heeding(cancel);
        let paths = archive.paths()?;
        let folds = Folds::among(system, snapshots);
        let files = folds.files(reader)?;
        let logged = paths
            .iter()
            .filter_map(|path| path.rsplit('/').next()?.parse().ok());
        let names: BTreeSet<WalName> = logged.chain(files.iter().map(|(name, _)| *name)).collect();
        let names: Vec<WalName> = names.into_iter().collect();
        let histories = archive.histories_after(&names, Timeline(0))?;
        facts.logs.insert(system, paths);
        let folded = files.iter().map(|(name, _)| name.to_string());
        facts.folded.insert(system, folded.collect());
        let ids = folds.snapshots.iter().map(|(id, _)| *id);
        facts.folds.insert(system, ids.collect());
        let forks = histories.into_iter().map(|(timeline, history)| {
            let switches = history.switches.iter();
            let past = switches.map(|switch| Fork {
                timeline: switch.timeline.0,
                at: switch.at.0,
            });
            (timeline.0, past.collect())
        });
        facts.forks.insert(system, forks.collect());
    }
    Ok(())
}

/// Removes what the plan names, in its order. Broken off anywhere, the next plan goes on with the rest.
///
/// # Errors
/// When something can't be removed, or the lock is lost; what was removed before stays so.
pub fn expire(
    plan: &WindowPlan,
    repository: &Repository,
    lock: &LockGuard,
    cancel: &Cancel,
) -> Result<Expired, ExpiryError> {
    let mut done = Expired::default();
    for step in plan.steps() {
        cancel.check()?;
        lock.ensure()?;
        match step {
            WindowStep::Snapshot(id) => {
                repository.remove_snapshot(id)?;
                done.snapshots += 1;
            }
            WindowStep::Log(system, path) => {
                let name = format!("{FOLDER}/{system}/{path}").parse()?;
                let removed = repository.log().remove(&name);
                removed.map_err(|cause| ExpiryError::Log {
                    system,
                    path: path.to_owned(),
                    cause,
                })?;
                done.log_files += 1;
            }
        }
    }
    Ok(done)
}

impl Archive<'_> {
    /// The paths of all files, from below the cluster's on.
    fn paths(&self) -> Result<Vec<String>, ArchiveError> {
        let folder = format!("{FOLDER}/{}", self.system_id).parse()?;
        let entries = self.repository.log().list(Some(&folder));
        let entries = entries.map_err(|cause| self.failed(cause))?;
        let below = entries.iter().map(|entry| {
            let parts: Vec<&str> = entry.name.parts().skip(2).collect();
            parts.join("/")
        });
        Ok(below.collect())
    }
}
