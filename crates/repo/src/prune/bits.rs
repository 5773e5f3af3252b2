//! One bit for each place of the index: what is used, which copy is chosen.
//! It must never grow after it was made: a number beyond its end is nobody's.

use std::sync::atomic::{AtomicU64, Ordering};

use lifeboat_format::BlobKind;

use crate::Index;

/// Bits that several threads may set.
#[derive(Debug, Default)]
pub(super) struct Bits(Vec<AtomicU64>);

impl Bits {
    /// So many bits, none set.
    pub(super) fn new(count: usize) -> Self {
        Self((0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Sets a bit and says whether it was not set before.
    pub(super) fn set(&self, number: u32) -> bool {
        let bit = 1u64 << (number % 64);
        let word = self.0.get(number as usize / 64);
        word.is_some_and(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
    }

    /// Whether a bit is set.
    pub(super) fn has(&self, number: u32) -> bool {
        let word = self.0.get(number as usize / 64);
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (number % 64) & 1 == 1)
    }
}

/// A bit for each place of both kinds.
#[derive(Debug, Default)]
pub(super) struct PlaceBits {
    data: Bits,
    trees: Bits,
}

impl PlaceBits {
    /// For all places of an index.
    pub(super) fn of(index: &Index) -> Self {
        Self {
            data: Bits::new(index.len(BlobKind::Data)),
            trees: Bits::new(index.len(BlobKind::Tree)),
        }
    }

    fn bits(&self, kind: BlobKind) -> &Bits {
        match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        }
    }

    /// Sets the bit of a place and says whether it was not set before.
    pub(super) fn set(&self, kind: BlobKind, number: u32) -> bool {
        self.bits(kind).set(number)
    }

    /// Whether the bit of a place is set.
    pub(super) fn has(&self, kind: BlobKind, number: u32) -> bool {
        self.bits(kind).has(number)
    }
}
