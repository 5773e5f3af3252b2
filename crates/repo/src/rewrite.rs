//! Makes new snapshots from existing ones: with entries left out, another host or time, or numbers that were missing.
//! It must never remove a snapshot before the one made from it is stored, nor lose a part of a tree that it rewrites.

mod filter;

use std::collections::HashSet;
use std::sync::RwLock;

use lifeboat_flow::{Cancel, EventSink};
use lifeboat_format::{Id, Node, Snapshot, Timestamp};

use crate::{Index, Ingest, IngestOptions, IngestStats, LockGuard, RepoError, Repository, chain};

use filter::TreeFilter;

/// The tag of a snapshot that was made from another which stays (restic's).
const TAG: &str = "rewrite";

/// Which entries stay. Paths are those inside the snapshot, as `/srv/data`.
pub trait RewriteSelect {
    /// Whether an entry stays; below a directory that does not, nothing is asked.
    fn keeps(&self, path: &[u8], node: &Node) -> bool;
    /// Whether a directory stays in which nothing is left.
    fn keeps_empty(&self, path: &[u8]) -> bool;
}

/// Keeps everything: for counting what is there.
pub struct KeepAll;

impl RewriteSelect for KeepAll {
    fn keeps(&self, _: &[u8], _: &Node) -> bool {
        true
    }

    fn keeps_empty(&self, _: &[u8]) -> bool {
        true
    }
}

/// What to change of the snapshots themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RewriteChange {
    /// Another host.
    pub host: Option<String>,
    /// Another time.
    pub time: Option<Timestamp>,
    /// The new snapshot takes the place of the old one.
    pub forget: bool,
}

/// Files and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeCounts {
    /// Files.
    pub files: u64,
    /// Their sizes together, in bytes.
    pub bytes: u64,
}

/// Rewrites snapshots.
pub struct Rewriter<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// Its index, compared with the listing of packs.
    pub index: &'a RwLock<Index>,
    /// All snapshots that can be read: one of them may be the result of an earlier run.
    pub all: &'a [(Id, Snapshot)],
    /// The lock, exclusive if snapshots are to go; a dry run has none.
    pub lock: Option<&'a LockGuard>,
    /// Which entries stay; without it no tree is looked at.
    pub select: Option<&'a dyn RewriteSelect>,
    /// What else to change.
    pub change: RewriteChange,
    /// How to store.
    pub ingest: IngestOptions,
    /// Who is told of entries that are left out.
    pub events: &'a dyn EventSink,
    /// The wish to stop.
    pub cancel: &'a Cancel,
}

/// A snapshot that was rewritten, or would be.
#[derive(Clone, Debug)]
pub struct Rewritten {
    /// The old one.
    pub old: Id,
    /// The new one's ID; `None` for a dry run.
    pub new: Option<Id>,
    /// The new one, if a run that was interrupted has stored it already.
    pub earlier: Option<Id>,
    /// The new one.
    pub snapshot: Snapshot,
    /// Whether its tree is another one.
    pub is_new_tree: bool,
}

/// What became of the snapshots.
#[derive(Debug, Default)]
pub struct RewriteOutcome {
    /// Those that changed.
    pub rewritten: Vec<Rewritten>,
    /// Those that stay as they are.
    pub unchanged: Vec<Id>,
    /// Those that can't be rewritten, each with the reason; they stay as they are.
    pub refused: Vec<(Id, String)>,
    /// What was stored.
    pub stored: IngestStats,
}

