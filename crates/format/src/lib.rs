//! The restic repository format, version 2 (and reading version 1), as pure functions between bytes and values.
//! It must never touch a clock, a file, the network or a source of randomness: callers pass all of these in.

mod id;
mod timestamp;

pub use id::{Id, IdParseError};
pub use timestamp::{Timestamp, TimestampError};
