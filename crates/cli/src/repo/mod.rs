//! The commands on one repository, one file each.
//! It must never grow a command's work here: this is only the table of them.

mod backup;
mod check;
mod forget;
mod init;
mod key;
mod restore;
mod select;
mod session;
mod snapshots;
mod tag;
mod unlock;

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
    /// List snapshots
    Snapshots(snapshots::Snapshots),
    /// Check that everything is there that snapshots need
    Check(check::Check),
    /// Remove snapshots by a policy
    Forget(Box<forget::Forget>),
    /// Change the tags of snapshots
    Tag(tag::Tag),
    /// List, add and remove passwords
    Key(key::Key),
    /// Remove locks whose holders are gone
    Unlock(unlock::Unlock),
}

/// Runs a command.
pub fn run(repo: Repo, ui: &Ui) -> Outcome {
    let global = repo.global;
    match repo.command {
        RepoCommand::Init(command) => command.run(&global, ui),
        RepoCommand::Backup(command) => command.run(&global, ui),
        RepoCommand::Restore(command) => command.run(&global, ui),
        RepoCommand::Snapshots(command) => command.run(&global, ui),
        RepoCommand::Check(command) => command.run(&global, ui),
        RepoCommand::Forget(command) => command.run(&global, ui),
        RepoCommand::Tag(command) => command.run(&global, ui),
        RepoCommand::Key(command) => command.run(&global, ui),
        RepoCommand::Unlock(command) => command.run(&global, ui),
    }
}
