//! Makes the backend of a location from the options and the environment, with everything that it needs between.
//! It must never contact anything, and never take a secret from the command line.

use std::sync::Arc;

use lifeboat_repo::backend::{self, Backend, BackendOptions, Location};

use crate::args::Global;
use crate::failure::Failure;
use crate::ui::Ui;

/// The backend of a location.
pub fn connect(
    location: &Location,
    _global: &Global,
    _ui: &Ui,
) -> Result<Arc<dyn Backend>, Failure> {
    let options = BackendOptions::default();
    backend::open(location, &options).map_err(|error| Failure::from_error(&error))
}
