//! PostgreSQL: the files of a cluster, with their names, positions, headers and rules, and the way to ask its server.
//! It must never take a file for whole or a page for right by its name alone.

mod bytes;
pub mod client;
mod control;
mod history;
mod label;
mod lsn;
mod page;
mod relation;
mod rules;
mod wal_header;
mod wal_name;

pub use control::{ClusterState, Control, ControlError};
pub use history::{History, HistoryError, Switch};
pub use label::{BackupLabel, LabelError};
pub use lsn::{Lsn, LsnError, Timeline};
pub use page::{PAGE_BYTES, PageState, checksum, judge};
pub use relation::{Fork, Relation, RelationFile};
pub use rules::{Fate, fate, has_checksums};
pub use wal_header::{WalHeader, WalHeaderError};
pub use wal_name::{SegmentBytes, SegmentName, WalName, WalNameError};
