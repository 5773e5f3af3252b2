//! The commands on databases, one file each.
//! It must never grow a command's work here: this is only the table of them.

pub mod advice;
mod capture;
mod check;
mod dump;
mod forget;
mod into;
mod name;
mod point;
mod restore;
pub mod server;
mod until;
pub mod verify;
mod which;

use std::sync::Arc;

use clap::{Args, Subcommand};

use crate::args::Global;
use crate::failure::Outcome;
use crate::ui::Ui;

/// `lifeboat db`.
#[derive(Args)]
#[command(arg_required_else_help = true)]
pub struct Db {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: DbCommand,
}

/// The commands on databases. What each does is told where its arguments are.
#[derive(Subcommand)]
pub enum DbCommand {
    Capture(Box<capture::Capture>),
    Check(Box<check::Check>),
    Forget(Box<forget::Forget>),
    Restore(Box<restore::Restore>),
    Verify(Box<verify::Verify>),
}

/// Runs a command.
pub fn run(db: Db, ui: &Arc<Ui>) -> Outcome {
    let global = db.global;
    global.memory_bytes()?;
    match db.command {
        DbCommand::Capture(command) => command.run(&global, ui),
        DbCommand::Check(command) => command.run(&global, ui),
        DbCommand::Forget(command) => command.run(&global, ui),
        DbCommand::Restore(command) => command.run(&global, ui),
        DbCommand::Verify(command) => command.run(&global, ui),
    }
}
