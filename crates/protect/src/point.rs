//! Writes the recovery point of an app: the small snapshot that comes last, after all captures that it names.
//! It must never name a capture that is not stored, nor pass for the capture of a member.

use std::collections::BTreeMap;
use std::sync::RwLock;

use lifeboat_flow::{Cancel, Timestamp};
use lifeboat_format::{Id, Snapshot};
use lifeboat_plan::{POINT_FILE, POINT_MAX_BYTES, PointError, PointMember, RecoveryPoint};
use lifeboat_repo::{BlobReader, Index, IngestOptions, LockGuard, RepoError, Repository};
use uuid::Uuid;

use crate::ProtectError;
use crate::backup::acknowledge;
use crate::fleet::Fleet;
use crate::record::small_file;
use crate::small_tree::{SmallFile, store_top};

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
    /// How to store.
    pub ingest: IngestOptions,
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
        let file = SmallFile {
            name: POINT_FILE,
            content: json,
        };
        Ok(store_top(place, self.ingest, Vec::new(), &[file], now)?)
    }
}

impl PointFailure {
    /// Whether the point itself is damaged, or is none, and stays so.
    pub(crate) fn is_of_point(&self) -> bool {
        match self {
            Self::Protect(ProtectError::Repo(error)) => error.is_damage(),
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
