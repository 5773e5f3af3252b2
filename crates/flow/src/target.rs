//! A target takes a member back: directories first, content in any order, metadata last.
//! It must never write outside its own root, follow a link it did not make, or leave a half-written file that looks whole.

use crate::{Entry, EntryKind, EntryPath};

/// A place a member can be put back to. Calls come from several threads at once.
///
/// Order: [`make_dir`](Target::make_dir) of a parent before anything inside it; [`finish`](Target::finish) of an
/// entry after its content, of a directory after all of its children.
pub trait Target: Send + Sync {
    /// What is at this path now, without following links; `None` if nothing is.
    ///
    /// # Errors
    /// When it can't be looked at.
    fn look(&self, path: &EntryPath) -> Result<Option<Existing>, TargetError>;

    /// The names in a directory that exists, sorted by bytes.
    ///
    /// # Errors
    /// When the directory can't be read.
    fn names(&self, dir: &EntryPath) -> Result<Vec<Vec<u8>>, TargetError>;

    /// Makes a directory that only its owner can use until it is finished; one that exists is kept, anything else in its place is removed.
    ///
    /// # Errors
    /// When it can't be made.
    fn make_dir(&self, path: &EntryPath) -> Result<(), TargetError>;

    /// Opens a file to be written in any order. With `keep` the content that exists stays (for in-place delta);
    /// otherwise it starts empty. Anything but a regular file in its place is removed, and so is a file with several
    /// hard links, because writing through one would change the others.
    ///
    /// # Errors
    /// When it can't be opened or its place can't be cleared.
    fn open_file(&self, path: &EntryPath, keep: bool) -> Result<Box<dyn TargetFile>, TargetError>;

    /// Opens a file that is there, to read it and to set its metadata; writing to it fails. That it was read shows nowhere,
    /// if this process may hide it.
    ///
    /// # Errors
    /// When it is not there, no regular file, or can't be read.
    fn read_file(&self, path: &EntryPath) -> Result<Box<dyn TargetFile>, TargetError>;

    /// Makes a symbolic link, device, pipe or socket from its entry, replacing what is there.
    ///
    /// # Errors
    /// When it can't be made, for example a device without the right to.
    fn make_special(&self, path: &EntryPath, entry: &Entry) -> Result<(), TargetError>;

    /// Makes `path` a hard link to `original`, which was restored before, replacing what is there.
    ///
    /// # Errors
    /// When it can't be linked.
    fn make_link(&self, original: &EntryPath, path: &EntryPath) -> Result<(), TargetError>;

    /// Gives a file its final name, in the same directory, replacing a file or link of that name in one step.
    ///
    /// # Errors
    /// When it can't be renamed, for example because a directory has that name.
    fn rename(&self, from: &EntryPath, to: &EntryPath) -> Result<(), TargetError>;

    /// Sets owner, mode, extended attributes and times, in the order that keeps each.
    ///
    /// # Errors
    /// The list of what could not be set; the rest was.
    fn finish(&self, path: &EntryPath, entry: &Entry) -> Result<(), Vec<TargetError>>;

    /// Removes an entry with everything below it, never following links.
    ///
    /// # Errors
    /// When something of it can't be removed.
    fn remove(&self, path: &EntryPath) -> Result<(), TargetError>;

    /// Makes what was written durable.
    ///
    /// # Errors
    /// When the system can't promise that.
    fn sync(&self) -> Result<(), TargetError>;
}

/// An open file of a target. Calls come from several threads at once.
pub trait TargetFile: Send + Sync {
    /// The same file, opened to be written; or a copy in its place, if it must not be written as it is: it runs as a
    /// program, or has other names.
    ///
    /// # Errors
    /// When it can't be written, or something else is at its path now.
    fn to_write(&self) -> Result<Box<dyn TargetFile>, TargetError>;

    /// The length now, in bytes.
    ///
    /// # Errors
    /// When it can't be told.
    fn len_bytes(&self) -> Result<u64, TargetError>;

    /// Reads into `buf` from `offset` and gives the bytes read; fewer than asked for only at the end of the file.
    ///
    /// # Errors
    /// When the file can't be read.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, TargetError>;

    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// When it can't be written, for example on a full disk.
    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), TargetError>;

    /// Sets the length; growing leaves a hole of zeros.
    ///
    /// # Errors
    /// When it can't be set.
    fn set_len(&self, len_bytes: u64) -> Result<(), TargetError>;

    /// Sets owner, mode, extended attributes and times as [`Target::finish`] does, through the open file, which is faster;
    /// after it neither this nor `Target::finish` is needed again unless content is written.
    ///
    /// # Errors
    /// The list of what could not be set; the rest was.
    fn finish(&self, entry: &Entry) -> Result<(), Vec<TargetError>>;
}

/// What a target found at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// What it is.
    pub kind: EntryKind,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Time of its last change of content.
    pub modified: lifeboat_format::Timestamp,
    /// Number of hard links.
    pub links: u64,
}

/// A target could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {path}")]
pub struct TargetError {
    /// What was being done, as "create file".
    pub doing: &'static str,
    /// To what, as the user knows it.
    pub path: String,
    /// Why it failed.
    #[source]
    pub cause: std::io::Error,
}

impl TargetError {
    /// Whether the disk or a quota is full: going on would fail for every file.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(
            self.cause.kind(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
        )
    }
}
