//! SQLite databases that lie in a volume: found by their first bytes, and read so that what is kept is consistent.
//! It must never write beside a database that is read, nor pass off a copy as consistent that nobody vouches for.

mod check;
mod chunk_length;
mod content;
mod copy;
mod files_copy;
mod head;
mod reader;
mod scratch;
mod sides;
mod source;
mod turn;

pub use check::{CheckError, check};
pub use sides::side_names;
pub use source::SqliteSource;
