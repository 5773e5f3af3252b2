//! Hands blobs to lanes: each lane hashes one blob after the other, and all run together while enough of them have work.
//! It must never let a lane read beyond the end of its blob: the last blocks come from a padded copy.

use super::START;

/// Bytes of a block.
pub(super) const BLOCK_BYTES: usize = 64;
/// The constants of the rounds (FIPS 180-4, 4.2.2).
pub(super) const ROUND: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

/// The end of a blob with its padding: one block or two.
#[derive(Clone, Copy)]
struct Tail {
    bytes: [u8; 2 * BLOCK_BYTES],
    length: usize,
}

impl Tail {
    fn of(blob: &[u8]) -> Self {
        let rest = blob.chunks_exact(BLOCK_BYTES).remainder();
        let mut bytes = [0; 2 * BLOCK_BYTES];
        bytes[..rest.len()].copy_from_slice(rest);
        bytes[rest.len()] = 0x80;
        let length = match rest.len() + 9 <= BLOCK_BYTES {
            true => BLOCK_BYTES,
            false => 2 * BLOCK_BYTES,
        };
        bytes[length - 8..length].copy_from_slice(&(blob.len() as u64 * 8).to_be_bytes());
        Self { bytes, length }
    }
}

/// A blob on its way through a lane.
struct Lane<'a> {
    /// Which blob.
    at: usize,
    /// What is left of its whole blocks.
    body: &'a [u8],
    tail: Tail,
    is_tail: bool,
    state: [u32; 8],
}

impl<'a> Lane<'a> {
    fn new(at: usize, blob: &'a [u8]) -> Self {
        let whole = blob.len() / BLOCK_BYTES * BLOCK_BYTES;
        Self {
            at,
            body: &blob[..whole],
            tail: Tail::of(blob),
            is_tail: whole == 0,
            state: START,
        }
    }

    /// The whole blocks that come next.
    fn next(&self) -> &[u8] {
        match self.is_tail {
            true => &self.tail.bytes[..self.tail.length],
            false => self.body,
        }
    }

    /// Goes on after so many blocks, and says whether the blob is done. A tail is done at once or by halves.
    fn advance(&mut self, blocks: usize) -> bool {
        let bytes = blocks * BLOCK_BYTES;
        if !self.is_tail {
            self.body = &self.body[bytes..];
            self.is_tail = self.body.is_empty();
            return false;
        }
        self.tail.bytes.copy_within(bytes..self.tail.length, 0);
        self.tail.length -= bytes;
        self.tail.length == 0
    }

    fn hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        for (bytes, word) in hash.chunks_exact_mut(4).zip(self.state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        hash
    }
}

/// Hashes blobs in `N` lanes while at least `busy_min` of them have work. `order` says which blobs, and keeps those that
/// are left; a blob that is half done when too few lanes have work is begun anew by the caller, unless it is finished by
/// the lanes that are left: so the longest should come first.
pub(super) fn hash<const N: usize>(
    blobs: &[&[u8]],
    order: &mut Vec<usize>,
    busy_min: usize,
    hashes: &mut [[u8; 32]],
    mut compress: impl FnMut(&mut [[u32; 8]; N], &[*const u8; N], usize),
) {
    let mut waiting = order.drain(..);
    let mut lanes: Vec<Lane<'_>> = Vec::with_capacity(N);
    lanes.extend(waiting.by_ref().take(N).map(|at| Lane::new(at, blobs[at])));
    let mut left = Vec::new();
    while !lanes.is_empty() {
        // Too few lanes are slower than other kernels, unless there is next to nothing to do.
        if lanes.len() < busy_min {
            let is_fresh = |lane: &Lane<'_>| lane.state == START;
            if lanes.iter().all(is_fresh) {
                left.extend(lanes.iter().map(|lane| lane.at));
                break;
            }
        }
        let blocks = lanes.iter().map(|lane| lane.next().len() / BLOCK_BYTES);
        let blocks = blocks.min().unwrap_or(0);
        // Lanes without work repeat the first one's, into a state that nobody reads.
        let first = lanes[0].next().as_ptr();
        let mut states = [START; N];
        let mut places = [first; N];
        for ((state, place), lane) in states.iter_mut().zip(&mut places).zip(&lanes) {
            *state = lane.state;
            *place = lane.next().as_ptr();
        }
        compress(&mut states, &places, blocks);
        let mut kept = Vec::with_capacity(N);
        for (mut lane, state) in lanes.into_iter().zip(states) {
            lane.state = state;
            if !lane.advance(blocks) {
                kept.push(lane);
                continue;
            }
            hashes[lane.at] = lane.hash();
            kept.extend(waiting.next().map(|at| Lane::new(at, blobs[at])));
        }
        lanes = kept;
    }
    drop(waiting);
    *order = left;
}
