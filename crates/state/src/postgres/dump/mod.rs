//! Logical captures: databases as `pg_dump` tells them, roles beside them, and the way back by `pg_restore`.
//! It must never keep a dump on this machine: it flows from one program to another.

mod conninfo;
mod database;
mod fill;
mod globals;
mod programs;
mod record;
mod remake;
mod server;
mod snapshot;
mod source;
mod words;

pub use super::quote::quoted_name as name;
pub use database::{DatabaseRecord, DatabasesError, PrivilegeRecord, SettingRecord, databases};
pub use fill::{Fed, FillError, Filling, fill, list_without_view_rows};
pub use globals::{Globals, RoleStatement};
pub use programs::{ClientPrograms, ClientProgramsError, Needed};
pub use record::{DumpRecord, Flag, LogicalCapture, LogicalMember, Record, flags};
pub use server::{ServerFacts, TargetDatabase, TargetFacts};
pub use source::{DUMPS_DIR, DumpSource, Dumped, GLOBALS_FILE, file_name};
