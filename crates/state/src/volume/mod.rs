//! A volume: a tree of files on this machine, read by a source and put back by a target.
//! It must never follow a symbolic link that it did not make, and never leave the tree it was given.

mod content;
mod dirs;
mod layout;
mod metadata;
mod names;
mod options;
mod source;
mod tagged;
mod xattrs;
mod zone;

pub use options::{DirTag, Select, VolumeOptions};
pub use source::{VolumeError, VolumeSource};
