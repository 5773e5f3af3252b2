//! Small repositories to prune, and what must be true of them afterwards.
//! It must never look at the real clock: hours are counted from a fixed day.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::{BlobKind, Id, Snapshot, Timestamp};
use lifeboat_repo::backend::{Backend, FileKind, FileName, MemoryBackend};
use lifeboat_repo::prune::{Look, MaxUnused, Prune, PruneOptions, Removed};
use lifeboat_repo::{
    BlobReader, CheckOptions, FindingKind, Identity, Index, Ingest, IngestOptions, KeyCost,
    LockGuard, LockRequest, LockTiming, PackListing, RepoError, Repository,
};
use lifeboat_testkit::bare;
pub use lifeboat_testkit::heard::Unheard;
use lifeboat_testkit::random::Random;

const HOUR: i64 = 3600;
const PACK_BYTES: usize = 60_000;

pub fn at(hours: i64) -> Timestamp {
    Timestamp::utc(1_800_000_000 + hours * HOUR, 0)
}

pub fn init(backend: impl Backend + 'static) -> Arc<Repository> {
    let who = Identity::default();
    let made = Repository::init(Arc::new(backend), b"x", 2, None, &who, KeyCost::Test);
    Arc::new(made.unwrap())
}

/// Every second one makes an image of its index, as of a large one.
pub fn open(backend: impl Backend + 'static) -> Result<Arc<Repository>, RepoError> {
    static OPENED: AtomicUsize = AtomicUsize::new(0);
    let repository = Repository::open(Arc::new(backend), b"x", None)?;
    let is_second = OPENED.fetch_add(1, Ordering::Relaxed) % 2 == 1;
    let min_bytes = if is_second { 0 } else { u64::MAX };
    Ok(Arc::new(repository.with_index_image_from(min_bytes)))
}

pub fn lock(repository: &Arc<Repository>, exclusive: bool) -> Result<LockGuard, RepoError> {
    let timing = LockTiming {
        settle: Duration::from_millis(1),
        ..LockTiming::default()
    };
    let request = LockRequest {
        exclusive,
        retry_for: Duration::ZERO,
        timing,
        early: false,
        reads: false,
    };
    let who = Identity::of_this_process();
    LockGuard::take(repository, &who, request, &Unheard, &Cancel::new())
}

pub fn ingest_options() -> IngestOptions {
    IngestOptions {
        pack_size_bytes: PACK_BYTES,
        uploaders: 1,
        ..IngestOptions::default()
    }
}

pub fn options() -> PruneOptions {
    PruneOptions {
        max_unused: MaxUnused::Bytes(0),
        small_pack_bytes: Some(1),
        ingest: ingest_options(),
        ..PruneOptions::default()
    }
}

pub fn content(number: u64) -> Vec<u8> {
    Random::new(number).bytes(5_000 + usize::try_from(number % 7).unwrap() * 2_000)
}

pub fn index(repository: &Repository, listing: PackListing) -> Result<Index, RepoError> {
    let (index, report) = repository.load_index(listing, &Cancel::new())?;
    match report.damaged.into_iter().next() {
        Some((_, error)) => Err(error),
        None => Ok(index),
    }
}

/// A backup of some blobs by a writer that knows this index.
pub fn write(
    repository: &Repository,
    index: Index,
    blobs: &BTreeSet<u64>,
) -> Result<Id, RepoError> {
    let ids: Vec<Id> = blobs
        .iter()
        .map(|number| Id::of(&content(*number)))
        .collect();
    let list: Vec<String> = ids.iter().map(|id| format!("\"{id}\"")).collect();
    let size: usize = blobs.iter().map(|number| content(*number).len()).sum();
    let time = "2026-01-01T00:00:00Z";
    let tree = format!(
        "{{\"nodes\":[{{\"name\":\"file\",\"type\":\"file\",\"mode\":420,\"mtime\":\"{time}\",\"atime\":\"{time}\",\"ctime\":\"{time}\",\"uid\":0,\"gid\":0,\"size\":{size},\"content\":[{}]}}]}}\n",
        list.join(",")
    );
    let index = RwLock::new(index);
    Ingest::run(repository, &index, None, ingest_options(), |ingest| {
        let mut sealer = ingest.sealer()?;
        for number in blobs {
            let plain = content(*number);
            ingest.add(BlobKind::Data, Id::of(&plain), &plain, &mut sealer)?;
        }
        let json = tree.as_bytes();
        ingest.add(BlobKind::Tree, Id::of(json), json, &mut sealer)?;
        Ok::<(), RepoError>(())
    })?;
    let snapshot = Snapshot {
        time: at(-1),
        ..bare::snapshot(Id::of(tree.as_bytes()))
    };
    repository.save_snapshot(&snapshot)
}

pub fn back_up(repository: &Repository, blobs: &BTreeSet<u64>) -> Id {
    let known = index(repository, PackListing::Compare).unwrap();
    write(repository, known, blobs).unwrap()
}

/// The whole of a prune, as the command line runs it.
pub fn prune(
    repository: &Arc<Repository>,
    options: PruneOptions,
    now: Timestamp,
) -> Result<(Look, Removed), RepoError> {
    prune_by(repository, options, [now, now])
}

