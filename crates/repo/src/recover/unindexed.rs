//! Packs that no index file names: what an interrupted run left, or what a lost index file knew.
//! It must never index a pack whose header was not decrypted.

use std::collections::HashSet;

use lifeboat_flow::Cancel;
use lifeboat_format::{Id, IndexBlob, IndexPack};

use crate::index_writer::IndexWriter;
use crate::{Index, IndexReport, LockGuard, RepoError, Repository, chain};

/// Packs that nobody could find until now.
#[derive(Debug, Default)]
pub struct Unindexed {
    /// Those of which it is known what they hold.
    pub packs: Vec<IndexPack>,
    /// Those that can't be read, each with the reason.
    pub unreadable: Vec<(Id, String)>,
}

impl Repository {
    /// Reads what packs hold that no index file names, and takes it into the index.
    ///
    /// # Errors
    /// When the backend fails as a whole.
    pub fn read_unindexed(
        &self,
        index: &mut Index,
        report: &IndexReport,
        cancel: &Cancel,
    ) -> Result<Unindexed, RepoError> {
        let mut known: HashSet<Id> = index.packs().map(|(id, _)| id).collect();
        known.extend(&report.marked_packs);
        let mut listed: Vec<_> = report.listed_packs.iter().collect();
        listed.retain(|(id, _)| !known.contains(id));
        listed.sort();
        let mut found = Unindexed::default();
        for (id, size_bytes) in listed {
            cancel.check()?;
            let pack = match header_of(self, *id, *size_bytes)? {
                Ok(pack) => pack,
                Err(why) => {
                    found.unreadable.push((*id, why));
                    continue;
                }
            };
            index.insert(&pack, true);
            found.packs.push(pack);
        }
        Ok(found)
    }

    /// Writes index files for packs that have none, or that are marked in those that they have.
    ///
    /// # Errors
    /// When they can't be written, or somebody wishes to stop.
    pub fn index_packs(
        &self,
        packs: Vec<IndexPack>,
        lock: Option<&LockGuard>,
        cancel: &Cancel,
    ) -> Result<(), RepoError> {
        let mut writer = IndexWriter::new(self, lock, cancel);
        for pack in packs {
            writer.index(pack)?;
        }
        writer.finish()?;
        Ok(())
    }
}

/// A pack as its header describes it, or why that can't be read.
pub(super) fn header_of(
    repository: &Repository,
    id: Id,
    size_bytes: u64,
) -> Result<Result<IndexPack, String>, RepoError> {
    let entries = match repository.pack_header(id, size_bytes) {
        Ok(entries) => entries,
        Err(error) if error.is_damage() => return Ok(Err(chain(&error))),
        Err(error) => return Err(error),
    };
    let blobs = entries.into_iter().map(|(kind, id, place)| IndexBlob {
        id,
        kind,
        offset_bytes: place.offset_bytes,
        length_bytes: place.length_bytes,
        raw_length_bytes: place.raw_length_bytes,
    });
    let blobs = blobs.collect();
    Ok(Ok(IndexPack { id, blobs }))
}
