//! The Rabin fingerprint of a 64-byte window, and the positions where it says that a chunk may end.
//! It must never depend on anything but the last 64 bytes: that is what lets several lanes work at once.
//!
//! The fingerprint is the remainder of the window, as a polynomial over GF(2), divided by an irreducible
//! polynomial of degree 53 (M. O. Rabin, "Fingerprinting by Random Polynomials", 1981). Before the window's first
//! byte restic's chunker puts a one byte in, so that a window of zeros does not have a fingerprint of zero.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod planes;

use crate::Kernel;
use planes::LinearMaps;

/// Bytes that a fingerprint depends on.
pub const WINDOW_BYTES: usize = 64;

/// Streams that the scalar kernel works on at once; more do not fit a processor's registers.
const LANES: usize = 4;

/// Positions below which splitting into lanes does not pay: each lane warms up over a window.
const LANES_MIN_POSITIONS: usize = 16 * WINDOW_BYTES * LANES;

/// Positions that are searched before the next are looked at.
const BLOCK_POSITIONS: usize = 128 * 1024;

/// Positions below which many streams do not pay.
const MANY_MIN_POSITIONS: usize = 16 * 1024;

/// The tables of one polynomial.
#[derive(Clone)]
pub struct RabinTable {
    /// What a byte leaves behind when it leaves the window.
    out: Box<[u64; 256]>,
    /// What the top byte becomes when it is reduced.
    reduce: Box<[u64; 256]>,
    /// Bits to shift so that the top byte of the fingerprint comes out.
    shift: u32,
    /// The same tables for many streams, if they can be made.
    maps: Option<LinearMaps>,
}

impl RabinTable {
    /// Tables for a polynomial, bit `i` being the coefficient of `x^i`.
    /// A degree outside 9..=63 has no use in a chunker and gives `None`.
    #[must_use]
    pub fn new(polynomial: u64) -> Option<Self> {
        let degree = polynomial.checked_ilog2()?;
        if !(9..=63).contains(&degree) {
            return None;
        }
        let mut out = Box::new([0u64; 256]);
        let mut reduce = Box::new([0u64; 256]);
        let append = |hash: u64, byte: u8| {
            remainder(
                (u128::from(hash) << 8) | u128::from(byte),
                polynomial,
                degree,
            )
        };
        for (byte, (out, reduce)) in (0u8..=255).zip(out.iter_mut().zip(reduce.iter_mut())) {
            *out = (1..WINDOW_BYTES).fold(append(0, byte), |hash, _| append(hash, 0));
            let top = u128::from(byte) << degree;
            // The term cancels the overflowing bits and adds their remainder in one XOR.
            *reduce = remainder(top, polynomial, degree)
                | u64::try_from(top & u128::from(u64::MAX)).unwrap_or(0);
        }
        Some(Self {
            maps: LinearMaps::new(degree, &out, &reduce),
            out,
            reduce,
            shift: degree - 8,
        })
    }

    /// The fingerprint of a window that nothing was put into.
    #[must_use]
    fn start(&self) -> u64 {
        // A fresh window holds zeros and restic slides a one into it.
        self.append(0, 1)
    }

    #[inline(always)]
    fn append(&self, hash: u64, byte: u8) -> u64 {
        let top = (hash >> self.shift) as u8;
        ((hash << 8) | u64::from(byte)) ^ self.reduce[usize::from(top)]
    }

    #[inline(always)]
    fn slide(&self, hash: u64, leaving: u8, entering: u8) -> u64 {
        self.append(hash ^ self.out[usize::from(leaving)], entering)
    }

    /// The first position at or after `from` where the low bits of the fingerprint that `mask` selects are zero;
    /// a position `p` is the end of a chunk that holds `data[..p]`, its window is `data[p - 64..p]`.
    ///
    /// `from` must be at least [`WINDOW_BYTES`] and gives `None` otherwise. The window is taken as it would be for a
    /// chunk whose start lies at least a window before `from`: all of it comes from `data`.
    #[must_use]
    pub fn find(&self, data: &[u8], from: usize, mask: u64) -> Option<usize> {
        self.find_by(Kernel::current(), data, from, mask)
    }

