//! Databases are captured from under their load, and what comes back is asked for by their own servers.

mod capture;
#[path = "../common/mod.rs"]
mod common;
mod outages;
mod point;
mod refused;
mod scene;
mod timelines;
mod verify;
mod wal;
