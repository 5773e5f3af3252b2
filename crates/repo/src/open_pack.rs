//! A pack that is being filled: blobs are compressed and encrypted where they will lie, and hashed while they are hot.
//! It must never show a blob in its header that is not whole in its bytes.

use lifeboat_format::{
    BlobKind, Compressor, GrowingId, HEADER_MAX_BYTES, Id, IndexBlob, IndexPack, MasterKey,
    NONCE_BYTES, PackEntry, encode_header,
};

use crate::{RepoError, random};

/// Blobs in one pack at most, so that its header stays far below its limit.
const PACK_MAX_BLOBS: usize = (HEADER_MAX_BYTES as usize / 41) / 4;

/// A pack that is being filled.
#[derive(Default)]
pub(crate) struct OpenPack {
    bytes: Vec<u8>,
    entries: Vec<PackEntry>,
    /// The hash of the first `hashed` bytes.
    hash: GrowingId,
    hashed: usize,
}

/// A pack that is full, and what the index will say of it.
pub(crate) struct ClosedPack {
    pub(crate) bytes: Vec<u8>,
    pub(crate) indexed: IndexPack,
}

impl OpenPack {
    /// An empty pack in this memory.
    pub(crate) fn within(mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        Self {
            bytes,
            ..Self::default()
        }
    }

    /// Forgets all blobs, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        *self = Self::within(std::mem::take(&mut self.bytes));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it has reached this size, or holds all the blobs that it may.
    pub(crate) fn is_full(&self, size_bytes: usize) -> bool {
        self.bytes.len() >= size_bytes || self.entries.len() >= PACK_MAX_BLOBS
    }

    /// Whether another pack can be added without becoming much larger than this size.
    pub(crate) fn has_room_for(&self, other: &Self, size_bytes: usize) -> bool {
        self.bytes.len() + other.bytes.len() <= size_bytes
            && self.entries.len() + other.entries.len() <= PACK_MAX_BLOBS
    }

    /// Bytes that the pack's own hash has not seen yet.
    pub(crate) fn due_bytes(&self) -> usize {
        self.bytes.len() - self.hashed
    }

    /// The ID of a blob, and on the way a part of the pack's own: two hashes at once cost less than one after the other.
    pub(crate) fn id_of(&mut self, blob: &[u8]) -> Id {
        let due = self.bytes.get(self.hashed..).unwrap_or_default();
        let due = due.get(..blob.len()).unwrap_or(due);
        let id = Id::of_beside(blob, &mut self.hash, due);
        self.hashed += due.len();
        id
    }

    /// Adds a blob: compressed by this compressor if that makes it smaller, and encrypted. One that can't be leaves
    /// nothing behind.
    pub(crate) fn seal(
        &mut self,
        kind: BlobKind,
        id: Id,
        plain: &[u8],
        compressor: Option<&mut Compressor>,
        master: &MasterKey,
    ) -> Result<PackEntry, RepoError> {
        let start = self.begin();
        let sealed = compress(plain, compressor, &mut self.bytes)
            .and_then(|raw_length_bytes| self.end(start, kind, id, raw_length_bytes, master));
        sealed.inspect_err(|_| self.bytes.truncate(start))
    }

    /// Adds a blob that is compressed already, and encrypts it.
    pub(crate) fn seal_compressed(
        &mut self,
        kind: BlobKind,
        id: Id,
        frame: &[u8],
        raw_length_bytes: u32,
        master: &MasterKey,
    ) -> Result<PackEntry, RepoError> {
        let start = self.begin();
        self.bytes.extend_from_slice(frame);
        let sealed = self.end(start, kind, id, raw_length_bytes, master);
        sealed.inspect_err(|_| self.bytes.truncate(start))
    }

    /// Adds a blob as it lies in another pack of the same master key.
    pub(crate) fn append(&mut self, entry: PackEntry, sealed: &[u8]) {
        self.bytes.extend_from_slice(sealed);
        self.entries.push(entry);
    }

    /// Adds all blobs of another pack.
    pub(crate) fn append_all(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.entries.extend_from_slice(&other.entries);
    }

    /// Puts the header behind the blobs.
    pub(crate) fn close(mut self, master: &MasterKey) -> Result<ClosedPack, RepoError> {
        let mut header = vec![0; NONCE_BYTES];
        header.extend_from_slice(&encode_header(&self.entries));
        master
            .seal_from(&random::nonce()?, &mut header, 0)
            .map_err(|e| RepoError::Random(e.to_string()))?;
        let length = u32::try_from(header.len())
            .map_err(|_| RepoError::WriterFailed("a pack header grew too large".into()))?;
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.hash
            .update(self.bytes.get(self.hashed..).unwrap_or_default());
        let mut offset_bytes = 0u32;
        let blobs = self.entries.iter().map(|entry| {
            let blob = IndexBlob {
                id: entry.id,
                kind: entry.kind,
                offset_bytes,
                length_bytes: entry.length_bytes,
                raw_length_bytes: entry.raw_length_bytes,
            };
            offset_bytes = offset_bytes.saturating_add(entry.length_bytes);
            blob
        });
        let blobs = blobs.collect();
        Ok(ClosedPack {
            indexed: IndexPack {
                id: self.hash.finish(),
                blobs,
            },
            bytes: self.bytes,
        })
    }

    /// Makes room for a nonce, and says where the blob begins.
    fn begin(&mut self) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; NONCE_BYTES]);
        start
    }

    /// Encrypts what lies behind the room for the nonce.
    fn end(
        &mut self,
        start: usize,
        kind: BlobKind,
        id: Id,
        raw_length_bytes: u32,
        master: &MasterKey,
    ) -> Result<PackEntry, RepoError> {
        master
            .seal_from(&random::nonce()?, &mut self.bytes, start)
            .map_err(|e| RepoError::Random(e.to_string()))?;
        let entry = PackEntry {
            kind,
            id,
            length_bytes: length_u32(self.bytes.len() - start)?,
            raw_length_bytes,
        };
        self.entries.push(entry);
        Ok(entry)
    }
}

/// Appends a blob, compressed if that makes it smaller; gives the length of its plaintext then, and else 0.
fn compress(
    plain: &[u8],
    compressor: Option<&mut Compressor>,
    bytes: &mut Vec<u8>,
) -> Result<u32, RepoError> {
    let place = bytes.len();
    if let Some(compressor) = compressor.filter(|_| !plain.is_empty()) {
        let appended = compressor.append(plain, bytes);
        appended.map_err(|e| RepoError::WriterFailed(e.to_string()))?;
        if bytes.len() - place < plain.len() {
            return length_u32(plain.len());
        }
        bytes.truncate(place);
    }
    bytes.extend_from_slice(plain);
    Ok(0)
}

fn length_u32(bytes: usize) -> Result<u32, RepoError> {
    u32::try_from(bytes).map_err(|_| {
        RepoError::WriterFailed(format!(
            "a blob of {bytes} bytes is too large for the format"
        ))
    })
}
