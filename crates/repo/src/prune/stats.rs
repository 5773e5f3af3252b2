//! A plan in numbers: what is used, what is not, and what happens to it.
//! It must never count a copy twice: of several places of a used blob one is used, the others are duplicates.

use std::time::Duration;

use lifeboat_format::{BlobKind, BlobRef, OVERHEAD_BYTES, Timestamp};

use super::choice::Choice;
use super::facts::Facts;
use super::plan::Fate;

/// So much of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Packs.
    pub packs: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes in packs.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, packs: u64, blobs: u64, bytes: u64) {
        self.packs += packs;
        self.blobs += blobs;
        // A listing may say anything of a pack that no index file names.
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// A plan in numbers. Blobs are counted where packs are not marked; their bytes are those of their ciphertext.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PruneStats {
    /// What snapshots need, one copy of each.
    pub used: Amount,
    /// Further copies of what snapshots need.
    pub duplicate: Amount,
    /// What no snapshot needs.
    pub unused: Amount,
    /// Packs all of whose blobs are used.
    pub packs_used: u64,
    /// Packs some of whose blobs are used.
    pub packs_partly_used: u64,
    /// Packs none of whose blobs is used.
    pub packs_unused: u64,
    /// Packs that stay as they are.
    pub keep: Amount,
    /// Packs that are repacked.
    pub repack: Amount,
    /// What is left behind by that.
    pub repack_removes: Amount,
    /// Packs that hold nothing used and are marked, or deleted at once if that is wanted.
    pub unneeded: Amount,
    /// Packs in no index file; they are marked too, or deleted at once if that is wanted.
    pub unindexed: Amount,
    /// Marked packs whose time has not come.
    pub wait: Amount,
    /// Marked packs whose time has come.
    pub delete: Amount,
    /// Marked packs that are needed after all.
    pub recover: Amount,
    /// Packs that are not there and not needed.
    pub forget: Amount,
    /// Bytes of packs that hold something uncompressed and stay.
    pub uncompressed_bytes: u64,
    /// Unused bytes and copies that stay.
    pub unused_after_bytes: u64,
    /// Index files.
    pub index_files: u64,
    /// Those of them that are written anew.
    pub index_files_rewritten: u64,
    /// The first moment at which a pack that waits may be deleted.
    pub wait_until_first: Option<Timestamp>,
    /// The moment at which the last of them may be.
    pub wait_until_last: Option<Timestamp>,
    /// The moment since when the longest due pack could have been deleted.
    pub due_since: Option<Timestamp>,
}

/// What a pack holds, when copies are chosen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PackWorth {
    pub(super) used_blobs: u64,
    pub(super) used_bytes: u64,
    /// Blobs that are not used, or of which another copy was chosen.
    pub(super) unused_blobs: u64,
    pub(super) unused_bytes: u64,
    /// Of these the ones that are copies of what is used.
    pub(super) duplicate_blobs: u64,
    pub(super) duplicate_bytes: u64,
    pub(super) data: u64,
    pub(super) trees: u64,
    pub(super) uncompressed_bytes: u64,
    /// Length of the largest uncompressed tree, in bytes.
    pub(super) uncompressed_tree_bytes: u64,
}

impl PackWorth {
    /// What each pack holds, by its number.
    pub(super) fn of_all(facts: &Facts, choice: &Choice) -> Vec<Self> {
        let mut worths = vec![Self::default(); facts.packs.len()];
        for (kind, number) in facts.places() {
            if let Some((_, pack, place)) = facts.index.place_at(kind, number)
                && let Some(worth) = worths.get_mut(pack as usize)
            {
                let is_chosen = choice.chosen.has(kind, number);
                worth.add(kind, &place, is_chosen, facts.used.has(kind, number));
            }
        }
        worths
    }

