//! Databases are captured from under their load, and what comes back is asked for by their own servers.

mod beside;
mod broken;
mod capture;
#[path = "../common/mod.rs"]
mod common;
mod fold;
mod full;
mod large;
mod logical;
mod logical_tools;
mod matrix;
mod misuse;
mod outages;
mod point;
mod refused;
mod remote;
mod resident;
mod scene;
mod stores;
mod stream;
mod timelines;
mod verify;
mod wal;
mod window;
