//! The checksum of a page of a relation, and what a page says of itself.
//! It must never call a page damaged that a server could have written.

use super::bytes::{u16_at, u64_at};
use super::lsn::Lsn;

/// Size of a page in bytes. A server can be built with others; hardly any is, and then checksums are not looked at.
pub const PAGE_BYTES: usize = 8192;
/// Where the checksum lies in the header of a page (PostgreSQL manual, "Database Page Layout").
const CHECKSUM_AT: usize = 8;
/// Sums that run beside each other.
const SUMS: usize = 32;
/// That of the Fowler-Noll-Vo hash with 32 bits.
const PRIME: u32 = 16_777_619;
/// What the sums begin with: a part of the format (PostgreSQL source, `storage/checksum_impl.h`).
const BASES: [u32; SUMS] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

/// What a page is found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageState {
    /// Its checksum fits, or it has none yet: all zero, as the server extends files.
    Right,
    /// Its checksum does not fit: damaged, or read while the server wrote it.
    Wrong {
        /// What it says.
        said: u16,
        /// What it should say.
        expected: u16,
        /// When it was last changed; if that is after the capture began, the WAL of the capture mends the page.
        changed: Lsn,
    },
}

/// The checksum that a page should have. `block` counts pages from the beginning of the relation, over all of its files.
#[must_use]
pub fn checksum(page: &[u8; PAGE_BYTES], block: u32) -> u16 {
    let mut sums = BASES;
    let mix = |sum: u32, word: u32| {
        let mixed = sum ^ word;
        mixed.wrapping_mul(PRIME) ^ (mixed >> 17)
    };
    let (words, _) = page.as_chunks::<4>();
    for (number, row) in words.chunks_exact(SUMS).enumerate() {
        for (column, (sum, word)) in sums.iter_mut().zip(row).enumerate() {
            let mut word = u32::from_le_bytes(*word);
            if (number, column) == (0, CHECKSUM_AT / 4) {
                // The checksum itself counts as zero.
                word &= 0xFFFF_0000;
            }
            *sum = mix(*sum, word);
        }
    }
    for _ in 0..2 {
        for sum in &mut sums {
            *sum = mix(*sum, 0);
        }
    }
    let sum = sums.into_iter().fold(0, |all, sum| all ^ sum) ^ block;
    // Never zero, which means none.
    u16::try_from(sum % 65_535 + 1).unwrap_or(u16::MAX)
}

/// Looks at a page of a cluster that has checksums.
#[must_use]
pub fn judge(page: &[u8; PAGE_BYTES], block: u32) -> PageState {
    let said = u16_at(page, CHECKSUM_AT).unwrap_or(0);
    let expected = checksum(page, block);
    if said == expected || page.iter().all(|byte| *byte == 0) {
        return PageState::Right;
    }
    // The position is two halves, the high one first.
    let halves = u64_at(page, 0).unwrap_or(0);
    PageState::Wrong {
        said,
        expected,
        changed: Lsn(halves.rotate_left(32)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_zeros_is_right_and_one_byte_makes_it_wrong() {
        let mut page = [0; PAGE_BYTES];
        assert_eq!(judge(&page, 7), PageState::Right);
        page[PAGE_BYTES - 1] = 1;
        assert!(matches!(judge(&page, 7), PageState::Wrong { said: 0, .. }));
    }

    #[test]
    fn a_checksum_knows_its_block_and_every_byte_but_itself() {
        let mut page: [u8; PAGE_BYTES] = std::array::from_fn(|at| (at / 3) as u8);
        let sum = checksum(&page, 3);
        page[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(judge(&page, 3), PageState::Right);
        assert!(matches!(judge(&page, 4), PageState::Wrong { .. }));
        for at in (0..PAGE_BYTES).filter(|at| !(CHECKSUM_AT..CHECKSUM_AT + 2).contains(at)) {
            page[at] ^= 0x10;
            assert!(
                matches!(judge(&page, 3), PageState::Wrong { .. }),
                "byte {at}"
            );
            page[at] ^= 0x10;
        }
    }

    #[test]
    fn the_position_of_a_wrong_page_is_told() {
        let mut page = [1; PAGE_BYTES];
        page[..8].copy_from_slice(&[0x16, 0, 0, 0, 0x48, 0xD8, 0x74, 0xB3]);
        let PageState::Wrong { changed, .. } = judge(&page, 0) else {
            panic!("a page of ones is right");
        };
        assert_eq!(changed.to_string(), "16/B374D848");
    }
}
