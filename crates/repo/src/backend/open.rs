//! Makes the backend that a location names.
//! It must never contact anything: that is for the first request to do, which can say what failed.

use std::sync::Arc;

use super::s3::S3Backend;
use super::{
    Backend, BackendOptions, LocalBackend, Location, OptionError, SftpBackend, rclone, rest, s3,
    sftp,
};

/// Every option that there is, by the kind of place that has it. The one of directories is restic's, and does nothing.
const OPTIONS: [(&str, &[&str]); 5] = [
    ("local", &["local.connections"]),
    ("s3", s3::OPTIONS),
    ("rest", rest::OPTIONS),
    ("sftp", sftp::OPTIONS),
    ("rclone", rclone::OPTIONS),
];

/// What the name of an option begins with: the kinds of places that have options.
pub fn option_kinds() -> impl Iterator<Item = &'static str> {
    OPTIONS.into_iter().map(|(kind, _)| kind)
}

/// The backend of a location, without decorators. Options of other kinds of places are not looked at but for their names:
/// one command may have to do with two places.
///
/// # Errors
/// When an option can't be used, or there is none of a name.
pub fn open(
    location: &Location,
    options: &BackendOptions,
) -> Result<Arc<dyn Backend>, OptionError> {
    for (scheme, known) in OPTIONS {
        options.only(scheme, known)?;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(location: &str, name: &str) -> Result<(), String> {
        let mut options = BackendOptions::default();
        options.settings.insert(name.into(), "x".into());
        let variables = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
        let variables = variables.map(|name| (name.to_owned(), super::super::Secret::new("x")));
        options.variables.extend(variables);
        let opened = open(&location.parse().unwrap(), &options);
        opened.map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn a_mistyped_option_is_refused_wherever_it_is_meant_for() {
        let places = [
            "/srv/backup",
            "s3:host/bucket",
            "rest:http://host/",
            "sftp:host:path",
            "rclone:remote:path",
        ];
        for (own, location) in places.iter().enumerate() {
            for (other, (scheme, known)) in OPTIONS.iter().enumerate() {
                let error = opened(location, &format!("{scheme}.regoin")).unwrap_err();
                let expected = format!(
                    "{scheme}.regoin: there is no such option; known are {}",
                    known.join(", ")
                );
                assert_eq!(error, expected, "{location}");
                // Their values are the business of those who use them.
                for name in known.iter().filter(|_| own != other) {
                    assert_eq!(opened(location, name), Ok(()), "{location}, {name}");
                }
            }
        }
    }
}
