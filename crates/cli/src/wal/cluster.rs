//! Which cluster a file of the log belongs to: that of the data directory in which the server runs its commands.
//! It must never guess: a segment in another cluster's archive would be its ruin.

use std::path::{Path, PathBuf};

use lifeboat_flow::Cancel;
use lifeboat_state::postgres::{Control, WalName, read_control};

use crate::failure::Failure;

/// The control file of a data directory.
pub fn control(data: &Path, cancel: &Cancel) -> Result<Control, Failure> {
    let (control, _) = read_control(data, cancel).map_err(|error| {
        Failure::of_database(&error).hint(
            "the server runs this command in its data directory; elsewhere name that with --data",
        )
    })?;
    Ok(control)
}

/// Where the server keeps its own files of the log.
pub fn own_file(data: &Path, name: WalName) -> PathBuf {
    data.join("pg_wal").join(name.to_string())
}
