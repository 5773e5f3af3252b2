//! cargo-fuzz, which builds and runs the fuzz targets with the compiler that everything else is built with.
//! It needs no other toolchain: what it asks of a nightly one, a stable one does when it is told to.

use std::path::PathBuf;
use std::process::Command;

use super::Toolbox;
use crate::failure::Result;
use crate::{shell, workspace};

const VERSION: &str = "0.13.2";

/// cargo-fuzz, built into the cache.
pub(crate) fn ensure(tools: &Toolbox) -> Result<PathBuf> {
    let root = tools.path("cargo-fuzz");
    let fuzz = root.join("bin/cargo-fuzz");
    let said = shell::output(Command::new(&fuzz).arg("--version"));
    if said.is_ok_and(|said| said.split_whitespace().nth(1) == Some(VERSION)) {
        return Ok(fuzz);
    }
    println!("  building cargo-fuzz {VERSION} (once)");
    let mut install = workspace::cargo();
    let install = install.args(["install", "--quiet", "--locked", "--force", "cargo-fuzz"]);
    install.args(["--version", VERSION, "--root"]).arg(&root);
    // Its own build directory, or it would mix with ours.
    shell::run(install.arg("--target-dir").arg(root.join("target")))?;
    Ok(fuzz)
}
