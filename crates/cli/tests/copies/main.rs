//! Copying, rewriting, recovering and migrating do what restic 0.19 does with the same arguments, and restic finds them sound.

#[path = "../common/mod.rs"]
mod common;
mod copy;
mod history;
mod migrate;
mod recover;
mod rewrite;
