//! Proves whether these credentials can destroy what is in a repository, by trying it on an object of its own.
//! It must never touch anything that it did not store itself.

use lifeboat_format::{BlobKind, Id, NONCE_BYTES, PackEntry};

use crate::backend::{Destroyed, FileKind, FileName};
use crate::ingest::finish_pack;
use crate::{RepoError, Repository, random};

/// Content of the blob in the object, in bytes: random, so that no other pack is the same.
const CONTENT_BYTES: usize = 32;

impl Repository {
    /// Stores a tiny pack that is in no index file, and tries to destroy it for good. What is left of it is what an
    /// interrupted backup leaves: harmless, and removed by a prune that may. The caller holds a lock.
    ///
    /// # Errors
    /// When it can't be stored, or it can't be found out what is left.
    pub fn try_delete(&self) -> Result<Destroyed, RepoError> {
        let content = random::bytes::<CONTENT_BYTES>()?;
        let mut pack = vec![0; NONCE_BYTES];
        pack.extend_from_slice(&content);
        self.master()
            .seal(&random::nonce()?, &mut pack)
            .map_err(|error| RepoError::Random(error.to_string()))?;
        let entry = PackEntry {
            kind: BlobKind::Data,
            id: Id::of(&content),
            length_bytes: u32::try_from(pack.len())
                .map_err(|_| RepoError::WriterFailed("a blob grew too large".into()))?,
            raw_length_bytes: 0,
        };
        let id = finish_pack(self, &mut pack, &[entry])?;
        let name = FileName::new(FileKind::Pack, id);
        self.backend().save(name, &[&pack])?;
        Ok(self.backend().destroy(name)?)
    }
}
