//! The `lifeboat` program: arguments become a request, the request is run, and what happened is printed.
//! It must never decide anything itself, and is the only crate that prints or reads the environment.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod advice;
mod args;
mod db;
mod exit;
mod failure;
mod fleet;
mod format;
mod progress;
mod repo;
mod signals;
mod ui;
mod wal;
mod words;

use std::sync::Arc;

use clap::FromArgMatches;
use lifeboat_format::Kernel;

use crate::args::{Cli, Command, Global};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ui::Ui;

fn main() {
    if !wal::may_be_fetch(std::env::args_os()) {
        std::process::exit(run().code());
    }
    // A server takes most of what a program may end with for the end of its log, a panic's status too.
    let ended = std::panic::catch_unwind(run).unwrap_or(Exit::FetchFailed);
    std::process::exit(wal::for_server(ended));
}

fn run() -> Exit {
    let matches = match args::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return usage(&error),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    if let Err(failure) = kernel() {
        let ui = Ui::new(&Global::default());
        return ui.end(Err(failure));
    }
    match cli.command {
        Command::Plan(command) => {
            let ui = Ui::new(&command.global.global());
            ui.end(command.run(&ui))
        }
        Command::Backup(command) => {
            let ui = Ui::new(&command.global.global());
            ui.end(command.run(&ui))
        }
        Command::Status(command) => {
            let ui = Ui::new(&command.global.global());
            ui.end(command.run(&ui))
        }
        Command::Repo(command) => {
            let ui = Arc::new(Ui::new(&command.global));
            let done = repo::run(*command, &ui);
            ui.end(done)
        }
        Command::Db(command) => {
            let ui = Arc::new(Ui::new(&command.global));
            let done = db::run(*command, &ui);
            ui.end(done)
        }
        Command::Wal(command) => {
            let ui = Arc::new(Ui::new(&command.global));
            let done = wal::run(*command, &ui);
            ui.end(done)
        }
        Command::Generate(generate) => {
            let ui = Ui::new(&Global::default());
            ui.end(args::generate(&generate, &ui))
        }
    }
}

/// Says what is wrong with the arguments, or what was asked for: the help, the version.
fn usage(error: &clap::Error) -> Exit {
    // Where nobody listens any more, nothing can be said.
    let _ = error.print();
    match error.exit_code() {
        0 => Exit::Done,
        _ => Exit::Usage,
    }
}

/// The variable that picks the instructions of the hot loops, for tests and support.
const KERNEL_VARIABLE: &str = "LIFEBOAT_KERNEL";

/// Uses the instructions that the environment asks for, if it does.
fn kernel() -> Result<(), Failure> {
    let Some(name) = std::env::var_os(KERNEL_VARIABLE).filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    let name = name.to_string_lossy();
    if Kernel::of_name(&name).is_some_and(|kernel| kernel.choose().is_ok()) {
        return Ok(());
    }
    let fit = Kernel::ALL.iter().filter(|kernel| kernel.is_available());
    let fit: Vec<&str> = fit.map(|kernel| kernel.name()).collect();
    Err(Failure::new(format!(
        "{KERNEL_VARIABLE}={name} is none of the instruction sets that this processor can run"
    ))
    .hint(format!("it can run: {}", fit.join(", "))))
}