    /// The same by a certain kernel, for tests; by the scalar one where it is not available.
    #[must_use]
    pub fn find_with(&self, kernel: Kernel, data: &[u8], from: usize, mask: u64) -> Option<usize> {
        self.find_by(kernel.or_scalar(), data, from, mask)
    }

    /// The same by a kernel, which must be available.
    pub(crate) fn find_by(
        &self,
        kernel: Kernel,
        data: &[u8],
        from: usize,
        mask: u64,
    ) -> Option<usize> {
        if from < WINDOW_BYTES || from > data.len() {
            return None;
        }
        // Blocks keep the work after a hit in an early stream small.
        let mut start = from;
        while start <= data.len() {
            let end = (start + BLOCK_POSITIONS - 1).min(data.len());
            let found = match self.many(kernel, data, start, end, mask) {
                (Some(found), _) => Some(found),
                (None, searched) if searched == end => None,
                (None, searched) => self.few(data, searched + 1, end, mask),
            };
            if found.is_some() {
                return found;
            }
            start = end + 1;
        }
        None
    }

    /// Positions `from..=to` by many streams: the first candidate, and up to where was searched.
    fn many(
        &self,
        kernel: Kernel,
        data: &[u8],
        from: usize,
        to: usize,
        mask: u64,
    ) -> (Option<usize>, usize) {
        let is_ready = from > WINDOW_BYTES && to - from >= MANY_MIN_POSITIONS && mask >> 21 == 0;
        let Some(maps) = self.maps.as_ref().filter(|_| is_ready) else {
            return (None, from - 1);
        };
        // SAFETY: a kernel is only chosen where the processor has its instructions; the positions were looked at above
        // and by the caller.
        #[expect(unsafe_code, reason = "vector instructions")]
        match kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { avx2::search(maps, data, from, to, mask) },
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => unsafe { avx512::search(maps, data, from, to, mask) },
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon => unsafe { neon::search(maps, data, from, to, mask) },
            _ => (None, from - 1),
        }
    }

    /// Positions `from..=to` without vector instructions.
    fn few(&self, data: &[u8], from: usize, to: usize, mask: u64) -> Option<usize> {
        if to - from + 1 < LANES_MIN_POSITIONS {
            self.find_one_lane(data, from, to, mask)
        } else {
            self.find_lanes(data, from, to, mask)
        }
    }

    /// The fingerprint of the window that ends at `position`.
    fn warm(&self, data: &[u8], position: usize) -> u64 {
        // The one that restic slides in first has left a full window, so only these 64 bytes count.
        data[position - WINDOW_BYTES..position]
            .iter()
            .fold(0, |hash, byte| self.append(hash, *byte))
    }

    /// Positions `from..=to`, one after the other: the definition.
    pub(crate) fn find_one_lane(
        &self,
        data: &[u8],
        from: usize,
        to: usize,
        mask: u64,
    ) -> Option<usize> {
        let mut hash = self.warm(data, from);
        if hash & mask == 0 {
            return Some(from);
        }
        let leaving = &data[from - WINDOW_BYTES..to - WINDOW_BYTES];
        let entering = &data[from..to];
        for (index, (leaving, entering)) in leaving.iter().zip(entering).enumerate() {
            hash = self.slide(hash, *leaving, *entering);
            if hash & mask == 0 {
                return Some(from + index + 1);
            }
        }
        None
    }

    /// Positions `from..=to` in four streams that hide each other's latency.
    fn find_lanes(&self, data: &[u8], from: usize, to: usize, mask: u64) -> Option<usize> {
        let per_lane = (to - from).div_ceil(LANES);
        let starts: [usize; LANES] = std::array::from_fn(|lane| (from + lane * per_lane).min(to));
        let mut hashes = starts.map(|start| self.warm(data, start));
        let mut best = None;
        for lane in (0..LANES).rev() {
            if hashes[lane] & mask == 0 {
                best = Some(starts[lane]);
            }
        }
        if best == Some(from) {
            return best;
        }
        // The last lane is the shortest: all run together for its length, the others then finish alone.
        let together = to - starts[LANES - 1];
        let leaving: [&[u8]; LANES] =
            starts.map(|s| &data[s - WINDOW_BYTES..s - WINDOW_BYTES + together]);
        let entering: [&[u8]; LANES] = starts.map(|s| &data[s..s + together]);
        for step in 0..together {
            for lane in 0..LANES {
                hashes[lane] = self.slide(hashes[lane], leaving[lane][step], entering[lane][step]);
            }
            let any = hashes
                .iter()
                .fold(u64::MAX, |low, hash| low.min(hash & mask));
            if any == 0 {
                for lane in (0..LANES).rev() {
                    if hashes[lane] & mask == 0 {
                        let position = starts[lane] + step + 1;
                        best = Some(best.map_or(position, |b: usize| b.min(position)));
                    }
                }
                if hashes[0] & mask == 0 {
                    return best;
                }
            }
        }
        for lane in 0..LANES - 1 {
            let end = starts[lane + 1];
            if best.is_some_and(|b| b <= starts[lane] + together) {
                return best;
            }
            let from = starts[lane] + together;
            if from < end {
                let found = self.find_one_lane(data, from, end, mask);
                if found.is_some_and(|f| best.is_none_or(|b| f < b)) {
                    best = found;
                }
            }
        }
        best
    }

    /// The fingerprint that restic's chunker has after it saw exactly these bytes in a fresh window.
    #[must_use]
    pub fn fingerprint(&self, data: &[u8]) -> u64 {
        let mut window = [0u8; WINDOW_BYTES];
        let mut hash = self.start();
        window[0] = 1;
        let mut at = 1;
        for byte in data {
            hash = self.slide(hash, window[at], *byte);
            window[at] = *byte;
            at = (at + 1) % WINDOW_BYTES;
        }
        hash
    }
}

