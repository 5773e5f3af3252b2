//! Writes the recovery point of an app: the small snapshot that comes last, after all captures that it names.
//! It must never name a capture that is not stored, nor pass for the capture of a member.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use lifeboat_flow::{Cancel, Event, EventSink, Timestamp};
use lifeboat_format::{Id, Snapshot};
use lifeboat_plan::{POINT_FILE, POINT_MAX_BYTES, PointError, PointMember, RecoveryPoint};
use lifeboat_repo::{
    BlobReader, Index, IngestOptions, LockGuard, PackListing, RepoError, Repository,
};
use uuid::Uuid;

use crate::ProtectError;
use crate::backup::acknowledge;
use crate::fleet::Fleet;
use crate::record::small_file;
use crate::small_tree::{SmallFile, store_top};

/// The fleet file beside the record.
pub const FLEET_FILE: &str = "lifeboat.yaml";
/// Clocks of machines that work together differ by less than that.
pub const CLOCK_SLACK: Duration = Duration::from_secs(3_600);
/// What the snapshot of a recovery point is tagged with, beside what captures are.
const POINT_TAG: &str = "recovery-point";
/// The tag of everything that we capture.
pub const OWN_TAG: &str = "lifeboat";
/// What a tag begins with that names the fleet of a capture.
pub(crate) const FLEET_TAG: &str = "fleet=";
/// Where the snapshots of all apps have their paths.
pub(crate) const APPS: &str = "/apps/";

/// A recovery point that is to be written.
pub struct PointWriter<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// Its index, with the captures in it.
    pub index: &'a RwLock<Index>,
    /// The lock.
    pub lock: Option<&'a LockGuard>,
    /// The fleet.
    pub fleet: &'a Fleet,
    /// The app.
    pub app: &'a str,
    /// The text of the fleet file, if there is one: what is captured how is a part of what comes back.
    pub fleet_file: Option<&'a [u8]>,
    /// How to store.
    pub ingest: IngestOptions,
    /// Who is told of points that are passed over.
    pub events: &'a dyn EventSink,
    /// The wish to stop.
    pub cancel: &'a Cancel,
}

