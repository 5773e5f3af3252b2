//! Packs that a prune has marked to be deleted: until the next one deletes them, they hold what was forgotten.
//! It must never take back a pack that is not there, nor one whose blobs all lie in packs that stay.

use std::collections::HashSet;

use lifeboat_flow::Cancel;
use lifeboat_format::{Id, IndexPack};

use super::unindexed::{Unindexed, header_of};
use crate::{Index, IndexReport, RepoError, Repository};

impl Repository {
    /// Takes back into the index what only marked packs hold, as if nobody had marked these. Indexed again in a file, they
    /// count as unmarked for every prune.
    ///
    /// # Errors
    /// When the backend fails as a whole.
    pub fn read_marked(
        &self,
        index: &mut Index,
        report: &IndexReport,
        cancel: &Cancel,
    ) -> Result<Unindexed, RepoError> {
        let mut found = Unindexed::default();
        let mut packs = index.marked_packs();
        // A mark on a pack that was in no index file does not say what it holds.
        let mut known: HashSet<Id> = index.packs().map(|(id, _)| id).collect();
        known.extend(packs.iter().map(|pack| pack.id));
        for id in &report.marked_packs {
            let Some(size_bytes) = report.listed_packs.get(id) else {
                continue;
            };
            if known.insert(*id) {
                cancel.check()?;
                match header_of(self, *id, *size_bytes)? {
                    Ok(pack) => packs.push(pack),
                    Err(why) => found.unreadable.push((*id, why)),
                }
            }
        }
        packs.sort_by_key(|pack| pack.id);
        for pack in packs {
            if is_wanted(index, &pack) {
                index.insert(&pack, true);
                found.packs.push(pack);
            }
        }
        Ok(found)
    }
}

/// Whether a pack holds anything that no pack that stays does.
fn is_wanted(index: &Index, pack: &IndexPack) -> bool {
    pack.blobs
        .iter()
        .any(|blob| !index.has(blob.kind, &blob.id))
}
