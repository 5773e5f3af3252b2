//! What can be wrong with bytes that should be a part of a repository.
//! It must never hold plaintext or keys: these messages end up in logs.

/// Bytes are not what the format says.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The authentication tag does not fit: damaged, or encrypted with another key.
    #[error("the authentication tag does not match: damaged, or written with another key")]
    Unauthenticated,
    /// There are fewer bytes than the format needs.
    #[error("{what} has {got_bytes} bytes, at least {needed_bytes} are needed")]
    TooShort {
        /// What was read.
        what: &'static str,
        /// Bytes there are.
        got_bytes: u64,
        /// Bytes there should be at least.
        needed_bytes: u64,
    },
    /// A size is beyond its limit.
    #[error("{what} is {got} and the limit is {limit}")]
    Limit {
        /// What was read.
        what: &'static str,
        /// The value.
        got: u64,
        /// The limit.
        limit: u64,
    },
    /// JSON is malformed or a field has the wrong type.
    #[error("{what} is no valid JSON")]
    Json {
        /// What was read.
        what: &'static str,
        /// Where and why.
        #[source]
        cause: serde_json::Error,
    },
    /// The text of a quoted name is malformed.
    #[error("the name {text:?} is quoted wrongly: {reason}")]
    Quoting {
        /// The text.
        text: String,
        /// Why it is wrong.
        reason: &'static str,
    },
    /// A newer program wrote this.
    #[error("it has format version {version}; this program knows {min} to {max}")]
    Version {
        /// The version.
        version: u32,
        /// The oldest that is known.
        min: u32,
        /// The newest.
        max: u32,
    },
    /// A value contradicts the format.
    #[error("{what}: {why}")]
    Invalid {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Compressed data does not decompress.
    #[error("{what} can't be decompressed: {why}")]
    Compression {
        /// What was read.
        what: &'static str,
        /// What zstd says.
        why: String,
    },
    /// The hash of what was read is not its ID.
    #[error("the content has the hash {got}, not its ID {expected}")]
    Hash {
        /// The ID it should have.
        expected: crate::Id,
        /// The hash it has.
        got: crate::Id,
    },
}
