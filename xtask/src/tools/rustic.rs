//! rustic, the other program that speaks restic's format, for comparing speed with.
//! It is no oracle: what it thinks of a repository decides nothing.

use std::path::PathBuf;
use std::process::Command;

use super::Toolbox;
use crate::failure::Result;
use crate::{shell, workspace};

const VERSION: &str = "0.11.4";

/// rustic, built into the cache.
pub(crate) fn ensure(tools: &Toolbox) -> Result<PathBuf> {
    let root = tools.path("rustic");
    let rustic = root.join("bin/rustic");
    if version(&rustic).as_deref() == Some(VERSION) {
        return Ok(rustic);
    }
    println!("  building rustic {VERSION} (once; this takes a while)");
    let mut install = workspace::cargo();
    install
        .args([
            "install",
            "--quiet",
            "--locked",
            "--force",
            "rustic-rs",
            "--version",
            VERSION,
            "--root",
        ])
        .arg(&root);
    // Its own build directory, or it would mix with ours.
    shell::run(install.arg("--target-dir").arg(root.join("target")))?;
    Ok(rustic)
}

pub(crate) fn version(rustic: &std::path::Path) -> Option<String> {
    let said = shell::output(Command::new(rustic).arg("--version")).ok()?;
    Some(said.split_whitespace().nth(1)?.to_owned())
}
