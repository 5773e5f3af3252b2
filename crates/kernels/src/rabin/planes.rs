//! The search for candidates in many streams at once, whatever the width of a register.
//! It must never give another first position than one stream gives.
//!
//! The fingerprint is linear over GF(2): what a byte leaves behind when it leaves the window, and what the top byte becomes
//! when it is reduced, are linear maps of 8 bits. A fingerprint of 53 bits, times x³ so that its top byte is aligned, is kept
//! as 7 planes of bytes, one byte of each register a stream. A step of all streams is then 16 linear maps of registers.
//! The streams are segments of one buffer, so the bytes that enter at once lie far apart: blocks are transposed first.

#![expect(unsafe_code, reason = "vector instructions")]

use super::WINDOW_BYTES;

/// Planes of a fingerprint.
pub(super) const PLANES: usize = 7;
/// The degree that the planes are made for: that of every polynomial of restic.
pub(super) const DEGREE: u32 = 53;
/// By how many bits a fingerprint is shifted, so that its top byte is a plane.
const SHIFT: u32 = 8 * PLANES as u32 - DEGREE;
/// Planes that can decide about a candidate: masks select from the low 21 bits.
const LOW_PLANES: usize = 3;
/// Streams at most.
const LANES_MAX: usize = 64;

/// A linear map of 8 bits, by the images of the single bits.
#[derive(Clone, Copy, Default)]
pub(super) struct Linear(pub(super) [u8; 8]);

impl Linear {
    /// The image of a byte.
    pub(super) fn image(self, byte: u8) -> u8 {
        let bits = (0..8).filter(|bit| byte >> bit & 1 == 1);
        bits.fold(0, |image, bit| image ^ self.0[bit])
    }
}

/// The maps of one polynomial.
#[derive(Clone)]
pub(super) struct LinearMaps {
    /// By plane: what a leaving byte has left behind.
    leave: [Linear; PLANES],
    /// By plane: what the top byte becomes.
    reduce: [Linear; PLANES],
    /// An entering byte in the lowest plane, and what of it is in the next.
    enter: [Linear; 2],
}

impl LinearMaps {
    /// The maps that these tables are. `None` if the degree is another than the planes are made for.
    pub(super) fn new(degree: u32, leave: &[u64; 256], reduce: &[u64; 256]) -> Option<Self> {
        if degree != DEGREE {
            return None;
        }
        let below_top = (1 << DEGREE) - 1;
        let of = |table: &[u64; 256], plane: usize| {
            Linear(std::array::from_fn(|bit| {
                ((table[1 << bit] & below_top) << SHIFT >> (8 * plane)) as u8
            }))
        };
        Some(Self {
            leave: std::array::from_fn(|plane| of(leave, plane)),
            reduce: std::array::from_fn(|plane| of(reduce, plane)),
            enter: [
                Linear(std::array::from_fn(|bit| ((1u32 << bit) << SHIFT) as u8)),
                Linear(std::array::from_fn(|bit| {
                    ((1u32 << bit) << SHIFT >> 8) as u8
                })),
            ],
        })
    }
}

/// A register of bytes, one a stream.
///
/// # Safety
/// All functions need the instructions of the kernel that implements it.
pub(super) trait Plane: Copy {
    /// Streams, a divisor of the window.
    const LANES: usize;
    /// A linear map of all bytes of a register.
    type Map: Copy;

    /// Makes a map for registers.
    unsafe fn map(linear: Linear) -> Self::Map;
    /// All bytes zero.
    unsafe fn zero() -> Self;
    /// All bytes this one.
    unsafe fn splat(byte: u8) -> Self;
    /// Bitwise exclusive or.
    unsafe fn xor(self, other: Self) -> Self;
    /// Bitwise and.
    unsafe fn and(self, other: Self) -> Self;
    /// Bitwise or.
    unsafe fn or(self, other: Self) -> Self;
    /// The images of all bytes.
    unsafe fn apply(self, map: Self::Map) -> Self;
    /// One bit a stream: whether its byte is zero.
    unsafe fn zeros(self) -> u64;
    /// Reads `LANES` bytes from each of `LANES` places that lie `stride` bytes apart, and writes `LANES` registers to `to`:
    /// the first bytes of all places, the second bytes, and so on. `to` is aligned to 64 bytes.
    unsafe fn transpose(from: *const u8, stride: usize, to: *mut Self);
}

/// Blocks of transposed bytes: as many as a window has, and the one that enters.
#[repr(align(64))]
struct Ring(
    #[expect(dead_code, reason = "room that is written to by place")]
    [u8; (WINDOW_BYTES + LANES_MAX) * LANES_MAX],
);

/// The state of all streams.
struct Streams<P: Plane> {
    planes: [P; PLANES],
    leave: [P::Map; PLANES],
    reduce: [P::Map; PLANES],
    enter: [P::Map; 2],
}

