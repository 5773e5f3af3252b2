//! A repository over a backend: what is in it, how it is read, written, locked and checked.
//! It must never know where a member comes from or goes to: that is the work of `state`, and `protect` joins the two.

pub mod backend;
mod check;
mod clock;
mod error;
mod index;
mod ingest;
mod load_index;
mod lock;
mod random;
mod read;
mod repository;
mod snapshots;
mod try_delete;

pub use check::{CheckOptions, CheckReport, Finding, FindingKind};
pub use clock::now;
pub use error::RepoError;
pub use index::Index;
pub use ingest::{
    Added, Ingest, IngestOptions, IngestStats, PACK_SIZE_DEFAULT_BYTES, PACK_SIZE_MAX_BYTES,
    PACK_SIZE_MIN_BYTES, Sealer,
};
pub use lifeboat_flow::chain;
pub use load_index::{IndexReport, PackListing};
pub use lock::{
    FoundLock, LockGuard, LockRequest, LockTiming, Staleness, all_locks, remove_locks, staleness,
};
pub use read::{BlobReader, Opener, open_blob, read_blob, read_places};
pub use repository::{Identity, KeyCost, Repository};
pub use snapshots::Snapshots;
