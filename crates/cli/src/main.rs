//! The `lifeboat` program: arguments become a request, the request is run, and what happened is printed.
//! It must never decide anything itself, and is the only crate that prints or reads the environment.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod exit;
mod failure;
mod format;
mod progress;
mod repo;
mod signals;
mod ui;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::exit::Exit;
use crate::ui::Ui;

fn main() {
    let cli = Cli::parse();
    let exit = match cli.command {
        Command::Repo(command) => {
            let ui = Ui::new(&command.global);
            let done = repo::run(*command, &ui);
            ui.end(done)
        }
        Command::Generate(generate) => args::generate(&generate).unwrap_or(Exit::Failed),
    };
    std::process::exit(exit.code());
}
