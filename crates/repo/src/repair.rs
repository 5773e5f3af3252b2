//! Repairs: the index from what is there, packs from what is good in them, snapshots without what is lost.
//! They must never remove anything before what replaces it is stored, nor take what is out of reach for lost.

mod index;
mod lost;
mod packs;
mod snapshots;

use std::collections::BTreeSet;

use lifeboat_flow::Cancel;
use lifeboat_format::{Id, IndexFile, IndexPack, MarkedPack};

use crate::backend::{FileKind, FileName};
use crate::lock::LockGuard;
use crate::{RepoError, Repository};

pub use index::{IndexFacts, IndexPlan};
pub use lost::{LostUse, users_of_lost};
pub use packs::{KeepCopy, OtherRepository, PackPlan, PacksPlan, PacksRepaired};
pub use snapshots::{
    Loss, LossKind, RepairedSnapshot, SnapshotPlan, SnapshotVerdict, SnapshotsRepair,
};

/// An index file is full with so many blobs, as restic's.
const INDEX_FILE_MAX_BLOBS: usize = 50_000;

/// An index file that is replaced by one without some packs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRewrite {
    /// The file.
    pub file: Id,
    /// The packs that it names and should not.
    pub drop: BTreeSet<Id>,
}

/// What became of the index files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexRewritten {
    /// Index files that were written.
    pub written: u64,
    /// Index files that were removed.
    pub removed: u64,
}

/// Collects packs into index files of a usual size.
struct IndexWriter<'r> {
    repository: &'r Repository,
    lock: Option<&'r LockGuard>,
    file: IndexFile,
    blobs: usize,
    written: u64,
}

impl IndexWriter<'_> {
    fn push(&mut self, pack: IndexPack) -> Result<(), RepoError> {
        self.blobs += pack.blobs.len();
        self.file.packs.push(pack);
        self.flush_if(INDEX_FILE_MAX_BLOBS)
    }

    fn push_marked(&mut self, pack: MarkedPack) -> Result<(), RepoError> {
        self.blobs += pack.blobs.len();
        self.file.packs_to_delete.push(pack);
        self.flush_if(INDEX_FILE_MAX_BLOBS)
    }

    fn flush_if(&mut self, blobs: usize) -> Result<(), RepoError> {
        let file = &self.file;
        if self.blobs < blobs || file.packs.is_empty() && file.packs_to_delete.is_empty() {
            return Ok(());
        }
        ensure(self.lock)?;
        self.repository
            .save_json(FileKind::Index, &self.file.to_json())?;
        self.file = IndexFile::default();
        self.blobs = 0;
        self.written += 1;
        Ok(())
    }
}

/// Does what says that something is damaged once more: what a network or a memory garbled once is not lost.
fn sure<T>(mut work: impl FnMut() -> Result<T, RepoError>) -> Result<T, RepoError> {
    match work() {
        Err(error) if error.is_damage() => work(),
        other => other,
    }
}

fn ensure(lock: Option<&LockGuard>) -> Result<(), RepoError> {
    lock.map_or(Ok(()), LockGuard::ensure)
}

/// Writes index files with `add` and with what is to stay of those that are rewritten; when all of them are stored,
/// removes the rewritten ones and those in `remove`. A kill in between leaves packs named twice, which is harmless.
fn rewrite_index(
    repository: &Repository,
    add: &[IndexPack],
    rewrites: &[FileRewrite],
    remove: &[Id],
    lock: Option<&LockGuard>,
    cancel: &Cancel,
) -> Result<IndexRewritten, RepoError> {
    let mut writer = IndexWriter {
        repository,
        lock,
        file: IndexFile::default(),
        blobs: 0,
        written: 0,
    };
    for pack in add {
        cancel.check()?;
        writer.push(pack.clone())?;
    }
    for rewrite in rewrites {
        cancel.check()?;
        let file = repository.load_index_file(rewrite.file)?;
        for pack in file.packs {
            if !rewrite.drop.contains(&pack.id) {
                writer.push(pack)?;
            }
        }
        for pack in file.packs_to_delete {
            writer.push_marked(pack)?;
        }
    }
    writer.flush_if(0)?;
    let mut removed = 0;
    for id in rewrites.iter().map(|rewrite| &rewrite.file).chain(remove) {
        cancel.check()?;
        ensure(lock)?;
        repository
            .backend()
            .remove(FileName::new(FileKind::Index, *id))?;
        removed += 1;
    }
    Ok(IndexRewritten {
        written: writer.written,
        removed,
    })
}
