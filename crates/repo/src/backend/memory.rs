//! A backend in memory, for tests and for repositories that nobody needs to keep.
//! It must never differ from the local backend in what a caller can see, except that it forgets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lifeboat_format::Id;

use super::{Backend, BackendError, FileKind, FileName};

type Files = BTreeMap<FileName, Arc<[u8]>>;

/// A repository in memory. Clones are handles of the same repository.
#[derive(Clone, Debug, Default)]
pub struct MemoryBackend {
    /// Nothing before [`Backend::create`].
    files: Arc<Mutex<Option<Files>>>,
}

impl MemoryBackend {
    /// A place where no repository is yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A repository of its own with the files that this one has now; the contents are shared until replaced.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self {
            files: Arc::new(Mutex::new(self.lock().clone())),
        }
    }

    /// The names and contents of all files, in the order of names.
    #[must_use]
    pub fn files(&self) -> Vec<(FileName, Arc<[u8]>)> {
        self.lock()
            .iter()
            .flatten()
            .map(|(name, content)| (*name, Arc::clone(content)))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Files>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn no_repository(&self) -> BackendError {
        BackendError::NoRepository {
            location: self.location(),
            what: "the directory".to_owned(),
        }
    }

    fn with_files<T>(&self, work: impl FnOnce(&mut Files) -> T) -> Result<T, BackendError> {
        self.lock()
            .as_mut()
            .map(work)
            .ok_or_else(|| self.no_repository())
    }

    fn content(&self, name: FileName) -> Result<Arc<[u8]>, BackendError> {
        self.with_files(|files| files.get(&normal(name)).map(Arc::clone))?
            .ok_or_else(|| BackendError::Missing {
                name,
                location: self.location(),
            })
    }
}

/// There is one config, whatever ID it is asked for by.
fn normal(name: FileName) -> FileName {
    match name.kind {
        FileKind::Config => FileName::CONFIG,
        _ => name,
    }
}

impl Backend for MemoryBackend {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn create(&self) -> Result<(), BackendError> {
        self.lock().get_or_insert_with(Files::new);
        Ok(())
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64)) -> Result<(), BackendError> {
        // `each` runs without the lock, because it may call this backend.
        let found: Vec<(Id, u64)> = self.with_files(|files| {
            let of_kind = files.iter().filter(|(name, _)| name.kind == kind);
            of_kind
                .map(|(name, content)| (name.id, content.len() as u64))
                .collect()
        })?;
        for (id, size_bytes) in found {
            each(id, size_bytes);
        }
        Ok(())
    }

    fn size(&self, name: FileName) -> Result<u64, BackendError> {
        Ok(self.content(name)?.len() as u64)
    }

    fn load(&self, name: FileName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        let content = self.content(name)?;
        let size_bytes = content.len() as u64;
        if size_bytes > limit_bytes {
            return Err(BackendError::TooLong {
                name,
                location: self.location(),
                size_bytes,
                limit_bytes,
            });
        }
        Ok(content.to_vec())
    }

    fn load_at(
        &self,
        name: FileName,
        offset_bytes: u64,
        buf: &mut [u8],
    ) -> Result<(), BackendError> {
        let content = self.content(name)?;
        let from = usize::try_from(offset_bytes).ok();
        let to = from.and_then(|from| from.checked_add(buf.len()));
        let range = from
            .zip(to)
            .and_then(|(from, to)| content.get(from..to))
            .ok_or_else(|| BackendError::Short {
                name,
                location: self.location(),
                size_bytes: content.len() as u64,
                wanted_bytes: offset_bytes.saturating_add(buf.len() as u64),
            })?;
        buf.copy_from_slice(range);
        Ok(())
    }

    fn save(&self, name: FileName, data: &[&[u8]]) -> Result<(), BackendError> {
        let content: Arc<[u8]> = data.concat().into();
        self.with_files(|files| files.insert(normal(name), content))?;
        Ok(())
    }

    fn remove(&self, name: FileName) -> Result<(), BackendError> {
        self.with_files(|files| files.remove(&normal(name)))?;
        Ok(())
    }
}
