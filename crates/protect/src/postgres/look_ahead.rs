//! An archive that stays open: what a server asks next is stored, or fetched, while it is busy with what it asked before.
//! It must never call a file archived that changed since it was stored, nor remember that one is not there.

use std::sync::Arc;
use std::time::Duration;

use lifeboat_flow::{Budget, BudgetShare};
use lifeboat_repo::{Appended, Repository, both};
use lifeboat_state::postgres::{SegmentBytes, SegmentName, Timeline, WalName};

use super::archive::{Archive, Fetched};
use super::early::Early;
use super::log_file::{FileState, LogFile, LogFileError};
use super::waiting::{ahead, waiting};

/// Files that are on their way at once: enough to fill the way to a far store.
const AT_ONCE: usize = 12;
/// Files that are planned, on their way, or done and not asked for yet.
const FILES_MAX: usize = 24;
/// With fewer than that, it is looked for more: a server with a large backlog has a large folder to look at.
const FILES_MIN: usize = 8;
/// How long a file that was stored is taken for stored without another look at the repository.
const STORED_MAX_AGE: Duration = Duration::from_secs(60);
/// How long a file that was fetched is kept for who may ask for it.
const FETCHED_MAX_AGE: Duration = Duration::from_secs(300);
/// Segments that are fetched before they are asked for.
const FETCHED_MAX: usize = 4;
/// Memory that a file takes until it is sealed, in files: its content, and what that is compressed into.
const COPIES: u64 = 2;

/// A segment that may be asked for: its cluster, its name, and how long it is.
type Wanted = (u64, SegmentName, u64);
/// What was fetched early, and the memory that it takes.
type Kept = (Vec<u8>, BudgetShare);

/// An open archive, for as many clusters as ask.
pub struct LookAhead {
    repository: Arc<Repository>,
    memory_bytes: u64,
    /// For what is asked for. What is done ahead has a budget of its own, for which nobody waits.
    asked: Budget,
    stored: Arc<Early<LogFile, (Appended, FileState)>>,
    fetched: Arc<Early<Wanted, Kept>>,
}

impl LookAhead {
    /// An archive in this repository, with so much memory for what is asked for and as much for what is done ahead. A file
    /// that is larger than that is stored all the same, with no other beside it.
    #[must_use]
    pub fn new(repository: &Arc<Repository>, memory_bytes: usize) -> Self {
        let budget = Budget::new(memory_bytes);
        let (target, storing) = (Arc::clone(repository), budget.clone());
        let stored = Early::new(AT_ONCE, STORED_MAX_AGE, move |file: &LogFile| {
            let bytes = std::fs::metadata(&file.path).ok()?.len();
            let mut share = small_share(&storing, bytes, memory_bytes)?;
            store(&target, file, &mut share).ok()
        });
        let source = Arc::clone(repository);
        let fetch = move |(system_id, segment, bytes): &Wanted| {
            let share = small_share(&budget, *bytes, memory_bytes)?;
            let archive = Archive::new(&source, *system_id);
            let content = archive.read(WalName::Segment(*segment)).ok()??;
            Some((content, share))
        };
        Self {
            repository: Arc::clone(repository),
            memory_bytes: memory_bytes as u64,
            asked: Budget::new(memory_bytes),
            stored,
            fetched: Early::new(FETCHED_MAX, FETCHED_MAX_AGE, fetch),
        }
    }

    /// Puts a file in, durably when this returns, and meanwhile the ones that wait behind it.
    ///
    /// # Errors
    /// As those of [`Archive::push`]; what was done ahead and failed is tried again before.
    pub fn push(&self, file: &LogFile) -> Result<Appended, LogFileError> {
        // A server that archives does not recover any more: what was fetched for it only takes memory.
        self.fetched.count();
        self.store_waiting(file);
        if let Some((appended, state)) = self.stored.take(file)
            && file.state().as_ref() == Some(&state)
        {
            return Ok(appended);
        }
        let bytes = file.state().map_or(0, |state| state.bytes());
        let mut share = self.share(bytes);
        Ok(store(&self.repository, file, &mut share)?.0)
    }

