//! A file in memory as it lies on the disk, without being read: only what is looked at is fetched.
//! It must never be of a file that anybody writes to or cuts short afterwards.

#![expect(unsafe_code, reason = "a mapping of a file")]

use std::io;
use std::os::fd::AsRawFd;

use memmap2::{Mmap, UncheckedAdvice};

/// A whole file, mapped for reading.
pub struct Mapping(Mmap);

impl Mapping {
    /// Maps a file that nobody changes any more: one that was written whole, then renamed, and is only ever replaced by
    /// another one of its name. Such a file stays as it is for whoever has it open, even when it is removed.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn of(file: &impl AsRawFd) -> io::Result<Self> {
        // SAFETY: the bytes are as immutable as a shared slice must be, because nobody writes to such a file or cuts it
        // short, as is said above; who could do that without being this program may stop or change it as well.
        let map = unsafe { Mmap::map(file.as_raw_fd()) }?;
        Ok(Self(map))
    }

    /// The content.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Gives back the memory of what was looked at. It is fetched again when it is looked at again, also while others
    /// look at it.
    pub fn release(&self) {
        // SAFETY: the pages of a file that is mapped for reading hold nothing that is not in the file, so that they have
        // the same content when they come back. Where advice is refused, more memory stays in use.
        let _ = unsafe { self.0.unchecked_advise(UncheckedAdvice::DontNeed) };
    }
}
