//! Writes index files anew: packs are collected into files of a usual size, and what these replace goes afterwards.
//! It must never remove an index file before what stands for it is stored.

use std::collections::{BTreeSet, HashSet};

use lifeboat_flow::Cancel;
use lifeboat_format::{Id, IndexFile, IndexPack, MarkedPack};

use crate::at_once::at_once;
use crate::backend::{FileKind, FileName};
use crate::repair::PackFacts;
use crate::{LockGuard, RepoError, Repository};

/// An index file is full with so many blobs, as restic's are.
pub(crate) const INDEX_MAX_BLOBS: usize = 50_000;
/// And with so many packs, for those whose blobs nobody knows.
const INDEX_MAX_PACKS: usize = 10_000;

/// Collects packs into index files.
pub(crate) struct IndexWriter<'r> {
    repository: &'r Repository,
    lock: Option<&'r LockGuard>,
    cancel: &'r Cancel,
    file: IndexFile,
    blobs: usize,
    written: u64,
}

impl<'r> IndexWriter<'r> {
    /// A writer under this lock, if there is one.
    pub(crate) fn new(
        repository: &'r Repository,
        lock: Option<&'r LockGuard>,
        cancel: &'r Cancel,
    ) -> Self {
        Self {
            repository,
            lock,
            cancel,
            file: IndexFile::default(),
            blobs: 0,
            written: 0,
        }
    }

    /// Takes a pack.
    pub(crate) fn index(&mut self, pack: IndexPack) -> Result<(), RepoError> {
        self.blobs += pack.blobs.len();
        self.file.packs.push(pack);
        self.write_if_full()
    }

    /// Takes a pack that is to be deleted.
    pub(crate) fn mark(&mut self, pack: MarkedPack) -> Result<(), RepoError> {
        self.blobs += pack.blobs.len();
        self.file.packs_to_delete.push(pack);
        self.write_if_full()
    }

    /// Writes what is left and gives the number of files that were written.
    pub(crate) fn finish(mut self) -> Result<u64, RepoError> {
        if !(self.file.packs.is_empty() && self.file.packs_to_delete.is_empty()) {
            self.write()?;
        }
        Ok(self.written)
    }

    fn write_if_full(&mut self) -> Result<(), RepoError> {
        self.cancel.check()?;
        let packs = self.file.packs.len() + self.file.packs_to_delete.len();
        if self.blobs >= INDEX_MAX_BLOBS || packs >= INDEX_MAX_PACKS {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), RepoError> {
        ensure(self.lock)?;
        let json = std::mem::take(&mut self.file).to_json();
        self.repository.save_json(FileKind::Index, &json)?;
        self.blobs = 0;
        self.written += 1;
        Ok(())
    }
}

pub(crate) fn ensure(lock: Option<&LockGuard>) -> Result<(), RepoError> {
    lock.map_or(Ok(()), LockGuard::ensure)
}

/// Removes index files whose packs others name, and gives their number.
///
/// # Errors
/// When the lock is lost, one can't be removed, or somebody wishes to stop.
pub(crate) fn remove_index_files<'a>(
    repository: &Repository,
    files: impl IntoIterator<Item = &'a Id>,
    lock: Option<&LockGuard>,
    cancel: &Cancel,
) -> Result<u64, RepoError> {
    let files: Vec<&Id> = files.into_iter().collect();
    let removed = at_once(repository.loaders(), &files, cancel, |id| {
        ensure(lock)?;
        Ok(repository
            .backend()
            .remove(FileName::new(FileKind::Index, **id))?)
    })?;
    Ok(removed as u64)
}

/// An index file that is replaced by one without some packs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRewrite {
    /// The file.
    pub file: Id,
    /// The packs that it names and should not, with the digest of what it says of them: it may say two things of one.
    pub drop: BTreeSet<(Id, Id)>,
}

/// What became of the index files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexRewritten {
    /// Index files that were written.
    pub written: u64,
    /// Index files that were removed.
    pub removed: u64,
}

/// Writes index files with `add` and with what is to stay of those that are rewritten; when all of them are stored,
/// removes the rewritten ones and those in `remove`. A kill in between leaves packs named twice, which is harmless.
/// What is said of a pack is written once, however often it was said.
///
/// # Errors
/// When something can't be read, written or removed, or somebody wishes to stop.
pub(crate) fn rewrite_index(
    repository: &Repository,
    add: &[IndexPack],
    rewrites: &[FileRewrite],
    remove: &[Id],
    lock: Option<&LockGuard>,
    cancel: &Cancel,
) -> Result<IndexRewritten, RepoError> {
    let mut writer = IndexWriter::new(repository, lock, cancel);
    let mut seen = HashSet::new();
    for pack in add {
        seen.insert((pack.id, PackFacts::of(pack).digest));
        writer.index(pack.clone())?;
    }
    for rewrite in rewrites {
        cancel.check()?;
        let file = repository.load_index_file(rewrite.file)?;
        for pack in file.packs {
            let said = (pack.id, PackFacts::of(&pack).digest);
            if !rewrite.drop.contains(&said) && seen.insert(said) {
                writer.index(pack)?;
            }
        }
        for pack in file.packs_to_delete {
            writer.mark(pack)?;
        }
    }
    let written = writer.finish()?;
    let files = rewrites.iter().map(|rewrite| &rewrite.file).chain(remove);
    let removed = remove_index_files(repository, files, lock, cancel)?;
    Ok(IndexRewritten { written, removed })
}
