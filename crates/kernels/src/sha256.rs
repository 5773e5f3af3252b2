//! SHA-256 of one blob, of a stream, and of many blobs at once, which is what lets lanes be filled.
//! It must never mix two blobs: each lane has a state of its own.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod lanes;
#[cfg(target_arch = "x86_64")]
mod sha_ni;
mod stream;

use sha2::{Digest, Sha256};

use crate::Kernel;
pub(crate) use stream::beside_by;
pub use stream::{Sha256Stream, sha256_beside, sha256_beside_with};

/// The state before the first block (FIPS 180-4, 5.3.3).
const START: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The SHA-256 of these bytes (FIPS 180-4).
#[must_use]
pub fn sha256(data: &[u8]) -> [u8; 32] {
    Sha256::digest(data).into()
}

/// The SHA-256 of each of these blobs. Several together cost less than one after the other.
#[must_use]
pub fn sha256_each(blobs: &[&[u8]]) -> Vec<[u8; 32]> {
    each_by(Kernel::current(), blobs)
}

/// How many blobs [`sha256_each`] hashes at a time: more together are no faster.
#[must_use]
pub fn sha256_lanes() -> usize {
    match Kernel::current() {
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512 => avx512::LANES,
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 if sha_ni::is_available() => sha_ni::LANES,
        _ => 1,
    }
}

/// The same by a certain kernel, for tests; by the scalar one where it is not available.
#[must_use]
pub fn sha256_each_with(kernel: Kernel, blobs: &[&[u8]]) -> Vec<[u8; 32]> {
    each_by(kernel.or_scalar(), blobs)
}

/// The same by a kernel, which must be available.
pub(crate) fn each_by(kernel: Kernel, blobs: &[&[u8]]) -> Vec<[u8; 32]> {
    let mut hashes = vec![[0; 32]; blobs.len()];
    let mut order: Vec<usize> = (0..blobs.len()).collect();
    fill_lanes(kernel, blobs, &mut order, &mut hashes);
    for at in order {
        hashes[at] = sha256(blobs[at]);
    }
    hashes
}

/// Hashes as many of the blobs in `order` as lanes are good for, and leaves the others there.
#[cfg(target_arch = "x86_64")]
fn fill_lanes(kernel: Kernel, blobs: &[&[u8]], order: &mut Vec<usize>, hashes: &mut [[u8; 32]]) {
    #[expect(unsafe_code, reason = "vector instructions")]
    if kernel == Kernel::Avx512 && order.len() >= avx512::LANES_MIN {
        // The longest first: what is left at the end is short.
        order.sort_by_key(|at| std::cmp::Reverse(blobs[*at].len()));
        // SAFETY: the kernel is available, so the processor has AVX-512.
        let compress = |states: &mut _, blocks: &_, count| unsafe {
            avx512::compress(states, blocks, count);
        };
        lanes::hash(blobs, order, avx512::LANES_MIN, hashes, compress);
    }
    #[expect(unsafe_code, reason = "vector instructions")]
    if kernel != Kernel::Scalar && sha_ni::is_available() && order.len() >= 2 {
        // SAFETY: the processor has SHA-NI.
        let compress =
            |states: &mut _, blocks: &_, count| unsafe { sha_ni::compress(states, blocks, count) };
        lanes::hash(blobs, order, 2, hashes, compress);
    }
}

/// Other processors hash one after the other.
#[cfg(not(target_arch = "x86_64"))]
fn fill_lanes(_: Kernel, _: &[&[u8]], _: &mut Vec<usize>, _: &mut [[u8; 32]]) {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::noise;

    fn compare(lengths: &[usize]) {
        let blobs: Vec<Vec<u8>> = lengths
            .iter()
            .enumerate()
            .map(|(seed, len)| noise(*len, seed as u64 + 1))
            .collect();
        // Blobs lie anywhere in memory.
        let shifted: Vec<Vec<u8>> = blobs
            .iter()
            .enumerate()
            .map(|(at, blob)| [&noise(at % 70, 5), blob.as_slice()].concat())
            .collect();
        let views: Vec<&[u8]> = shifted
            .iter()
            .enumerate()
            .map(|(at, blob)| &blob[at % 70..])
            .collect();
        let expected: Vec<[u8; 32]> = blobs.iter().map(|blob| sha256(blob)).collect();
        for kernel in Kernel::ALL {
            if kernel.is_available() {
                let found = each_by(kernel, &views);
                assert_eq!(found, expected, "{} {lengths:?}", kernel.name());
            }
        }
    }

    #[test]
    fn every_length_around_a_block() {
        let lengths: Vec<usize> = (0..200).collect();
        compare(&lengths);
        for lone in 0..130 {
            compare(&[lone]);
            compare(&[lone, 3]);
            compare(&[0, 0, lone]);
        }
    }

    #[test]
    fn long_and_short_together() {
        compare(&[]);
        compare(&[1_000_000, 10]);
        compare(&[10, 1_000_000, 64, 64, 300_000]);
        for seed in 0..20 {
            let drawn = noise(90, seed + 99);
            let lengths: Vec<usize> = drawn
                .chunks(3)
                .map(|three| {
                    let wide = usize::from(three[0]) << 8 | usize::from(three[1]);
                    wide >> (three[2] % 16)
                })
                .collect();
            compare(&lengths[..1 + seed as usize]);
            compare(&lengths);
        }
    }

    #[test]
    fn the_standards_examples() {
        let of = |text: &str| {
            let hash = each_by(Kernel::current(), &[text.as_bytes(), b"x"])[0];
            hash.map(|byte| format!("{byte:02x}")).concat()
        };
        assert_eq!(
            of("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            of(""),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