/// A recovery point could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum PointFailure {
    /// The record can't be made or read.
    #[error("write the recovery point")]
    Record(#[from] PointError),
    /// It can't be stored.
    #[error("write the recovery point")]
    Protect(#[from] ProtectError),
    /// The repository failed.
    #[error("write the recovery point")]
    Repo(#[from] RepoError),
}

impl PointWriter<'_> {
    /// Writes the point that follows the newest of the app by the host of `draft`; `known` are the snapshots that the index
    /// was read with.
    ///
    /// # Errors
    /// As [`write`](Self::write), or when the point before can't be had.
    pub fn follow(
        &self,
        known: &[(Id, Snapshot)],
        done: BTreeMap<String, PointMember>,
        draft: Snapshot,
        now: Timestamp,
    ) -> Result<(Id, RecoveryPoint), PointFailure> {
        let path = path_of(self.app);
        // Another member may have been captured meanwhile, and its point is in no index that was read before.
        let snapshots = self.repository.snapshots()?.all;
        let of_app = snapshots.iter().filter(|(_, snapshot)| {
            snapshot.hostname == draft.hostname && snapshot.paths.contains(&path)
        });
        let mut candidates: Vec<(Id, &Snapshot)> =
            of_app.map(|(id, snapshot)| (*id, snapshot)).collect();
        // One of a time that has not come is from a clock that was wrong, and all that follow would follow it.
        let is_of_now = |snapshot: &Snapshot| {
            snapshot.time.unix_nanoseconds() - now.unix_nanoseconds()
                <= CLOCK_SLACK.as_nanos() as i128
        };
        candidates.sort_by_key(|(id, snapshot)| Reverse((is_of_now(snapshot), snapshot.time, *id)));
        let is_known = |(id, _): &(Id, &Snapshot)| known.iter().any(|(known, _)| known == id);
        let before = match candidates.iter().all(is_known) {
            true => {
                let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
                newest_point(&BlobReader::new(self.repository, &index), &candidates)?
            }
            false => {
                let (index, _) = self.repository.load_index(PackListing::Skip, self.cancel)?;
                newest_point(&BlobReader::new(self.repository, &index), &candidates)?
            }
        };
        let sound = before.as_ref().map(|(id, _)| *id);
        for (id, _) in candidates.iter().take_while(|(id, _)| Some(*id) != sound) {
            self.events.event(Event::Note(format!(
                "the recovery point {} of {} is damaged and passed over: members that it alone names come with their next capture",
                id.short(),
                self.app
            )));
        }
        let draft = Snapshot {
            parent: before.as_ref().map(|(id, _)| *id),
            ..draft
        };
        self.write(before.as_ref().map(|(_, point)| point), done, draft, now)
    }

    /// Writes the point that follows `before`: these members were captured or failed, the others are carried. `draft` is
    /// the snapshot with everything but time, paths, tags and tree.
    ///
    /// # Errors
    /// When it can't be stored; the captures are there all the same.
    pub fn write(
        &self,
        before: Option<&RecoveryPoint>,
        done: BTreeMap<String, PointMember>,
        draft: Snapshot,
        now: Timestamp,
    ) -> Result<(Id, RecoveryPoint), PointFailure> {
        let of = (self.fleet.fleet, self.app);
        let point = RecoveryPoint::after(before, Uuid::new_v4(), of, now, done);
        let tree = self.store(&point.to_json()?, now)?;
        let mut tags = tags_of(self.app, self.fleet);
        tags.push(POINT_TAG.to_owned());
        let snapshot = Snapshot {
            time: now,
            tree,
            paths: vec![path_of(self.app)],
            tags,
            ..draft
        };
        let id = acknowledge(
            self.repository,
            self.index,
            self.lock,
            self.cancel,
            &snapshot,
        )?;
        Ok((id, point))
    }

    fn store(&self, json: &[u8], now: Timestamp) -> Result<Id, PointFailure> {
        let place = (self.repository, self.index, self.lock);
        let point = (POINT_FILE, Some(json));
        let files: Vec<SmallFile<'_>> = [point, (FLEET_FILE, self.fleet_file)]
            .into_iter()
            .filter_map(|(name, content)| content.map(|content| SmallFile { name, content }))
            .collect();
        Ok(store_top(place, self.ingest, Vec::new(), &files, now)?)
    }
}

impl PointFailure {
    /// Whether the point itself is damaged, or is none, and stays so.
    pub(crate) fn is_of_point(&self) -> bool {
        match self {
            Self::Protect(ProtectError::Repo(error)) | Self::Repo(error) => error.is_damage(),
            Self::Protect(ProtectError::NotInSnapshot(_)) | Self::Record(PointError::Form(_)) => {
                true
            }
            _ => false,
        }
    }
}

/// The path that the recovery points of an app have; those of its captures lie below it.
#[must_use]
pub fn path_of(app: &str) -> String {
    format!("{APPS}{app}")
}

/// The tags of every snapshot of an app.
#[must_use]
pub fn tags_of(app: &str, fleet: &Fleet) -> Vec<String> {
    vec![
        OWN_TAG.to_owned(),
        format!("app={app}"),
        format!("{FLEET_TAG}{}", fleet.fleet),
    ]
}

/// The newest point among these, which come newest first. One that is damaged is passed over, or there would never be
/// another.
///
/// # Errors
/// When one was written by a later program, or nobody knows what is in it: a point that follows an older one would forget
/// members.
pub fn newest_point(
    reader: &BlobReader<'_>,
    candidates: &[(Id, &Snapshot)],
) -> Result<Option<(Id, RecoveryPoint)>, PointFailure> {
    for (id, snapshot) in candidates {
        match point_of(reader, snapshot.tree) {
            Ok(point) => return Ok(Some((*id, point))),
            Err(error) if error.is_of_point() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The record of a recovery point.
///
/// # Errors
/// When the tree is none of a point, or the record can't be read.
pub fn point_of(reader: &BlobReader<'_>, root: Id) -> Result<RecoveryPoint, PointFailure> {
    let json = small_file(reader, root, POINT_FILE, POINT_MAX_BYTES)?.ok_or_else(|| {
        let none = format!("it is no recovery point: there is no {POINT_FILE} in it");
        ProtectError::NotInSnapshot(none)
    })?;
    Ok(RecoveryPoint::parse(&json)?)
}
