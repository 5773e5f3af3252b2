//! rustic, the other program that speaks restic's format: to compare speed with, and to work beside it in tests.
//! It is no oracle: what it thinks of a repository decides nothing.

use std::path::PathBuf;
use std::process::Command;

use super::Toolbox;
use crate::failure::{Result, While};
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

/// A rustic for tests, under its name in the cache's `bin`: the one for benchmarks if it is there, otherwise one that
/// builds in a few minutes, without what tests never ask for and without the optimisation that benchmarks need.
pub(crate) fn for_tests(tools: &Toolbox) -> Result<PathBuf> {
    let link = tools.bin("rustic");
    if version(&link).as_deref() == Some(VERSION) {
        return Ok(link);
    }
    let best = tools.path("rustic").join("bin/rustic");
    let found = if version(&best).as_deref() == Some(VERSION) {
        best
    } else {
        build_lean(tools)?
    };
    tools.build("rustic", |path| {
        std::os::unix::fs::symlink(&found, path).doing(|| format!("cannot link {}", path.display()))
    })
}

fn build_lean(tools: &Toolbox) -> Result<PathBuf> {
    println!("  building rustic {VERSION} for tests (once; this takes some minutes)");
    let root = tools.path("rustic-lean");
    let target = root.join("target");
    let mut install = workspace::cargo();
    let install = install.args(["install", "--quiet", "--locked", "--force", "rustic-rs"]);
    install.args(["--version", VERSION, "--debug", "--no-default-features"]);
    install.arg("--root").arg(&root);
    install.arg("--target-dir").arg(&target);
    install.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
    install.env("CARGO_PROFILE_DEV_DEBUG", "0");
    shell::run(install)?;
    std::fs::remove_dir_all(&target).doing(|| format!("cannot remove {}", target.display()))?;
    Ok(root.join("bin/rustic"))
}

pub(crate) fn version(rustic: &std::path::Path) -> Option<String> {
    let said = shell::output(Command::new(rustic).arg("--version")).ok()?;
    Some(said.split_whitespace().nth(1)?.to_owned())
}
