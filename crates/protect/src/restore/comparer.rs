//! Compares what a file holds with the blobs that it should hold, several at once, because their hashes cost less so.
//! It must never take a part for the same that was not read to its end and hashed.

use lifeboat_flow::{TargetError, TargetFile};
use lifeboat_format::Id;

/// What is read of a file before it is hashed, in bytes, if it is more than one part.
const TOGETHER_MAX_BYTES: u64 = 8 * 1024 * 1024;

/// Compares; what it keeps between two times is memory, for what was read: getting it anew costs as much as half the hash.
#[derive(Default)]
pub(super) struct Comparer(Vec<u8>);

impl Comparer {
    /// Whether the parts of a file from an offset on, with these hashes and lengths in bytes, are what they should be.
    /// Answers for the first of them, at least for one.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(super) fn compare(
        &mut self,
        file: &dyn TargetFile,
        offset: u64,
        parts: impl Iterator<Item = (Id, u64)>,
    ) -> Result<Vec<bool>, TargetError> {
        let mut asked = Vec::new();
        let mut together_bytes = 0;
        for (id, length_bytes) in parts.take(Id::at_once()) {
            if !asked.is_empty() && together_bytes + length_bytes > TOGETHER_MAX_BYTES {
                break;
            }
            together_bytes += length_bytes;
            asked.push((id, usize::try_from(length_bytes).unwrap_or(usize::MAX)));
        }
        let wanted = usize::try_from(together_bytes).unwrap_or(usize::MAX);
        if self.0.len() < wanted {
            // Not cleared before: what is not read over does not count.
            self.0.resize(wanted, 0);
        }
        let place = self.0.get_mut(..wanted).unwrap_or_default();
        let read = file.read_at(place, offset)?;
        let mut rest = self.0.get(..read).unwrap_or_default();
        let mut there = Vec::with_capacity(asked.len());
        for (_, length) in &asked {
            // Nothing is behind the first part that is cut off.
            let (part, behind) = rest.split_at_checked(*length).unwrap_or_default();
            there.push(part);
            rest = behind;
        }
        let found = Id::of_each(&there).into_iter().zip(there).zip(asked);
        let same = found.map(|((found, part), (id, length))| part.len() == length && found == id);
        let same = same.collect();
        // Memory that one large part needed is not kept for small ones.
        self.0
            .truncate(usize::try_from(TOGETHER_MAX_BYTES).unwrap_or(usize::MAX));
        self.0.shrink_to(self.0.len());
        Ok(same)
    }
}
