//! What waits to be archived, as the server notes it in `archive_status`, and how much of that may.
//! It must never give up a segment while there is room for it, or for another reason than a store that failed.

use std::io;
use std::path::Path;

use lifeboat_state::postgres::{SegmentBytes, WalName};

/// The folder beside the log in which the server notes what it has archived (PostgreSQL source, `access/xlogarchive.c`).
const STATUS_FOLDER: &str = "archive_status";
/// The ending of a note that says that a file waits.
const READY: &str = ".ready";
/// Notes that are looked at, which is 16 TiB of log.
const NOTES_MAX: usize = 1 << 20;

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimit {
    /// So many bytes.
    pub max_bytes: u64,
    /// What is done with more.
    pub when_full: WhenFull,
}

/// What is done when more waits than may, and the store fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The server keeps it, until its disk is full.
    Block,
    /// It is given up: the archive has a hole.
    Drop,
}

impl QueueLimit {
    /// Whether so much is more than may wait.
    #[must_use]
    pub fn is_over(&self, waiting_bytes: u64) -> bool {
        waiting_bytes > self.max_bytes
    }

    /// Whether a file that was not stored is told as archived all the same.
    #[must_use]
    pub fn gives_up(&self, waiting_bytes: u64, store_failed: bool) -> bool {
        self.when_full == WhenFull::Drop && store_failed && self.is_over(waiting_bytes)
    }
}

/// The files that wait beside one of them, in the order in which the server has them archived.
///
/// # Errors
/// When the server's notes can't be read.
pub fn waiting(beside: &Path) -> io::Result<Vec<WalName>> {
    let folder = beside.with_file_name(STATUS_FOLDER);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)?.take(NOTES_MAX) {
        let note = entry?.file_name();
        let name = note.to_str().and_then(|note| note.strip_suffix(READY));
        names.extend(name.and_then(|name| name.parse::<WalName>().ok()));
    }
    // Histories come first (PostgreSQL source, `postmaster/pgarch.c`), which is how names are ordered.
    names.sort_unstable();
    Ok(names)
}

/// How many bytes these have in segments of this size.
#[must_use]
pub fn waiting_bytes(names: &[WalName], size: SegmentBytes) -> u64 {
    let is_long = |name: &&WalName| matches!(name, WalName::Segment(_) | WalName::Partial(_));
    (names.iter().filter(is_long).count() as u64).saturating_mul(size.get())
}

/// Which of the files that wait are stored while `asked` is: the next ones, except those that are on their way.
pub(super) fn ahead(
    waiting: &[WalName],
    asked: WalName,
    is_known: impl Fn(WalName) -> bool,
    files_max: usize,
) -> Vec<WalName> {
    let next = waiting.iter().copied();
    next.filter(|name| *name != asked && !is_known(*name))
        .take(files_max)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &[&str]) -> Vec<WalName> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    const LIMIT: QueueLimit = QueueLimit {
        max_bytes: 32 << 20,
        when_full: WhenFull::Drop,
    };

    #[test]
    fn a_file_is_given_up_only_beyond_the_limit_and_when_the_store_failed() {
        let block = QueueLimit {
            when_full: WhenFull::Block,
            ..LIMIT
        };
        assert!(LIMIT.gives_up((32 << 20) + 1, true));
        assert!(!LIMIT.gives_up(32 << 20, true), "as much as may wait");
        assert!(!LIMIT.gives_up(u64::MAX, false), "the store did not fail");
        assert!(!block.gives_up(u64::MAX, true) && block.is_over(u64::MAX));
    }

    #[test]
    fn only_what_is_long_counts() {
        let of = names(&[
            "00000002.history",
            "000000010000000000000001",
            "000000010000000000000002.partial",
            "000000010000000000000002.00000028.backup",
        ]);
        assert_eq!(waiting_bytes(&of, SegmentBytes::DEFAULT), 32 << 20);
        assert_eq!(waiting_bytes(&[], SegmentBytes::DEFAULT), 0);
    }

    #[test]
    fn the_next_files_go_ahead_and_none_twice() {
        let of = names(&[
            "00000002.history",
            "000000010000000000000001",
            "000000010000000000000002",
            "000000010000000000000003",
            "000000020000000000000003",
        ]);
        assert_eq!(
            ahead(&of, of[1], |name| name == of[2], 2),
            [of[0], of[3]],
            "without what is asked for and what is known"
        );
        assert_eq!(ahead(&of, of[0], |_| false, 0), []);
    }

    #[test]
    fn the_notes_of_the_server_are_read_in_its_order() {
        let dir = tempfile::tempdir().unwrap();
        let status = dir.path().join(STATUS_FOLDER);
        let asked = dir.path().join("000000010000000000000001");
        assert!(waiting(&asked).is_err(), "there is no such folder");
        std::fs::create_dir(&status).unwrap();
        for note in [
            "000000010000000000000003.ready",
            "000000010000000000000001.ready",
            "000000010000000000000002.done",
            "00000002.history.ready",
            "core.ready",
            "ready",
        ] {
            std::fs::write(status.join(note), "").unwrap();
        }
        let expected = names(&[
            "00000002.history",
            "000000010000000000000001",
            "000000010000000000000003",
        ]);
        assert_eq!(waiting(&asked).unwrap(), expected);
    }
}
