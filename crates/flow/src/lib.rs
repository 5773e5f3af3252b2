//! What flows between layers: entries of a member, the sources that read them and the targets that put them back.
//! It must never know a repository, an engine or a terminal; it only names what both sides agree on.

mod budget;
mod cancel;
mod entry;
mod event;
mod source;
mod target;

pub use budget::{Budget, BudgetShare};
pub use cancel::{Cancel, Cancelled};
pub use entry::{Entry, EntryKind, EntryPath, Xattr};
pub use event::{Counters, Event, EventSink, Problem, chain};
pub use lifeboat_format::Timestamp;
pub use lifeboat_format::chunker::ChunkRule;
pub use source::{Content, Listing, Source, SourceError};
pub use target::{Existing, Target, TargetError, TargetFile};
