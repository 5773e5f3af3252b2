//! What of a volume is read: exclusions that need the file system to decide, and how times are taken.
//! It must never hold patterns: those are decided elsewhere and come as one function.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use lifeboat_flow::EntryKind;

/// Whether an entry is wanted: its absolute path, what it is, and for a file its size in bytes.
/// A directory that is not wanted is not entered. Not asked about targets that the user named.
pub type Select = Arc<dyn Fn(&Path, EntryKind, u64) -> bool + Send + Sync>;

/// A file that marks its directory as not worth keeping: of the directory, only the mark is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirTag {
    /// The file's name.
    pub name: Vec<u8>,
    /// What it must begin with, empty for anything.
    pub header: Vec<u8>,
}

impl DirTag {
    /// The tag of cache directories (<https://bford.info/cachedir/>).
    #[must_use]
    pub fn cache() -> Self {
        Self {
            name: b"CACHEDIR.TAG".to_vec(),
            header: b"Signature: 8a477f597d28d172789f06886806bc55".to_vec(),
        }
    }
}

/// What of a volume is read.
#[derive(Clone, Default)]
pub struct VolumeOptions {
    /// Decides by path, kind and size; `None` wants everything.
    pub select: Option<Select>,
    /// Stay on the file systems of the targets: a mount point inside is an empty directory.
    pub one_file_system: bool,
    /// Leave out what is in tagged cache directories.
    pub exclude_caches: bool,
    /// Leave out what is in directories with such a file.
    pub exclude_if_present: Vec<DirTag>,
    /// Leave out files of more bytes than this.
    pub exclude_larger_than_bytes: Option<u64>,
    /// Store access times; otherwise they are stored as the time of modification, so that reading changes no snapshot.
    pub with_atime: bool,
}

impl fmt::Debug for VolumeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VolumeOptions")
            .field("select", &self.select.is_some())
            .field("one_file_system", &self.one_file_system)
            .field("exclude_caches", &self.exclude_caches)
            .field("exclude_if_present", &self.exclude_if_present)
            .field("exclude_larger_than_bytes", &self.exclude_larger_than_bytes)
            .field("with_atime", &self.with_atime)
            .finish()
    }
}
