//! Every backend keeps the same contract, also when the system below fails now and then.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lifeboat_flow::Cancel;
use lifeboat_repo::backend::{
    Backend, CachedBackend, LimitedBackend, LocalBackend, MemoryBackend, RateLimits,
};
use lifeboat_testkit::conformance::check_backend;
use lifeboat_testkit::disk::SimulatedDisk;
use lifeboat_testkit::faults::{Fault, FaultPlan, FaultyBackend};
use lifeboat_testkit::heard::Unheard;
use lifeboat_testkit::replay::{Note, seed};
use lifeboat_testkit::retrying::retrying;

const FAILING_PERCENT: u64 = 20;

#[test]
fn memory() {
    check_backend(&|| Box::new(MemoryBackend::new()));
}

#[test]
fn local() {
    let places = Places::new();
    check_backend(&|| Box::new(LocalBackend::new(places.next())));
}

#[test]
fn local_on_a_simulated_disk() {
    check_backend(&|| Box::new(LocalBackend::on(SimulatedDisk::new(), "/srv/restic")));
}

#[test]
fn shared() {
    check_backend(&|| Box::new(Arc::new(MemoryBackend::new()) as Arc<dyn Backend>));
}

#[test]
fn memory_that_fails() {
    check_backend(&|| failing(MemoryBackend::new()));
}

#[test]
fn local_that_fails() {
    let places = Places::new();
    check_backend(&|| failing(LocalBackend::new(places.next())));
}

#[test]
fn a_recording_changes_nothing() {
    check_backend(&|| Box::new(FaultyBackend::recording(MemoryBackend::new())));
}

/// What real places do, and what the contract leaves to the one backend that lies around all of them.
#[test]
fn a_place_that_names_files_twice() {
    check_backend(&|| {
        let plan = FaultPlan::from(0, Fault::ListTwice);
        Box::new(retrying(FaultyBackend::new(MemoryBackend::new(), plan)))
    });
}

#[test]
fn limited() {
    // So fast that it makes no difference.
    let rate = Some(1 << 40);
    let limits = RateLimits {
        upload_bytes_per_second: rate,
        download_bytes_per_second: rate,
    };
    check_backend(&|| {
        let memory = Arc::new(MemoryBackend::new());
        Box::new(LimitedBackend::new(memory, limits, Cancel::new()))
    });
}

#[test]
fn cached() {
    let places = Places::new();
    check_backend(&|| {
        let memory = Arc::new(MemoryBackend::new());
        let id = "5a".repeat(32);
        Box::new(CachedBackend::wrap(
            memory,
            &places.next(),
            &id,
            Arc::new(Unheard),
        ))
    });
}

fn failing(backend: impl Backend + 'static) -> Box<dyn Backend> {
    let seed = seed();
    let _seed = Note::seed(seed);
    let plan = FaultPlan::random(
        seed,
        FAILING_PERCENT,
        &[Fault::FailBefore, Fault::FailAfter],
    );
    Box::new(retrying(FaultyBackend::new(backend, plan)))
}

/// Directories that do not exist, in one that is removed at the end.
struct Places {
    root: tempfile::TempDir,
    count: AtomicU64,
}

impl Places {
    fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
            count: AtomicU64::new(0),
        }
    }

    fn next(&self) -> PathBuf {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        self.root.path().join(format!("parent/{number}"))
    }
}
