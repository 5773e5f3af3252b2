//! Reads packs whole: is each what its name, its header and the index say?
//! It must never hold more than one pack a thread, nor take a pack that could not be read for a sound one.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::{BlobKind, BlobRef, FormatError, GrowingId, Id, decode_header};

use super::Findings;
use crate::at_once::each_number;
use crate::backend::{FileKind, FileName};
use crate::by_pack::pack_bytes;
use crate::read::open_hashed;
use crate::{ByPack, Opener, RepoError, Repository, chain};

/// A pack that is larger than the index expects is read nevertheless up to this size in bytes, above that of all packs
/// that a program writes today: beyond, its header must first say that it is one.
const UNEXPECTED_MAX_BYTES: u64 = 256 * 1024 * 1024;
/// Bytes that a pack can have: blobs have places of 32 bits, and then comes the header.
const PACK_MAX_BYTES: u64 = u32::MAX as u64 + lifeboat_format::HEADER_MAX_BYTES as u64 + 4;

/// What is wrong with one pack.
#[derive(Default)]
pub(super) struct Wrong {
    /// All of it.
    pub(super) what: Vec<String>,
    /// Whether the pack itself is sound, and only what the index says of it is wrong.
    pub(super) blames_index: bool,
}

impl Repository {
    /// Reads the packs that are wanted and there, in threads, and gives how many that were.
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one check, each used once"
    )]
    pub(super) fn read_packs(
        &self,
        wanted: &[Id],
        listed: &HashMap<Id, u64>,
        by_pack: &ByPack<'_>,
        threads: usize,
        counters: &Counters,
        findings: &Findings,
        cancel: &Cancel,
    ) -> Result<u64, RepoError> {
        // A listing may say anything.
        let sizes = wanted.iter().filter_map(|id| listed.get(id));
        let total = sizes.fold(0u64, |sum, size| sum.saturating_add(*size));
        counters.bytes_total.store(total, Ordering::Relaxed);
        counters
            .files_total
            .store(wanted.len() as u64, Ordering::Relaxed);
        let read = AtomicU64::new(0);
        let begin = || (Opener::default(), Vec::new(), Vec::new());
        each_number(threads, wanted.len(), begin, |buffers, number| {
            cancel.check()?;
            let pack = wanted.get(number);
            let Some((id, size)) = pack.and_then(|id| Some((id, listed.get(id)?))) else {
                return Ok(());
            };
            if findings.is_ended() {
                return Ok(());
            }
            match self.check_pack(*id, *size, &by_pack.blobs(id), buffers) {
                Ok(wrong) => findings.pack_is_wrong(*id, &wrong),
                Err(error) => findings.pack_is_unreadable(*id, error),
            }
            read.fetch_add(1, Ordering::Relaxed);
            counters.files_done.fetch_add(1, Ordering::Relaxed);
            counters.bytes_done.fetch_add(*size, Ordering::Relaxed);
            Ok::<(), RepoError>(())
        })?;
        findings.check()?;
        Ok(read.into_inner())
    }

    /// Everything that is wrong with one pack, or why it can't be read at all.
    fn check_pack(
        &self,
        id: Id,
        size: u64,
        indexed: &[(BlobKind, Id, BlobRef)],
        (opener, pack, plain): &mut (Opener, Vec<u8>, Vec<u8>),
    ) -> Result<Wrong, RepoError> {
        let mut wrong = Wrong::default();
        let Some(len) = usize::try_from(size)
            .ok()
            .filter(|_| size <= PACK_MAX_BYTES)
        else {
            let why = format!("it has {size} bytes, more than a pack can have");
            wrong.what.push(why);
            return Ok(wrong);
        };
        // A size is only what a listing says, until something that is authenticated agrees: the index, or the header.
        if size > pack_bytes(indexed).max(UNEXPECTED_MAX_BYTES)
            && let Err(error) = self.pack_header(id, size)
        {
            if !error.is_damage() {
                return Err(error);
            }
            let why = format!(
                "it has {size} bytes and no header of such a pack: {}",
                chain(&error)
            );
            wrong.what.push(why);
            return Ok(wrong);
        }
        // Not cleared before: every byte is read over, or an error.
        pack.resize(len, 0);
        self.backend()
            .load_at(FileName::new(FileKind::Pack, id), 0, pack)?;
        let entries = match split_header(self, id, pack) {
            Ok(entries) => entries,
            Err(error) => {
                let why = format!("its header can't be read: {}", chain(&error));
                wrong.what.push(why);
                Vec::new()
            }
        };
        // The index rules where the header is gone: what it names may still be good.
        let blobs = if entries.is_empty() {
            indexed
        } else {
            &entries
        };
        let got = self.open_all(blobs, pack, opener, plain, &mut wrong);
        if got != id {
            let why = format!("its content has the hash {got}");
            wrong.what.insert(0, why);
        }
        wrong.blames_index = wrong.what.is_empty();
        if !entries.is_empty() {
            let header: HashSet<_> = entries.iter().collect();
            for (kind, blob, _) in indexed.iter().filter(|entry| !header.contains(entry)) {
                wrong.what.push(format!(
                    "the index says that {} blob {blob} is in it, its header does not",
                    kind.word()
                ));
            }
        }
        Ok(wrong)
    }

    /// Opens all blobs of a pack, and gives the pack's own hash: two hashes at once cost less than one after the other, so
    /// what comes next of the pack is hashed beside each blob.
    fn open_all(
        &self,
        blobs: &[(BlobKind, Id, BlobRef)],
        pack: &mut [u8],
        opener: &mut Opener,
        plain: &mut Vec<u8>,
        wrong: &mut Wrong,
    ) -> Id {
        let mut hash = GrowingId::default();
        let mut hashed = 0;
        let is_in_order = blobs.is_sorted_by_key(|(_, _, place)| place.offset_bytes);
        for (kind, blob, place) in blobs {
            let (from, to) = (
                place.offset_bytes as usize,
                place.offset_bytes as usize + place.length_bytes as usize,
            );
            // Opening a blob writes over it: all that is written over must be hashed before.
            let due = if is_in_order { to } else { pack.len() };
            if let Some(piece) = pack.get(hashed..due) {
                hash.update(piece);
                hashed = due;
            }
            let opened = match pack.split_at_mut_checked(to) {
                Some((before, ahead)) if from <= to => {
                    let ahead = ahead.get(hashed - to..).unwrap_or_default();
                    let sealed = before.get_mut(from..).unwrap_or_default();
                    let opened = open_hashed(self, *blob, *place, sealed, opener, plain, |plain| {
                        let piece = ahead.get(..plain.len()).unwrap_or(ahead);
                        hashed += piece.len();
                        Id::of_beside(plain, &mut hash, piece)
                    });
                    opened.map(drop)
                }
                _ => Err(FormatError::TooShort {
                    what: "pack",
                    got_bytes: pack.len() as u64,
                    needed_bytes: to as u64,
                }),
            };
            if let Err(error) = opened {
                let why = format!("{} blob {blob}: {}", kind.word(), chain(&error));
                wrong.what.push(why);
            }
        }
        hash.update(pack.get(hashed..).unwrap_or_default());
        hash.finish()
    }

    /// The entries of a pack's own header, read without the index.
    ///
    /// # Errors
    /// When the pack is not there or its header is damaged.
    pub fn pack_header(
        &self,
        id: Id,
        size: u64,
    ) -> Result<Vec<(BlobKind, Id, BlobRef)>, RepoError> {
        let name = FileName::new(FileKind::Pack, id);
        let damaged = |cause| self.damaged(name, cause);
        let mut length = [0u8; 4];
        let short = || {
            damaged(FormatError::TooShort {
                what: "pack",
                got_bytes: size,
                needed_bytes: 4,
            })
        };
        self.backend()
            .load_at(name, size.checked_sub(4).ok_or_else(short)?, &mut length)?;
        let length = u64::from(u32::from_le_bytes(length));
        if length > u64::from(lifeboat_format::HEADER_MAX_BYTES) {
            return Err(damaged(FormatError::Limit {
                what: "length of a pack header",
                got: length,
                limit: u64::from(lifeboat_format::HEADER_MAX_BYTES),
            }));
        }
        let mut tail = vec![0; usize::try_from(length + 4).unwrap_or(0)];
        self.backend().load_at(
            name,
            size.checked_sub(length + 4).ok_or_else(short)?,
            &mut tail,
        )?;
        let sealed = tail
            .get_mut(..usize::try_from(length).unwrap_or(0))
            .unwrap_or_default();
        let plain = self.master().open(sealed).map_err(damaged)?;
        decode_header(plain, id, size - length - 4).map_err(damaged)
    }
}

/// The entries in the header of a pack that is in memory.
pub(crate) fn split_header(
    repository: &Repository,
    id: Id,
    pack: &[u8],
) -> Result<Vec<(BlobKind, Id, BlobRef)>, FormatError> {
    let short = FormatError::TooShort {
        what: "pack",
        got_bytes: pack.len() as u64,
        needed_bytes: 4,
    };
    let Some((rest, length)) = pack.split_last_chunk::<4>() else {
        return Err(short);
    };
    let length = u32::from_le_bytes(*length);
    if length > lifeboat_format::HEADER_MAX_BYTES {
        return Err(FormatError::Limit {
            what: "length of a pack header",
            got: length.into(),
            limit: lifeboat_format::HEADER_MAX_BYTES.into(),
        });
    }
    let Some(at) = rest.len().checked_sub(length as usize) else {
        return Err(short);
    };
    let mut sealed = rest.get(at..).unwrap_or_default().to_vec();
    decode_header(repository.master().open(&mut sealed)?, id, at as u64)
}
