//! Finds the snapshots that a command is about, by ID, name and filter.
//! It must never guess: a name that fits several snapshots is an error that lists them.

use clap::Args;
use lifeboat_format::{Id, Snapshot};
use lifeboat_plan::{
    SelectError, SnapshotFacts, SnapshotFilter, SnapshotPath, TagList, select, select_one,
};

use super::session::Session;
use crate::failure::Failure;
use crate::ui::Ui;

/// Which snapshots count.
pub type Filter = SnapshotFilter;

/// The options that choose snapshots.
#[derive(Args, Default)]
#[command(next_help_heading = "Which snapshots")]
pub struct FilterArgs {
    /// Only snapshots of this host; several by repeating it
    #[arg(short = 'H', long, env = "RESTIC_HOST", value_name = "NAME")]
    pub host: Vec<String>,
    /// Only snapshots with these tags, as `a,b` for both; several by repeating it for either
    #[arg(long, value_name = "TAGS")]
    pub tag: Vec<String>,
    /// Only snapshots of this path; of all of them if repeated
    #[arg(long, value_name = "PATH")]
    pub path: Vec<String>,
}

impl FilterArgs {
    /// The filter.
    pub fn filter(&self) -> Filter {
        let tags = self
            .tag
            .iter()
            .map(|list| list.parse::<TagList>().unwrap_or_default())
            .collect();
        let paths = self
            .path
            .iter()
            .map(|path| super::backup::absolute_text(path))
            .collect();
        Filter::new(self.host.clone(), tags, paths)
    }
}

/// One snapshot, with the directory of it that was named.
pub struct Found {
    /// Its ID.
    pub id: Id,
    /// What it says.
    pub snapshot: Snapshot,
    /// The directory, empty for all.
    pub subfolder: Vec<u8>,
}

/// The snapshot of a name.
pub fn one(session: &Session, ui: &Ui, name: &str, filter: &Filter) -> Result<Found, Failure> {
    let path = parse(name)?;
    let snapshots = session.snapshots(ui)?;
    let facts = facts(&snapshots);
    let chosen = select_one(&path.name, filter, &facts)
        .map_err(|error| Failure::from_error(&error))?
        .id;
    let found = snapshots.into_iter().find(|(id, _)| *id == chosen);
    let (id, snapshot) = found.ok_or_else(|| {
        Failure::new(format!("snapshot {chosen} vanished while it was looked up"))
    })?;
    Ok(Found {
        id,
        snapshot,
        subfolder: path.subfolder,
    })
}

/// The snapshots of names; without names all that pass the filter, from old to new. A wrong name is an error.
pub fn many(
    session: &Session,
    ui: &Ui,
    names: &[String],
    filter: &Filter,
) -> Result<Vec<(Id, Snapshot)>, Failure> {
    // A name that is none is told before anything is fetched.
    names.iter().try_for_each(|name| parse(name).map(drop))?;
    among(&session.snapshots(ui)?, ui, names, filter)
}

/// The same, of snapshots that are known.
pub fn among(
    snapshots: &[(Id, Snapshot)],
    ui: &Ui,
    names: &[String],
    filter: &Filter,
) -> Result<Vec<(Id, Snapshot)>, Failure> {
    let paths = names
        .iter()
        .map(|name| parse(name))
        .collect::<Result<Vec<_>, _>>()?;
    let facts = facts(snapshots);
    let selection = select(&paths, filter, &facts);
    for problem in &selection.problems {
        match problem {
            SelectError::FilterUnused => ui.warn(problem),
            other => return Err(Failure::from_error(other)),
        }
    }
    let find = |id: Id| snapshots.iter().find(|(known, _)| *known == id).cloned();
    Ok(selection
        .chosen
        .iter()
        .filter_map(|chosen| find(chosen.id))
        .collect())
}

/// What decisions look at in these snapshots.
pub fn facts(snapshots: &[(Id, Snapshot)]) -> Vec<SnapshotFacts> {
    snapshots
        .iter()
        .map(|(id, snapshot)| SnapshotFacts::of(*id, snapshot))
        .collect()
}

/// A snapshot's name with the directory in it.
pub fn parse(name: &str) -> Result<SnapshotPath, Failure> {
    SnapshotPath::parse(name.as_bytes()).map_err(|error| Failure::from_error(&error))
}
