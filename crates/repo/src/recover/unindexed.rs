//! Packs that no index file names: what an interrupted run left, or what a lost index file knew.
//! It must never index a pack whose header was not decrypted, nor one that a prune has marked to be deleted.

use std::collections::HashSet;

use lifeboat_flow::Cancel;
use lifeboat_format::{Id, IndexBlob, IndexPack};

use crate::index_writer::IndexWriter;
use crate::{Index, IndexReport, LockGuard, RepoError, Repository, chain};

/// Packs that no index file names.
#[derive(Debug, Default)]
pub struct Unindexed {
    /// Those that say themselves what they hold.
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
            let entries = match self.pack_header(*id, *size_bytes) {
                Ok(entries) => entries,
                Err(error) if error.is_damage() => {
                    found.unreadable.push((*id, chain(&error)));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let blobs = entries.into_iter().map(|(kind, id, place)| IndexBlob {
                id,
                kind,
                offset_bytes: place.offset_bytes,
                length_bytes: place.length_bytes,
                raw_length_bytes: place.raw_length_bytes,
            });
            let pack = IndexPack {
                id: *id,
                blobs: blobs.collect(),
            };
            index.insert(&pack, true);
            found.packs.push(pack);
        }
        Ok(found)
    }

    /// Writes index files for packs that have none.
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
