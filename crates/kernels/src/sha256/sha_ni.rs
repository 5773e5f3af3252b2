//! Two streams of SHA-256 by the processor's own instructions: while one waits for a result, the other works.
//! It must never be called where SHA-NI is missing.

#![expect(unsafe_code, reason = "vector instructions")]

use std::arch::x86_64::*;

use super::lanes::{BLOCK_BYTES, ROUND};

/// Streams at once. More do not fit the registers.
pub(super) const LANES: usize = 2;

/// Whether this processor has the instructions.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("sha")
        && is_x86_feature_detected!("sse4.1")
        && is_x86_feature_detected!("ssse3")
}

/// Takes so many blocks from each place into the states.
///
/// # Safety
/// The processor must have SHA-NI and SSE 4.1; so many blocks must be readable at each place.
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
pub(super) unsafe fn compress(
    states: &mut [[u32; 8]; LANES],
    places: &[*const u8; LANES],
    blocks: usize,
) {
    // SAFETY: the caller vouches for the places; states have the 32 bytes that are read and written.
    unsafe {
        let big_endian = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        // The instructions keep a, b, e, f in one register and c, d, g, h in the other (Intel's manual, `SHA256RNDS2`).
        let mut abef = [_mm_setzero_si128(); LANES];
        let mut cdgh = abef;
        for lane in 0..LANES {
            let [a, b, c, d, e, f, g, h] = states[lane].map(|word| word as i32);
            abef[lane] = _mm_set_epi32(a, b, e, f);
            cdgh[lane] = _mm_set_epi32(c, d, g, h);
        }
        for block in 0..blocks {
            let before = (abef, cdgh);
            let mut words = [[_mm_setzero_si128(); 4]; LANES];
            for (words, place) in words.iter_mut().zip(places) {
                for (four, word) in words.iter_mut().enumerate() {
                    let at = place.add(block * BLOCK_BYTES + four * 16);
                    *word = _mm_shuffle_epi8(_mm_loadu_si128(at.cast()), big_endian);
                }
            }
            // Four rounds each.
            for turn in 0..16 {
                let constants = _mm_loadu_si128(ROUND.as_ptr().add(4 * turn).cast());
                for lane in 0..LANES {
                    let [w0, w1, w2, w3] = [0, 1, 2, 3].map(|next| words[lane][(turn + next) & 3]);
                    let sum = _mm_add_epi32(w0, constants);
                    cdgh[lane] = _mm_sha256rnds2_epu32(cdgh[lane], abef[lane], sum);
                    let upper = _mm_shuffle_epi32::<0x0e>(sum);
                    abef[lane] = _mm_sha256rnds2_epu32(abef[lane], cdgh[lane], upper);
                    if turn < 12 {
                        let older = _mm_sha256msg1_epu32(w0, w1);
                        let between = _mm_alignr_epi8::<4>(w3, w2);
                        words[lane][turn & 3] =
                            _mm_sha256msg2_epu32(_mm_add_epi32(older, between), w3);
                    }
                }
            }
            for lane in 0..LANES {
                abef[lane] = _mm_add_epi32(abef[lane], before.0[lane]);
                cdgh[lane] = _mm_add_epi32(cdgh[lane], before.1[lane]);
            }
        }
        for lane in 0..LANES {
            let mut four = [0u32; 4];
            _mm_storeu_si128(four.as_mut_ptr().cast(), abef[lane]);
            let [f, e, b, a] = four;
            _mm_storeu_si128(four.as_mut_ptr().cast(), cdgh[lane]);
            let [h, g, d, c] = four;
            states[lane] = [a, b, c, d, e, f, g, h];
        }
    }
}
