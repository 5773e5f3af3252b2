//! A claim: the small file that says which name a content of the log has, or the intent to say so.
//! It must never have another length than all others, so that half of one is known without its end.

use lifeboat_format::Id;
use serde::{Deserialize, Serialize};

use crate::backend::LogName;
use crate::backend::log_name::NAME_MAX_BYTES;

/// The form that is written, and read.
const VERSION: u32 = 1;
/// What stands around a name, in bytes, with room to spare.
const FRAME_BYTES: usize = 512;
/// How long a claim is, in bytes: JSON, and then blanks.
pub(super) const CLAIM_BYTES: usize = NAME_MAX_BYTES + FRAME_BYTES;

/// Which content a name has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) name: LogName,
    /// The hash of the content, which is its name on the server.
    pub(super) content: Id,
    pub(super) size_bytes: u64,
    /// What tells one intent from another; a claim has none.
    pub(super) attempt: Option<u64>,
}

#[derive(Deserialize, Serialize)]
struct Written {
    lifeboat_log: u32,
    name: String,
    content: String,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attempt: Option<u64>,
}

impl Claim {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let written = Written {
            lifeboat_log: VERSION,
            name: self.name.to_string(),
            content: self.content.to_string(),
            size: self.size_bytes,
            attempt: self.attempt,
        };
        // Texts and numbers alone can always be written.
        let mut bytes = serde_json::to_vec(&written).unwrap_or_default();
        bytes.resize(CLAIM_BYTES, b' ');
        bytes
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let written: Written = serde_json::from_slice(bytes).ok()?;
        let is_known = written.lifeboat_log == VERSION && bytes.len() == CLAIM_BYTES;
        is_known.then_some(())?;
        Some(Self {
            name: written.name.parse().ok()?,
            content: written.content.parse().ok()?,
            size_bytes: written.size,
            attempt: written.attempt,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_as_long_as_any_other_and_comes_back() {
        let long = vec!["b".repeat(120); 4].join("/");
        for (name, attempt) in [("a", None), (long.as_str(), Some(u64::MAX))] {
            let claim = Claim {
                name: name.parse().unwrap(),
                content: Id::of(name.as_bytes()),
                size_bytes: u64::MAX,
                attempt,
            };
            let bytes = claim.to_bytes();
            assert_eq!(bytes.len(), CLAIM_BYTES);
            assert_eq!(Claim::parse(&bytes), Some(claim));
            assert_eq!(Claim::parse(&bytes[..CLAIM_BYTES - 1]), None);
            assert_eq!(Claim::parse(&[&bytes[..], b" "].concat()), None);
        }
        assert_eq!(Claim::parse(b""), None);
        let other = br#"{"lifeboat_log":2,"name":"a","content":"00","size":1}"#;
        assert_eq!(Claim::parse(other), None);
    }
}
