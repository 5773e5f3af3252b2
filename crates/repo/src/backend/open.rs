//! Makes the backend that a location names.
//! It must never contact anything: that is for the first request to do, which can say what failed.

use std::sync::Arc;

use super::{Backend, BackendOptions, LocalBackend, Location, OptionError, SftpBackend};

/// The backend of a location, without decorators.
///
/// # Errors
/// When an option can't be used.
pub fn open(
    location: &Location,
    options: &BackendOptions,
) -> Result<Arc<dyn Backend>, OptionError> {
    Ok(match location {
        Location::Local(path) => Arc::new(LocalBackend::new(path)),
        Location::Sftp {
            username,
            host,
            port,
            path,
        } => Arc::new(SftpBackend::new(
            username.as_deref(),
            host,
            *port,
            path,
            options,
        )?),
        other => {
            return Err(OptionError {
                name: other.to_string(),
                why: "not supported yet".into(),
            });
        }
    })
}
