//! Databases are captured from under their load, and what comes back is asked for by their own servers.

mod capture;
#[path = "../common/mod.rs"]
mod common;
mod logical;
mod logical_tools;
mod refused;
mod verify;
mod wal;
