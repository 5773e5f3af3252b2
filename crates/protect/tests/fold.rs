//! A fold that is stopped anywhere: every segment still comes out of the archive, and the next fold goes on.

mod common;

use std::sync::{Arc, RwLock};

use common::{check_all, init, lock, open};
use lifeboat_flow::Cancel;
use lifeboat_format::Id;
use lifeboat_plan::LogBound;
use lifeboat_protect::postgres::{Archive, ArchiveError, Fetched, Fold, FoldError, Folded};
use lifeboat_repo::backend::{Backend, FileKind, FileName, LogName, MemoryBackend};
use lifeboat_repo::{Appended, IngestOptions, PackListing, Repository, now, remove_locks};
use lifeboat_state::postgres::{Lsn, SegmentBytes, SegmentName, Timeline, WalName};
use lifeboat_testkit::bare;
use lifeboat_testkit::crash::CrashPoints;
use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::{self, Note};

const SYSTEM: u64 = 7_575_103_929_310_374_466;
const SEGMENT_BYTES: usize = 1 << 20;
/// Points of a matrix that a normal run tries.
const SAMPLE: usize = 24;

fn size() -> SegmentBytes {
    SegmentBytes::new(SEGMENT_BYTES as u64).unwrap()
}

fn segment(timeline: u32, number: u64) -> (WalName, Vec<u8>) {
    let start = number * SEGMENT_BYTES as u64;
    let name = SegmentName::holding(Timeline(timeline), Lsn(start), size());
    let mut content = Random::new(number).bytes(SEGMENT_BYTES);
    content[..2].copy_from_slice(&0xD110_u16.to_le_bytes());
    content[2..4].copy_from_slice(&2_u16.to_le_bytes());
    content[4..8].copy_from_slice(&timeline.to_le_bytes());
    content[8..16].copy_from_slice(&start.to_le_bytes());
    content[24..32].copy_from_slice(&SYSTEM.to_le_bytes());
    content[32..36].copy_from_slice(&u32::try_from(SEGMENT_BYTES).unwrap().to_le_bytes());
    (WalName::Segment(name), content)
}

fn history() -> (WalName, Vec<u8>) {
    let text = "1\t0/500100\tno recovery target specified\n";
    (WalName::History(Timeline(2)), text.into())
}

/// All files that are ever archived: five segments, and two more on another timeline.
fn files() -> Vec<(WalName, Vec<u8>)> {
    let first = (1..=5).map(|number| segment(1, number));
    let second = (5..=7).map(|number| segment(2, number));
    first.chain([history()]).chain(second).collect()
}

fn fold(
    repository: &Arc<Repository>,
    unfolded: usize,
    bound: Option<LogBound>,
) -> Result<Folded, FoldError> {
    let cancel = Cancel::new();
    let lock = lock(repository, true)?;
    let snapshots = repository.snapshots()?.all;
    let (index, _) = repository.load_index(PackListing::Compare, &cancel)?;
    let fold = Fold {
        repository,
        index: &RwLock::new(index),
        lock: Some(&lock),
        snapshots: &snapshots,
        system_id: SYSTEM,
        bound,
        unfolded,
        ingest: IngestOptions::default(),
        cancel: &cancel,
    };
    fold.run(bare::snapshot(Id::default()), now, false)
}

/// Every file comes back, none is missing between others, and behind the last is the end.
fn assert_whole(repository: &Repository) {
    let archive = Archive::new(repository, SYSTEM);
    for (name, content) in files() {
        let fetched = archive.fetch(name, Timeline(1), size()).unwrap();
        assert!(fetched == Fetched::Content(content), "{name}");
    }
    let (beyond, _) = segment(2, 8);
    let fetched = archive.fetch(beyond, Timeline(2), size()).unwrap();
    assert_eq!(fetched, Fetched::Beyond);
    let holdings = archive.inventory(None).unwrap().unwrap();
    for (timeline, _) in holdings.inventory.timelines() {
        assert!(holdings.inventory.gaps(timeline, None, None).is_empty());
    }
    assert_eq!(holdings.inventory.count(Timeline(1)), 5);
    assert_eq!(holdings.inventory.count(Timeline(2)), 3);
    assert_eq!(Archive::clusters(repository).unwrap(), [SYSTEM]);
}

/// Folds of a repository.
fn count(repository: &Repository) -> usize {
    repository.snapshots().unwrap().all.len()
}

