//! Databases are captured from under their load, and what comes back is asked for by their own servers.

mod capture;
#[path = "../common/mod.rs"]
mod common;
mod fold;
mod logical;
mod logical_tools;
mod point;
mod refused;
mod remote;
mod resident;
mod stream;
mod verify;
mod wal;
mod window;
