//! The two hot loops of a backup, Rabin chunk boundaries and SHA-256, behind one safe interface.
//! It must never give another boundary or hash than the scalar definition, whatever the processor can do.

mod kernel;
mod rabin;
mod sha256;

pub use kernel::{Kernel, Unavailable};
pub use rabin::{RabinTable, WINDOW_BYTES};
pub use sha256::{Sha256Stream, sha256, sha256_each};
