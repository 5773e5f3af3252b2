//! A repository over a backend: what is in it, how it is read, written, locked and checked.
//! It must never know where a member comes from or goes to: that is the work of `state`, and `protect` joins the two.

mod at_once;
pub mod backend;
mod blob_set;
mod by_pack;
mod check;
mod clock;
mod copy;
mod error;
mod index;
mod index_image;
mod index_writer;
mod ingest;
mod load_index;
mod lock;
mod log;
mod migrate;
mod open_pack;
mod pack_pool;
pub mod prune;
mod random;
mod read;
mod recover;
mod relied;
mod repair;
mod repository;
mod rewrite;
mod snapshots;
mod tree_walk;
mod try_delete;
mod used;

pub use at_once::{both, each_number};
pub use blob_set::BlobSet;
pub use by_pack::ByPack;
pub use check::{CheckOptions, CheckReport, Finding, FindingKind, Repair};
pub use clock::now;
pub use copy::{Copier, CopyOptions, CopyOutcome, CopyPlan};
pub use error::RepoError;
pub use index::Index;
pub use index_writer::{FileRewrite, IndexRewritten};
pub use ingest::{
    Added, Ingest, IngestOptions, IngestStats, MEMORY_DEFAULT_BYTES, MEMORY_MIN_BYTES,
    PACK_SIZE_DEFAULT_BYTES, PACK_SIZE_MAX_BYTES, PACK_SIZE_MIN_BYTES, Sealer,
};
pub use lifeboat_flow::chain;
pub use load_index::{IndexReport, PackListing};
pub use lock::{
    FoundLock, LockGuard, LockRequest, LockTiming, RemovedLocks, Staleness, all_locks,
    remove_locks, staleness,
};
pub use log::{Appended, LOG_CONTENT_MAX_BYTES, Log, LogEntry, LogError, SealedEntry};
pub use migrate::{Migration, MigrationState};
pub use read::{BlobReader, Fetched, Opener, open_blob, open_blobs, read_blob, read_places};
pub use recover::{Recovered, Unindexed, recovered_tree};
pub use repair::{
    IndexFacts, IndexPlan, KeepPack, Loss, LossKind, Losses, LostUse, OtherRepository, PackPlan,
    PacksPlan, PacksRepaired, RepairedSnapshot, SnapshotPlan, SnapshotVerdict, SnapshotsRepair,
    users_of_lost,
};
pub use repository::{Identity, KeyCost, Repository};
pub use rewrite::{
    KeepAll, RewriteChange, RewriteOutcome, RewriteSelect, Rewriter, Rewritten, TreeCounts,
};
pub use snapshots::Snapshots;
pub use tree_walk::{TreeRoot, TreeSeen, Visit, walk_trees};
pub use used::{UnreadTree, UsedBlobs};
