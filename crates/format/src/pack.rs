//! The header at the end of a pack, which says what blobs the pack holds.
//! It must never be believed before it is decrypted, nor its lengths before they are compared with the pack's size.

use crate::{BlobKind, BlobRef, FormatError, Id, OVERHEAD_BYTES};

/// Longest encrypted header that is accepted, in bytes (restic `MaxHeaderSize`).
pub const HEADER_MAX_BYTES: u32 = 16 * 1024 * 1024;
/// Length of the number at the very end that gives the header's length.
const LENGTH_FIELD_BYTES: u64 = 4;
const PLAIN_ENTRY_BYTES: usize = 37;
const COMPRESSED_ENTRY_BYTES: usize = 41;

/// One blob of a pack, as its header names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackEntry {
    /// What it holds.
    pub kind: BlobKind,
    /// Its ID: the hash of the plaintext.
    pub id: Id,
    /// Length of its ciphertext with nonce and tag, in bytes.
    pub length_bytes: u32,
    /// Length of its plaintext if compressed, otherwise 0.
    pub raw_length_bytes: u32,
}

/// The header's plaintext.
#[must_use]
pub fn encode_header(entries: &[PackEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * COMPRESSED_ENTRY_BYTES);
    for entry in entries {
        let compressed = entry.raw_length_bytes != 0;
        out.push(u8::from(entry.kind == BlobKind::Tree) + 2 * u8::from(compressed));
        out.extend_from_slice(&entry.length_bytes.to_le_bytes());
        if compressed {
            out.extend_from_slice(&entry.raw_length_bytes.to_le_bytes());
        }
        out.extend_from_slice(&entry.id.0);
    }
    out
}

/// Length of the encrypted header with its length field for these entries, in bytes.
#[must_use]
pub fn header_bytes(entries: &[PackEntry]) -> u64 {
    let plain: usize = entries
        .iter()
        .map(|e| {
            if e.raw_length_bytes == 0 {
                PLAIN_ENTRY_BYTES
            } else {
                COMPRESSED_ENTRY_BYTES
            }
        })
        .sum();
    (plain + OVERHEAD_BYTES) as u64 + LENGTH_FIELD_BYTES
}

/// The entries of a decrypted header, each with where it lies in the pack; `blobs_bytes` is the size of the pack
/// without header and length field: the entries must fill it exactly.
///
/// # Errors
/// When the header is malformed or does not describe a pack of this size.
pub fn decode_header(
    plain: &[u8],
    pack: Id,
    blobs_bytes: u64,
) -> Result<Vec<(BlobKind, Id, BlobRef)>, FormatError> {
    let what = "pack header";
    let invalid = |why: String| FormatError::Invalid { what, why };
    let mut out = Vec::with_capacity(plain.len() / PLAIN_ENTRY_BYTES);
    let mut rest = plain;
    let mut offset = 0u64;
    while let Some((tag, after)) = rest.split_first() {
        let kind = match tag {
            0 | 2 => BlobKind::Data,
            1 | 3 => BlobKind::Tree,
            other => return Err(invalid(format!("an entry has the unknown type {other}"))),
        };
        let needed = if *tag < 2 {
            PLAIN_ENTRY_BYTES
        } else {
            COMPRESSED_ENTRY_BYTES
        };
        let short = || FormatError::TooShort {
            what,
            got_bytes: rest.len() as u64,
            needed_bytes: needed as u64,
        };
        let (length, after) = after.split_first_chunk::<4>().ok_or_else(short)?;
        let (raw, after) = if *tag < 2 {
            (&[0; 4], after)
        } else {
            after.split_first_chunk::<4>().ok_or_else(short)?
        };
        let (id, after) = after.split_first_chunk::<32>().ok_or_else(short)?;
        let (length_bytes, raw_length_bytes) =
            (u32::from_le_bytes(*length), u32::from_le_bytes(*raw));
        if (length_bytes as usize) < OVERHEAD_BYTES {
            return Err(invalid(format!(
                "blob {} has {length_bytes} bytes, fewer than its encryption needs",
                Id(*id).short()
            )));
        }
        let offset_bytes =
            u32::try_from(offset).map_err(|_| invalid("it describes more than 4 GiB".into()))?;
        out.push((
            kind,
            Id(*id),
            BlobRef {
                pack,
                offset_bytes,
                length_bytes,
                raw_length_bytes,
            },
        ));
        offset += u64::from(length_bytes);
        rest = after;
    }
    if offset != blobs_bytes {
        return Err(invalid(format!(
            "it describes {offset} bytes of blobs, the pack has {blobs_bytes}"
        )));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<PackEntry> {
        [
            (BlobKind::Data, 100, 0),
            (BlobKind::Tree, 50, 0),
            (BlobKind::Data, 80, 200),
            (BlobKind::Tree, 60, 90),
        ]
        .map(|(kind, length_bytes, raw_length_bytes)| PackEntry {
            kind,
            id: Id::of(&[length_bytes as u8]),
            length_bytes,
            raw_length_bytes,
        })
        .to_vec()
    }

    #[test]
    fn what_is_encoded_decodes_with_offsets() {
        let plain = encode_header(&entries());
        assert_eq!(plain.len() as u64 + 36, header_bytes(&entries()));
        let decoded = decode_header(&plain, Id::default(), 290).unwrap();
        assert_eq!(
            decoded
                .iter()
                .map(|(_, _, b)| b.offset_bytes)
                .collect::<Vec<_>>(),
            [0, 100, 150, 230]
        );
        for ((kind, id, blob), entry) in decoded.into_iter().zip(entries()) {
            assert_eq!(
                (kind, id, blob.length_bytes, blob.raw_length_bytes),
                (
                    entry.kind,
                    entry.id,
                    entry.length_bytes,
                    entry.raw_length_bytes
                )
            );
        }
    }

    #[test]
    fn any_other_size_or_shape_is_refused() {
        let plain = encode_header(&entries());
        assert!(decode_header(&plain, Id::default(), 289).is_err());
        assert!(decode_header(&plain, Id::default(), 291).is_err());
        for cut in 1..plain.len() {
            assert!(
                decode_header(&plain[..cut], Id::default(), 290).is_err(),
                "cut at {cut}"
            );
        }
        let mut unknown = plain.clone();
        unknown[0] = 9;
        assert!(decode_header(&unknown, Id::default(), 290).is_err());
        let mut tiny = plain;
        tiny[1..5].copy_from_slice(&3u32.to_le_bytes());
        assert!(decode_header(&tiny, Id::default(), 193).is_err());
    }
}
