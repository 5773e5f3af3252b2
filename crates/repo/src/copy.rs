//! Copies snapshots from one repository to another: only what the other lacks, and nothing that was not verified.
//! It must never write a snapshot to the destination before all that its tree names is stored and indexed there.

mod hurt;
mod known;
mod needed;
mod transfer;

use std::collections::{HashMap, HashSet};
use std::sync::{PoisonError, RwLock};

use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::{BlobKind, BlobRef, Id, NONCE_BYTES, Snapshot, Tree};

use crate::tree_walk::TreeWalk;
use crate::{
    BlobReader, BlobSet, Index, IngestOptions, IngestStats, LockGuard, RepoError, Repository,
    TreeRoot, Visit, random,
};

/// How to copy.
#[derive(Clone, Copy, Debug)]
pub struct CopyOptions {
    /// Threads that read, verify and encrypt.
    pub readers: usize,
    /// How to store.
    pub ingest: IngestOptions,
}

/// Copies from one repository to another.
pub struct Copier<'a> {
    /// The source.
    pub from: &'a Repository,
    /// The source's index.
    pub from_index: &'a Index,
    /// The destination.
    pub to: &'a Repository,
    /// The destination's index, compared with the listing of packs.
    pub to_index: &'a RwLock<Index>,
    /// Packs that the destination's index files mark to be deleted: they are not stored again under the same name.
    pub to_marked: &'a HashSet<Id>,
    /// How.
    pub options: CopyOptions,
    /// The wish to stop.
    pub cancel: &'a Cancel,
}

/// One blob to be copied and where it lies in the source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) kind: BlobKind,
    pub(crate) id: Id,
    pub(crate) place: BlobRef,
}

/// What is to be copied from one pack of the source.
#[derive(Clone, Debug)]
pub(crate) struct PackPart {
    /// In order of their places; never empty.
    pub(crate) blobs: Vec<Wanted>,
    /// The size of the pack in bytes, if it is to be stored as it is.
    pub(crate) whole_bytes: Option<u64>,
}

/// What will be copied.
#[derive(Debug, Default)]
pub struct CopyPlan {
    /// The snapshots to copy, in the order in which they were given.
    pub snapshots: Vec<(Id, Snapshot)>,
    /// Snapshots that are in the destination already, each with its ID there.
    pub skipped: Vec<(Id, Id)>,
    /// Snapshots that can't be copied whole, each with the reason.
    pub refused: Vec<(Id, String)>,
    /// Data blobs that the destination lacks.
    pub data_blobs: u64,
    /// Tree blobs that the destination lacks.
    pub tree_blobs: u64,
    /// What they take in the source, in bytes.
    pub source_bytes: u64,
    /// Packs of the source that are stored as they are.
    pub whole_packs: u64,
    pub(crate) packs: Vec<PackPart>,
}

impl CopyPlan {
    /// Packs of the source that are read.
    #[must_use]
    pub fn packs(&self) -> u64 {
        self.packs.len() as u64
    }
}

/// What was copied.
#[derive(Debug, Default)]
pub struct CopyOutcome {
    /// Snapshots by their IDs in the source and in the destination.
    pub copied: Vec<(Id, Id)>,
    /// Snapshots that turned out to be damaged, each with the reason.
    pub refused: Vec<(Id, String)>,
    /// What was stored.
    pub stored: IngestStats,
}

/// How blobs get from one repository into the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// As they are: both have one master key and one version.
    Sealed,
    /// Decrypted and encrypted anew, compressed as they were.
    Frames,
    /// Decompressed, and compressed anew where the destination does that.
    Plain,
}

