//! What a backend needs to know besides its location: credentials, certificates, `-o` options, time limits.
//! It must never read the environment itself, and never show a secret.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

/// Time without a byte after which a request counts as stuck, if nobody says otherwise. restic has five minutes.
const STALL_DEFAULT: Duration = Duration::from_secs(120);

/// A text that nobody may see.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// A secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text, for whoever has to send or sign with it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How a server proves who it is, and how we do.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// Certificates to trust instead of the system's, PEM.
    pub ca_files: Vec<PathBuf>,
    /// Our certificate and its key in one file, PEM.
    pub client_file: Option<PathBuf>,
    /// Believe any server.
    pub insecure: bool,
}

/// What a backend needs to know besides its location.
#[derive(Clone, Debug)]
pub struct BackendOptions {
    /// Variables that a user would set, as `AWS_ACCESS_KEY_ID` or `RESTIC_REST_PASSWORD`.
    pub variables: BTreeMap<String, Secret>,
    /// `-o s3.region=…`, by their full names.
    pub settings: BTreeMap<String, String>,
    /// Certificates.
    pub tls: TlsOptions,
    /// Without a byte for so long, a request is stuck and tried again.
    pub stall: Duration,
}

impl Default for BackendOptions {
    fn default() -> Self {
        Self {
            variables: BTreeMap::new(),
            settings: BTreeMap::new(),
            tls: TlsOptions::default(),
            stall: STALL_DEFAULT,
        }
    }
}

/// An option of a backend can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {why}")]
pub struct OptionError {
    /// The option or variable.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

impl BackendOptions {
    /// A variable that is set and not empty.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&Secret> {
        self.variables
            .get(name)
            .filter(|value| !value.reveal().is_empty())
    }

    /// The text of an option.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// Refuses options of a scheme that its backend does not know: a mistyped one would silently do nothing.
    ///
    /// # Errors
    /// When there is one; the known ones are named.
    pub fn only(&self, scheme: &str, known: &[&str]) -> Result<(), OptionError> {
        let of_scheme = |name: &str| {
            name.strip_prefix(scheme)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        let unknown = self
            .settings
            .keys()
            .find(|name| of_scheme(name) && !known.contains(&name.as_str()));
        match unknown {
            None => Ok(()),
            Some(name) => Err(OptionError {
                name: name.clone(),
                why: format!("there is no such option; known are {}", known.join(", ")),
            }),
        }
    }

    /// A number among the options, within limits.
    ///
    /// # Errors
    /// When it is no number or outside.
    pub fn number(
        &self,
        name: &str,
        default: usize,
        range: std::ops::RangeInclusive<usize>,
    ) -> Result<usize, OptionError> {
        let Some(text) = self.setting(name) else {
            return Ok(default);
        };
        text.parse()
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| OptionError {
                name: name.to_owned(),
                why: format!(
                    "{text:?} is no number from {} to {}",
                    range.start(),
                    range.end()
                ),
            })
    }

    /// A yes or no among the options; no if it is not there.
    ///
    /// # Errors
    /// When it is neither.
    pub fn flag(&self, name: &str) -> Result<bool, OptionError> {
        match self.setting(name) {
            None | Some("false" | "0" | "no") => Ok(false),
            Some("true" | "1" | "yes") => Ok(true),
            Some(other) => Err(OptionError {
                name: name.to_owned(),
                why: format!("{other:?} is neither true nor false"),
            }),
        }
    }
}
