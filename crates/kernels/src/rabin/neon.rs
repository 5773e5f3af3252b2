//! 16 streams in registers of 16 bytes: a linear map is two look-ups of half a byte each.
//! It must never be called where NEON is missing.

#![expect(unsafe_code, reason = "vector instructions")]

use std::arch::aarch64::*;

use super::planes::{Linear, LinearMaps, Plane, find};

#[derive(Clone, Copy)]
struct Bytes(uint8x16_t);

impl Plane for Bytes {
    const LANES: usize = 16;
    type Map = [uint8x16_t; 2];

    #[inline(always)]
    unsafe fn map(linear: Linear) -> Self::Map {
        let table = |shift: u32| {
            let images: [u8; 16] = std::array::from_fn(|half| linear.image((half as u8) << shift));
            unsafe { vld1q_u8(images.as_ptr()) }
        };
        [table(0), table(4)]
    }

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { Self(vdupq_n_u8(0)) }
    }

    #[inline(always)]
    unsafe fn splat(byte: u8) -> Self {
        unsafe { Self(vdupq_n_u8(byte)) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        unsafe { Self(veorq_u8(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        unsafe { Self(vandq_u8(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        unsafe { Self(vorrq_u8(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn apply(self, [low, high]: Self::Map) -> Self {
        unsafe {
            let lower = vqtbl1q_u8(low, vandq_u8(self.0, vdupq_n_u8(0x0f)));
            let upper = vqtbl1q_u8(high, vshrq_n_u8::<4>(self.0));
            Self(veorq_u8(lower, upper))
        }
    }

    #[inline(always)]
    unsafe fn zeros(self) -> u64 {
        unsafe {
            let is_zero = vceqzq_u8(self.0);
            // Half a byte for each byte.
            let halves = vreinterpret_u64_u8(vshrn_n_u16::<4>(vreinterpretq_u16_u8(is_zero)));
            let mut left = vget_lane_u64::<0>(halves) & 0x1111_1111_1111_1111;
            let mut bits = 0;
            while left != 0 {
                bits |= 1 << (left.trailing_zeros() / 4);
                left &= left - 1;
            }
            bits
        }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const u8, stride: usize, to: *mut Self) {
        unsafe {
            let mut rows = [vdupq_n_u8(0); 16];
            for (row, to) in rows.iter_mut().enumerate() {
                *to = vld1q_u8(from.add(row * stride));
            }
            for _ in 0..4 {
                let mut mixed = [vdupq_n_u8(0); 16];
                for row in 0..8 {
                    mixed[2 * row] = vzip1q_u8(rows[row], rows[row + 8]);
                    mixed[2 * row + 1] = vzip2q_u8(rows[row], rows[row + 8]);
                }
                rows = mixed;
            }
            for (column, register) in rows.into_iter().enumerate() {
                *to.add(column) = Self(register);
            }
        }
    }
}

/// The search with 16 streams.
///
/// # Safety
/// As [`find`]; the processor must have NEON.
#[target_feature(enable = "neon")]
pub(super) unsafe fn search(
    maps: &LinearMaps,
    data: &[u8],
    from: usize,
    to: usize,
    mask: u64,
) -> (Option<usize>, usize) {
    unsafe { find::<Bytes>(maps, data, from, to, mask) }
}
