//! What this crate decides is what restic 0.19 decides: patterns, retention, grouping, selection, parents.

// The crate is pure and clippy holds it to that; asking another program is what these tests are for.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod forget;
mod parents;
mod patterns;
mod repository;
mod selection;
mod zone;
