//! Makes the backend that a location names.
//! It must never contact anything: that is for the first request to do, which can say what failed.

use std::sync::Arc;

use super::s3::S3Backend;
use super::{
    Backend, BackendOptions, LocalBackend, Location, OptionError, SftpBackend, rclone, rest,
};

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
        Location::Rest { .. } => Arc::new(rest::open(location, options)?),
        Location::Rclone(remote) => Arc::new(rclone::open(remote, location, options)?),
        Location::S3 {
            endpoint,
            bucket,
            prefix,
        } => {
            let shown = location.to_string();
            Arc::new(S3Backend::new(endpoint, bucket, prefix, shown, options)?)
        }
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
    })
}
