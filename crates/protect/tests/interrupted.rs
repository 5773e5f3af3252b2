//! A backup that ends early: cancelled, or without space. What it stored is indexed, and the next run goes on from there.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, RwLock};

use common::{Seen, back_up, check_all, draft, init, lock, open, options, restore, same};
use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::{BlobKind, Id};
use lifeboat_protect::{Backup, BackupOutcome, ProtectError};
use lifeboat_repo::backend::{FileKind, LocalBackend, MemoryBackend};
use lifeboat_repo::{PackListing, Repository, chain};
use lifeboat_state::{VolumeOptions, VolumeSource};
use lifeboat_testkit::disk::SimulatedDisk;
use lifeboat_testkit::faults::{Fault, FaultPlan, FaultyBackend, Operation, Verb};
use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::{self, Note};

const ROOT: &str = "/srv/restic";

/// Files of random bytes, enough for a dozen packs.
fn tree(root: &Path) {
    std::fs::create_dir(root).unwrap();
    let mut random = Random::new(5);
    for number in 0..40 {
        let content = random.bytes(80_000 + number);
        std::fs::write(root.join(format!("file {number}")), content).unwrap();
    }
}

fn saves_a_pack(operation: &Operation) -> bool {
    operation.verb == Verb::Save && operation.kind == Some(FileKind::Pack)
}

fn back_up_until(
    repository: &Arc<Repository>,
    dir: &Path,
    cancel: &Cancel,
) -> Result<BackupOutcome, ProtectError> {
    let source = VolumeSource::new(vec![dir.to_path_buf()], VolumeOptions::default()).unwrap();
    let lock = lock(repository, false)?;
    let (index, _) = repository.load_index(PackListing::Compare, &Cancel::new())?;
    let backup = Backup {
        repository,
        index: &RwLock::new(index),
        lock: Some(&lock),
        source: &source,
        options: options(None),
        counters: &Counters::default(),
        events: &Seen::default(),
        cancel,
    };
    backup.run(draft(None), lifeboat_repo::now)
}

/// In how many packs each data blob lies, by the index.
fn copies(repository: &Repository) -> BTreeMap<Id, usize> {
    let (index, report) = repository
        .load_index(PackListing::Compare, &Cancel::new())
        .unwrap();
    assert!(report.damaged.is_empty() && report.missing_packs.is_empty());
    let mut copies = BTreeMap::new();
    index.each(|kind, id, _| {
        if kind == BlobKind::Data {
            *copies.entry(id).or_default() += 1;
        }
    });
    copies
}

fn assert_restores(repository: &Arc<Repository>, snapshot: Id, tree: &Path) {
    let to = common::scratch();
    let seen = Seen::default();
    let done = restore(repository, snapshot, tree, to.path(), |_| {}, &seen).unwrap();
    assert_eq!(done.problems, 0, "{:?}", seen.problems());
    same().assert_same(tree, to.path());
}

/// All that was stored is indexed, nothing else was acknowledged, and the next run stores only the rest.
fn assert_goes_on(left: &MemoryBackend, packs_saved: usize, tree: &Path) {
    let repository = open(left.clone()).unwrap();
    assert!(repository.snapshots().unwrap().all.is_empty());
    assert_eq!(
        check_all(&repository).findings,
        Vec::new(),
        "each pack is in an index file"
    );
    assert_eq!(repository.packs().unwrap().len(), packs_saved);
    let before = copies(&repository);
    assert!(!before.is_empty());
    let next = FaultyBackend::recording(left.clone());
    let repository = open(next.clone()).unwrap();
    let outcome = back_up(&repository, tree, &Seen::default()).unwrap();
    let after = copies(&repository);
    assert!(
        after.values().all(|copies| *copies == 1),
        "a blob was stored twice"
    );
    assert_eq!(
        outcome.summary.data_blobs as usize,
        after.len() - before.len()
    );
    let all: u64 = std::fs::read_dir(tree)
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    let saved: u64 = next
        .log()
        .iter()
        .filter(|op| saves_a_pack(op))
        .map(|op| op.bytes)
        .sum();
    assert!(saved < all, "{saved} of {all} bytes were stored again");
    assert_restores(&repository, outcome.snapshot.unwrap(), tree);
}

#[test]
fn a_cancelled_backup_indexes_what_it_stored_and_the_next_goes_on() {
    let scratch = common::scratch();
    let dir = scratch.path().join("tree");
    tree(&dir);
    let memory = MemoryBackend::new();
    init(memory.clone());
    for stop_at in [1, 3, 6] {
        let _note = Note::new(format!("cancelled when pack {stop_at} is saved"));
        let cancel = Cancel::new();
        let left = memory.fork();
        let plan = {
            let (cancel, saved) = (cancel.clone(), std::sync::atomic::AtomicUsize::new(0));
            FaultPlan::new(move |operation| {
                if saves_a_pack(operation)
                    && saved.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1 == stop_at
                {
                    cancel.cancel();
                }
                None
            })
        };
        let backend = FaultyBackend::new(left.clone(), plan);
        let repository = open(backend.clone()).unwrap();
        let done = back_up_until(&repository, &dir, &cancel);
        assert!(matches!(done, Err(ProtectError::Cancelled(_))), "{done:?}");
        let saved = backend.count(Verb::Save, Some(FileKind::Pack));
        assert!(saved >= stop_at && saved < 12, "{saved}");
        assert_goes_on(&left, saved, &dir);
    }
}

