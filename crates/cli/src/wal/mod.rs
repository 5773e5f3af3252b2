//! The commands on the archive of a cluster's log, one file each.
//! It must never let `fetch` end with a status that the server takes for the end of the log, unless it is the end.

mod cluster;
mod fetch;
mod fold;
mod push;
mod queue;
mod resident;
mod status;
mod stream;

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};

use lifeboat_state::postgres::WalName;

use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::ui::Ui;

/// `lifeboat wal`.
#[derive(Args)]
#[command(arg_required_else_help = true)]
pub struct Wal {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: WalCommand,
}

/// The commands on the archive. What each does is told where its arguments are.
#[derive(Subcommand)]
pub enum WalCommand {
    Push(Box<push::Push>),
    Fetch(fetch::Fetch),
    Fold(Box<fold::Fold>),
    Status(status::Status),
    Stream(Box<stream::Stream>),
    #[command(hide = true)]
    Resident(resident::Serve),
}

/// Runs a command.
pub fn run(wal: Wal, ui: &Arc<Ui>) -> Outcome {
    let global = wal.global;
    global.memory_bytes()?;
    match wal.command {
        WalCommand::Push(command) => command.run(&global, ui),
        WalCommand::Fetch(command) => command.run(&global, ui),
        WalCommand::Fold(command) => command.run(&global, ui),
        WalCommand::Status(command) => command.run(&global, ui),
        WalCommand::Stream(command) => command.run(&global, ui),
        WalCommand::Resident(command) => command.run(),
    }
}

/// How long a push tries again by itself: the server does so too, keeps the file, and can't stop while a push goes on.
const PATIENCE: Duration = Duration::from_secs(30);

/// These options, for who had better fail than wait.
fn impatient(global: &Global) -> Global {
    let mut global = global.clone();
    global.remote.patience = Some(PATIENCE);
    global
}

/// Areas of the program in which no server asks for anything.
const OTHER_AREAS: [&str; 4] = ["db", "generate", "help", "repo"];

/// Whether a server may be asking for a file of its log by this command line, however it is misspelt.
pub fn may_be_fetch(arguments: impl Iterator<Item = OsString>) -> bool {
    let words = arguments.skip(1).filter_map(|word| word.into_string().ok());
    let mut words = words.filter(|word| !word.starts_with('-')).peekable();
    let is_other = words
        .peek()
        .is_some_and(|area| OTHER_AREAS.contains(&area.as_str()));
    !is_other
        && words.any(|word| {
            word.to_ascii_lowercase().contains("fetch") || word.parse::<WalName>().is_ok()
        })
}

/// The status for a server that asks. One below 126 tells it that the log ends there (measured: it promotes, and what comes
/// later is lost), so that only the end is told so.
pub fn for_server(exit: Exit) -> i32 {
    match exit {
        Exit::Done | Exit::EndOfLog => exit.code(),
        _ => Exit::FetchFailed.code(),
    }
}
