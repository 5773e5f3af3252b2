//! What tests and benchmarks need beyond Rust: where it is kept, and how it gets there when it is missing.
//! Nothing is installed twice, and nothing outside the cache is changed but by the system's package manager.

pub(crate) mod fuzz;
pub(crate) mod garage;
pub(crate) mod golang;
pub(crate) mod module;
pub(crate) mod packages;
pub(crate) mod postgres;
pub(crate) mod rest_server;
pub(crate) mod restic;
pub(crate) mod rust;
pub(crate) mod rustic;

use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result, While};

/// Overrides where tools are kept; tests look there too.
const OVERRIDE: &str = "LIFEBOAT_TOOLS";

/// The cache that tools are built into.
#[derive(Clone, Debug)]
pub(crate) struct Toolbox {
    dir: PathBuf,
}

impl Toolbox {
    /// `$LIFEBOAT_TOOLS`, or `lifeboat/tools` in the user's cache directory.
    pub(crate) fn open() -> Result<Self> {
        let dir = match std::env::var_os(OVERRIDE) {
            Some(dir) => PathBuf::from(dir),
            None => cache_dir()?.join("tools"),
        };
        let dir = std::path::absolute(&dir).doing(|| format!("cannot use {}", dir.display()))?;
        create_dir(&dir.join("bin"))?;
        Ok(Self { dir })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn bin(&self, name: &str) -> PathBuf {
        self.dir.join("bin").join(name)
    }

    /// Makes `bin/<name>` by `build`, which writes to the path that it is given. The name appears only when the
    /// build is done, so that a killed build is never mistaken for a finished one.
    pub(crate) fn build(
        &self,
        name: &str,
        build: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let done = self.bin(name);
        let partial = self.bin(&format!(".{name}.{}", std::process::id()));
        let built = build(&partial).and_then(|()| {
            std::fs::rename(&partial, &done)
                .doing(|| format!("cannot put {} in its place", done.display()))
        });
        if built.is_err() {
            // What is left of it may not even exist; the reason why the build failed is what counts.
            let _ = std::fs::remove_file(&partial);
        }
        built.map(|()| done)
    }
}

/// `lifeboat` in the user's cache directory.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    let is_set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let base = is_set("XDG_CACHE_HOME").or_else(|| is_set("HOME").map(|home| home.join(".cache")));
    let base =
        base.ok_or_else(|| Failure::new(format!("set HOME, XDG_CACHE_HOME or {OVERRIDE}")))?;
    Ok(base.join("lifeboat"))
}

pub(crate) fn create_dir(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).doing(|| format!("cannot create {}", dir.display()))
}
