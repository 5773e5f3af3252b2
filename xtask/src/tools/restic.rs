//! The two restics that our tests ask: the current one and the one that Debian 12 ships.
//! Each is a fixed version whose source is checked against a hash written here, never "the latest".

use std::path::{Path, PathBuf};
use std::process::Command;

use super::module::{self, Module};
use super::{Toolbox, golang, packages};
use crate::failure::{Failure, Result, While};
use crate::shell;

/// A version of restic to be an oracle.
struct Edition {
    version: &'static str,
    /// Its name in the cache's `bin`.
    name: &'static str,
    /// The module's hash, as in a go.sum.
    sum: &'static str,
}

const CURRENT: Edition = Edition {
    version: "0.19.1",
    name: "restic-0.19",
    sum: "h1:LQKkar5/gYxay1OCokAWPBNiLr1lTpt4fhdM4GWqSlY=",
};

const OF_DEBIAN_12: Edition = Edition {
    version: "0.14.0",
    name: "restic-0.14",
    sum: "h1:J4zD0d++itrJHP3KVDDCvmMl1c8+MPJG2bdYgR/KDpo=",
};

/// Current restic, built into the cache.
pub(crate) fn current(tools: &Toolbox) -> Result<PathBuf> {
    let restic = tools.bin(CURRENT.name);
    if is_edition(&restic, &CURRENT) {
        Ok(restic)
    } else {
        build(tools, &CURRENT)
    }
}

/// restic 0.14: Debian 12's own, or the same version built where the system has another.
pub(crate) fn of_debian_12(tools: &Toolbox) -> Result<PathBuf> {
    let restic = tools.bin(OF_DEBIAN_12.name);
    if is_edition(&restic, &OF_DEBIAN_12) {
        return Ok(restic);
    }
    let system = Path::new("/usr/bin/restic");
    if !system.exists() && packages::is_debian() && debian_has_it() {
        packages::install(&["restic"])?;
    }
    if is_edition(system, &OF_DEBIAN_12) {
        // A link, so that tests find both in one place.
        return tools.build(OF_DEBIAN_12.name, |path| {
            std::os::unix::fs::symlink(system, path)
                .doing(|| format!("cannot link {}", path.display()))
        });
    }
    build(tools, &OF_DEBIAN_12)
}

/// Debian 12 is the release that ships it; a newer one need not be given a restic that nobody asks.
fn debian_has_it() -> bool {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    release
        .lines()
        .any(|line| line == "VERSION_CODENAME=bookworm")
}

/// The version that a restic says it is.
pub(crate) fn version(restic: &Path) -> Option<String> {
    let said = shell::output(Command::new(restic).arg("version")).ok()?;
    Some(said.split(' ').nth(1)?.to_owned())
}

fn is_edition(restic: &Path, edition: &Edition) -> bool {
    version(restic).as_deref() == Some(edition.version)
}

fn build(tools: &Toolbox, edition: &Edition) -> Result<PathBuf> {
    let go = golang::ensure(tools)?;
    println!("  building restic {} (once)", edition.version);
    let source = module::download(
        &go,
        &Module {
            path: "github.com/restic/restic",
            version: edition.version,
            sum: edition.sum,
        },
    )?;
    let restic = tools.build(edition.name, |path| {
        module::build(&go, &source, "./cmd/restic", path)
    })?;
    if is_edition(&restic, edition) {
        Ok(restic)
    } else {
        Err(Failure::new(format!(
            "{} does not say that it is restic {}",
            restic.display(),
            edition.version
        )))
    }
}
