//! 32 streams in registers of 32 bytes: a linear map is two look-ups of half a byte each.
//! It must never be called where AVX2 is missing.

#![expect(unsafe_code, reason = "vector instructions")]

use std::arch::x86_64::*;

use super::planes::{Linear, LinearMaps, Plane, find};

#[derive(Clone, Copy)]
struct Bytes(__m256i);

impl Plane for Bytes {
    const LANES: usize = 32;
    type Map = [__m256i; 2];

    #[inline(always)]
    unsafe fn map(linear: Linear) -> Self::Map {
        let table = |shift: u32| {
            let images: [u8; 16] = std::array::from_fn(|half| linear.image((half as u8) << shift));
            unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(images.as_ptr().cast())) }
        };
        [table(0), table(4)]
    }

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { Self(_mm256_setzero_si256()) }
    }

    #[inline(always)]
    unsafe fn splat(byte: u8) -> Self {
        unsafe { Self(_mm256_set1_epi8(byte as i8)) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        unsafe { Self(_mm256_xor_si256(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        unsafe { Self(_mm256_and_si256(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        unsafe { Self(_mm256_or_si256(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn apply(self, [low, high]: Self::Map) -> Self {
        unsafe {
            // Both halves are the same for all maps of one register, so the compiler makes them once.
            let half = _mm256_set1_epi8(0x0f);
            let lower = _mm256_and_si256(self.0, half);
            let upper = _mm256_and_si256(_mm256_srli_epi16::<4>(self.0), half);
            Self(_mm256_xor_si256(
                _mm256_shuffle_epi8(low, lower),
                _mm256_shuffle_epi8(high, upper),
            ))
        }
    }

    #[inline(always)]
    unsafe fn zeros(self) -> u64 {
        unsafe {
            let is_zero = _mm256_cmpeq_epi8(self.0, _mm256_setzero_si256());
            u64::from(_mm256_movemask_epi8(is_zero) as u32)
        }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const u8, stride: usize, to: *mut Self) {
        unsafe {
            let zero = _mm256_setzero_si256();
            let mut rows = [zero; 32];
            for (row, to) in rows.iter_mut().enumerate() {
                *to = _mm256_loadu_si256(from.add(row * stride).cast());
            }
            // 16 rows at a time, within each half of the registers: four rounds of interleaving turn rows into columns.
            for group in [0, 16] {
                for _ in 0..4 {
                    let mut mixed = [zero; 16];
                    for row in 0..8 {
                        let (a, b) = (rows[group + row], rows[group + row + 8]);
                        mixed[2 * row] = _mm256_unpacklo_epi8(a, b);
                        mixed[2 * row + 1] = _mm256_unpackhi_epi8(a, b);
                    }
                    rows[group..group + 16].copy_from_slice(&mixed);
                }
            }
            for column in 0..16 {
                let (upper, lower) = (rows[column], rows[16 + column]);
                *to.add(column) = Self(_mm256_permute2x128_si256::<0x20>(upper, lower));
                *to.add(16 + column) = Self(_mm256_permute2x128_si256::<0x31>(upper, lower));
            }
        }
    }
}

/// The search with 32 streams.
///
/// # Safety
/// As [`find`]; the processor must have AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn search(
    maps: &LinearMaps,
    data: &[u8],
    from: usize,
    to: usize,
    mask: u64,
) -> (Option<usize>, usize) {
    unsafe { find::<Bytes>(maps, data, from, to, mask) }
}
