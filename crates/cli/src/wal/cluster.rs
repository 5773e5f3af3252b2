//! Which cluster a file of the log belongs to: that of the data directory in which the server runs its commands.
//! It must never guess: a segment in another cluster's archive would be its ruin.

use std::path::Path;

use lifeboat_flow::Cancel;
use lifeboat_state::postgres::{Control, read_control};

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
