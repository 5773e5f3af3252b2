//! How long the chunks of a database are: whole pages, short enough to be found again, long enough for short trees.
//! It must never depend on anything but the page and the size: the next capture must cut at the same places.

/// The shortest, in bytes, as for the relations of PostgreSQL.
const SHORTEST_BYTES: usize = 16 * 1024;
/// The longest, in bytes: beyond, nothing is shared any more.
const LONGEST_BYTES: usize = 1024 * 1024;
/// Chunks of one database at most, as long as they can be made longer: their hashes take a quarter of the longest tree of
/// 8 MiB that is wanted, since a directory may hold several databases.
const CHUNKS_MAX: u64 = 31_250;

/// The length of chunks in bytes. It doubles when a database has grown so much, which stores it anew once.
pub(super) fn chunk_bytes_for(page_bytes: usize, size_bytes: u64) -> usize {
    let mut bytes = SHORTEST_BYTES.max(page_bytes);
    while bytes < LONGEST_BYTES && size_bytes / bytes as u64 > CHUNKS_MAX {
        bytes *= 2;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_whole_pages_and_grow_with_the_database() {
        const GIB: u64 = 1 << 30;
        assert_eq!(chunk_bytes_for(512, 0), 16 << 10);
        assert_eq!(chunk_bytes_for(4096, GIB / 4), 16 << 10);
        assert_eq!(chunk_bytes_for(65536, GIB / 4), 64 << 10);
        assert_eq!(chunk_bytes_for(4096, GIB), 64 << 10);
        assert_eq!(chunk_bytes_for(4096, u64::MAX), 1 << 20);
    }
}
