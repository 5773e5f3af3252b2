//! A Go module at one version, fetched and built: what restic and its servers are shipped as.
//! It must never build a source whose hash is not the one that is written here.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::failure::{Failure, Result, While};
use crate::shell;

/// A module at one version.
pub(crate) struct Module {
    /// As `github.com/restic/restic`.
    pub(crate) path: &'static str,
    /// Without the `v`.
    pub(crate) version: &'static str,
    /// The hash of its source, as in a go.sum.
    pub(crate) sum: &'static str,
}

/// The directory with a module's source. `go install` would first ask for a list of versions, which not every proxy
/// gives; a download of one version works everywhere.
pub(crate) fn download(go: &Path, module: &Module) -> Result<PathBuf> {
    let name = format!("{}@v{}", module.path, module.version);
    let mut command = Command::new(go);
    command
        .current_dir("/")
        .args(["mod", "download", "-json", &name]);
    // The hash below says more than the public database, which a closed network cannot reach.
    command
        .env("GOTOOLCHAIN", "local")
        .env("GONOSUMDB", module.path)
        .env("GOFLAGS", "");
    let said = shell::output(&mut command)?;
    let said: Value =
        serde_json::from_str(&said).doing(|| format!("cannot read what go says of {name}"))?;
    let text = |field: &str| {
        said[field]
            .as_str()
            .ok_or_else(|| Failure::new(format!("go tells no {field} of {name}")))
    };
    if text("Sum")? != module.sum {
        return Err(Failure::new(format!(
            "the source of {name} is not the one we know: {}",
            text("Sum")?
        )));
    }
    Ok(PathBuf::from(text("Dir")?))
}

/// Builds a program of a module to a path.
pub(crate) fn build(go: &Path, source: &Path, package: &str, to: &Path) -> Result<()> {
    let mut command = Command::new(go);
    // Inside the module, so that its own go.sum decides which dependencies are genuine.
    command
        .current_dir(source)
        .args(["build", "-trimpath", "-buildvcs=false", "-o"])
        .arg(to)
        .arg(package);
    shell::run(command.env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0"))
}