#[test]
fn a_backup_whose_upload_fails_indexes_what_it_stored() {
    let scratch = common::scratch();
    let dir = scratch.path().join("tree");
    tree(&dir);
    let memory = MemoryBackend::new();
    init(memory.clone());
    let failed = std::sync::atomic::AtomicUsize::new(0);
    let plan = FaultPlan::new(move |_| {
        let number = failed.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        (number == 4).then_some(Fault::FailBefore)
    });
    let left = memory.fork();
    let backend = FaultyBackend::new(left.clone(), plan.only(saves_a_pack));
    let repository = open(backend.clone()).unwrap();
    let error = back_up_until(&repository, &dir, &Cancel::new()).unwrap_err();
    assert!(
        chain(&error).contains("failed by plan"),
        "{}",
        chain(&error)
    );
    let saved = left
        .files()
        .iter()
        .filter(|(name, _)| name.kind == FileKind::Pack)
        .count();
    assert!(saved >= 4);
    assert_goes_on(&left, saved, &dir);
}

#[test]
fn an_index_file_that_can_not_be_written_costs_time_and_nothing_else() {
    let scratch = common::scratch();
    let dir = scratch.path().join("tree");
    tree(&dir);
    let memory = MemoryBackend::new();
    init(memory.clone());
    let left = memory.fork();
    let first = std::sync::atomic::AtomicBool::new(true);
    let plan = FaultPlan::new(move |operation| {
        let is_index = operation.verb == Verb::Save && operation.kind == Some(FileKind::Index);
        (is_index && first.swap(false, std::sync::atomic::Ordering::SeqCst))
            .then_some(Fault::FailBefore)
    });
    let repository = open(FaultyBackend::new(left.clone(), plan)).unwrap();
    assert!(back_up_until(&repository, &dir, &Cancel::new()).is_err());
    let repository = open(left).unwrap();
    assert!(!check_all(&repository).is_serious());
    let outcome = back_up(&repository, &dir, &Seen::default()).unwrap();
    assert_restores(&repository, outcome.snapshot.unwrap(), &dir);
}

/// The kind of the system's error below an error.
fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<std::io::ErrorKind> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(cause) = error.downcast_ref::<std::io::Error>() {
            return Some(cause.kind());
        }
        at = error.source();
    }
    None
}

#[test]
fn a_full_disk_ends_a_backup_by_its_name_and_the_next_goes_on() {
    let seed = replay::seed();
    let _seed = Note::seed(seed);
    let scratch = common::scratch();
    let dir = scratch.path().join("tree");
    tree(&dir);
    let disk = SimulatedDisk::new();
    let before = scratch.path().join("before");
    std::fs::create_dir(&before).unwrap();
    std::fs::write(before.join("file"), "before").unwrap();
    let first = {
        let repository = init(LocalBackend::on(disk.clone(), ROOT));
        let outcome = back_up(&repository, &before, &Seen::default()).unwrap();
        outcome.snapshot.unwrap()
    };
    let mut random = Random::new(seed);
    let mut room = vec![0, 100, 1_000, 300_000, 3_000_000];
    room.extend((0..6).map(|_| random.below(3_300_000)));
    for free_bytes in room {
        let _note = Note::new(format!("{free_bytes} bytes free"));
        let disk = disk.after_power_loss(1);
        disk.limit_free_bytes(free_bytes);
        let backend = || LocalBackend::on(disk.clone(), ROOT);
        let repository = open(backend()).unwrap();
        let done = back_up_until(&repository, &dir, &Cancel::new());
        let error = match done {
            // The last of them may be just enough.
            Ok(_) if free_bytes > 3_200_000 => continue,
            Ok(_) => panic!("3.2 MB found room in {free_bytes} bytes"),
            Err(error) => error,
        };
        assert_eq!(
            io_kind(&error),
            Some(std::io::ErrorKind::StorageFull),
            "{}",
            chain(&error)
        );
        disk.limit_free_bytes(u64::MAX);
        let repository = open(backend()).unwrap();
        let report = check_all(&repository);
        assert!(!report.is_serious(), "{:?}", report.findings);
        assert_restores(&repository, first, &before);
        let outcome = back_up(&repository, &dir, &Seen::default()).unwrap();
        assert_restores(&repository, outcome.snapshot.unwrap(), &dir);
    }
}

/// A file system of 2 MiB, mounted where the test is allowed to.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(dir.path())
            .output()
            .is_ok_and(|done| done.status.success());
        mounted.then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.0.path())
            .status();
    }
}

#[test]
fn a_full_target_ends_a_restore_by_its_name() {
    let Some(small) = SmallDisk::mount() else {
        // Only root may mount; the suite runs as root too.
        return;
    };
    let scratch = common::scratch();
    let dir = scratch.path().join("tree");
    tree(&dir);
    let repository = init(MemoryBackend::new());
    let snapshot = back_up(&repository, &dir, &Seen::default())
        .unwrap()
        .snapshot
        .unwrap();
    let to = small.0.path().join("restored");
    let seen = Seen::default();
    let error = restore(&repository, snapshot, &dir, &to, |_| {}, &seen).unwrap_err();
    assert!(
        matches!(&error, ProtectError::Target(error) if error.is_full()),
        "{}",
        chain(&error)
    );
    // What has a name is whole.
    let mut whole = 0;
    for entry in std::fs::read_dir(&to).unwrap() {
        let name = entry.unwrap().file_name();
        if !name.to_string_lossy().starts_with(".lifeboat-partial-") {
            whole += 1;
            let same =
                std::fs::read(to.join(&name)).unwrap() == std::fs::read(dir.join(&name)).unwrap();
            assert!(same, "{name:?} is not whole");
        }
    }
    assert!(whole < 40);
}
