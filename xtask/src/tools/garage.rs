//! Garage, the S3 server that tests run against.
//! It is run as it is and never read or linked: its licence is not ours.

use std::path::PathBuf;
use std::process::Command;

use super::Toolbox;
use crate::failure::{Failure, Result, While};
use crate::{shell, workspace};

const VERSION: &str = "2.5.0";
/// One node needs neither clusters of other databases nor telemetry.
const FEATURES: &str = "bundled-libs,sqlite";

/// Garage, built into the cache.
pub(crate) fn ensure(tools: &Toolbox) -> Result<PathBuf> {
    let root = tools.path("garage");
    let garage = root.join("bin/garage");
    if version(&garage).as_deref() == Some(VERSION) {
        return Ok(garage);
    }
    println!("  building Garage {VERSION} (once; this takes a while)");
    let target = root.join("target");
    let mut install = workspace::cargo();
    let install = install.args(["install", "--quiet", "--locked", "--force", "garage"]);
    install.args(["--version", VERSION, "--no-default-features"]);
    install.args(["--features", FEATURES, "--root"]).arg(&root);
    // Its own build directory, or it would mix with ours. It is ten times what is kept of it.
    shell::run(install.arg("--target-dir").arg(&target))?;
    std::fs::remove_dir_all(&target).doing(|| format!("cannot remove {}", target.display()))?;
    match version(&garage).as_deref() {
        Some(VERSION) => Ok(garage),
        _ => Err(Failure::new(format!(
            "{} does not say that it is Garage {VERSION}",
            garage.display()
        ))),
    }
}

/// 2.5.0 from `garage cargo:2.5.0 [features: sqlite]`.
fn version(garage: &std::path::Path) -> Option<String> {
    let said = shell::output(Command::new(garage).arg("--version")).ok()?;
    let version = said.split_whitespace().nth(1)?;
    Some(version.trim_start_matches("cargo:").to_owned())
}