#[test]
fn a_fold_is_stopped_anywhere() {
    let seed = replay::seed();
    let _seed = Note::seed(seed);
    // A first fold is there, and a second one begins.
    let begun = MemoryBackend::new();
    let repository = init(begun.clone());
    let archive = Archive::new(&repository, SYSTEM);
    for (number, (name, content)) in files().into_iter().enumerate() {
        if number == 4 {
            fold(&repository, 1, None).unwrap();
        }
        archive.push(name, &content).unwrap();
    }
    assert_whole(&repository);
    assert_eq!(count(&repository), 1);
    let points = CrashPoints::sampled(seed, SAMPLE).run(
        || begun.fork(),
        |backend| {
            let repository = open(backend).ok()?;
            fold(&repository, 1, None).ok()?.snapshot
        },
        |left, point, done| {
            assert!(point.is_some() || done.is_some());
            let repository = open(left.fork()).unwrap();
            assert_whole(&repository);
            remove_locks(&repository, true).unwrap();
            assert!(!check_all(&repository).is_serious());
            let snapshots = count(&repository);
            assert!((1..=2).contains(&snapshots), "{snapshots}");
            assert!(done.is_none_or(|_| snapshots == 1));
            fold(&repository, 1, None).unwrap();
            assert_whole(&repository);
            assert_eq!(count(&repository), 1);
            let again = fold(&repository, 1, None).unwrap();
            assert_eq!((again.snapshot, again.taken_out), (None, 0));
            assert!(!check_all(&repository).is_serious());
        },
    );
    assert!(points > 20, "{points}");
}

#[test]
fn what_no_capture_needs_is_left_out_and_what_is_lost_is_no_end() {
    let backend = MemoryBackend::new();
    let repository = init(backend.clone());
    let archive = Archive::new(&repository, SYSTEM);
    for (name, content) in files() {
        archive.push(name, &content).unwrap();
    }
    fold(&repository, 0, None).unwrap();
    assert_whole(&repository);
    let needs = lifeboat_plan::ClusterCapture {
        id: Id::default(),
        tree: Id::default(),
        completed: now(),
        system: SYSTEM,
        timeline: 1,
        start: 4 * SEGMENT_BYTES as u64 + 40,
        stop: 4 * SEGMENT_BYTES as u64 + 400,
        segment_bytes: SEGMENT_BYTES as u64,
        is_damaged: false,
        fleet: None,
    };
    let done = fold(&repository, 0, LogBound::of([&needs])).unwrap();
    assert_eq!(done.plan.expire.len(), 3);
    assert_eq!((count(&repository), done.stored.data_blobs), (1, 0));
    for (name, content) in files().split_off(3) {
        let fetched = archive.fetch(name, Timeline(1), size()).unwrap();
        assert!(fetched == Fetched::Content(content), "{name}");
    }
    // What was let go is not called the end.
    let (gone, _) = segment(1, 3);
    assert!(archive.fetch(gone, Timeline(1), size()).is_err());
    // A snapshot that can't be read does not hold a server up, as long as the log tells where it ends.
    let damaged = FileName::new(FileKind::Snapshot, Id([9; 32]));
    backend.save(damaged, &[b"no snapshot"]).unwrap();
    let (beyond, _) = segment(2, 8);
    let at_the_end = |repository: &Repository| {
        Archive::new(repository, SYSTEM).fetch(beyond, Timeline(2), size())
    };
    assert_eq!(at_the_end(&repository).unwrap(), Fetched::Beyond);
    let copy = backend.fork();
    for entry in repository.log().list(None).unwrap() {
        copy.log_remove(&entry.name).unwrap();
    }
    assert!(at_the_end(&open(copy).unwrap()).is_err());
    backend.remove(damaged).unwrap();
    // Nor is what somebody removed.
    let (folded, _) = segment(1, 4);
    let snapshots = repository.snapshots().unwrap().all;
    for (id, _) in snapshots {
        repository.remove_snapshot(id).unwrap();
    }
    assert!(
        archive.fetch(folded, Timeline(1), size()).is_err(),
        "a mark says that it was there"
    );
}

#[test]
fn what_is_folded_keeps_its_name_also_if_it_is_no_segment() {
    let backend = MemoryBackend::new();
    let repository = init(backend);
    let archive = Archive::new(&repository, SYSTEM);
    let (WalName::Segment(left), content) = segment(1, 2) else {
        unreachable!()
    };
    let partial = WalName::Partial(left);
    for (name, content) in [segment(1, 1), (partial, content.clone())] {
        archive.push(name, &content).unwrap();
    }
    for number in 2..=5 {
        let (name, content) = segment(1, number);
        archive.push(name, &content).unwrap();
    }
    fold(&repository, 1, None).unwrap();
    let logged = repository.log().list(None).unwrap();
    let is_partial = |name: &str| name.ends_with(".partial");
    assert!(!logged.iter().any(|entry| is_partial(entry.name.as_str())));
    assert_eq!(archive.push(partial, &content).unwrap(), Appended::Same);
    let mut other = content;
    *other.last_mut().unwrap() ^= 1;
    // Nothing of it stays, or no fold would ever come to its end again.
    repository.log().remove(&partial_name(partial)).unwrap();
    let refused = archive.push(partial, &other).unwrap_err();
    assert!(
        matches!(refused, ArchiveError::FoldedDifferent { .. }),
        "{refused:?}"
    );
    fold(&repository, 1, None).unwrap();
    assert!(archive.fetch(partial, Timeline(1), size()).is_ok());
}

fn partial_name(name: WalName) -> LogName {
    format!("wal/{SYSTEM}/00000001/{name}").parse().unwrap()
}
