//! The checkout: where it lies and which crates cargo sees in it.
//! It describes and never judges; the rules about crates are in `tidy`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::failure::{Failure, Result, While};
use crate::shell;

/// The directory of the workspace's `Cargo.toml`.
pub(crate) fn root() -> PathBuf {
    let xtask = std::env::var("CARGO_MANIFEST_DIR")
        .unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    Path::new(&xtask)
        .parent()
        .unwrap_or(Path::new("/"))
        .to_owned()
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// When a dependency is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// In what is shipped, or in building it.
    Always,
    /// In tests, benchmarks and examples only.
    Testing,
}

/// One crate of the workspace, as far as the rules care.
#[derive(Clone, Debug)]
pub(crate) struct Crate {
    pub name: String,
    /// Its directory, relative to the root.
    pub dir: PathBuf,
    pub dependencies: Vec<(String, When)>,
}

/// Every crate of the workspace, from `cargo metadata`.
pub(crate) fn crates() -> Result<Vec<Crate>> {
    let json = shell::output(cargo().args(["metadata", "--no-deps", "--format-version=1"]))?;
    let metadata: Value =
        serde_json::from_str(&json).doing(|| "cannot read cargo metadata".into())?;
    let packages = metadata["packages"]
        .as_array()
        .ok_or_else(|| Failure::new("cargo metadata has no packages"))?;
    packages
        .iter()
        .map(|package| read_crate(package, &root()))
        .collect()
}

fn read_crate(package: &Value, root: &Path) -> Result<Crate> {
    let text = |field: &str| {
        package[field]
            .as_str()
            .ok_or_else(|| Failure::new(format!("cargo metadata: a package without {field}")))
    };
    let manifest = Path::new(text("manifest_path")?);
    let dir = manifest.parent().unwrap_or(manifest);
    let dependencies = package["dependencies"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|dependency| {
            let when = if dependency["kind"] == "dev" {
                When::Testing
            } else {
                When::Always
            };
            Some((dependency["name"].as_str()?.to_owned(), when))
        });
    Ok(Crate {
        name: text("name")?.to_owned(),
        dir: dir.strip_prefix(root).unwrap_or(dir).to_owned(),
        dependencies: dependencies.collect(),
    })
}
