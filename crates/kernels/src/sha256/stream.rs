//! SHA-256 over data that comes in pieces, alone or beside a blob that is hashed at the same time.
//! It must never keep more of what it was given than an unfinished block.

use sha2::block_api::compress256;

use super::START;
use crate::Kernel;

/// Bytes of a block.
const BLOCK_BYTES: usize = 64;

/// A SHA-256 over data that comes in pieces (FIPS 180-4).
#[derive(Clone)]
pub struct Sha256Stream {
    state: [u32; 8],
    /// The beginning of a block.
    held: [u8; BLOCK_BYTES],
    held_bytes: usize,
    total_bytes: u64,
}

impl Default for Sha256Stream {
    fn default() -> Self {
        Self {
            state: START,
            held: [0; BLOCK_BYTES],
            held_bytes: 0,
            total_bytes: 0,
        }
    }
}

impl Sha256Stream {
    /// Takes the next piece.
    pub fn update(&mut self, data: &[u8]) {
        let data = self.complete(data);
        let (blocks, rest) = data.as_chunks::<BLOCK_BYTES>();
        compress256(&mut self.state, blocks);
        self.total_bytes += (blocks.len() * BLOCK_BYTES) as u64;
        self.hold(rest);
    }

    /// The hash of all pieces.
    #[must_use]
    pub fn finish(mut self) -> [u8; 32] {
        let bits = self.total_bytes.wrapping_mul(8);
        // The end: a one bit, zeros, and the length in the last eight bytes of a block.
        let zeros = (2 * BLOCK_BYTES - 9 - self.held_bytes) % BLOCK_BYTES;
        let mut end = [0; 2 * BLOCK_BYTES];
        end[0] = 0x80;
        end[1 + zeros..9 + zeros].copy_from_slice(&bits.to_be_bytes());
        self.update(&end[..9 + zeros]);
        let mut hash = [0; 32];
        for (bytes, word) in hash.chunks_exact_mut(4).zip(self.state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        hash
    }

    /// Completes the block that was begun, and gives what is left for whole blocks.
    fn complete<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        if self.held_bytes == 0 {
            return data;
        }
        let wanted = (BLOCK_BYTES - self.held_bytes).min(data.len());
        let (first, rest) = data.split_at(wanted);
        self.hold(first);
        if self.held_bytes == BLOCK_BYTES {
            compress256(&mut self.state, &[self.held]);
            self.held_bytes = 0;
        }
        rest
    }

    fn hold(&mut self, data: &[u8]) {
        self.held[self.held_bytes..self.held_bytes + data.len()].copy_from_slice(data);
        self.held_bytes += data.len();
        self.total_bytes += data.len() as u64;
    }
}

/// The SHA-256 of a blob, while a stream takes its next piece: both together cost less than one after the other, and
/// the least where both are about as long.
#[must_use]
pub fn sha256_beside(blob: &[u8], stream: &mut Sha256Stream, piece: &[u8]) -> [u8; 32] {
    beside_by(Kernel::current(), blob, stream, piece)
}

/// The same by a certain kernel, for tests; by the scalar one where it is not available.
#[must_use]
pub fn sha256_beside_with(
    kernel: Kernel,
    blob: &[u8],
    stream: &mut Sha256Stream,
    piece: &[u8],
) -> [u8; 32] {
    beside_by(kernel.or_scalar(), blob, stream, piece)
}

/// The same by a kernel, which must be available.
pub(crate) fn beside_by(
    kernel: Kernel,
    blob: &[u8],
    stream: &mut Sha256Stream,
    piece: &[u8],
) -> [u8; 32] {
    let piece = stream.complete(piece);
    let mut own = Sha256Stream::default();
    let done = together(kernel, &mut own, blob, stream, piece);
    own.update(&blob[done..]);
    stream.update(&piece[done..]);
    own.finish()
}

/// Takes as many bytes of both as both have, where two streams at once are faster than one, and gives their number.
#[cfg(target_arch = "x86_64")]
fn together(
    kernel: Kernel,
    one: &mut Sha256Stream,
    of_one: &[u8],
    other: &mut Sha256Stream,
    of_other: &[u8],
) -> usize {
    use super::sha_ni;
    let blocks = of_one.len().min(of_other.len()) / BLOCK_BYTES;
    let is_ready = one.held_bytes == 0 && other.held_bytes == 0;
    if blocks == 0 || !is_ready || kernel == Kernel::Scalar || !sha_ni::is_available() {
        return 0;
    }
    let mut states = [one.state, other.state];
    let places = [of_one.as_ptr(), of_other.as_ptr()];
    // SAFETY: the processor has the instructions, and both places hold so many blocks.
    #[expect(unsafe_code, reason = "vector instructions")]
    unsafe {
        sha_ni::compress(&mut states, &places, blocks);
    }
    [one.state, other.state] = states;
    let bytes = blocks * BLOCK_BYTES;
    one.total_bytes += bytes as u64;
    other.total_bytes += bytes as u64;
    bytes
}

/// Other processors hash one after the other.
#[cfg(not(target_arch = "x86_64"))]
fn together(_: Kernel, _: &mut Sha256Stream, _: &[u8], _: &mut Sha256Stream, _: &[u8]) -> usize {
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::noise;
    use crate::sha256;

    #[test]
    fn pieces_of_any_length_give_the_hash_of_the_whole() {
        let data = noise(5_000, 3);
        for length in (0..200).chain([4_095, 4_096, 5_000]) {
            for step in [1, 7, 63, 64, 65, 128, 1_000] {
                let mut stream = Sha256Stream::default();
                for piece in data[..length].chunks(step) {
                    stream.update(piece);
                }
                assert_eq!(
                    stream.finish(),
                    sha256(&data[..length]),
                    "{length} by {step}"
                );
            }
        }
    }

    #[test]
    fn a_blob_beside_a_stream_changes_neither() {
        let (data, blob) = (noise(9_000, 4), noise(3_000, 5));
        for kernel in Kernel::ALL
            .into_iter()
            .filter(|kernel| kernel.is_available())
        {
            for first in [0, 1, 63, 64, 100] {
                for piece in [0, 1, 27, 63, 64, 65, 500, 3_000, 8_000] {
                    for length in [0, 1, 55, 56, 64, 200, 3_000] {
                        let mut stream = Sha256Stream::default();
                        stream.update(&data[..first]);
                        let (blob, piece) = (&blob[..length], &data[first..first + piece]);
                        let hash = beside_by(kernel, blob, &mut stream, piece);
                        assert_eq!(hash, sha256(blob), "{}", kernel.name());
                        let all = &data[..first + piece.len()];
                        assert_eq!(stream.finish(), sha256(all), "{}", kernel.name());
                    }
                }
            }
        }
    }
}