fn remainder(mut value: u128, polynomial: u64, degree: u32) -> u64 {
    while value.checked_ilog2().is_some_and(|top| top >= degree) {
        value ^= u128::from(polynomial) << (value.ilog2() - degree);
    }
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::noise;

    /// The polynomial of the example in restic's chunker documentation.
    const POLYNOMIAL: u64 = 0x003D_A335_8B4D_C173;

    fn all_scalar(table: &RabinTable, data: &[u8], from: usize, mask: u64) -> Option<usize> {
        (from..=data.len()).find(|p| table.fingerprint(&data[p - WINDOW_BYTES..*p]) & mask == 0)
    }

    fn kernels() -> impl Iterator<Item = Kernel> {
        Kernel::ALL
            .into_iter()
            .filter(|kernel| kernel.is_available())
    }

    /// Every candidate from a position on, by one kernel and by the definition.
    fn compare(table: &RabinTable, data: &[u8], from: usize, bits: u32, hits_max: usize) {
        let mask = (1 << bits) - 1;
        for kernel in kernels() {
            let mut from = from;
            for _ in 0..hits_max {
                if from > data.len() {
                    break;
                }
                let found = table.find_by(kernel, data, from, mask);
                let plain = table.find_one_lane(data, from, data.len(), mask);
                assert_eq!(
                    found,
                    plain,
                    "{} in {} bytes, {bits} bits, from {from}",
                    kernel.name(),
                    data.len()
                );
                let Some(hit) = found else {
                    break;
                };
                from = hit + 1;
            }
        }
    }

    #[test]
    fn all_kernels_find_what_the_definition_finds() {
        let table = RabinTable::new(POLYNOMIAL).unwrap();
        for (len, seed) in [
            (70, 1),
            (5_000, 2),
            (16_500, 6),
            (100_000, 3),
            (600_001, 4),
            (1_000_000, 5),
        ] {
            let data = noise(len, seed);
            for bits in [6, 12, 16, 20] {
                compare(&table, &data, WINDOW_BYTES, bits, 60);
            }
        }
    }

    #[test]
    fn where_a_search_begins_and_ends_does_not_matter() {
        let table = RabinTable::new(POLYNOMIAL).unwrap();
        let data = noise(200_000, 11);
        for cut in [0, 1, 7, 31, 32, 33, 63, 64, 65, 127] {
            let len = 20_000 + 997 * cut;
            compare(&table, &data[cut..cut + len], WINDOW_BYTES + cut, 14, 10);
        }
    }

    #[test]
    fn any_polynomial_will_do() {
        for seed in 1..20u64 {
            let degree = [53, 53, 53, 40, 63][seed as usize % 5];
            let drawn = noise(8, seed * 77);
            let low = u64::from_le_bytes(drawn.try_into().unwrap()) & ((1 << degree) - 1);
            // Whether it is irreducible makes no difference to the arithmetic.
            let table = RabinTable::new(1 << degree | low | 1).unwrap();
            compare(&table, &noise(150_000, seed), WINDOW_BYTES, 15, 8);
        }
    }

    #[test]
    fn repeated_input_is_no_exception() {
        let table = RabinTable::new(POLYNOMIAL).unwrap();
        for period in [1, 2, 63, 64, 65, 4096, 5000] {
            let piece = noise(period, period as u64);
            let data: Vec<u8> = piece.iter().copied().cycle().take(140_000).collect();
            for bits in [9, 20] {
                compare(&table, &data, WINDOW_BYTES + 1, bits, 5);
            }
        }
    }

    #[test]
    fn the_last_position_is_searched() {
        let table = RabinTable::new(POLYNOMIAL).unwrap();
        let data = noise(3_000_000, 21);
        let mask = (1 << 18) - 1;
        let hit = table
            .find_one_lane(&data, 1_000_000, data.len(), mask)
            .unwrap();
        for kernel in kernels() {
            for before in [200_000, 40_000, 17_000, 1, 0] {
                let from = (hit - before).max(1_000_000);
                let found = table.find_by(kernel, &data[..hit], from, mask);
                assert_eq!(found, Some(hit), "{} from {from}", kernel.name());
                let found = table.find_by(kernel, &data[..hit - 1], from.min(hit - 1), mask);
                assert_eq!(found, None, "{} from {from}", kernel.name());
            }
        }
    }

    #[test]
    fn one_lane_follows_the_fingerprint() {
        let table = RabinTable::new(POLYNOMIAL).unwrap();
        let data = noise(20_000, 9);
        let mask = (1 << 9) - 1;
        let mut from = WINDOW_BYTES;
        while let Some(hit) = all_scalar(&table, &data, from, mask) {
            assert_eq!(
                table.find_one_lane(&data, from, data.len(), mask),
                Some(hit)
            );
            from = hit + 1;
            if from > data.len() {
                break;
            }
        }
    }

    #[test]
    fn constant_input_has_one_answer() {
        let table = RabinTable::new(POLYNOMIAL).unwrap();
        for byte in [0u8, 1, 0xff] {
            let data = vec![byte; 300_000];
            let mask = (1 << 20) - 1;
            assert_eq!(
                table.find(&data, 64, mask),
                all_scalar(&table, &data[..1000], 64, mask)
            );
        }
    }

    #[test]
    fn a_position_before_a_full_window_is_refused() {
        let table = RabinTable::new(POLYNOMIAL).unwrap();
        assert_eq!(table.find(&[0; 100], 63, 1), None);
        assert_eq!(table.find(&[0; 100], 101, 1), None);
    }

    #[test]
    fn polynomials_that_make_no_chunker_are_refused() {
        for polynomial in [0, 1, 0xff] {
            assert!(RabinTable::new(polynomial).is_none());
        }
    }
}
