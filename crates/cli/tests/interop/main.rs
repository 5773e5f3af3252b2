//! Our program, restic 0.19 and 0.14 and rustic on the same repositories: each reads, checks, continues and locks what another wrote.

mod chain;
mod changed_files;
#[path = "../common/mod.rs"]
mod common;
mod forget;
mod kernels;
mod keys;
mod listing;
mod locks;
mod mounted;
mod options;
mod ours_to_theirs;
mod pair;
mod prune;
mod repair;
mod streams;
mod theirs_to_ours;
mod unreadable;