/// As [`prune`], by a clock that may be set while it runs.
pub fn prune_by(
    repository: &Arc<Repository>,
    options: PruneOptions,
    [first_now, last_now]: [Timestamp; 2],
) -> Result<(Look, Removed), RepoError> {
    let (counters, cancel) = (Counters::default(), Cancel::new());
    let prune = Prune {
        repository,
        options,
        forgotten: BTreeSet::new(),
        counters: &counters,
        events: &Unheard,
        cancel: &cancel,
    };
    let shared = lock(repository, false)?;
    let first = prune.look(first_now)?;
    if !first.plan.is_empty() {
        prune.prove_removal(&first, &shared)?;
    }
    let repacked = prune.repack(&first, &shared)?;
    drop(shared);
    let alone = lock(repository, true)?;
    let last = prune.look_again(&first, repacked, last_now)?;
    let removed = prune.remove(&last, &alone)?;
    Ok((last, removed))
}

pub fn blobs(numbers: impl IntoIterator<Item = u64>) -> BTreeSet<u64> {
    numbers.into_iter().collect()
}

/// Reads everything that snapshots need, as the next process does.
pub fn assert_readable(repository: &Repository) {
    let snapshots = repository.snapshots().unwrap();
    assert!(snapshots.damaged.is_empty());
    let index = index(repository, PackListing::Skip).unwrap();
    let reader = BlobReader::new(repository, &index);
    let mut out = Vec::new();
    for (_, snapshot) in &snapshots.all {
        for node in &reader.tree(snapshot.tree).unwrap().nodes {
            for blob in node.content.iter().flatten() {
                reader.read(BlobKind::Data, *blob, &mut out).unwrap();
            }
        }
    }
}

pub fn findings(repository: &Repository) -> Vec<FindingKind> {
    let options = CheckOptions {
        read_packs: Some(repository.packs().unwrap().into_keys().collect()),
        threads: 2,
        ..Default::default()
    };
    let checked = repository.check(&options, &Counters::default(), &Cancel::new());
    let findings = checked.unwrap().findings.into_iter();
    let serious = findings.filter(|finding| finding.serious);
    serious.map(|finding| finding.kind).collect()
}

pub fn assert_sound(repository: &Repository) {
    assert_readable(repository);
    assert_eq!(findings(repository), []);
}

/// The blobs of the index and how many packs there are, indexed and in all.
pub fn state(repository: &Repository) -> (BTreeSet<(BlobKind, Id)>, usize, bool) {
    let index = index(repository, PackListing::Compare).unwrap();
    let (mut all, mut places) = (BTreeSet::new(), 0);
    index.each(|kind, id, _| {
        all.insert((kind, id));
        places += 1;
    });
    let packs: BTreeSet<Id> = index.packs().map(|(id, _)| id).collect();
    let listed: BTreeSet<Id> = repository.packs().unwrap().into_keys().collect();
    (all, places, packs == listed)
}

/// Prunes until nothing waits any more, and looks at the end: what is needed, once, and nothing else.
pub fn assert_end(repository: &Arc<Repository>, needed: &BTreeSet<u64>, from_hour: i64) {
    for round in 0..4 {
        prune(repository, options(), at(from_hour + round * 30)).unwrap();
        assert_sound(repository);
    }
    let (all, places, is_tidy) = state(repository);
    let data: BTreeSet<Id> = all
        .iter()
        .filter(|(kind, _)| *kind == BlobKind::Data)
        .map(|(_, id)| *id)
        .collect();
    let expected: BTreeSet<Id> = needed
        .iter()
        .map(|number| Id::of(&content(*number)))
        .collect();
    assert_eq!(data, expected);
    assert_eq!(places, all.len(), "copies are left");
    assert!(is_tidy, "packs are left");
}

/// A repository in which prune has everything to do: packs to repack, to mark, to delete and to index again, and one
/// that no index file names.
pub fn eventful() -> (MemoryBackend, BTreeSet<u64>) {
    let backend = MemoryBackend::new();
    let repository = init(backend.clone());
    let needed = blobs((0..40).filter(|number| number % 3 != 0));
    let first = back_up(&repository, &blobs(0..40));
    let old = back_up(&repository, &blobs(100..120));
    let reused = back_up(&repository, &blobs(200..210));
    let known = index(&repository, PackListing::Compare).unwrap();
    for id in [old, reused] {
        repository.remove_snapshot(id).unwrap();
    }
    prune(&repository, options(), at(0)).unwrap();
    // One that takes no locks relied on what is marked now.
    write(&repository, known, &blobs(200..205)).unwrap();
    back_up(&repository, &needed);
    repository.remove_snapshot(first).unwrap();
    // A writer that was killed before it wrote its index.
    let before = repository.ids(FileKind::Index).unwrap();
    let killed = back_up(&repository, &blobs(300..302));
    repository.remove_snapshot(killed).unwrap();
    for id in repository.ids(FileKind::Index).unwrap() {
        if !before.contains(&id) {
            backend.remove(FileName::new(FileKind::Index, id)).unwrap();
        }
    }
    (backend, &needed | &blobs(200..205))
}
