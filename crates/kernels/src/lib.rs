//! The two hot loops of a backup, Rabin chunk boundaries and SHA-256, behind one safe interface.
//! It must never give another boundary or hash than the scalar definition, whatever the processor can do.

mod kernel;
mod rabin;

use sha2::{Digest, Sha256};

pub use kernel::{Kernel, Unavailable};
pub use rabin::{RabinTable, WINDOW_BYTES};

/// The SHA-256 of these bytes (FIPS 180-4).
#[must_use]
pub fn sha256(data: &[u8]) -> [u8; 32] {
    Sha256::digest(data).into()
}

/// A SHA-256 over data that comes in pieces.
#[derive(Clone, Default)]
pub struct Sha256Stream(Sha256);

impl Sha256Stream {
    /// Takes the next piece.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The hash of all pieces.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}
