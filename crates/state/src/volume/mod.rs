//! A volume: a tree of files on this machine, read by a source and put back by a target.
//! It must never follow a symbolic link that it did not make, and never leave the tree it was given.

mod apply;
mod beneath;
mod content;
mod dirs;
mod error;
mod layout;
mod metadata;
mod names;
mod names_in;
mod options;
mod place;
mod rules;
mod source;
mod tagged;
mod target;
mod target_file;
mod xattrs;
mod zone;

pub use beneath::Walk;
pub(crate) use content::FileContent;
pub use error::VolumeError;
pub use options::{DirTag, Select, VolumeOptions};
pub use source::VolumeSource;
pub use target::{TargetOptions, VolumeTarget};
