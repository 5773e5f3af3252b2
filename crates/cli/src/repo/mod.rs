//! The commands on one repository, one file each.
//! It must never grow a command's work here: this is only the table of them.

mod backup;
mod cat;
mod check;
mod diff;
mod dump;
mod find;
mod find_objects;
mod forget;
mod init;
mod key;
mod ls;
mod ls_ncdu;
mod node_view;
mod out;
mod posix_acl;
mod pretty_json;
mod restore;
mod select;
mod session;
mod snapshots;
mod stats;
mod tag;
mod tar_entry;
mod tree_walk;
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
    /// List the entries of a snapshot
    Ls(ls::Ls),
    /// Find entries by name, or what uses a blob, tree or pack
    Find(Box<find::Find>),
    /// Show what changed between two snapshots
    Diff(diff::Diff),
    /// Write a file of a snapshot, or a directory of it as an archive
    Dump(dump::Dump),
    /// Show how large snapshots are
    Stats(stats::Stats),
    /// Show an object of the repository as it is
    Cat(cat::Cat),
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
        RepoCommand::Ls(command) => command.run(&global, ui),
        RepoCommand::Find(command) => command.run(&global, ui),
        RepoCommand::Diff(command) => command.run(&global, ui),
        RepoCommand::Dump(command) => command.run(&global, ui),
        RepoCommand::Stats(command) => command.run(&global, ui),
        RepoCommand::Cat(command) => command.run(&global, ui),
        RepoCommand::Check(command) => command.run(&global, ui),
        RepoCommand::Forget(command) => command.run(&global, ui),
        RepoCommand::Tag(command) => command.run(&global, ui),
        RepoCommand::Key(command) => command.run(&global, ui),
        RepoCommand::Unlock(command) => command.run(&global, ui),
    }
}
