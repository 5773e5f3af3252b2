//! What every capture of a database ends with: the recovery point of its app.
//! It must never be written before the capture is.

use std::collections::BTreeMap;
use std::sync::RwLock;

use lifeboat_format::{Id, Snapshot, Timestamp};
use lifeboat_plan::{MemberState, PointMember};
use lifeboat_protect::{Fleet, PointWriter};
use lifeboat_repo::{Index, IngestOptions};
use serde_json::json;

use super::name::MemberName;
use crate::failure::Failure;
use crate::repo::session::Session;
use crate::ui::Ui;

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

/// What the point needs beside the capture.
pub struct Tie<'a> {
    /// What the capture is called.
    pub name: &'a MemberName,
    /// The repository.
    pub session: &'a Session,
    /// Its index.
    pub index: &'a RwLock<Index>,
    /// How to store.
    pub ingest: IngestOptions,
    /// The fleet; a dry run may not know it.
    pub fleet: Option<&'a Fleet>,
    /// The snapshots from before.
    pub known: &'a [(Id, Snapshot)],
    /// The snapshot of the capture, but for what is in it.
    pub draft: Snapshot,
}

/// A capture that is stored.
pub struct Stored<'a> {
    /// What reads and starts it.
    pub engine: &'a str,
    /// The instant that comes back.
    pub instant: Timestamp,
    /// Faults in it.
    pub faults: u64,
    /// Its tree.
    pub tree: Id,
}

impl Tie<'_> {
    /// Writes the point in which this member is captured and the others of the app are carried, and says so. A dry run has
    /// none.
    pub fn write(self, ui: &Ui, stored: &Stored<'_>) -> Result<(), Failure> {
        let Some(fleet) = self.fleet.filter(|_| !self.ingest.dry_run) else {
            return Ok(());
        };
        let (session, app) = (self.session, &self.name.app);
        let now = lifeboat_repo::now();
        let captured = PointMember {
            state: MemberState::Captured,
            engine: stored.engine.to_owned(),
            instant: Some(stored.instant),
            tree: Some(stored.tree),
            repository: Some(session.repository.config().id.to_string()),
            faults: stored.faults,
            error: None,
        };
        let writer = PointWriter {
            repository: &session.repository,
            index: self.index,
            lock: session.lock.as_ref(),
            fleet,
            app,
            fleet_file: None,
            ingest: self.ingest,
            events: ui,
            cancel: &session.cancel,
        };
        let done = BTreeMap::from([(self.name.member.clone(), captured)]);
        let (point, _) = writer
            .follow(self.known, done, self.draft, now)
            .map_err(|error| {
                Failure::of_database(&error).hint(
                    "the capture itself is stored and can be restored; the next one writes the point anew",
                )
            })?;
        match ui.json {
            true => ui.object(&json!({
                "message_type": "recovery_point", "snapshot_id": point.to_string(), "app": app, "fleet": fleet.fleet,
            })),
            false => ui.line(format_args!("recovery point {} of {app}", point.short())),
        }
        Ok(())
    }
}
