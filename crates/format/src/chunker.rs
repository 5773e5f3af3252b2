//! The rule that cuts a file into chunks: restic's, over the Rabin fingerprint of the last 64 bytes.
//! It must never cut elsewhere than restic does: what restic stored would not be found again.

use lifeboat_kernels::RabinTable;

use crate::Polynomial;

/// Shortest chunk but for the last of a file, in bytes (restic/chunker `MinSize`).
pub const CHUNK_MIN_BYTES: usize = 512 * 1024;
/// Longest chunk, in bytes (restic/chunker `MaxSize`).
pub const CHUNK_MAX_BYTES: usize = 8 * 1024 * 1024;
/// A chunk may end where these bits of the fingerprint are zero: one in a MiB on average.
const SPLIT_MASK: u64 = (1 << 20) - 1;

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
    pub fn cut(&self, data: &[u8], searched: usize, last: bool) -> Option<usize> {
        let window = data.get(..CHUNK_MAX_BYTES).unwrap_or(data);
        let from = CHUNK_MIN_BYTES.max(searched + 1);
        if let Some(end) = self.table.find(window, from, SPLIT_MASK) {
            return Some(end);
        }
        if window.len() == CHUNK_MAX_BYTES {
            return Some(CHUNK_MAX_BYTES);
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
            let len = chunker.cut(&data[at..], 0, true).unwrap();
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
        let whole = chunker().cut(&data, 0, false).unwrap();
        let mut searched = 0;
        let mut seen = 0;
        let pieces = loop {
            seen += 100_001;
            match chunker().cut(&data[..seen], searched, false) {
                Some(end) => break end,
                None => searched = seen,
            }
        };
        assert_eq!(pieces, whole);
    }

    #[test]
    fn a_short_rest_is_one_chunk_and_nothing_is_none() {
        assert_eq!(lengths(&[1, 2, 3]), [3]);
        assert_eq!(chunker().cut(&[], 0, true), None);
        assert_eq!(chunker().cut(&[1, 2, 3], 0, false), None);
    }
}
