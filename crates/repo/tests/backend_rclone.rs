//! The rclone backend keeps the contract with the real rclone, and outlives its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lifeboat_repo::backend::{Backend, open};
use lifeboat_testkit::conformance::{Traits, check_backend_with};
use lifeboat_testkit::faults::{Fault, FaultPlan, FaultyBackend};
use lifeboat_testkit::rclone::Rclone;
use lifeboat_testkit::replay::{Note, seed};
use lifeboat_testkit::retry::RetryingBackend;

/// With a fifth of all operations failing, one in 10^14 fails so often in a row.
const ATTEMPTS: u32 = 20;
const FAILING_PERCENT: u64 = 20;
/// rclone writes in place to a directory.
const OF_DIRECTORY: Traits = Traits {
    has_folders: true,
    replaces: true,
    appears_whole: false,
};

/// Backends with an rclone of their own each, at places that do not exist yet.
fn places<'a>(rclone: &'a Rclone, remote: &'a str) -> impl Fn() -> Arc<dyn Backend> + 'a {
    let count = AtomicU64::new(0);
    move || {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let location = format!("rclone:{remote}{number}").parse().unwrap();
        open(&location, &rclone.options()).unwrap()
    }
}

#[test]
fn a_directory_through_rclone() {
    let rclone = Rclone::new();
    let next = places(&rclone, "disk:a/");
    check_backend_with(OF_DIRECTORY, &|| Box::new(next()));
}

/// An object store, as most remotes are.
#[test]
fn memory_of_rclone() {
    let rclone = Rclone::new();
    let next = places(&rclone, ":memory:bucket/");
    check_backend_with(Traits::default(), &|| Box::new(next()));
}

#[test]
fn rclone_that_fails() {
    let seed = seed();
    let _seed = Note::seed(seed);
    let rclone = Rclone::new();
    let next = places(&rclone, "disk:a/");
    check_backend_with(OF_DIRECTORY, &|| {
        let faults = [Fault::FailBefore, Fault::FailAfter];
        let plan = FaultPlan::random(seed, FAILING_PERCENT, &faults);
        let faulty = FaultyBackend::new(next(), plan);
        Box::new(RetryingBackend::new(faulty, ATTEMPTS))
    });
}
