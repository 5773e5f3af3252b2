//! Members in and out: volumes, streams, the output of commands, and databases.
//! It must never know a repository: it reads a member out and puts it back, and others decide where it is kept.

mod command;
mod pipe;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod stream;
mod volume;

pub use command::{CommandError, CommandSource, Complaints};
pub use pipe::Pipe;
pub use stream::{StreamNameError, StreamSource};
pub use volume::{
    DirTag, Select, TargetOptions, VolumeError, VolumeOptions, VolumeSource, VolumeTarget, Walk,
};
