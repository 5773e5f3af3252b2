//! The restic repository format, version 2 (and reading version 1), as pure functions between bytes and values.
//! It must never touch a clock, a file, the network or a source of randomness: callers pass all of these in.
//!
//! The authority is restic's `doc/design.rst`; where restic's behaviour is more precise than that text, the
//! behaviour counts, because a repository is shared with restic itself.

mod blob;
pub mod chunker;
pub mod civil;
mod config;
mod crypto;
mod error;
mod go_json;
mod go_print;
mod go_quote;
mod id;
mod index;
mod key;
mod lock;
mod node;
mod pack;
mod polynomial;
mod snapshot;
mod timestamp;
mod tree;
mod unpacked;

pub use blob::{BlobKind, BlobRef};
pub use config::Config;
pub use crypto::{MasterKey, NONCE_BYTES, Nonce, OVERHEAD_BYTES, SealError, TAG_BYTES};
pub use error::FormatError;
pub use go_quote::{quote, unquote};
pub use id::{GrowingId, Id, IdParseError};
pub use index::{IndexBlob, IndexFile, IndexPack, MarkedPack};
pub use key::{KeyFile, KeyMaking, KeyParams, SALT_BYTES};
pub use lifeboat_kernels::Kernel;
pub use lock::{Lock, LockOrigin};
pub use node::{GenericAttribute, Mode, Node, NodeKind, NodeXattr};
pub use pack::{HEADER_MAX_BYTES, PackEntry, decode_header, encode_header, header_bytes};
pub use polynomial::Polynomial;
pub use snapshot::{Snapshot, SnapshotSummary};
pub use timestamp::{Timestamp, TimestampError};
pub use tree::{Tree, TreeError};
pub use unpacked::{compress_unpacked, decode_unpacked};
pub use zstd_level::{CompressionMode, Compressor, Decompressor, ZstdError};

mod zstd_level;
