//! Index files: written while a long run lasts, once more when one of them failed, and repaired when one names a pack twice.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::{BlobKind, CompressionMode, Id, IndexFile, IndexPack};
use lifeboat_repo::backend::{Backend, FileKind, FileName, MemoryBackend};
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

/// The packs that the index files name, in order.
fn named(repository: &Repository) -> Vec<IndexPack> {
    let files = repository.ids(FileKind::Index).unwrap();
    let packs = files
        .iter()
        .flat_map(|file| repository.load_index_file(*file).unwrap().packs);
    let mut packs: Vec<IndexPack> = packs.collect();
    packs.sort_by_key(|pack| pack.id);
    packs
}

fn json(packs: Vec<IndexPack>) -> Vec<u8> {
    let file = IndexFile {
        packs,
        ..IndexFile::default()
    };
    file.to_json()
}

#[test]
fn a_pack_that_one_file_names_twice_stays_indexed_once() {
    let (memory, _, repository) = repository(FaultPlan::none());
    let options = IngestOptions::default();
    let index = RwLock::new(Index::new());
    Ingest::run(&repository, &index, None, options, |ingest| {
        let mut sealer = ingest.sealer()?;
        for plain in [&b"one"[..], b"two"] {
            ingest.add(BlobKind::Data, Id::of(plain), plain, &mut sealer)?;
        }
        Ok::<(), RepoError>(())
    })
    .unwrap();
    let right = named(&repository).remove(0);
    let mut wrong = right.clone();
    wrong.blobs.swap(0, 1);
    let offset = wrong.blobs[0].offset_bytes;
    wrong.blobs[0].offset_bytes = wrong.blobs[1].offset_bytes;
    wrong.blobs[1].offset_bytes = offset;
    for packs in [
        vec![right.clone(), right.clone()],
        vec![wrong.clone(), right.clone()],
        vec![right.clone(), wrong.clone()],
        vec![right.clone(), wrong, right.clone()],
    ] {
        for file in repository.ids(FileKind::Index).unwrap() {
            memory.remove(FileName::new(FileKind::Index, file)).unwrap();
        }
        repository.save_json(FileKind::Index, &json(packs)).unwrap();
        let cancel = Cancel::new();
        let plan = || repository.plan_index_repair(false, &Counters::default(), &cancel);
        let first = plan().unwrap();
        assert!(!first.is_empty());
        repository.repair_index(&first, None, &cancel).unwrap();
        assert_eq!(json(named(&repository)), json(vec![right.clone()]));
        assert!(plan().unwrap().is_empty());
    }
}
