//! Prune: removes what no snapshot needs, in two steps that lie a day apart, so that a backup by a program without locks
//! keeps what it relies on. It must never delete what was not found unneeded twice, unless the user wishes so.

mod apply;
mod choice;
mod clock;
mod facts;
mod options;
mod plan;
#[cfg(test)]
mod random_facts;
mod repack;
mod stats;
mod used;

use std::collections::BTreeSet;
use std::time::Duration;

use lifeboat_flow::{Cancel, Counters, EventSink};
use lifeboat_format::{Id, Timestamp};

use crate::backend::{FileKind, FileName};

pub use apply::Removed;
pub use facts::Facts;
pub use options::{KEEP_DELETE_DEFAULT, MAX_UNUSED_DEFAULT_PERCENT, MaxUnused, PruneOptions};
pub use plan::{Fate, PrunePlan};
pub use repack::Repacked;
pub use stats::{Amount, PruneStats};

use crate::{LockGuard, RepoError, Repository, TreeRoot};

/// What writers left unfinished is removed when it is older than this: nobody writes one file for two days.
const UNFINISHED_MIN_AGE: Duration = Duration::from_secs(48 * 60 * 60);

/// A prune. Its steps, each with the lock that it needs:
/// [`look`](Prune::look), [`prove_removal`](Prune::prove_removal) and [`repack`](Prune::repack) under a shared one, beside which backups go on; then under an
/// exclusive one [`look_again`](Prune::look_again) and [`remove`](Prune::remove).
pub struct Prune<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// What the user wants.
    pub options: PruneOptions,
    /// Snapshots that count as forgotten; for a dry run.
    pub forgotten: BTreeSet<Id>,
    /// How far it is.
    pub counters: &'a Counters,
    /// Who is told.
    pub events: &'a dyn EventSink,
    /// The wish to stop.
    pub cancel: &'a Cancel,
}

/// Facts with the plan that follows from them.
#[derive(Default)]
pub struct Look {
    /// The facts.
    pub facts: Facts,
    /// The plan.
    pub plan: PrunePlan,
}

impl Look {
    /// The packs with what becomes of them and their sizes in bytes, those that simply stay left out.
    pub fn changes(&self) -> impl Iterator<Item = (Id, Fate, u64)> + '_ {
        self.plan.changes(&self.facts)
    }
}

