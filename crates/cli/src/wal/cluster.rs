//! Which cluster a file of the log belongs to: that of the data directory in which the server runs its commands.
//! It must never guess: a segment in another cluster's archive would be its ruin.

use std::path::Path;

use lifeboat_flow::Cancel;
use lifeboat_state::postgres::read_control;

use crate::failure::Failure;

/// The cluster of a data directory.
pub fn system_id(data: &Path, cancel: &Cancel) -> Result<u64, Failure> {
    let control = read_control(data, cancel).map_err(|error| {
        Failure::of_database(&error).hint(
            "the server runs this command in its data directory; elsewhere name that with --data",
        )
    })?;
    Ok(control.0.system_id)
}
