//! Compares what a file holds with the blobs that it should hold, several at once, because their hashes cost less so.
//! It must never take a part for the same that was not read to its end and hashed.

use lifeboat_flow::{TargetError, TargetFile};
use lifeboat_format::Id;

/// What is read of a file before it is hashed, in bytes, if it is more than one part.
const TOGETHER_MAX_BYTES: u64 = 8 * 1024 * 1024;

/// Compares; what it keeps between two times is memory.
#[derive(Default)]
pub(super) struct Comparer(Vec<Vec<u8>>);

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
        let mut end = offset;
        for (id, length_bytes) in parts.take(Id::at_once()) {
            if !asked.is_empty() && end + length_bytes - offset > TOGETHER_MAX_BYTES {
                break;
            }
            let number = asked.len();
            if self.0.len() == number {
                self.0.push(Vec::new());
            }
            let Some(buffer) = self.0.get_mut(number) else {
                break;
            };
            // Not cleared before: what is not read over does not count.
            buffer.resize(usize::try_from(length_bytes).unwrap_or(usize::MAX), 0);
            let is_whole = file.read_at(buffer, end)? == buffer.len();
            asked.push((id, is_whole));
            end += length_bytes;
        }
        let buffers: Vec<&[u8]> = self.0.iter().take(asked.len()).map(Vec::as_slice).collect();
        let found = Id::of_each(&buffers).into_iter().zip(asked);
        let same = found.map(|(found, (id, is_whole))| is_whole && found == id);
        let same = same.collect();
        // Memory that one large part needed is not kept for small ones.
        let mut kept = 0;
        self.0.retain(|buffer| {
            kept += buffer.capacity() as u64;
            kept <= TOGETHER_MAX_BYTES
        });
        Ok(same)
    }
}
