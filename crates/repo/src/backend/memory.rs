//! A backend in memory, for tests and for repositories that nobody needs to keep.
//! It must never differ from the local backend in what a caller can see, except that it forgets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lifeboat_format::Id;

use super::log_name::taken;
use super::{Backend, BackendError, Creation, FileKind, FileName, LogName};

/// What is kept.
#[derive(Clone, Debug, Default)]
struct Files {
    named: BTreeMap<FileName, Arc<[u8]>>,
    log: BTreeMap<LogName, Arc<[u8]>>,
}

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
            .flat_map(|files| &files.named)
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

    /// As [`with_files`](Self::with_files), where the log is, or may be: beside a config.
    fn with_log<T>(
        &self,
        work: impl FnOnce(&mut BTreeMap<LogName, Arc<[u8]>>) -> T,
    ) -> Result<T, BackendError> {
        let done = self.with_files(|files| {
            let is_there = files.named.contains_key(&FileName::CONFIG) || !files.log.is_empty();
            is_there.then(|| work(&mut files.log))
        })?;
        done.ok_or_else(|| BackendError::NoRepository {
            location: self.location(),
            what: "the config".to_owned(),
        })
    }

    fn content(&self, name: FileName) -> Result<Arc<[u8]>, BackendError> {
        self.with_files(|files| files.named.get(&normal(name)).map(Arc::clone))?
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
        self.lock().get_or_insert_with(Files::default);
        Ok(())
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64)) -> Result<(), BackendError> {
        // `each` runs without the lock, because it may call this backend.
        let found: Vec<(Id, u64)> = self.with_files(|files| {
            let of_kind = files.named.iter().filter(|(name, _)| name.kind == kind);
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
        self.with_files(|files| files.named.insert(normal(name), content))?;
        Ok(())
    }

    fn remove(&self, name: FileName) -> Result<(), BackendError> {
        self.with_files(|files| files.named.remove(&normal(name)))?;
        Ok(())
    }

    fn log_create(&self, name: &LogName, data: &[&[u8]]) -> Result<Creation, BackendError> {
        let is_new = self.with_log(|log| {
            let is_new = !log.contains_key(name);
            if is_new {
                log.insert(name.clone(), data.concat().into());
            }
            is_new
        })?;
        match is_new {
            true => Ok(Creation::Created),
            false => taken(self, name, data),
        }
    }

    fn log_load(&self, name: &LogName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        let found = self.with_log(|log| log.get(name).map(Arc::clone))?;
        let content = found.ok_or_else(|| BackendError::NoObject {
            name: name.clone(),
            location: self.location(),
        })?;
        let size_bytes = content.len() as u64;
        if size_bytes > limit_bytes {
            return Err(BackendError::ObjectTooLong {
                name: name.clone(),
                location: self.location(),
                size_bytes,
                limit_bytes,
            });
        }
        Ok(content.to_vec())
    }

    fn log_list(
        &self,
        below: Option<&LogName>,
        each: &mut dyn FnMut(LogName, u64),
    ) -> Result<(), BackendError> {
        let found: Vec<(LogName, u64)> = self.with_log(|log| {
            let below = log.iter().filter(|(name, _)| name.is_below(below));
            below
                .map(|(name, content)| (name.clone(), content.len() as u64))
                .collect()
        })?;
        for (name, size_bytes) in found {
            each(name, size_bytes);
        }
        Ok(())
    }

    fn log_remove(&self, name: &LogName) -> Result<(), BackendError> {
        self.with_log(|log| log.remove(name)).map(drop)
    }
}
