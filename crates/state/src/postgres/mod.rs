//! PostgreSQL: the files of a cluster, with their names, positions, headers and rules, and the way to ask its server.
//! It must never take a file for whole or a page for right by its name alone.

mod backup_mode;
mod base_backup;
mod bytes;
mod checksum_report;
mod chunk_size;
pub mod client;
mod closing;
mod companion;
mod control;
mod data_source;
pub mod dump;
mod facts;
mod history;
mod inventory;
mod label;
mod lsn;
mod member;
mod open_segment;
mod page;
mod piece;
mod quote;
pub mod recovery;
mod relation;
mod relation_content;
mod replication;
mod rules;
mod sent_log;
mod stream_start;
mod ustar;
pub mod verify;
mod wal_header;
mod wal_name;

pub use backup_mode::{BackupMode, BackupModeError, Stopped};
pub use base_backup::{
    Arrival, BaseBackup, BaseBackupEnd, BaseBackupError, OLDEST_REMOTE_VERSION, SentSpace, keep_log,
};
pub use checksum_report::{ChecksumReport, PageFault};
pub use chunk_size::chunk_bytes_for;
pub use closing::{
    BASE_DIR, CONFIG_DIR, CONTROL_FILE, Closing, ClosingError, ControlFileError, LABEL_FILE,
    MEMBER_FILE, SPACES_FILE, WAL_DIR, WalFileError, config_name, read_control,
};
pub use companion::{Companion, Moment};
pub use control::{ClusterState, Control, ControlError, ServerLimits};
pub use data_source::{DataSource, Tablespace, tablespaces};
pub use facts::{Facts, FactsError, OLDEST_VERSION};
pub use history::{History, HistoryError, Switch};
pub use inventory::{Absence, Inventory, SegmentRange, Stretch, TimelineFiles, absence, way};
pub use label::{BackupLabel, LabelError};
pub use lsn::{Lsn, LsnError, Timeline};
pub use member::{
    CaptureKind, ConfigRecord, ENGINE, FAULTS_KEPT_MAX, MEMBER_MAX_BYTES, MEMBER_VERSION, Member,
    MemberError, PhysicalCapture, SpaceRecord,
};
pub use open_segment::{OpenSegment, OpenSegmentError, Parcel};
pub use page::{PAGE_BYTES, PageState, checksum, judge};
pub use piece::{NextPiece, PIECES_MAX, Piece, beginning, filled, next_piece};
pub use quote::{quoted_name, quoted_text};
pub use relation::{Fork, Relation, RelationFile};
pub use replication::{Identity, LogStream, Replication, SlotFacts, Streamed, identify};
pub use rules::{Fate, fate, has_checksums};
pub use sent_log::SentLog;
pub use stream_start::{StreamFacts, StreamStart, stream_starts};
pub use ustar::{BLOCK_BYTES, UstarError, UstarHeader, UstarKind};
pub use wal_header::{WalHeader, WalHeaderError};
pub use wal_name::{SegmentBytes, SegmentName, WalName, WalNameError};
