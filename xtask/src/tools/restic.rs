//! The two restics that our tests ask: the current one and the one that Debian 12 ships.
//! Each is a fixed version whose source is checked against a hash written here, never "the latest".

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

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
    let source = download(&go, edition)?;
    let restic = tools.build(edition.name, |path| {
        let mut command = Command::new(&go);
        // Inside the module, so that its own go.sum decides which dependencies are genuine.
        command
            .current_dir(&source)
            .args(["build", "-trimpath", "-buildvcs=false", "-o"])
            .arg(path)
            .arg("./cmd/restic");
        shell::run(command.env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0"))
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

/// The directory with the module's source. `go install` would first ask for a list of versions, which not every
/// proxy gives; a download of one version works everywhere.
fn download(go: &Path, edition: &Edition) -> Result<PathBuf> {
    let module = format!("github.com/restic/restic@v{}", edition.version);
    let mut command = Command::new(go);
    command
        .current_dir("/")
        .args(["mod", "download", "-json", &module]);
    // The hash below says more than the public database, which a closed network cannot reach.
    command
        .env("GOTOOLCHAIN", "local")
        .env("GONOSUMDB", "github.com/restic/restic")
        .env("GOFLAGS", "");
    let said = shell::output(&mut command)?;
    let said: Value =
        serde_json::from_str(&said).doing(|| format!("cannot read what go says of {module}"))?;
    let text = |field: &str| {
        said[field]
            .as_str()
            .ok_or_else(|| Failure::new(format!("go tells no {field} of {module}")))
    };
    if text("Sum")? != edition.sum {
        return Err(Failure::new(format!(
            "the source of {module} is not the one we know: {}",
            text("Sum")?
        )));
    }
    Ok(PathBuf::from(text("Dir")?))
}
