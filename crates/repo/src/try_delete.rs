//! Proves whether these credentials can remove or destroy what is in a repository, by trying it on an object of its own.
//! It must never touch anything that it did not store itself.

use lifeboat_format::{BlobKind, Id, OVERHEAD_BYTES, PackEntry, header_bytes};

use crate::backend::{Destroyed, FileKind, FileName};
use crate::lock::LockGuard;
use crate::open_pack::OpenPack;
use crate::{RepoError, Repository, random};

/// What the blob in the object begins with, so that it is known again.
const MARK: &[u8; 32] = b"lifeboat tries to remove this. \n";
/// What follows, in bytes: random, so that no other pack is the same.
const RANDOM_BYTES: usize = 32;
const CONTENT_BYTES: usize = MARK.len() + RANDOM_BYTES;

impl Repository {
    /// Stores a tiny pack that is in no index file, and tries to destroy it for good. What is left of it is what an
    /// interrupted backup leaves: harmless, and removed by a prune that may. The caller holds a lock.
    ///
    /// # Errors
    /// When it can't be stored, or it can't be found out what is left.
    pub fn try_delete(&self) -> Result<Destroyed, RepoError> {
        let name = self.store_trial()?;
        Ok(self.backend().destroy(name)?)
    }

    /// Proves that packs can be removed, before anything is written that would be in vain. Of packs that are in no index
    /// file one that an earlier try left is taken, so that tries that are refused leave one in all.
    pub(crate) fn prove_removal(
        &self,
        unindexed: &[(Id, u64)],
        lock: &LockGuard,
    ) -> Result<(), RepoError> {
        lock.ensure()?;
        let mut left = None;
        for (id, size_bytes) in unindexed {
            if *size_bytes == trial_bytes() && self.is_trial(*id)? {
                left = Some(FileName::new(FileKind::Pack, *id));
                break;
            }
        }
        let name = match left {
            Some(name) => name,
            None => self.store_trial()?,
        };
        Ok(self.backend().remove(name)?)
    }

    fn store_trial(&self) -> Result<FileName, RepoError> {
        let random = random::bytes::<RANDOM_BYTES>()?;
        let content = [MARK.as_slice(), &random].concat();
        let (kind, id) = (BlobKind::Data, Id::of(&content));
        let mut pack = OpenPack::default();
        pack.seal(kind, id, &content, None, self.master())?;
        let pack = pack.close(self.master())?;
        let name = FileName::new(FileKind::Pack, pack.indexed.id);
        self.backend().save(name, &[&pack.bytes])?;
        Ok(name)
    }

    /// Whether a pack of the right size is one that a try left. Only our key makes one, so that nothing else is taken
    /// for it.
    fn is_trial(&self, id: Id) -> Result<bool, RepoError> {
        match self.load_raw(FileName::new(FileKind::Pack, id)) {
            Ok(mut pack) => {
                let blob = pack.get_mut(..CONTENT_BYTES + OVERHEAD_BYTES);
                let content = blob.and_then(|sealed| self.master().open(sealed).ok());
                Ok(content.is_some_and(|content| content.starts_with(MARK)))
            }
            Err(error) if error.is_damage() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The size of such a pack, which hardly any other has.
fn trial_bytes() -> u64 {
    let entry = PackEntry {
        kind: BlobKind::Data,
        id: Id::default(),
        length_bytes: (CONTENT_BYTES + OVERHEAD_BYTES) as u32,
        raw_length_bytes: 0,
    };
    u64::from(entry.length_bytes) + header_bytes(&[entry])
}
