//! Whether a kernel gives on this processor what the definition gives, asked once before it is used.
//! It must never be skipped: a wrong hash would name data that no longer can be found, or hide that it is damaged.

use crate::Kernel;
use crate::noise::noise;
use crate::rabin::RabinTable;
use crate::sha256::{Sha256Stream, beside_by, each_by, sha256};

/// A polynomial as restic draws them.
const POLYNOMIAL: u64 = 0x003D_A335_8B4D_C173;
/// Bytes that are searched and hashed: enough for every stream and lane, too few to be felt.
const SAMPLE_BYTES: usize = 64 * 1024;
/// Which bits of a fingerprint are zero at about eight places of the sample.
const MASK: u64 = (1 << 13) - 1;

/// Whether it does.
pub(crate) fn is_sound(kernel: Kernel) -> bool {
    let sample = noise(SAMPLE_BYTES, 1);
    cuts_well(kernel, &sample) && hashes_well(kernel, &sample)
}

fn cuts_well(kernel: Kernel, sample: &[u8]) -> bool {
    let Some(table) = RabinTable::new(POLYNOMIAL) else {
        return false;
    };
    // From behind the first window: there the vector kernels begin.
    let mut from = crate::WINDOW_BYTES + 1;
    while from <= sample.len() {
        let plain = table.find_one_lane(sample, from, sample.len(), MASK);
        if table.find_by(kernel, sample, from, MASK) != plain {
            return false;
        }
        match plain {
            Some(hit) => from = hit + 1,
            None => break,
        }
    }
    true
}

fn hashes_well(kernel: Kernel, sample: &[u8]) -> bool {
    // Blobs of different lengths, more than there are lanes.
    let blobs: Vec<&[u8]> = (1..40)
        .map(|part| &sample[part..part * part * 17])
        .collect();
    let expected: Vec<[u8; 32]> = blobs.iter().map(|blob| sha256(blob)).collect();
    let mut stream = Sha256Stream::default();
    let (blob, other) = sample.split_at(sample.len() / 2);
    let hash = beside_by(kernel, blob, &mut stream, other);
    each_by(kernel, &blobs) == expected && hash == sha256(blob) && stream.finish() == sha256(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_sound() {
        for kernel in Kernel::ALL
            .into_iter()
            .filter(|kernel| kernel.is_available())
        {
            assert!(is_sound(kernel), "{}", kernel.name());
        }
    }

    #[test]
    fn the_sample_has_boundaries() {
        let table = RabinTable::new(POLYNOMIAL).unwrap();
        let sample = noise(SAMPLE_BYTES, 1);
        assert!(table.find(&sample, 65, MASK).is_some());
    }
}
