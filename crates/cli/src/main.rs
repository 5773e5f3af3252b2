//! The `lifeboat` program: arguments become a request, the request is run, and what happened is printed.
//! It must never decide anything itself, and is the only crate that prints or reads the environment.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod advice;
mod args;
mod exit;
mod failure;
mod format;
mod progress;
mod repo;
mod signals;
mod ui;

use std::sync::Arc;

use clap::FromArgMatches;

use crate::args::{Cli, Command, Global};
use crate::ui::Ui;

fn main() {
    let matches = args::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let exit = match cli.command {
        Command::Repo(command) => {
            let ui = Arc::new(Ui::new(&command.global));
            let done = repo::run(*command, &ui);
            ui.end(done)
        }
        Command::Generate(generate) => {
            let ui = Ui::new(&Global::default());
            ui.end(args::generate(&generate, &ui))
        }
    };
    std::process::exit(exit.code());
}
