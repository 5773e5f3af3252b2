//! The commands that only read, on repositories that restic wrote: their JSON is restic's, their archives hold everything.

#[allow(unused_imports, reason = "each test uses a part")]
#[path = "../common/mod.rs"]
mod common;
mod dump;
mod errors;
mod fixture;
mod json;
