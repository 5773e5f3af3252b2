//! What a blob is and where it lies.
//! It must never be built with a raw length for a blob that is stored as it is.

use crate::{Id, OVERHEAD_BYTES};

/// What a blob holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlobKind {
    /// A piece of a file.
    Data,
    /// A directory.
    Tree,
}

impl BlobKind {
    /// The word in index files.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Tree => "tree",
        }
    }
}

/// One blob in one pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobRef {
    /// The pack.
    pub pack: Id,
    /// Where its ciphertext starts in the pack, in bytes.
    pub offset_bytes: u32,
    /// Length of its ciphertext with nonce and tag, in bytes.
    pub length_bytes: u32,
    /// Length of its plaintext if it is compressed, in bytes; 0 if it is stored as it is.
    pub raw_length_bytes: u32,
}

impl BlobRef {
    /// Length of the plaintext in bytes.
    #[must_use]
    pub fn plain_bytes(&self) -> u64 {
        if self.raw_length_bytes != 0 {
            u64::from(self.raw_length_bytes)
        } else {
            u64::from(self.length_bytes).saturating_sub(OVERHEAD_BYTES as u64)
        }
    }
}