    fn add(&mut self, kind: BlobKind, place: &BlobRef, is_chosen: bool, is_used: bool) {
        let bytes = u64::from(place.length_bytes);
        match kind {
            BlobKind::Data => self.data += 1,
            BlobKind::Tree => self.trees += 1,
        }
        if place.raw_length_bytes == 0 {
            let plain = bytes.saturating_sub(OVERHEAD_BYTES as u64);
            self.uncompressed_bytes += plain;
            if kind == BlobKind::Tree {
                self.uncompressed_tree_bytes = self.uncompressed_tree_bytes.max(plain);
            }
        }
        if is_chosen {
            self.used_blobs += 1;
            self.used_bytes += bytes;
            return;
        }
        self.unused_blobs += 1;
        self.unused_bytes += bytes;
        if is_used {
            self.duplicate_blobs += 1;
            self.duplicate_bytes += bytes;
        }
    }
}

impl PruneStats {
    /// What is used and what is not, before anything is repacked.
    pub(super) fn of_blobs(facts: &Facts, worths: &[PackWorth], fates: &[Fate]) -> Self {
        let mut stats = Self::default();
        for ((pack, worth), fate) in facts.packs.iter().zip(worths).zip(fates) {
            if pack.mark.is_some() && *fate != Fate::Recover {
                continue;
            }
            stats.used.add(0, worth.used_blobs, worth.used_bytes);
            stats
                .duplicate
                .add(0, worth.duplicate_blobs, worth.duplicate_bytes);
            stats.unused.add(
                0,
                worth.unused_blobs - worth.duplicate_blobs,
                worth.unused_bytes - worth.duplicate_bytes,
            );
            match (worth.used_blobs, worth.unused_blobs) {
                (0, _) => stats.packs_unused += 1,
                (_, 0) => stats.packs_used += 1,
                _ => stats.packs_partly_used += 1,
            }
        }
        stats
    }

    pub(super) fn count_fates(
        &mut self,
        facts: &Facts,
        worths: &[PackWorth],
        fates: &[Fate],
        rewrite: &[usize],
    ) {
        for ((pack, worth), fate) in facts.packs.iter().zip(worths).zip(fates) {
            let blobs = worth.used_blobs + worth.unused_blobs;
            let amount = match fate {
                Fate::Keep => {
                    self.unused_after_bytes += worth.unused_bytes;
                    if facts.compresses && worth.uncompressed_bytes > 0 {
                        self.uncompressed_bytes += pack.expected_bytes;
                    }
                    &mut self.keep
                }
                Fate::Repack => {
                    self.repack_removes
                        .add(0, worth.unused_blobs, worth.unused_bytes);
                    &mut self.repack
                }
                Fate::Delete if pack.mark.is_none() => &mut self.unneeded,
                Fate::Mark => &mut self.unneeded,
                Fate::Wait | Fate::Remark => &mut self.wait,
                Fate::Recover => &mut self.recover,
                Fate::Delete => &mut self.delete,
                Fate::Forget => &mut self.forget,
            };
            amount.add(1, blobs, pack.listed_bytes.unwrap_or(0));
        }
        for (_, size_bytes) in &facts.unindexed {
            self.unindexed.add(1, 0, *size_bytes);
        }
        self.index_files = facts.files.len() as u64;
        self.index_files_rewritten = rewrite.len() as u64;
    }

    pub(super) fn count_times(
        &mut self,
        facts: &Facts,
        fates: &[Fate],
        keep_delete: Duration,
        now: Timestamp,
    ) {
        for (pack, fate) in facts.packs.iter().zip(fates) {
            let Some(mark) = pack.mark else { continue };
            let marked = match fate {
                Fate::Remark => Some(now),
                _ => mark.time,
            };
            let Some(until) = marked.map(|time| later(time, keep_delete)) else {
                continue;
            };
            let min =
                |known: Option<Timestamp>| Some(known.map_or(until, |known| known.min(until)));
            match fate {
                Fate::Wait | Fate::Remark => {
                    self.wait_until_first = min(self.wait_until_first);
                    self.wait_until_last = self.wait_until_last.max(Some(until));
                }
                Fate::Delete => self.due_since = min(self.due_since),
                _ => {}
            }
        }
    }
}

/// A moment so long after another.
pub(super) fn later(time: Timestamp, by: Duration) -> Timestamp {
    let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
    Timestamp {
        seconds: time.seconds.saturating_add(seconds),
        ..time
    }
}
