//! Members in and out: volumes, streams and the output of commands.
//! It must never know a repository: it reads a member out and puts it back, and others decide where it is kept.

mod volume;

pub use volume::{DirTag, Select, VolumeError, VolumeOptions, VolumeSource};
