//! Databases are captured from under their load, and what comes back is asked for by their own servers.

mod beside;
mod broken;
mod capture;
#[path = "../common/mod.rs"]
mod common;
mod full;
mod large;
mod matrix;
mod misuse;
mod outages;
mod point;
mod refused;
mod scene;
mod timelines;
mod verify;
mod wal;
