//! What the destination lacks of some snapshots: found by one walk over all their trees, grouped by the source's packs.
//! It must never count a blob as there on the word of a pack that is not.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use lifeboat_format::{BlobKind, Id, OVERHEAD_BYTES, PackEntry, Snapshot, header_bytes};

use super::{Copier, Lost, PackPart, Wanted, Way};
use crate::ingest::PACK_SIZE_MAX_BYTES;
use crate::{RepoError, chain};

/// Largest pack that is stored as it is, in bytes: it is held in memory meanwhile.
const WHOLE_PACK_MAX_BYTES: u64 = PACK_SIZE_MAX_BYTES as u64 + 16 * 1024 * 1024;

/// What the destination lacks.
#[derive(Default)]
pub(super) struct Needed {
    /// Blobs to be copied, each once.
    pub(super) blobs: Vec<Wanted>,
    /// What it lacks and the source does not have either.
    pub(super) lost: Lost,
}

#[derive(Default)]
struct Found {
    needed: Needed,
    data: HashSet<Id>,
}

impl Copier<'_> {
    /// What the destination lacks of these snapshots. What it has is noted as relied on.
    pub(super) fn needed(&self, snapshots: &[(Id, Snapshot)]) -> Result<Needed, RepoError> {
        let found = Mutex::new(Found::default());
        self.walk(snapshots, &|seen| {
            let id = seen.id;
            let tree = match seen.tree {
                Ok(tree) => tree,
                Err(error) if error.is_damage() => {
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    let lost = &mut found.needed.lost;
                    lost.insert((BlobKind::Tree, id), chain(&error));
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let content = tree.nodes.iter().filter_map(|node| node.content.as_ref());
            let lacking: Vec<Id> = {
                let index = self.to_index.read().unwrap_or_else(PoisonError::into_inner);
                let is_lacking = |id: &&Id| index.rely(BlobKind::Data, id).is_none();
                content.flatten().filter(is_lacking).copied().collect()
            };
            let lacks_tree = {
                let index = self.to_index.read().unwrap_or_else(PoisonError::into_inner);
                index.rely(BlobKind::Tree, &id).is_none()
            };
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            if lacks_tree {
                self.want(&mut found.needed, BlobKind::Tree, id);
            }
            for id in lacking {
                if found.data.insert(id) {
                    self.want(&mut found.needed, BlobKind::Data, id);
                }
            }
            Ok(())
        })?;
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(found.needed)
    }

    fn want(&self, needed: &mut Needed, kind: BlobKind, id: Id) {
        match self.from_index.find(kind, &id) {
            Some(place) => needed.blobs.push(Wanted { kind, id, place }),
            None => {
                let why = chain(&RepoError::BlobUnknown { kind, id });
                needed.lost.insert((kind, id), why);
            }
        }
    }

    /// Groups blobs by the packs that hold them, data before trees.
    pub(super) fn by_pack(&self, mut blobs: Vec<Wanted>) -> Result<Vec<PackPart>, RepoError> {
        blobs.sort_by_key(|blob| (blob.place.pack, blob.place.offset_bytes));
        let mut parts: Vec<PackPart> = Vec::new();
        for blob in blobs {
            match parts.last_mut() {
                Some(part) if part.blobs.last().map(|b| b.place.pack) == Some(blob.place.pack) => {
                    part.blobs.push(blob);
                }
                _ => parts.push(PackPart {
                    blobs: vec![blob],
                    whole_bytes: None,
                }),
            }
        }
        if self.way()? == Way::Sealed {
            self.mark_whole(&mut parts);
        }
        parts.sort_by_key(|part| part.blobs.first().map(|blob| (blob.kind, blob.place.pack)));
        Ok(parts)
    }

    /// Finds the packs of which everything is wanted.
    fn mark_whole(&self, parts: &mut [PackPart]) {
        let firsts = parts.iter().filter_map(|part| part.blobs.first());
        let mut ends: HashMap<Id, u64> = firsts.map(|first| (first.place.pack, 0)).collect();
        self.from_index.each(|_, _, place| {
            if let Some(end) = ends.get_mut(&place.pack) {
                let blob_end = u64::from(place.offset_bytes) + u64::from(place.length_bytes);
                *end = (*end).max(blob_end);
            }
        });
        for part in parts {
            let Some(first) = part.blobs.first() else {
                continue;
            };
            // Under the name of a pack that is about to be deleted nothing new may rely.
            let is_marked = self.to_marked.contains(&first.place.pack);
            let is_mixed = part.blobs.iter().any(|blob| blob.kind != first.kind);
            let end = ends.get(&first.place.pack).copied().unwrap_or(0);
            if is_marked || (is_mixed && self.to.compresses()) || !is_complete(&part.blobs, end) {
                continue;
            }
            let entries: Vec<PackEntry> = part.blobs.iter().map(Wanted::entry).collect();
            let size_bytes = end + header_bytes(&entries);
            part.whole_bytes = (size_bytes <= WHOLE_PACK_MAX_BYTES).then_some(size_bytes);
        }
    }
}

/// Whether blobs fill a pack from its begin to where the last one of its index entries ends.
fn is_complete(sorted: &[Wanted], end_bytes: u64) -> bool {
    let mut at = 0;
    for blob in sorted {
        let long_enough = blob.place.length_bytes as usize >= OVERHEAD_BYTES;
        if u64::from(blob.place.offset_bytes) != at || !long_enough {
            return false;
        }
        at += u64::from(blob.place.length_bytes);
    }
    at == end_bytes
}

impl Wanted {
    /// Its entry in a pack's header.
    pub(super) fn entry(&self) -> PackEntry {
        PackEntry {
            kind: self.kind,
            id: self.id,
            length_bytes: self.place.length_bytes,
            raw_length_bytes: self.place.raw_length_bytes,
        }
    }
}
