//! A fleet as its users run it: planned, captured, copied and told, with real repositories that restic reads.

mod backup;
#[path = "../common/mod.rs"]
mod common;
mod file;
mod hooks;
mod stopped;
mod wrong;
mod yard;
