//! The `config` file: which repository this is, its format version and its chunker's polynomial.
//! It must never be compressed: version 1 and 2 both read it before they know the version.

use serde::Deserialize;

use crate::go_json::push_string;
use crate::{FormatError, Polynomial};

/// What the `config` file says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Config {
    /// Format version, 1 or 2.
    pub version: u32,
    /// The repository's ID: 64 hexadecimal digits, random.
    pub id: String,
    /// The chunker's polynomial.
    pub chunker_polynomial: Polynomial,
}

impl Config {
    /// Lowest version that can be read.
    pub const VERSION_MIN: u32 = 1;
    /// Highest version that is known.
    pub const VERSION_MAX: u32 = 2;

    /// Reads it.
    ///
    /// # Errors
    /// When it is malformed or of a version that is not known.
    pub fn from_json(json: &[u8]) -> Result<Self, FormatError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        // A future version may have other fields: the version is judged before them.
        let what = "config";
        let Version { version } =
            serde_json::from_slice(json).map_err(|cause| FormatError::Json { what, cause })?;
        if !(Self::VERSION_MIN..=Self::VERSION_MAX).contains(&version) {
            return Err(FormatError::Version {
                version,
                min: Self::VERSION_MIN,
                max: Self::VERSION_MAX,
            });
        }
        serde_json::from_slice(json).map_err(|cause| FormatError::Json { what, cause })
    }

    /// The same config with another version; what other programs have added to it stays.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn with_version(json: &[u8], version: u32) -> Result<Vec<u8>, FormatError> {
        let failed = |cause| FormatError::Json {
            what: "config",
            cause,
        };
        let mut fields: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(json).map_err(failed)?;
        fields.insert("version".into(), version.into());
        serde_json::to_vec(&fields).map_err(failed)
    }

    /// As restic writes it.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = format!("{{\"version\":{},\"id\":", self.version).into_bytes();
        push_string(&mut out, &self.id);
        let rest = format!(",\"chunker_polynomial\":\"{}\"}}", self.chunker_polynomial);
        out.extend_from_slice(rest.as_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_leaves_all_else() {
        let json =
            br#"{"version":1,"id":"ab","chunker_polynomial":"25b468838dcb75","extra":{"x":[1]}}"#;
        let later = Config::with_version(json, 2).unwrap();
        let (mut before, after): (serde_json::Value, serde_json::Value) = (
            serde_json::from_slice(json).unwrap(),
            serde_json::from_slice(&later).unwrap(),
        );
        before["version"] = 2.into();
        assert_eq!(before, after);
        assert_eq!(Config::from_json(&later).unwrap().version, 2);
        assert!(Config::with_version(b"[]", 2).is_err());
    }

    #[test]
    fn restics_example_survives() {
        let json = br#"{"version":2,"id":"5956a3f67a6230d4a92cefb29529f10196c7d92582ec305fd71ff6d331d6271b","chunker_polynomial":"25b468838dcb75"}"#;
        assert_eq!(Config::from_json(json).unwrap().to_json(), json);
    }

    #[test]
    fn a_future_version_is_named() {
        let error = Config::from_json(br#"{"version":3,"anything":1}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "it has format version 3; this program knows 1 to 2"
        );
        assert!(Config::from_json(br#"{"version":2,"id":"","chunker_polynomial":"4"}"#).is_err());
    }
}
