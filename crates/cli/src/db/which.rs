//! Which capture a command is about: by the ID of its snapshot, or the newest of a name.
//! It must never take the capture of another member for the newest.

use clap::Args;
use lifeboat_format::{Id, Snapshot, Timestamp};

use super::name::MemberName;
use crate::failure::Failure;
use crate::format;
use crate::repo::select::{self, Filter, Found};
use crate::repo::session::Session;
use crate::ui::Ui;

/// The newest capture, as restic's users call it.
const LATEST: &str = "latest";

/// The options that name a capture.
#[derive(Args)]
pub struct WhichArgs {
    /// The capture: the ID of its snapshot, `latest` or `latest~1`
    #[arg(value_name = "SNAPSHOT", default_value = LATEST)]
    snapshot: String,
    /// What the capture is called, for `latest`
    #[arg(long, value_name = "APP/MEMBER", default_value = "postgres/cluster")]
    pub name: MemberName,
    /// The host that the snapshot names
    #[arg(short = 'H', long, env = "RESTIC_HOST", value_name = "NAME")]
    host: Option<String>,
}

impl WhichArgs {
    /// The snapshot of the capture; for `latest` the newest that is not later than a moment, if one is given.
    pub fn find(
        &self,
        session: &Session,
        ui: &Ui,
        not_after: Option<Timestamp>,
    ) -> Result<Found, Failure> {
        let hosts = self.host.iter().filter(|host| !host.is_empty()).cloned();
        let filter = filter(hosts.collect(), &self.name);
        let Some(time) = not_after.filter(|_| self.snapshot == LATEST) else {
            return select::one(session, ui, &self.snapshot, &filter);
        };
        let snapshots = session.snapshots(ui)?;
        let (id, snapshot) = newest(&snapshots, &filter, time).ok_or_else(|| {
            Failure::new(format!(
                "there is no capture from before {}",
                format::time(time)
            ))
            .hint("`lifeboat repo snapshots --tag lifeboat` lists all captures")
        })?;
        Ok(Found {
            id,
            snapshot: snapshot.clone(),
            subfolder: Vec::new(),
        })
    }
}

/// Captures of a name, of these hosts or of any.
pub fn filter(hosts: Vec<String>, name: &MemberName) -> Filter {
    Filter::new(hosts, Vec::new(), vec![name.path()])
}

/// The newest of these snapshots that passes and is not later than a moment.
pub fn newest<'a>(
    snapshots: &'a [(Id, Snapshot)],
    filter: &Filter,
    time: Timestamp,
) -> Option<(Id, &'a Snapshot)> {
    let facts = select::facts(snapshots);
    let fits = snapshots.iter().zip(&facts);
    let fits = fits.filter(|(_, facts)| filter.passes(facts) && facts.time <= time);
    let newest = fits.max_by_key(|(_, facts)| facts.age_key());
    newest.map(|((id, snapshot), _)| (*id, snapshot))
}
