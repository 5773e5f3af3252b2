//! The commands on one repository, one file each.
//! It must never grow a command's work here: this is only the table of them.

mod backup;
mod check;
mod init;
mod restore;
mod session;

use clap::Subcommand;

use crate::args::Repo;
use crate::failure::Outcome;
use crate::ui::Ui;

/// The commands on one repository.
#[derive(Subcommand)]
pub enum RepoCommand {
    /// Make a new repository
    Init(init::Init),
    /// Back up files and directories into a new snapshot
    Backup(Box<backup::Backup>),
    /// Restore a snapshot into a directory
    Restore(Box<restore::Restore>),
    /// Check that everything is there that snapshots need
    Check(check::Check),
}

/// Runs a command.
pub fn run(repo: Repo, ui: &Ui) -> Outcome {
    let global = repo.global;
    match repo.command {
        RepoCommand::Init(command) => command.run(&global, ui),
        RepoCommand::Backup(command) => command.run(&global, ui),
        RepoCommand::Restore(command) => command.run(&global, ui),
        RepoCommand::Check(command) => command.run(&global, ui),
    }
}