    /// Gets a file out, and meanwhile the segments that come after it.
    ///
    /// # Errors
    /// As those of [`Archive::fetch`], or when the repository is not the one that was opened.
    pub fn fetch(
        &self,
        system_id: u64,
        name: WalName,
        own: Timeline,
        size: SegmentBytes,
    ) -> Result<Fetched, LogFileError> {
        let archive = Archive::new(&self.repository, system_id);
        let WalName::Segment(segment) = name else {
            return self.fetch_now(&archive, name, own, size);
        };
        let found = match self.fetched.take(&(system_id, segment, size.get())) {
            Some((content, _share)) => Fetched::Content(content),
            None => self.fetch_now(&archive, name, own, size)?,
        };
        if matches!(found, Fetched::Content(_)) {
            let next = following(segment, size, FETCHED_MAX);
            let wanted = next.map(|segment| (system_id, segment, size.get()));
            self.fetched.plan(wanted.collect());
        }
        Ok(found)
    }

    /// Whether anything is being done ahead.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.stored.is_busy() || self.fetched.is_busy()
    }

    fn fetch_now(
        &self,
        archive: &Archive<'_>,
        name: WalName,
        own: Timeline,
        size: SegmentBytes,
    ) -> Result<Fetched, LogFileError> {
        let _share = self.share(size.get());
        let found = archive.fetch(name, own, size)?;
        if found == Fetched::Beyond {
            // An empty place has no end of anything.
            archive.is_in_place()?;
        }
        Ok(found)
    }

    /// Plans the files that wait. Whoever can't see them stores what is asked for.
    fn store_waiting(&self, asked: &LogFile) {
        let count = self.stored.count();
        if count >= FILES_MIN {
            return;
        }
        let file = |name: WalName| LogFile {
            path: asked.path.with_file_name(name.to_string()),
            name,
            ..asked.clone()
        };
        let is_known = |name| self.stored.knows(&file(name));
        let waiting = waiting(&asked.path).unwrap_or_default();
        let next = ahead(&waiting, asked.name, is_known, FILES_MAX - count);
        self.stored.plan(next.into_iter().map(file).collect());
    }

    fn share(&self, bytes: u64) -> BudgetShare {
        let wanted = bytes.saturating_mul(COPIES).min(self.memory_bytes);
        self.asked
            .take(usize::try_from(wanted).unwrap_or(usize::MAX))
    }
}

/// Memory for a file on its way, if it is free now and the file does not take all of it.
fn small_share(budget: &Budget, bytes: u64, memory_bytes: usize) -> Option<BudgetShare> {
    let wanted = usize::try_from(bytes.saturating_mul(COPIES)).ok()?;
    (wanted <= memory_bytes).then(|| budget.try_take(wanted))?
}

/// Stores a file in the repository that was opened, if that is still at its place. Memory that it needs no more once it is
/// sealed is for others.
fn store(
    repository: &Repository,
    file: &LogFile,
    share: &mut BudgetShare,
) -> Result<(Appended, FileState), LogFileError> {
    let archive = Archive::new(repository, file.system_id);
    let (sealed, looked) = both(|| file.read()?.seal(&archive), || archive.is_in_place());
    looked?;
    let sealed = sealed?;
    share.shrink_to(sealed.bytes());
    let appended = sealed.push(&archive)?;
    Ok((appended, sealed.state().clone()))
}

/// The segments after one on its timeline.
fn following(
    segment: SegmentName,
    size: SegmentBytes,
    count: usize,
) -> impl Iterator<Item = SegmentName> {
    std::iter::successors(segment.next(size), move |segment| segment.next(size)).take(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_follow_on_their_timeline_until_there_are_no_more() {
        let segment = |text: &str| match text.parse().unwrap() {
            WalName::Segment(segment) => segment,
            other => panic!("{other:?}"),
        };
        let size = SegmentBytes::DEFAULT;
        let after: Vec<_> = following(segment("0000000200000000000000FE"), size, 3).collect();
        assert_eq!(
            after,
            [
                segment("0000000200000000000000FF"),
                segment("000000020000000100000000"),
                segment("000000020000000100000001"),
            ]
        );
        let last = segment("00000002FFFFFFFF000000FF");
        assert_eq!(following(last, size, 3).count(), 0);
    }

    #[test]
    fn what_takes_more_than_all_memory_is_not_done_ahead() {
        let budget = Budget::new(100);
        assert!(small_share(&budget, 51, 100).is_none());
        let share = small_share(&budget, 50, 100);
        assert!(share.is_some() && small_share(&budget, 1, 100).is_none());
    }
}
