//! One directory of a source as a source of its own: what is in it lies at the top.
//! It must never show what lies beside that directory.

use lifeboat_flow::{Content, Entry, EntryPath, Listing, Source, SourceError};

/// What of a source lies below a path.
pub struct Below<'a> {
    source: &'a dyn Source,
    dir: EntryPath,
}

impl<'a> Below<'a> {
    /// What lies below `dir`.
    pub fn new(source: &'a dyn Source, dir: EntryPath) -> Self {
        Self { source, dir }
    }

    /// The entry of the directory itself; none at the top of the source, which has no name.
    ///
    /// # Errors
    /// When the directory above it can't be read.
    pub fn itself(&self) -> Result<Option<Entry>, SourceError> {
        let Some(above) = self.dir.parent() else {
            return Ok(None);
        };
        let entries = self.source.list(&above)?.entries;
        Ok(entries
            .into_iter()
            .find(|entry| entry.name == self.dir.name()))
    }

    fn inner(&self, path: &EntryPath) -> EntryPath {
        match path.0.is_empty() {
            true => self.dir.clone(),
            false => self.dir.join(&path.0),
        }
    }
}

impl Source for Below<'_> {
    fn list(&self, dir: &EntryPath) -> Result<Listing, SourceError> {
        self.source.list(&self.inner(dir))
    }

    fn open(&self, path: &EntryPath) -> Result<Box<dyn Content>, SourceError> {
        self.source.open(&self.inner(path))
    }
}
