//! Index files: written while a long run lasts, and once more when one of them failed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use lifeboat_flow::Cancel;
use lifeboat_format::{BlobKind, CompressionMode, Id};
use lifeboat_repo::backend::{FileKind, MemoryBackend};
use lifeboat_repo::{
    Identity, Index, Ingest, IngestOptions, KeyCost, PackListing, RepoError, Repository,
};
use lifeboat_testkit::faults::{Fault, FaultPlan, FaultyBackend, Verb};

/// More blobs than one index file takes.
const BLOBS: u32 = 80_000;

fn repository(plan: FaultPlan) -> (MemoryBackend, FaultyBackend<MemoryBackend>, Repository) {
    let memory = MemoryBackend::new();
    let who = Identity::default();
    Repository::init(
        Arc::new(memory.clone()),
        b"test",
        2,
        None,
        &who,
        KeyCost::Test,
    )
    .unwrap();
    let backend = FaultyBackend::new(memory.clone(), plan);
    let repository = Repository::open(Arc::new(backend.clone()), b"test", None).unwrap();
    (memory, backend, repository)
}

/// Stores small blobs, each different.
fn store(repository: &Repository) -> Result<(), RepoError> {
    let options = IngestOptions {
        compression: CompressionMode::Off,
        pack_size_bytes: 256 * 1024,
        ..IngestOptions::default()
    };
    let index = RwLock::new(Index::new());
    Ingest::run(repository, &index, None, options, |ingest| {
        let mut sealer = ingest.sealer()?;
        for number in 0..BLOBS {
            let plain = number.to_le_bytes();
            ingest.add(BlobKind::Data, Id::of(&plain), &plain, &mut sealer)?;
        }
        Ok::<(), RepoError>(())
    })
    .map(drop)
}

#[test]
fn an_index_file_is_written_before_the_run_ends() {
    let (memory, backend, repository) = repository(FaultPlan::none());
    store(&repository).unwrap();
    assert_eq!(backend.count(Verb::Save, Some(FileKind::Index)), 2);
    let log = backend.log();
    let saves = |kind| {
        let of_kind = log
            .iter()
            .filter(move |operation| operation.verb == Verb::Save && operation.kind == Some(kind));
        of_kind.map(|operation| operation.number)
    };
    let first_index = saves(FileKind::Index).next().unwrap();
    assert!(saves(FileKind::Pack).any(|pack| pack > first_index));
    let (index, _) = repository
        .load_index(PackListing::Compare, &Cancel::new())
        .unwrap();
    assert_eq!(index.len(BlobKind::Data), BLOBS as usize);
    assert!(memory.files().len() > 10);
}

#[test]
fn what_an_index_file_should_have_named_is_named_by_the_last_one() {
    for fault in [Fault::FailBefore, Fault::FailAfter] {
        let count = AtomicUsize::new(0);
        let first =
            FaultPlan::new(move |_| (count.fetch_add(1, Ordering::SeqCst) == 0).then_some(fault));
        let plan = first.only(|operation| {
            operation.verb == Verb::Save && operation.kind == Some(FileKind::Index)
        });
        let (memory, _, repository) = repository(plan);
        let error = store(&repository).unwrap_err();
        assert!(
            matches!(error, RepoError::Backend(_)),
            "the cause itself: {error:?}"
        );
        // The run failed, but no pack is left that no index file names.
        let repository = Repository::open(Arc::new(memory), b"test", None).unwrap();
        let (index, report) = repository
            .load_index(PackListing::Compare, &Cancel::new())
            .unwrap();
        let indexed: std::collections::HashSet<Id> = index.packs().map(|(id, _)| id).collect();
        assert!(report.listed_packs.len() > 5);
        assert!(report.listed_packs.keys().all(|id| indexed.contains(id)));
        assert!(report.missing_packs.is_empty());
    }
}
