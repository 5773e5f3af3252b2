//! The first bytes of a database (<https://sqlite.org/fileformat2.html#the_database_header>).
//! It must never be believed beyond what it says: bytes like these are also at the start of damaged files.

/// What every database begins with.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// The header, in bytes.
pub(super) const HEAD_BYTES: usize = 100;
/// A database has at least one page, and this is the shortest there is, in bytes.
pub(super) const SMALLEST_BYTES: u64 = 512;
/// The page size of a header that says an impossible one, in bytes: that of new databases.
const USUAL_PAGE_BYTES: usize = 4096;

/// What the header of a database says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The length of a page in bytes.
    pub(super) page_bytes: usize,
    /// Whether what is committed may stand in a `-wal` file.
    pub(super) is_wal: bool,
}

impl Head {
    /// From the first bytes of a file; `None` if it is no database.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let head = bytes.get(..HEAD_BYTES)?;
        if !head.starts_with(MAGIC) {
            return None;
        }
        let page_bytes = match head.get(16..18)? {
            [0, 1] => 65536,
            [high, low] => usize::from(u16::from_be_bytes([*high, *low])),
            _ => return None,
        };
        let is_possible = page_bytes.is_power_of_two() && page_bytes >= 512;
        Some(Self {
            page_bytes: if is_possible {
                page_bytes
            } else {
                USUAL_PAGE_BYTES
            },
            is_wal: head.get(18..20)?.contains(&2),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_and_modes_are_read_and_other_files_are_none() {
        let mut bytes = [0; 512];
        assert_eq!(Head::parse(&bytes), None);
        bytes[..16].copy_from_slice(MAGIC);
        for (size, page_bytes) in [
            ([2, 0], 512),
            ([0, 1], 65536),
            ([16, 0], 4096),
            ([0, 7], 4096),
        ] {
            bytes[16..18].copy_from_slice(&size);
            for (mode, is_wal) in [(1, false), (2, true)] {
                bytes[18..20].fill(mode);
                assert_eq!(Head::parse(&bytes), Some(Head { page_bytes, is_wal }));
            }
        }
        assert_eq!(Head::parse(&bytes[..99]), None);
    }
}
