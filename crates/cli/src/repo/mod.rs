//! The commands on one repository, one file each.
//! It must never grow a command's work here: this is only the table of them.

pub mod access;
mod backup;
mod cat;
mod check;
pub mod connect;
mod copy;
mod diff;
mod dump;
mod find;
mod find_objects;
mod forget;
mod init;
mod key;
mod ls;
mod ls_ncdu;
mod migrate;
mod mount;
mod near_path;
mod node_view;
mod out;
mod posix_acl;
mod pretty_json;
mod prune;
mod recover;
mod repair;
mod restore;
mod rewrite;
pub mod select;
pub mod session;
mod snapshots;
mod stats;
pub mod store;
mod tag;
mod tar_entry;
mod tree_walk;
mod unlock;

use std::sync::Arc;

use clap::Subcommand;

use crate::args::Repo;
use crate::failure::Outcome;
use crate::ui::Ui;

/// The commands on one repository. What each does is told where its arguments are.
#[derive(Subcommand)]
pub enum RepoCommand {
    Init(init::Init),
    Backup(Box<backup::Backup>),
    Restore(Box<restore::Restore>),
    Snapshots(snapshots::Snapshots),
    Ls(ls::Ls),
    Find(Box<find::Find>),
    Diff(diff::Diff),
    Dump(dump::Dump),
    Mount(Box<mount::Mount>),
    Stats(stats::Stats),
    Cat(cat::Cat),
    Check(check::Check),
    Repair(repair::Repair),
    Forget(Box<forget::Forget>),
    Prune(prune::Prune),
    Copy(Box<copy::Copy>),
    Rewrite(Box<rewrite::Rewrite>),
    Recover(recover::Recover),
    Migrate(migrate::Migrate),
    Tag(tag::Tag),
    Key(key::Key),
    Unlock(unlock::Unlock),
}

/// Runs a command.
pub fn run(repo: Repo, ui: &Arc<Ui>) -> Outcome {
    let global = repo.global;
    // Whatever the command: what it can't keep is refused before anything is done.
    global.memory_bytes()?;
    match repo.command {
        RepoCommand::Init(command) => command.run(&global, ui),
        RepoCommand::Backup(command) => command.run(&global, ui),
        RepoCommand::Restore(command) => command.run(&global, ui),
        RepoCommand::Snapshots(command) => command.run(&global, ui),
        RepoCommand::Ls(command) => command.run(&global, ui),
        RepoCommand::Find(command) => command.run(&global, ui),
        RepoCommand::Diff(command) => command.run(&global, ui),
        RepoCommand::Dump(command) => command.run(&global, ui),
        RepoCommand::Mount(command) => command.run(&global, ui),
        RepoCommand::Stats(command) => command.run(&global, ui),
        RepoCommand::Cat(command) => command.run(&global, ui),
        RepoCommand::Check(command) => command.run(&global, ui),
        RepoCommand::Repair(command) => command.run(&global, ui),
        RepoCommand::Forget(command) => command.run(&global, ui),
        RepoCommand::Prune(command) => command.run(&global, ui),
        RepoCommand::Copy(command) => command.run(&global, ui),
        RepoCommand::Rewrite(command) => command.run(&global, ui),
        RepoCommand::Recover(command) => command.run(&global, ui),
        RepoCommand::Migrate(command) => command.run(&global, ui),
        RepoCommand::Tag(command) => command.run(&global, ui),
        RepoCommand::Key(command) => command.run(&global, ui),
        RepoCommand::Unlock(command) => command.run(&global, ui),
    }
}
