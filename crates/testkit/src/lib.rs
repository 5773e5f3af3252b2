//! What tests share: simulated disks, faulty backends, fixtures, comparisons and the oracles to ask.
//! It must never be part of what is shipped, and never skip a test because something is missing: it fails instead.

pub mod append_only;
pub mod authority;
pub mod bare;
pub mod compare;
pub mod conformance;
pub mod crash;
pub mod disk;
pub mod faults;
pub mod fixtures;
pub mod garage;
pub mod gather;
pub mod heard;
pub mod leash;
pub mod parsers;
pub mod postgres;
pub mod program;
pub mod proxy;
pub mod random;
pub mod rclone;
pub mod replay;
pub mod rest_server;
pub mod restic;
pub mod retrying;
pub mod s3;
pub mod sshd;
pub mod tls;
pub mod wait;