impl<P: Plane> Streams<P> {
    #[inline(always)]
    unsafe fn new(maps: &LinearMaps) -> Self {
        unsafe {
            let mut new = Self {
                planes: [P::zero(); PLANES],
                leave: [P::map(maps.leave[0]); PLANES],
                reduce: [P::map(maps.reduce[0]); PLANES],
                enter: [P::map(maps.enter[0]), P::map(maps.enter[1])],
            };
            for plane in 1..PLANES {
                new.leave[plane] = P::map(maps.leave[plane]);
                new.reduce[plane] = P::map(maps.reduce[plane]);
            }
            new
        }
    }

    /// Lets a byte enter each stream.
    #[inline(always)]
    unsafe fn append(&mut self, entering: P) {
        unsafe {
            let top = self.planes[PLANES - 1];
            for plane in (2..PLANES).rev() {
                self.planes[plane] = self.planes[plane - 1].xor(top.apply(self.reduce[plane]));
            }
            let low = self.planes[0].xor(entering.apply(self.enter[1]));
            self.planes[1] = low.xor(top.apply(self.reduce[1]));
            self.planes[0] = entering.apply(self.enter[0]).xor(top.apply(self.reduce[0]));
        }
    }

    /// Lets a byte leave each stream and another enter.
    #[inline(always)]
    unsafe fn slide(&mut self, leaving: P, entering: P) {
        unsafe {
            for plane in 0..PLANES {
                self.planes[plane] = self.planes[plane].xor(leaving.apply(self.leave[plane]));
            }
            self.append(entering);
        }
    }
}

/// The first position of `from..=to` whose fingerprint has zeros where the mask has ones, and how far was searched: up to
/// and with that position. The rest is shorter than `LANES * LANES` positions, or there is a candidate before it.
///
/// # Safety
/// The processor must have the instructions of `P`; `WINDOW_BYTES < from <= to <= data.len()`, and `mask` has only bits
/// below 2²¹.
#[inline(always)]
pub(super) unsafe fn find<P: Plane>(
    maps: &LinearMaps,
    data: &[u8],
    from: usize,
    to: usize,
    mask: u64,
) -> (Option<usize>, usize) {
    debug_assert!(from > WINDOW_BYTES && from <= to && to <= data.len());
    let lanes = P::LANES;
    // Each stream takes whole blocks.
    let each = (to + 1 - from) / lanes / lanes * lanes;
    if each == 0 {
        return (None, from - 1);
    }
    // SAFETY: the first byte that is read is `first - 64 >= 0`, the last is before `first + lanes * each <= to`.
    unsafe {
        // The fingerprint at a position includes the byte before it.
        let first = from - 1;
        let base = data.as_ptr().add(first - WINDOW_BYTES);
        let mut ring = std::mem::MaybeUninit::<Ring>::uninit();
        let ring = ring.as_mut_ptr().cast::<P>();
        let blocks_of_window = WINDOW_BYTES / lanes;
        let blocks = blocks_of_window + 1;
        let mut streams = Streams::<P>::new(maps);
        for block in 0..blocks_of_window {
            let columns = ring.add(block * lanes);
            P::transpose(base.add(block * lanes), each, columns);
            for column in 0..lanes {
                streams.append(*columns.add(column));
            }
        }
        let shifted = mask << SHIFT;
        let low: [P; LOW_PLANES] = [
            P::splat(shifted as u8),
            P::splat((shifted >> 8) as u8),
            P::splat((shifted >> 16) as u8),
        ];
        // By stream: how many steps until its first candidate.
        let mut steps = [u32::MAX; LANES_MAX];
        let mut found = 0u64;
        for block in 0..each / lanes {
            let leaving = ring.add(block % blocks * lanes);
            let entering = ring.add((block + blocks_of_window) % blocks * lanes);
            P::transpose(base.add(WINDOW_BYTES + block * lanes), each, entering);
            for column in 0..lanes {
                streams.slide(*leaving.add(column), *entering.add(column));
                let [p0, p1, p2, ..] = streams.planes;
                let low = p0.and(low[0]).or(p1.and(low[1])).or(p2.and(low[2]));
                let mut hits = low.zeros() & !found;
                found |= hits;
                while hits != 0 {
                    steps[hits.trailing_zeros() as usize] = (block * lanes + column) as u32;
                    hits &= hits - 1;
                }
            }
            // Nothing comes before a candidate of the first stream.
            if found & 1 == 1 {
                break;
            }
        }
        let end = first + lanes * each;
        if found == 0 {
            return (None, end);
        }
        // The streams lie one behind the other.
        let lane = found.trailing_zeros() as usize;
        let position = first + lane * each + steps[lane] as usize + 1;
        (Some(position), position)
    }
}
