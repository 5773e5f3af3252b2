//! The two hot loops of a backup, Rabin chunk boundaries and SHA-256, behind one safe interface.
//! It must never give another boundary or hash than the scalar definition, whatever the processor can do.

mod kernel;
mod mapping;
mod noise;
mod rabin;
mod sha256;
mod sound;

pub use kernel::{Kernel, Unavailable};
pub use mapping::Mapping;
pub use rabin::{RabinTable, WINDOW_BYTES};
pub use sha256::{
    Sha256Stream, sha256, sha256_beside, sha256_beside_with, sha256_each, sha256_each_with,
    sha256_lanes,
};
