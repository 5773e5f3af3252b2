//! PostgreSQL's own programs, of the newest version that is installed.
//! Nothing is installed where there is one, whatever its version is.

use std::path::{Path, PathBuf};

use super::packages;
use crate::failure::{Failure, Result};
use crate::tree;

/// Where Debian's packages put a directory for each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// The directory of the newest server's programs, which is installed if there is none.
pub(crate) fn ensure() -> Result<PathBuf> {
    if let Some(programs) = programs() {
        return Ok(programs);
    }
    packages::install(&["postgresql"])?;
    programs().ok_or_else(|| Failure::new("the package postgresql has no initdb"))
}

fn programs() -> Option<PathBuf> {
    let versions = tree::list(Path::new(VERSIONS)).unwrap_or_default();
    let number = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str()?.parse::<u32>().ok())
    };
    let newest = versions
        .into_iter()
        .filter(|path| path.join("bin/initdb").exists() && path.join("bin/pgbench").exists())
        .max_by_key(number);
    newest.map(|version| version.join("bin"))
}
