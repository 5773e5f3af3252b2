//! What a writer leaves behind when it is stopped: stored packs are indexed in time, and never before they are stored.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use lifeboat_flow::Cancel;
use lifeboat_format::{BlobKind, Id};
use lifeboat_repo::backend::{FileKind, MemoryBackend};
use lifeboat_repo::{
    Identity, Index, Ingest, IngestOptions, KeyCost, PackListing, RepoError, Repository,
};
use lifeboat_testkit::faults::{FaultPlan, FaultyBackend};

const BLOBS: u32 = 40;
const BLOB_BYTES: usize = 100_000;

fn options(index_max_age: Duration) -> IngestOptions {
    IngestOptions {
        pack_size_bytes: 3 * BLOB_BYTES,
        uploaders: 1,
        index_max_age,
        ..IngestOptions::default()
    }
}

fn blob(number: u32) -> Vec<u8> {
    let mut state = u64::from(number) + 1;
    let step = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..BLOB_BYTES).map(step).collect()
}

fn repository(backend: &MemoryBackend) -> Repository {
    Repository::open(Arc::new(backend.clone()), b"x", None).unwrap()
}

fn made() -> MemoryBackend {
    let backend = MemoryBackend::new();
    let who = Identity::default();
    Repository::init(
        Arc::new(backend.clone()),
        b"x",
        2,
        None,
        &who,
        KeyCost::Test,
    )
    .unwrap();
    backend
}

fn write_all(repository: &Repository, options: IngestOptions) -> Result<(), RepoError> {
    let index = RwLock::new(
        repository
            .load_index(PackListing::Compare, &Cancel::new())?
            .0,
    );
    Ingest::run(repository, &index, None, options, |ingest| {
        let mut sealer = ingest.sealer()?;
        for number in 0..BLOBS {
            let data = blob(number);
            ingest.add(BlobKind::Data, Id::of(&data), &data, &mut sealer)?;
        }
        Ok::<(), RepoError>(())
    })?;
    Ok(())
}

fn indexed(repository: &Repository) -> Index {
    repository
        .load_index(PackListing::Compare, &Cancel::new())
        .unwrap()
        .0
}

#[test]
fn a_writer_that_dies_loses_nothing_that_was_due_for_the_index() {
    let backend = made();
    let faulty = FaultyBackend::new(backend.clone(), FaultPlan::none());
    let repository_of_dying = Repository::open(Arc::new(faulty.clone()), b"x", None).unwrap();
    let before = faulty.log().len() as u64;
    // With an age of nothing each pack is followed by an index file: operations come in pairs.
    faulty.follow(FaultPlan::at(
        before + 12,
        lifeboat_testkit::faults::Fault::CrashBefore,
    ));
    assert!(write_all(&repository_of_dying, options(Duration::ZERO)).is_err());
    let repository = repository(&backend);
    let packs = repository.packs().unwrap();
    let index = indexed(&repository);
    assert!(packs.len() >= 3, "{} packs were stored", packs.len());
    let known: Vec<Id> = index.packs().map(|(id, _)| id).collect();
    let lost = packs.keys().filter(|id| !known.contains(id)).count();
    assert!(
        lost <= 1,
        "{lost} of {} packs are in no index file",
        packs.len()
    );
    assert!(
        index.packs().all(|(_, present)| present),
        "an index file names a pack that is not there"
    );
}

#[test]
fn a_second_writer_stores_only_what_is_missing() {
    let backend = made();
    write_all(&repository(&backend), options(Duration::from_secs(60))).unwrap();
    let packs = repository(&backend).packs().unwrap();
    write_all(&repository(&backend), options(Duration::from_secs(60))).unwrap();
    assert_eq!(repository(&backend).packs().unwrap(), packs);
    // One index file for all of them: none was due before the end.
    assert_eq!(repository(&backend).ids(FileKind::Index).unwrap().len(), 1);
}

#[test]
fn blobs_that_are_added_twice_at_once_are_stored_once() {
    let backend = made();
    let repository = repository(&backend);
    let index = RwLock::new(Index::new());
    let data = blob(1);
    let id = Id::of(&data);
    let (_, stats) = Ingest::run(
        &repository,
        &index,
        None,
        options(Duration::from_secs(60)),
        |ingest| {
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let mut sealer = ingest.sealer().unwrap();
                        for _ in 0..20 {
                            ingest.add(BlobKind::Data, id, &data, &mut sealer).unwrap();
                        }
                    });
                }
            });
            Ok::<(), RepoError>(())
        },
    )
    .unwrap();
    assert_eq!((stats.data_blobs, stats.packs), (1, 1));
}
