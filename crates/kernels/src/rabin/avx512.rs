//! 64 streams in registers of 64 bytes: a linear map is one instruction of GFNI.
//! It must never be called where AVX-512 (F, BW) or GFNI is missing.

#![expect(unsafe_code, reason = "vector instructions")]

use std::arch::x86_64::*;

use super::planes::{Linear, LinearMaps, Plane, find};

#[derive(Clone, Copy)]
struct Bytes(__m512i);

impl Plane for Bytes {
    const LANES: usize = 64;
    type Map = __m512i;

    /// Intel's manual, `GF2P8AFFINEQB`: bit `i` of the image is the parity of the byte and row `7 - i` of the matrix.
    #[inline(always)]
    unsafe fn map(linear: Linear) -> Self::Map {
        let mut rows = [0u8; 8];
        for (bit, image) in linear.0.into_iter().enumerate() {
            for (row, bits) in rows.iter_mut().enumerate() {
                *bits |= (image >> (7 - row) & 1) << bit;
            }
        }
        unsafe { _mm512_set1_epi64(i64::from_le_bytes(rows)) }
    }

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { Self(_mm512_setzero_si512()) }
    }

    #[inline(always)]
    unsafe fn splat(byte: u8) -> Self {
        unsafe { Self(_mm512_set1_epi8(byte as i8)) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        unsafe { Self(_mm512_xor_si512(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        unsafe { Self(_mm512_and_si512(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        unsafe { Self(_mm512_or_si512(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn apply(self, map: Self::Map) -> Self {
        unsafe { Self(_mm512_gf2p8affine_epi64_epi8::<0>(self.0, map)) }
    }

    #[inline(always)]
    unsafe fn zeros(self) -> u64 {
        unsafe { _mm512_testn_epi8_mask(self.0, self.0) }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const u8, stride: usize, to: *mut Self) {
        unsafe {
            let zero = _mm512_setzero_si512();
            let mut rows = [zero; 64];
            for (row, to) in rows.iter_mut().enumerate() {
                *to = _mm512_loadu_si512(from.add(row * stride).cast());
            }
            // 16 rows at a time, within each quarter of the registers: four rounds of interleaving turn rows into columns.
            for group in [0, 16, 32, 48] {
                for _ in 0..4 {
                    let mut mixed = [zero; 16];
                    for row in 0..8 {
                        let (a, b) = (rows[group + row], rows[group + row + 8]);
                        mixed[2 * row] = _mm512_unpacklo_epi8(a, b);
                        mixed[2 * row + 1] = _mm512_unpackhi_epi8(a, b);
                    }
                    rows[group..group + 16].copy_from_slice(&mixed);
                }
            }
            // Then the quarters of four groups are put together.
            for column in 0..16 {
                let [a, b, c, d] = [0, 16, 32, 48].map(|group| rows[group + column]);
                let low = _mm512_shuffle_i32x4::<0x44>(a, b);
                let high = _mm512_shuffle_i32x4::<0xee>(a, b);
                let low_next = _mm512_shuffle_i32x4::<0x44>(c, d);
                let high_next = _mm512_shuffle_i32x4::<0xee>(c, d);
                *to.add(column) = Self(_mm512_shuffle_i32x4::<0x88>(low, low_next));
                *to.add(16 + column) = Self(_mm512_shuffle_i32x4::<0xdd>(low, low_next));
                *to.add(32 + column) = Self(_mm512_shuffle_i32x4::<0x88>(high, high_next));
                *to.add(48 + column) = Self(_mm512_shuffle_i32x4::<0xdd>(high, high_next));
            }
        }
    }
}

/// The search with 64 streams.
///
/// # Safety
/// As [`find`]; the processor must have AVX-512 (F, BW) and GFNI.
#[target_feature(enable = "avx512f,avx512bw,gfni")]
pub(super) unsafe fn search(
    maps: &LinearMaps,
    data: &[u8],
    from: usize,
    to: usize,
    mask: u64,
) -> (Option<usize>, usize) {
    unsafe { find::<Bytes>(maps, data, from, to, mask) }
}
