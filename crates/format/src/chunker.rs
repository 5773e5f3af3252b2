//! The rules that cut a file into chunks: restic's, over the Rabin fingerprint of the last 64 bytes, and two for databases.
//! It must never cut a file elsewhere than restic does unless it is asked to: what restic stored would not be found again.

use lifeboat_kernels::RabinTable;

use crate::Polynomial;

/// Shortest chunk but for the last of a file, in bytes (restic/chunker `MinSize`).
pub const CHUNK_MIN_BYTES: usize = 512 * 1024;
/// Longest chunk, in bytes (restic/chunker `MaxSize`).
pub const CHUNK_MAX_BYTES: usize = 8 * 1024 * 1024;
/// A chunk may end where these bits of the fingerprint are zero: one in a MiB on average.
const SPLIT_MASK: u64 = (1 << 20) - 1;

/// The same for small chunks, in bytes: dumps, in which a row changes here and there.
const SMALL_MIN_BYTES: usize = 16 * 1024;
const SMALL_MAX_BYTES: usize = 256 * 1024;
/// One in 64 KiB on average.
const SMALL_MASK: u64 = (1 << 16) - 1;

/// By which rule a file is cut. The format allows any (measured for databases: pages that change in place are found again
/// best in chunks that begin with a page, rows of a dump in small ones).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChunkRule {
    /// As restic cuts.
    #[default]
    Restic,
    /// At each multiple of so many bytes, at most [`CHUNK_MAX_BYTES`].
    Aligned {
        /// A chunk's length in bytes.
        bytes: usize,
    },
    /// As restic, in chunks of about 64 KiB.
    Small,
}

/// The chunker of a repository.
#[derive(Clone)]
pub struct Chunker {
    table: RabinTable,
}

impl Chunker {
    /// The chunker of this polynomial.
    #[must_use]
    pub fn new(polynomial: Polynomial) -> Option<Self> {
        Some(Self {
            table: RabinTable::new(polynomial.bits())?,
        })
    }

    /// Where the first chunk of `data` ends; `None` if more data is needed to tell. With `last`, `data` is the rest of
    /// the file. `searched` is how many bytes an earlier call on a prefix of the same data has already searched
    /// without finding an end; 0 on the first.
    #[must_use]
    pub fn cut(&self, rule: ChunkRule, data: &[u8], searched: usize, last: bool) -> Option<usize> {
        let (min, max, mask) = match rule {
            ChunkRule::Restic => (CHUNK_MIN_BYTES, CHUNK_MAX_BYTES, SPLIT_MASK),
            ChunkRule::Small => (SMALL_MIN_BYTES, SMALL_MAX_BYTES, SMALL_MASK),
            ChunkRule::Aligned { bytes } => {
                let bytes = bytes.clamp(1, CHUNK_MAX_BYTES);
                let whole = data.len() >= bytes;
                return match whole {
                    true => Some(bytes),
                    false => (last && !data.is_empty()).then_some(data.len()),
                };
            }
        };
        let window = data.get(..max).unwrap_or(data);
        if let Some(end) = self.table.find(window, min.max(searched + 1), mask) {
            return Some(end);
        }
        if window.len() == max {
            return Some(max);
        }
        (last && !data.is_empty()).then_some(data.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunker() -> Chunker {
        Chunker::new(Polynomial::new(0x003D_A335_8B4D_C173).unwrap()).unwrap()
    }

    fn lengths(data: &[u8]) -> Vec<usize> {
        let (chunker, mut at, mut out) = (chunker(), 0, Vec::new());
        while at < data.len() {
            let len = chunker
                .cut(ChunkRule::Restic, &data[at..], 0, true)
                .unwrap();
            out.push(len);
            at += len;
        }
        out
    }

    #[test]
    fn zeros_are_cut_at_the_minimum() {
        // The fingerprint of a window of zeros is zero, so every position is a candidate.
        assert_eq!(
            lengths(&vec![0; 2 * CHUNK_MIN_BYTES + 10]),
            [CHUNK_MIN_BYTES, CHUNK_MIN_BYTES, 10]
        );
    }

    #[test]
    fn pieces_give_the_same_cut_as_the_whole() {
        let mut state = 1u64;
        let data: Vec<u8> = (0..9 << 20)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        let whole = chunker().cut(ChunkRule::Restic, &data, 0, false).unwrap();
        let mut searched = 0;
        let mut seen = 0;
        let pieces = loop {
            seen += 100_001;
            match chunker().cut(ChunkRule::Restic, &data[..seen], searched, false) {
                Some(end) => break end,
                None => searched = seen,
            }
        };
        assert_eq!(pieces, whole);
    }

    #[test]
    fn a_short_rest_is_one_chunk_and_nothing_is_none() {
        assert_eq!(lengths(&[1, 2, 3]), [3]);
        for rule in [
            ChunkRule::Restic,
            ChunkRule::Small,
            ChunkRule::Aligned { bytes: 4 },
        ] {
            assert_eq!(chunker().cut(rule, &[], 0, true), None);
            assert_eq!(chunker().cut(rule, &[1, 2, 3], 0, false), None);
            assert_eq!(chunker().cut(rule, &[1, 2, 3], 0, true), Some(3));
        }
    }

    #[test]
    fn aligned_chunks_end_where_pages_do_and_small_ones_are_small() {
        let rule = ChunkRule::Aligned { bytes: 8192 };
        assert_eq!(chunker().cut(rule, &[7; 20_000], 0, false), Some(8192));
        assert_eq!(chunker().cut(rule, &[7; 8191], 0, false), None);
        let zeros = vec![0; SMALL_MAX_BYTES];
        let small = |data: &[u8]| chunker().cut(ChunkRule::Small, data, 0, false);
        assert_eq!(small(&zeros), Some(SMALL_MIN_BYTES));
        // No fingerprint of these ends a chunk.
        let ones: Vec<u8> = (0..SMALL_MAX_BYTES + 1).map(|_| 1).collect();
        assert_eq!(small(&ones), Some(SMALL_MAX_BYTES));
        assert_eq!(small(&ones[..SMALL_MAX_BYTES - 1]), None);
    }
}
