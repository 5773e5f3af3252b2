//! The commands on a whole fleet, one file each.
//! It must never let an option or variable of one repository stand for what the fleet file says.

mod backup;
mod file;
mod known;
mod outside;
mod plan;
mod shown;
mod status;

use std::path::PathBuf;

use clap::Args;

pub use backup::Backup;
pub use plan::Plan;
pub use status::Status;

use crate::args::{Global, Remote};

/// Options of every command on a fleet.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options of every command")]
pub struct FleetGlobal {
    /// The fleet file
    #[arg(
        short,
        long,
        env = "LIFEBOAT_FLEET",
        value_name = "FILE",
        default_value = "lifeboat.yaml"
    )]
    pub file: PathBuf,
    /// How long to wait for a lock, as 30s, 10m or 1h
    #[arg(long, value_name = "DURATION")]
    retry_lock: Option<String>,
    /// Memory for data on its way, in MiB, 160 if not given: less is slower, more rarely faster
    #[arg(long, env = "LIFEBOAT_MEMORY", value_name = "MIB")]
    memory: Option<usize>,
    /// Print JSON for programs: one object a line
    #[arg(long)]
    json: bool,
    /// Print only errors and results
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,
    /// Print more; twice for every entry
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(flatten)]
    remote: Remote,
}

impl FleetGlobal {
    /// The options of a command on one repository of the fleet; where that is and what opens it, the file says.
    pub fn global(&self) -> Global {
        Global {
            retry_lock: self.retry_lock.clone(),
            memory: self.memory,
            json: self.json,
            quiet: self.quiet,
            verbose: self.verbose,
            remote: self.remote.clone(),
            ..Global::default()
        }
    }
}
