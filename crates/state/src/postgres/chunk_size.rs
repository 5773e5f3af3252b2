//! How long the chunks of relations are: short ones are found again more often, long ones need fewer entries in trees.
//! It must never choose for a member that has captures: another length shares nothing with them.

/// The shortest, in bytes: measured, shorter ones save nothing more and cost twice the entries.
const SHORTEST_BYTES: usize = 16 * 1024;
/// The longest, in bytes: beyond, nothing is shared any more.
const LONGEST_BYTES: usize = 1024 * 1024;
/// What an entry for a chunk takes in a tree, in bytes: a hash in hexadecimal digits, quotes and a comma.
const ENTRY_BYTES: u64 = 67;
/// A directory's tree is one blob, which others read as a whole into memory; longer ones are avoided.
const TREE_MAX_BYTES: u64 = 8 * 1024 * 1024;

/// The length for a cluster whose fullest directory holds so many bytes, so that no tree becomes too long.
#[must_use]
pub fn chunk_bytes_for(largest_dir_bytes: u64) -> usize {
    let mut bytes = SHORTEST_BYTES;
    while bytes < LONGEST_BYTES && largest_dir_bytes / bytes as u64 * ENTRY_BYTES > TREE_MAX_BYTES {
        bytes *= 2;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_stay_short_however_large_the_database_is() {
        const GIB: u64 = 1 << 30;
        assert_eq!(chunk_bytes_for(0), 16 << 10);
        assert_eq!(chunk_bytes_for(GIB), 16 << 10);
        assert_eq!(chunk_bytes_for(3 * GIB), 32 << 10);
        assert_eq!(chunk_bytes_for(100 * GIB), 1 << 20);
        assert_eq!(chunk_bytes_for(u64::MAX), 1 << 20);
    }
}
