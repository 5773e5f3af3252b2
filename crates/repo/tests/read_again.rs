//! What is garbled once on the way is fetched once more and not called damaged; what comes twice so is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lifeboat_format::Id;
use lifeboat_repo::backend::{CachedBackend, FileKind, FileName, MemoryBackend};
use lifeboat_repo::{Identity, KeyCost, RepoError, Repository};
use lifeboat_testkit::faults::{Fault, FaultPlan, FaultyBackend, Verb};
use lifeboat_testkit::heard::Unheard;

/// A repository with an index file and what may be a snapshot.
fn made() -> (MemoryBackend, [FileName; 2]) {
    let memory = MemoryBackend::new();
    let who = Identity::default();
    let backend = Arc::new(memory.clone());
    let made = Repository::init(backend, b"x", 2, None, &who, KeyCost::Test).unwrap();
    let names = [FileKind::Index, FileKind::Snapshot]
        .map(|kind| FileName::new(kind, made.save_json(kind, b"{\"packs\":[]}").unwrap()));
    (memory, names)
}

/// The first so many reads of whole files of a kind go wrong.
fn first(times: usize, kind: FileKind, fault: Fault) -> FaultPlan {
    let seen = AtomicUsize::new(0);
    FaultPlan::new(move |operation| {
        let fits = operation.verb == Verb::Load && operation.kind == Some(kind);
        (fits && seen.fetch_add(1, Ordering::SeqCst) < times).then_some(fault)
    })
}

fn open(backend: FaultyBackend<MemoryBackend>) -> Result<Repository, RepoError> {
    Repository::open(Arc::new(backend), b"x", None)
}

#[test]
fn what_opens_a_repository() {
    for kind in [FileKind::Config, FileKind::Key] {
        for fault in [Fault::FlipBit, Fault::Truncate] {
            let backend = |times| FaultyBackend::new(made().0, first(times, kind, fault));
            let once = open(backend(1));
            assert!(once.is_ok(), "{kind:?}, {fault:?}: {:?}", once.err());
            let twice = open(backend(2)).map(drop);
            assert!(matches!(twice, Err(RepoError::Damaged { .. })), "{twice:?}");
        }
    }
}

#[test]
fn what_is_named_by_its_hash() {
    let (memory, names) = made();
    for name in names {
        for fault in [Fault::FlipBit, Fault::Truncate] {
            let backend = |times| {
                let plan = first(times, name.kind, fault);
                FaultyBackend::new(memory.clone(), plan)
            };
            let once = backend(1);
            let json = open(once.clone()).unwrap().load_json(name).unwrap();
            assert_eq!(json, b"{\"packs\":[]}");
            assert_eq!(once.count(Verb::Load, Some(name.kind)), 2);
            let twice = backend(2);
            let damaged = open(twice.clone()).unwrap().load_raw(name);
            assert!(
                matches!(damaged, Err(RepoError::Damaged { .. })),
                "{damaged:?}"
            );
            assert_eq!(twice.count(Verb::Load, Some(name.kind)), 2);
        }
    }
}

#[test]
fn a_cache_does_not_give_the_same_wrong_bytes_again() {
    let (memory, names) = made();
    let dir = tempfile::tempdir().unwrap();
    let (id, base) = ("5a".repeat(32), dir.path().join("cache"));
    for name in names {
        let plan = first(1, name.kind, Fault::FlipBit);
        let faulty = FaultyBackend::new(memory.clone(), plan);
        let repository = open(faulty.clone())
            .unwrap()
            .with_backend(|inner, _| CachedBackend::wrap(inner, &base, &id, Arc::new(Unheard)));
        for _ in 0..3 {
            let raw = repository.load_raw(name).unwrap();
            assert_eq!(Id::of(&raw), name.id);
        }
        // The wrong one was not kept, the right one was.
        assert_eq!(faulty.count(Verb::Load, Some(name.kind)), 2);
        // Nor does a cache that went bad count as the file's damage.
        let hex = name.id.to_string();
        let file = base.join(&id).join(name.kind.folder()).join(&hex[..2]);
        std::fs::write(file.join(&hex), b"went bad").unwrap();
        assert!(repository.load_raw(name).is_ok());
        assert_eq!(faulty.count(Verb::Load, Some(name.kind)), 3);
    }
}
