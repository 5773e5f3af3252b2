//! The parts of the Rust toolchain that a minimal installation lacks.
//! It adds components to the toolchain in use and never switches or updates one.

use std::process::Command;

use crate::failure::{Failure, Result};
use crate::shell;
use crate::workspace;

/// Makes sure that `cargo fmt` and `cargo clippy` work.
pub(crate) fn ensure_components() -> Result<()> {
    for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if shell::output(workspace::cargo().args([subcommand, "--version"])).is_ok() {
            continue;
        }
        if shell::find("rustup").is_none() {
            return Err(Failure::new(format!(
                "please install {component} for this Rust toolchain"
            )));
        }
        println!("  installing {component}");
        shell::run(Command::new("rustup").current_dir(workspace::root()).args([
            "component",
            "add",
            component,
        ]))?;
    }
    Ok(())
}