impl Rewriter<'_> {
    /// Rewrites snapshots: the new trees of all, then the new snapshots, each before its old one goes. What an earlier run
    /// has done already is not done again.
    ///
    /// # Errors
    /// When the repository fails; a damaged tree refuses the snapshots that have it.
    pub fn run(&self, selected: Vec<(Id, Snapshot)>) -> Result<RewriteOutcome, RepoError> {
        let (mut outcome, stored) = Ingest::run(
            self.repository,
            self.index,
            self.lock,
            self.ingest,
            |ingest| self.trees(selected, ingest),
        )?;
        outcome.stored = stored;
        if self.ingest.dry_run || outcome.rewritten.is_empty() {
            return Ok(outcome);
        }
        self.repository.confirm_relied(self.index)?;
        for rewritten in &mut outcome.rewritten {
            self.cancel.check()?;
            let new = match rewritten.earlier {
                Some(earlier) => earlier,
                None => self
                    .repository
                    .save_snapshot_under(self.lock, &rewritten.snapshot)?,
            };
            rewritten.new = Some(new);
            if self.change.forget {
                self.ensure_lock()?;
                self.repository.remove_replaced(rewritten.old, new)?;
            }
        }
        Ok(outcome)
    }

    fn trees(
        &self,
        selected: Vec<(Id, Snapshot)>,
        ingest: &Ingest<'_>,
    ) -> Result<RewriteOutcome, RepoError> {
        let mut outcome = RewriteOutcome::default();
        let mut filter = match self.select {
            Some(select) => Some(TreeFilter::new(self, select, ingest)?),
            None => None,
        };
        for (old, snapshot) in selected {
            self.cancel.check()?;
            let filtered = match &mut filter {
                None => Ok(Some((snapshot.tree, None))),
                Some(filter) => filter
                    .root(snapshot.tree)
                    .map(|left| left.map(|left| (left.tree, Some(left.counts)))),
            };
            let changed = match filtered {
                Ok(filtered) => filtered
                    .and_then(|(tree, counts)| self.change.apply(old, &snapshot, tree, counts)),
                Err(error) if error.is_damage() || is_refusal(&error) => {
                    outcome.refused.push((old, chain(&error)));
                    continue;
                }
                Err(error) => return Err(error),
            };
            match changed {
                None => outcome.unchanged.push(old),
                Some(new) => outcome.rewritten.push(Rewritten {
                    old,
                    new: None,
                    earlier: None,
                    is_new_tree: new.tree != snapshot.tree,
                    snapshot: new,
                }),
            }
        }
        self.find_earlier(&mut outcome);
        Ok(outcome)
    }

    /// Finds the new snapshots that an earlier run has stored. One that is rewritten itself stands for none.
    fn find_earlier(&self, outcome: &mut RewriteOutcome) {
        let olds: HashSet<Id> = outcome.rewritten.iter().map(|one| one.old).collect();
        for one in &mut outcome.rewritten {
            let is_it =
                |(id, known): &&(Id, Snapshot)| *known == one.snapshot && !olds.contains(id);
            one.earlier = self.all.iter().find(is_it).map(|(id, _)| *id);
        }
        if !self.change.forget {
            // Both are there, as they should be.
            let RewriteOutcome {
                rewritten,
                unchanged,
                ..
            } = outcome;
            rewritten.retain(|one| {
                let is_done = one.earlier.is_some();
                unchanged.extend(is_done.then_some(one.old));
                !is_done
            });
        }
    }

    fn ensure_lock(&self) -> Result<(), RepoError> {
        self.lock.map_or(Ok(()), LockGuard::ensure)
    }
}

fn is_refusal(error: &RepoError) -> bool {
    matches!(
        error,
        RepoError::NotRewritable { .. } | RepoError::Refused(_)
    )
}

impl RewriteChange {
    /// The snapshot that is to be made of another, whose tree became `tree` with these counts; `None` if it would be
    /// the same.
    #[must_use]
    pub fn apply(
        &self,
        old: Id,
        snapshot: &Snapshot,
        tree: Id,
        counts: Option<TreeCounts>,
    ) -> Option<Snapshot> {
        let mut new = snapshot.clone();
        new.tree = tree;
        if let Some(counts) = counts {
            let summary = new.summary.get_or_insert_default();
            summary.total_files_processed = counts.files;
            summary.total_bytes_processed = counts.bytes;
        }
        if let Some(host) = &self.host {
            new.hostname.clone_from(host);
        }
        if let Some(time) = self.time {
            new.time = time;
        }
        if new == *snapshot {
            return None;
        }
        // Not the first of a chain, as with copies: what has other content is another snapshot.
        new.original = Some(old);
        // What it leaves out is no longer what the backup was told.
        new.whole = None;
        if !self.forget && !new.tags.iter().any(|tag| tag == TAG) {
            new.tags.push(TAG.to_owned());
        }
        Some(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let json = format!(
            r#"{{"time":"2026-01-02T03:04:05Z","tree":"{}","paths":["/a"],"hostname":"h","tags":["x"],"original":"{}"}}"#,
            Id::of(b"tree"),
            Id::of(b"first")
        );
        Snapshot::from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn nothing_new_makes_no_snapshot() {
        let (old, change) = (snapshot(), RewriteChange::default());
        assert_eq!(change.apply(Id::of(b"old"), &old, old.tree, None), None);
        let counts = TreeCounts { files: 3, bytes: 4 };
        let new = change
            .apply(Id::of(b"old"), &old, old.tree, Some(counts))
            .unwrap();
        let summary = new.summary.clone().unwrap();
        assert_eq!(
            (summary.total_files_processed, summary.total_bytes_processed),
            (3, 4)
        );
        assert_eq!(
            change.apply(Id::of(b"new"), &new, new.tree, Some(counts)),
            None
        );
        // Nor does a host or time that it has already.
        let change = RewriteChange {
            host: Some(old.hostname.clone()),
            time: Some(old.time),
            forget: false,
        };
        assert_eq!(change.apply(Id::of(b"old"), &old, old.tree, None), None);
    }

    #[test]
    fn what_changed_is_tagged_unless_it_takes_the_place() {
        let (old, id, tree) = (snapshot(), Id::of(b"old"), Id::of(b"other tree"));
        let new = RewriteChange::default()
            .apply(id, &old, tree, None)
            .unwrap();
        assert_eq!(
            (new.original, new.tags, new.tree),
            (Some(id), vec!["x".into(), TAG.into()], tree)
        );
        let change = RewriteChange {
            host: Some("web".into()),
            time: Some(Timestamp::ZERO),
            forget: true,
        };
        let new = change.apply(id, &old, old.tree, None).unwrap();
        assert_eq!(
            (new.hostname.as_str(), new.time, new.tags),
            ("web", Timestamp::ZERO, vec!["x".into()])
        );
    }
}
