//! A file of a volume that is being written in any order.
//! It must never report success for less than it was given.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat_flow::{Entry, EntryPath, TargetError, TargetFile};

use super::apply::{Handle, apply};
use super::place::Places;
use super::target::target_error;

pub(crate) struct VolumeFile {
    pub(crate) file: File,
    pub(crate) root: Arc<PathBuf>,
    pub(crate) path: EntryPath,
    pub(crate) places: Arc<Places>,
}

impl VolumeFile {
    fn error(&self, doing: &'static str, cause: impl Into<io::Error>) -> TargetError {
        target_error(Path::new(self.root.as_path()), doing, &self.path, cause)
    }
}

impl TargetFile for VolumeFile {
    fn to_write(&self) -> Result<Box<dyn TargetFile>, TargetError> {
        let file = self.places.write_same(&self.path, &self.file);
        Ok(Box::new(Self {
            file: file.map_err(|cause| self.error("open file", cause))?,
            root: Arc::clone(&self.root),
            path: self.path.clone(),
            places: Arc::clone(&self.places),
        }))
    }

    fn len_bytes(&self) -> Result<u64, TargetError> {
        let stat = self.file.metadata();
        let stat = stat.map_err(|cause| self.error("look at", cause))?;
        Ok(stat.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, TargetError> {
        let mut done = 0;
        while let Some(left) = buf.get_mut(done..).filter(|left| !left.is_empty()) {
            match self.file.read_at(left, offset + done as u64) {
                Ok(0) => break,
                Ok(length) => done += length,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(self.error("read", cause)),
            }
        }
        Ok(done)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), TargetError> {
        self.file
            .write_all_at(data, offset)
            .map_err(|cause| self.error("write", cause))
    }

    fn set_len(&self, len_bytes: u64) -> Result<(), TargetError> {
        self.file
            .set_len(len_bytes)
            .map_err(|cause| self.error("set length of", cause))
    }

    fn finish(&self, entry: &Entry) -> Result<(), Vec<TargetError>> {
        let failures = apply(&Handle::Open(self.file.as_fd()), entry, self.places.is_root);
        if failures.is_empty() {
            return Ok(());
        }
        Err(failures
            .into_iter()
            .map(|(doing, cause)| self.error(doing, cause))
            .collect())
    }
}
