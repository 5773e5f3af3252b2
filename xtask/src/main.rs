//! The project's own chores: the rules that no compiler knows, the whole test run, the demo and the benchmark.
//! Nothing here is shipped, and no chore may change a file outside the checkout, the tool cache and its own
//! temporary directory.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod demo;
mod failure;
mod noise;
mod scratch;
mod shell;
mod suite;
mod tidy;
mod tools;
mod tree;
mod units;
mod workspace;

use std::process::ExitCode;

use failure::{Failure, Result};

const USAGE: &str = "\
usage: cargo xtask <chore> [options]

  tidy              check the rules that no compiler knows
  test              install what the tests need, then run every check
  tools             install what the tests need, and say where it is
  demo              back up this machine's own files twice, restore both, prove them equal
  bench             compare with restic and rustic; writes bench/
  soak              run the long test matrices whole
  fuzz [SECONDS]    fuzz every parser of untrusted bytes, SECONDS each (default 60)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (chore, options) = match arguments.split_first() {
        Some((chore, options)) => (chore.as_str(), options),
        None => ("help", [].as_slice()),
    };
    match run(chore, options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nxtask {chore}: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: &str, options: &[String]) -> Result<()> {
    match chore {
        "tidy" => tidy::run(),
        "test" => suite::test(),
        "tools" => suite::tools(),
        "bench" => bench::run(options),
        "demo" => demo::run(options),
        "soak" => suite::soak(),
        "fuzz" => suite::fuzz(options),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        other => Err(Failure::new(format!(
            "there is no chore {other:?}\n\n{USAGE}"
        ))),
    }
}
