//! SHA-256 in 16 lanes of AVX-512: word `i` of all lanes is one register.
//! It must never be called where AVX-512 (F, BW) is missing.

#![expect(unsafe_code, reason = "vector instructions")]

use std::arch::x86_64::*;

use super::lanes::{BLOCK_BYTES, ROUND};

/// Streams at once.
pub(super) const LANES: usize = 16;
/// With fewer streams than these, two streams of SHA-NI are faster.
pub(super) const LANES_MIN: usize = 10;
/// How far ahead data is asked for, in bytes: 16 streams are more than a processor guesses.
const AHEAD_BYTES: usize = 512;

/// Rows of words into columns: register `i` becomes word `i` of all rows.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: &mut [__m512i; LANES]) {
    let zero = _mm512_setzero_si512();
    let mut pairs = [zero; LANES];
    for at in 0..8 {
        pairs[2 * at] = _mm512_unpacklo_epi32(rows[2 * at], rows[2 * at + 1]);
        pairs[2 * at + 1] = _mm512_unpackhi_epi32(rows[2 * at], rows[2 * at + 1]);
    }
    let mut fours = [zero; LANES];
    for at in 0..4 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|next| pairs[4 * at + next]);
        fours[4 * at] = _mm512_unpacklo_epi64(a, c);
        fours[4 * at + 1] = _mm512_unpackhi_epi64(a, c);
        fours[4 * at + 2] = _mm512_unpacklo_epi64(b, d);
        fours[4 * at + 3] = _mm512_unpackhi_epi64(b, d);
    }
    for at in 0..4 {
        let [a, b, c, d] = [0, 4, 8, 12].map(|next| fours[next + at]);
        let low = _mm512_shuffle_i32x4::<0x44>(a, b);
        let high = _mm512_shuffle_i32x4::<0xee>(a, b);
        let low_next = _mm512_shuffle_i32x4::<0x44>(c, d);
        let high_next = _mm512_shuffle_i32x4::<0xee>(c, d);
        rows[at] = _mm512_shuffle_i32x4::<0x88>(low, low_next);
        rows[4 + at] = _mm512_shuffle_i32x4::<0xdd>(low, low_next);
        rows[8 + at] = _mm512_shuffle_i32x4::<0x88>(high, high_next);
        rows[12 + at] = _mm512_shuffle_i32x4::<0xdd>(high, high_next);
    }
}

/// Takes so many blocks from each place into the states.
///
/// # Safety
/// The processor must have AVX-512 (F, BW); so many blocks must be readable at each place.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn compress(
    states: &mut [[u32; 8]; LANES],
    places: &[*const u8; LANES],
    blocks: usize,
) {
    /// Exclusive or of three, as `_mm512_ternarylogic_epi32` counts its cases.
    const XOR: i32 = 0x96;
    const CHOOSE: i32 = 0xca;
    const MAJORITY: i32 = 0xe8;
    // SAFETY: the caller vouches for the places.
    unsafe {
        let big_endian =
            _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203));
        let mut state = [_mm512_setzero_si512(); 8];
        for (word, register) in state.iter_mut().enumerate() {
            let words: [u32; LANES] = std::array::from_fn(|lane| states[lane][word]);
            *register = _mm512_loadu_si512(words.as_ptr().cast());
        }
        for block in 0..blocks {
            let mut words = [_mm512_setzero_si512(); LANES];
            for (lane, row) in words.iter_mut().enumerate() {
                let at = places[lane].add(block * BLOCK_BYTES);
                *row = _mm512_shuffle_epi8(_mm512_loadu_si512(at.cast()), big_endian);
                // A hint may point anywhere.
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD_BYTES).cast());
            }
            transpose(&mut words);
            let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
            for turn in 0..4 {
                for at in 0..16 {
                    if turn > 0 {
                        let x = words[(at + 1) & 15];
                        let y = words[(at + 14) & 15];
                        let small = _mm512_ternarylogic_epi32::<XOR>(
                            _mm512_ror_epi32::<7>(x),
                            _mm512_ror_epi32::<18>(x),
                            _mm512_srli_epi32::<3>(x),
                        );
                        let large = _mm512_ternarylogic_epi32::<XOR>(
                            _mm512_ror_epi32::<17>(y),
                            _mm512_ror_epi32::<19>(y),
                            _mm512_srli_epi32::<10>(y),
                        );
                        let sum = _mm512_add_epi32(words[at], words[(at + 9) & 15]);
                        words[at] = _mm512_add_epi32(sum, _mm512_add_epi32(small, large));
                    }
                    let constant = _mm512_set1_epi32(ROUND[16 * turn + at] as i32);
                    let large = _mm512_ternarylogic_epi32::<XOR>(
                        _mm512_ror_epi32::<6>(e),
                        _mm512_ror_epi32::<11>(e),
                        _mm512_ror_epi32::<25>(e),
                    );
                    let chosen = _mm512_ternarylogic_epi32::<CHOOSE>(e, f, g);
                    let first = _mm512_add_epi32(
                        _mm512_add_epi32(h, _mm512_add_epi32(words[at], constant)),
                        _mm512_add_epi32(large, chosen),
                    );
                    let small = _mm512_ternarylogic_epi32::<XOR>(
                        _mm512_ror_epi32::<2>(a),
                        _mm512_ror_epi32::<13>(a),
                        _mm512_ror_epi32::<22>(a),
                    );
                    let most = _mm512_ternarylogic_epi32::<MAJORITY>(a, b, c);
                    (h, g, f, e) = (g, f, e, _mm512_add_epi32(d, first));
                    (d, c, b) = (c, b, a);
                    a = _mm512_add_epi32(first, _mm512_add_epi32(small, most));
                }
            }
            for (register, word) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
                *register = _mm512_add_epi32(*register, word);
            }
        }
        for (word, register) in state.into_iter().enumerate() {
            let mut words = [0u32; LANES];
            _mm512_storeu_si512(words.as_mut_ptr().cast(), register);
            for (lane, value) in words.into_iter().enumerate() {
                states[lane][word] = value;
            }
        }
    }
}
