//! What every capture of a database ends with: the recovery point of its app.
//! It must never be written before the capture is.

use std::collections::BTreeMap;
use std::sync::RwLock;

use lifeboat_format::{Id, Snapshot, Timestamp};
use lifeboat_plan::{MemberState, PointMember};
use lifeboat_protect::{Fleet, PointWriter, path_of};
use lifeboat_repo::{Index, IngestOptions};

use super::name::MemberName;
use super::which::newest;
use crate::failure::Failure;
use crate::repo::select::Filter;
use crate::repo::session::Session;

/// The fleet of this name, which is the host of its snapshots. One that changes nothing does not found it.
pub fn fleet(session: &Session, name: &str, is_dry: bool) -> Result<Option<Fleet>, Failure> {
    let found = match is_dry {
        true => Fleet::find(&session.repository, name),
        false => {
            let host = lifeboat_repo::Identity::of_this_process().hostname;
            let now = lifeboat_repo::now();
            Fleet::find_or_found(&session.repository, name, &host, now).map(Some)
        }
    };
    found.map_err(|error| Failure::from_error(&error))
}

/// A capture that is stored.
pub struct Stored<'a> {
    /// What it is called.
    pub name: &'a MemberName,
    /// What reads and starts it.
    pub engine: &'a str,
    /// The instant that comes back.
    pub instant: Timestamp,
    /// Faults in it.
    pub faults: u64,
    /// Its tree.
    pub tree: Id,
}

impl Stored<'_> {
    /// Writes the point in which this member is captured and the others of the app are carried. `known` are the snapshots
    /// from before, `draft` is that of the capture.
    pub fn write_point(
        &self,
        session: &Session,
        index: &RwLock<Index>,
        ingest: IngestOptions,
        fleet: &Fleet,
        (known, draft): (&[(Id, Snapshot)], Snapshot),
    ) -> Result<Id, Failure> {
        let filter = Filter::new(
            vec![draft.hostname.clone()],
            Vec::new(),
            vec![path_of(&self.name.app)],
        );
        let now = lifeboat_repo::now();
        let before = newest(known, &filter, now);
        let captured = PointMember {
            state: MemberState::Captured,
            engine: self.engine.to_owned(),
            instant: Some(self.instant),
            tree: Some(self.tree),
            repository: Some(session.repository.config().id.to_string()),
            faults: self.faults,
            error: None,
        };
        let writer = PointWriter {
            repository: &session.repository,
            index,
            lock: session.lock.as_ref(),
            fleet,
            app: &self.name.app,
            ingest,
            cancel: &session.cancel,
        };
        let done = BTreeMap::from([(self.name.member.clone(), captured)]);
        let draft = Snapshot {
            parent: before.map(|(id, _)| id),
            ..draft
        };
        let (id, _) = writer
            .write(before.map(|(_, snapshot)| snapshot), done, draft, now)
            .map_err(|error| {
                Failure::from_error(&error).hint(
                    "the capture itself is stored and can be restored; the next one writes the point anew",
                )
            })?;
        Ok(id)
    }
}
