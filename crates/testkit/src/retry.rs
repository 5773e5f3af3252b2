//! A backend that tries again when the system below fails, to show that every operation may be repeated.
//! It must never repeat what can't succeed: a missing file stays missing.

use lifeboat_format::Id;
use lifeboat_repo::backend::{Backend, BackendError, FileKind, FileName};

/// A backend that tries each operation again, without waiting.
#[derive(Clone, Debug)]
pub struct RetryingBackend<B> {
    inner: B,
    attempts: u32,
}

impl<B: Backend> RetryingBackend<B> {
    /// Tries each operation so many times.
    pub fn new(inner: B, attempts: u32) -> Self {
        Self { inner, attempts }
    }

    fn retry<T>(
        &self,
        mut work: impl FnMut() -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        for _ in 1..self.attempts {
            match work() {
                Err(BackendError::Io { .. }) => {}
                Err(error) if error.is_transient() => {}
                done => return done,
            }
        }
        work()
    }
}

impl<B: Backend> Backend for RetryingBackend<B> {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> Result<(), BackendError> {
        self.retry(|| self.inner.create())
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64)) -> Result<(), BackendError> {
        // A listing that failed may have shown a part, so nothing is passed on before one is complete.
        let found = self.retry(|| {
            let mut found = Vec::new();
            self.inner
                .list(kind, &mut |id, size_bytes| found.push((id, size_bytes)))?;
            Ok(found)
        })?;
        found
            .into_iter()
            .for_each(|(id, size_bytes)| each(id, size_bytes));
        Ok(())
    }

    fn size(&self, name: FileName) -> Result<u64, BackendError> {
        self.retry(|| self.inner.size(name))
    }

    fn load(&self, name: FileName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        self.retry(|| self.inner.load(name, limit_bytes))
    }

    fn load_at(
        &self,
        name: FileName,
        offset_bytes: u64,
        buf: &mut [u8],
    ) -> Result<(), BackendError> {
        self.retry(|| self.inner.load_at(name, offset_bytes, buf))
    }

    fn save(&self, name: FileName, data: &[&[u8]]) -> Result<(), BackendError> {
        self.retry(|| self.inner.save(name, data))
    }

    fn remove(&self, name: FileName) -> Result<(), BackendError> {
        self.retry(|| self.inner.remove(name))
    }
}
