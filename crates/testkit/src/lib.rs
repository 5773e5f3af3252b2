//! What tests share: simulated disks, faulty backends, fixtures, comparisons and the oracles to ask.
//! It must never be part of what is shipped, and never skip a test because something is missing: it fails instead.

pub mod append_only;
pub mod compare;
pub mod conformance;
pub mod crash;
pub mod disk;
pub mod faults;
pub mod fixtures;
pub mod gather;
pub mod parsers;
pub mod random;
pub mod replay;
pub mod restic;
