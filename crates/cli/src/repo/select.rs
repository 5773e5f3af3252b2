//! Finds the snapshots that a command is about, by ID, name and filter.
//! It must never guess: a name that fits several snapshots is an error that lists them.

use clap::Args;
use lifeboat_format::{Id, Snapshot};
use lifeboat_plan::{SnapshotFacts, SnapshotFilter, SnapshotName, SnapshotPath, TagList};

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
        Filter {
            hosts: self.host.iter().filter(|host| !host.is_empty()).cloned().collect(),
            tags: self.tag.iter().map(|list| TagList::parse(list)).collect(),
            paths: self.path.clone(),
            ..Filter::default()
        }
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