impl Copier<'_> {
    /// Decides what to copy of the selected snapshots; `there` are those of the destination.
    ///
    /// # Errors
    /// When a repository fails; damage in the source refuses the snapshots that it hurts.
    pub fn plan(
        &self,
        selected: Vec<(Id, Snapshot)>,
        there: &[(Id, Snapshot)],
    ) -> Result<CopyPlan, RepoError> {
        let (mut snapshots, skipped) = known::split(selected, there);
        let mut needed = self.needed(&snapshots)?;
        let mut refused = Vec::new();
        // Until nothing is lost: what could be read before may fail the next time. Each round refuses at least one.
        while !needed.lost.is_empty() {
            let (whole, hurt) = self.hurt(snapshots, &needed.lost)?;
            snapshots = whole;
            refused.extend(hurt);
            // What only those need is not worth its way.
            needed = self.needed(&snapshots)?;
        }
        let count = |kind| needed.blobs.iter().filter(|blob| blob.kind == kind).count() as u64;
        let (data_blobs, tree_blobs) = (count(BlobKind::Data), count(BlobKind::Tree));
        let bytes = needed.blobs.iter().map(|b| u64::from(b.place.length_bytes));
        let source_bytes = bytes.sum();
        let packs = self.by_pack(needed.blobs)?;
        let whole = packs.iter().filter(|part| part.whole_bytes.is_some());
        Ok(CopyPlan {
            snapshots,
            skipped,
            refused,
            data_blobs,
            tree_blobs,
            source_bytes,
            whole_packs: whole.count() as u64,
            packs,
        })
    }

    /// Carries out a plan: packs, index, and the snapshots last.
    ///
    /// # Errors
    /// When the destination fails or the source as a whole; damage refuses the snapshots that it hurts.
    pub fn run(
        &self,
        plan: CopyPlan,
        lock: Option<&LockGuard>,
        counters: &Counters,
    ) -> Result<CopyOutcome, RepoError> {
        let (lost, stored) = self.transfer(&plan.packs, lock, counters)?;
        let (snapshots, refused) = if lost.is_empty() {
            (plan.snapshots, Vec::new())
        } else {
            self.hurt(plan.snapshots, &lost)?
        };
        let mut outcome = CopyOutcome {
            copied: Vec::new(),
            refused,
            stored,
        };
        if self.options.ingest.dry_run {
            return Ok(outcome);
        }
        if !snapshots.is_empty() {
            self.to.confirm_relied(self.to_index)?;
        }
        for (id, mut snapshot) in snapshots {
            self.cancel.check()?;
            // As restic has it: a parent means nothing elsewhere, and the first ID of all is what a copy is known by.
            snapshot.parent = None;
            snapshot.original.get_or_insert(id);
            let copy = self.to.save_snapshot_under(lock, &snapshot)?;
            outcome.copied.push((id, copy));
        }
        Ok(outcome)
    }

    /// How blobs are to be copied.
    pub(crate) fn way(&self) -> Result<Way, RepoError> {
        let versions = (self.from.config().version, self.to.config().version);
        Ok(match versions {
            (from, to) if from == to && same_key(self.from, self.to)? => Way::Sealed,
            (2, 2) => Way::Frames,
            _ => Way::Plain,
        })
    }

    /// A tree of the source; one that is damaged there may be whole in the destination.
    fn tree(&self, reader: &BlobReader<'_>, id: Id) -> Result<Tree, RepoError> {
        match reader.tree(id) {
            Err(error) if !error.ends_all() => {
                let index = self.to_index.read().unwrap_or_else(PoisonError::into_inner);
                let there = BlobReader::new(self.to, &index).tree(id);
                there.map_err(|other| error.or_out_of_reach(other))
            }
            done => done,
        }
    }

    /// Shows every tree of these snapshots.
    fn walk(&self, snapshots: &[(Id, Snapshot)], visit: Visit<'_>) -> Result<(), RepoError> {
        let roots: Vec<TreeRoot> = snapshots
            .iter()
            .map(|(id, snapshot)| TreeRoot {
                snapshot: *id,
                tree: snapshot.tree,
            })
            .collect();
        let reader = BlobReader::new(self.from, self.from_index);
        let seen = BlobSet::new(self.from_index);
        let walk = TreeWalk {
            read: &|id| self.tree(&reader, id),
            meet: &|id| seen.insert(BlobKind::Tree, id),
            threads: self.options.readers,
            cancel: self.cancel,
        };
        walk.run(&roots, visit)?;
        Ok(())
    }
}

/// Blobs that can't be read, with the reason.
pub(crate) type Lost = HashMap<(BlobKind, Id), String>;

/// Whether what one repository encrypts the other can read.
fn same_key(one: &Repository, other: &Repository) -> Result<bool, RepoError> {
    const PROBE: &[u8] = b"do these repositories share a master key?";
    let mut sealed = vec![0; NONCE_BYTES];
    sealed.extend_from_slice(PROBE);
    one.master()
        .seal(&random::nonce()?, &mut sealed)
        .map_err(|error| RepoError::Random(error.to_string()))?;
    Ok(other
        .master()
        .open(&mut sealed)
        .is_ok_and(|plain| plain == PROBE))
}
