//! Waiting for a backend is shared: as many requests are under way as it is worth. One that is gone ends the work, one
//! file that never comes does not.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{Seen, back_up, init, open, restore};
use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::Id;
use lifeboat_protect::ProtectError;
use lifeboat_repo::backend::{Backend, FileKind, MemoryBackend, RetryPolicy, RetryingBackend};
use lifeboat_repo::{CheckOptions, IngestOptions, PackListing, RepoError};
use lifeboat_testkit::faults::{Fault, FaultPlan, FaultyBackend, Verb};
use lifeboat_testkit::gather::{GatheringBackend, Lane};
use lifeboat_testkit::random::Random;

const CONNECTIONS: usize = 6;

/// A repository with several snapshots, each with trees and packs of its own; gives the last one and what it saved.
fn repository(dir: &Path) -> (MemoryBackend, Id) {
    let memory = MemoryBackend::new();
    let repository = init(memory.clone());
    let mut random = Random::new(5);
    let mut last = None;
    for number in 0..CONNECTIONS + 2 {
        std::fs::write(dir.join(format!("file {number}")), random.bytes(300_000)).unwrap();
        let outcome = back_up(&repository, dir, &Seen::default()).unwrap();
        last = outcome.snapshot;
    }
    (memory, last.unwrap())
}

fn gathering(memory: &MemoryBackend, lane: Lane) -> GatheringBackend<MemoryBackend> {
    GatheringBackend::new(memory.clone(), CONNECTIONS, lane, CONNECTIONS)
}

fn check_of(backend: impl Backend + 'static) -> Result<lifeboat_repo::CheckReport, RepoError> {
    let repository = open(backend)?;
    let options = CheckOptions {
        read_packs: Some(repository.packs()?.into_keys().collect()),
        threads: 1,
        ..Default::default()
    };
    repository.check(&options, &Counters::default(), &Cancel::new())
}

#[test]
fn readers_have_as_many_requests_under_way_as_the_backend_is_worth() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (memory, snapshot) = repository(dir.path());
    let index = gathering(&memory, Lane::Load(FileKind::Index));
    let loaded = open(index.clone())
        .unwrap()
        .load_index(PackListing::Skip, &Cancel::new())
        .unwrap();
    assert!(loaded.1.damaged.is_empty());
    assert_eq!(index.most(), CONNECTIONS);

    let snapshots = gathering(&memory, Lane::Load(FileKind::Snapshot));
    open(snapshots.clone()).unwrap().snapshots().unwrap();
    assert_eq!(snapshots.most(), CONNECTIONS);

    for lane in [Lane::LoadTreeAt, Lane::LoadAt] {
        let packs = gathering(&memory, lane);
        assert_eq!(check_of(packs.clone()).unwrap().findings, []);
        assert_eq!(packs.most(), CONNECTIONS, "{lane:?}");
    }

    let fetched = gathering(&memory, Lane::LoadAt);
    let repository = open(fetched.clone()).unwrap();
    let seen = Seen::default();
    let target = to.path().join("restored");
    restore(
        &repository,
        snapshot,
        dir.path(),
        &target,
        |options| options.workers = 1,
        &seen,
    )
    .unwrap();
    assert_eq!(seen.problems(), Vec::<String>::new());
    assert_eq!(fetched.most(), CONNECTIONS);
}

#[test]
fn packs_are_sent_by_as_many_uploaders_as_memory_allows() {
    let uploaders = |connections, pack_size_bytes| {
        let backend = GatheringBackend::new(MemoryBackend::new(), connections, Lane::LoadAt, 1);
        let options = IngestOptions {
            pack_size_bytes,
            ..IngestOptions::default()
        };
        options.uploaders_for(&backend).uploaders
    };
    const MEBIBYTE: usize = 1 << 20;
    // A local disk has as many as ever.
    assert_eq!(
        uploaders(MemoryBackend::new().connections(), 16 * MEBIBYTE),
        2
    );
    assert_eq!(uploaders(4, 16 * MEBIBYTE), 4);
    assert_eq!(uploaders(50, 16 * MEBIBYTE), 5);
    assert_eq!(uploaders(50, 4 * MEBIBYTE), 19);
    assert_eq!(uploaders(5, 128 * MEBIBYTE), 2);
    assert_eq!(uploaders(1, 16 * MEBIBYTE), 2);
}

/// A way to the repository that soon gives up.
fn hasty(faulty: &FaultyBackend<MemoryBackend>) -> RetryingBackend {
    let policy = RetryPolicy {
        wait_first: Duration::from_millis(1),
        wait_max: Duration::from_millis(1),
        total: Duration::from_millis(20),
        ..RetryPolicy::default()
    };
    RetryingBackend::new(
        Arc::new(faulty.clone()),
        policy,
        Arc::new(Seen::default()),
        Cancel::new(),
    )
}

#[test]
fn a_backend_that_is_gone_ends_the_work_and_damages_nothing() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (memory, snapshot) = repository(dir.path());
    // From the n-th read on nothing works any more: of trees first, then of data.
    for reads in [0, 3] {
        let faulty = FaultyBackend::recording(memory.clone());
        let gone = |faulty: &FaultyBackend<MemoryBackend>| {
            let handle = faulty.clone();
            faulty.follow(FaultPlan::new(move |operation| {
                let is_gone = handle.count(Verb::LoadAt, None) > reads
                    && (operation.verb == Verb::LoadAt || operation.verb == Verb::Size);
                is_gone.then_some(Fault::FailBefore)
            }));
        };
        gone(&faulty);
        let error = check_of(hasty(&faulty)).unwrap_err();
        assert!(error.ends_all(), "{error:?}");

        let faulty = FaultyBackend::recording(memory.clone());
        let repository = open(hasty(&faulty)).unwrap();
        gone(&faulty);
        let seen = Seen::default();
        let target = to.path().join(format!("{reads}"));
        let error = restore(&repository, snapshot, dir.path(), &target, |_| {}, &seen).unwrap_err();
        assert!(
            matches!(&error, ProtectError::Repo(error) if error.ends_all()),
            "{error:?}"
        );
        assert_eq!(seen.problems(), Vec::<String>::new());
    }
}

#[test]
fn one_pack_that_never_comes_is_one_finding_and_the_rest_is_restored() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (memory, snapshot) = repository(dir.path());
    let repository = open(memory.clone()).unwrap();
    let (index, _) = repository
        .load_index(PackListing::Skip, &Cancel::new())
        .unwrap();
    let mut packs: Vec<Id> = Vec::new();
    index.each(|kind, _, place| {
        if kind == lifeboat_format::BlobKind::Data {
            packs.push(place.pack);
        }
    });
    let bad = packs[0];
    let faulty = FaultyBackend::new(
        memory,
        FaultPlan::new(|operation| (operation.verb == Verb::LoadAt).then_some(Fault::FailBefore))
            .only(move |operation| operation.name.is_some_and(|name| name.id == bad)),
    );
    let report = check_of(hasty(&faulty)).unwrap();
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
    assert!(report.findings[0].what.contains(&bad.to_string()));

    let seen = Seen::default();
    let target = to.path().join("restored");
    let repository = open(hasty(&faulty)).unwrap();
    restore(&repository, snapshot, dir.path(), &target, |_| {}, &seen).unwrap();
    let problems = seen.problems();
    assert!(
        !problems.is_empty() && problems.len() < CONNECTIONS,
        "{problems:?}"
    );
    assert!(problems[0].contains("gave up after"), "{problems:?}");
    let restored = std::fs::read_dir(&target).unwrap().count();
    assert_eq!(restored, CONNECTIONS + 2 - problems.len());
}