impl Prune<'_> {
    /// What there is and what is to be done.
    ///
    /// # Errors
    /// When anything that says what snapshots need can't be read, or what they need is not there.
    pub fn look(&self, now: Timestamp) -> Result<Look, RepoError> {
        let facts = self.facts(None)?;
        let plan = plan::decide(&facts, &self.options, plan::Phase::Whole, now)?;
        Ok(Look { facts, plan })
    }

    /// Tries on a pack of its own whether anything may be removed here: on an append-only place whatever a prune writes
    /// would only be in the way.
    ///
    /// # Errors
    /// When it may not, or the backend fails. What is left of all refused tries is one tiny pack.
    pub fn prove_removal(&self, look: &Look, lock: &LockGuard) -> Result<(), RepoError> {
        self.repository.prove_removal(&look.facts.unindexed, lock)
    }

    /// Copies what is used out of packs that are to go. Afterwards it lies in the repository twice.
    ///
    /// # Errors
    /// When the backend fails or the lock is lost. Damaged blobs are told, and stay where they are.
    pub fn repack(&self, look: &Look, lock: &LockGuard) -> Result<Repacked, RepoError> {
        repack::repack(
            self.repository,
            &look.facts,
            &look.plan,
            &self.options,
            lock,
            self.counters,
            self.events,
            self.cancel,
        )
    }

    /// Looks again, when nobody else works on the repository, and decides what is removed. What was known before is
    /// used where snapshots have only become more.
    ///
    /// # Errors
    /// As [`look`](Prune::look).
    pub fn look_again(
        &self,
        before: &Look,
        repacked: Repacked,
        now: Timestamp,
    ) -> Result<Look, RepoError> {
        let mut facts = self.facts(Some(&before.facts))?;
        self.refuse_hidden(&before.facts, &facts, &repacked)?;
        facts.proof = repacked.proof;
        facts.proof.is_wanted = true;
        let plan = plan::decide(&facts, &self.options, plan::Phase::Removal, now)?;
        Ok(Look { facts, plan })
    }

    /// Marks, deletes and indexes again.
    ///
    /// # Errors
    /// When the lock is lost, or index files can't be written or removed: then no pack was deleted. Packs that can't be
    /// deleted are told in the result.
    pub fn remove(&self, look: &Look, lock: &LockGuard) -> Result<Removed, RepoError> {
        apply::apply(
            self.repository,
            &look.facts,
            &look.plan,
            lock,
            self.repository
                .backend()
                .connections()
                .max(self.options.threads),
            self.counters,
            self.cancel,
        )
    }

    /// Removes what writers left unfinished long ago, and gives the number of pieces.
    ///
    /// # Errors
    /// When it can't be listed or removed.
    pub fn remove_unfinished(&self) -> Result<u64, RepoError> {
        Ok(self
            .repository
            .backend()
            .remove_unfinished(UNFINISHED_MIN_AGE)?)
    }

    /// Refuses what two listings of one run contradict: what the first one had, or this run has written, and the second
    /// lacks must be gone. If it is there, the listing is not whole, and what only it needs would be removed.
    fn refuse_hidden(
        &self,
        before: &Facts,
        now: &Facts,
        repacked: &Repacked,
    ) -> Result<(), RepoError> {
        let known: BTreeSet<Id> = now.files.iter().map(|file| file.id).collect();
        let files = before.files.iter().map(|file| file.id);
        let files = files.filter(|id| !known.contains(id));
        let snapshots = before.snapshots.difference(&now.snapshots).copied();
        let named = |kind| move |id| FileName::new(kind, id);
        let gone = snapshots.map(named(FileKind::Snapshot));
        for name in gone.chain(files.map(named(FileKind::Index))) {
            self.repository.refuse_if_there(name)?;
        }
        let indexed: BTreeSet<Id> = now.packs.iter().map(|pack| pack.id).collect();
        match repacked
            .proof
            .written
            .iter()
            .find(|id| !indexed.contains(id))
        {
            None => Ok(()),
            Some(pack) => Err(RepoError::Refused(format!(
                "no index file that {} lists names pack {pack}, which this run wrote and indexed: nothing is removed by a listing that is not whole",
                self.repository.backend().location()
            ))),
        }
    }

    fn facts(&self, before: Option<&Facts>) -> Result<Facts, RepoError> {
        // Snapshots before the index: what a snapshot names was indexed before it was written.
        let snapshots = self.repository.snapshots()?;
        if let Some((id, cause)) = snapshots.damaged.into_iter().next() {
            return Err(needs_unknown(format!("snapshot {id}"), cause));
        }
        let newest = snapshots.all.last();
        let newest = newest.map(|(id, snapshot)| (*id, snapshot.time));
        let needed = snapshots.all.into_iter();
        let needed: Vec<(Id, Id)> = needed
            .filter(|(id, _)| !self.forgotten.contains(id))
            .map(|(id, snapshot)| (id, snapshot.tree))
            .collect();
        let mut facts = Facts::gather(self.repository, self.cancel)?;
        facts.newest_snapshot = newest;
        facts.snapshots = needed.iter().map(|(id, _)| *id).collect();
        if let Some(before) = before.filter(|before| before.snapshots.is_subset(&facts.snapshots)) {
            used::carry_over(before, &facts)?;
        }
        let roots = needed.into_iter();
        let roots: Vec<TreeRoot> = roots
            .map(|(snapshot, tree)| TreeRoot { snapshot, tree })
            .collect();
        used::walk(
            self.repository,
            &facts,
            &roots,
            self.repository.readers(self.options.threads),
            self.counters,
            self.cancel,
        )?;
        Ok(facts)
    }
}

/// What kept prune from knowing what is needed; where nothing can be read at all, that is what there is to say.
fn needs_unknown(what: String, cause: RepoError) -> RepoError {
    if cause.ends_all() {
        return cause;
    }
    RepoError::NeedsUnknown {
        what,
        cause: Box::new(cause),
    }
}
