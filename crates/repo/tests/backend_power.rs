//! When the power goes at any operation of the disk, a repository shows whole files only, and all that were promised.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;

use lifeboat_format::Id;
use lifeboat_repo::backend::{
    Backend, BackendError, Creation, FileKind, FileName, LocalBackend, LogName,
};
use lifeboat_testkit::conformance::{listing, log_listing, log_name};
use lifeboat_testkit::disk::SimulatedDisk;
use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::{Note, seed};

const ROOT: &str = "/srv/restic";
/// Reboots tried for each moment at which the power goes.
const REBOOTS: u64 = 12;

/// What a run believed when its power went.
#[derive(Debug, Default)]
struct Promises {
    kept: BTreeSet<FileName>,
    gone: BTreeSet<FileName>,
}

/// Saves and removes until something fails; every name is the hash of its content.
fn work(backend: &dyn Backend, seed: u64) -> Promises {
    let mut random = Random::new(seed);
    let mut promises = Promises::default();
    for _ in 0..12 {
        let kind = *random.pick(&FileKind::NAMED);
        let length = random.index(3000) + 8;
        let content = random.bytes(length);
        let name = FileName::new(kind, Id::of(&content));
        let middle = random.index(content.len());
        if backend
            .save(name, &[&content[..middle], &content[middle..]])
            .is_err()
        {
            return promises;
        }
        promises.kept.insert(name);
        if random.chance(30) {
            let of_all: Vec<FileName> = promises.kept.iter().copied().collect();
            let name = *random.pick(&of_all);
            // Once asked for, a removal may happen, whatever is answered.
            promises.kept.remove(&name);
            if backend.remove(name).is_err() {
                return promises;
            }
            promises.gone.insert(name);
        }
    }
    promises
}

fn check(disk: &SimulatedDisk, promises: &Promises) {
    let backend = LocalBackend::on(disk.clone(), ROOT);
    let mut found = BTreeSet::new();
    for kind in FileKind::NAMED {
        for (id, size_bytes) in listing(&backend, kind).unwrap() {
            let name = FileName::new(kind, id);
            let content = backend.load(name, u64::MAX).unwrap();
            assert_eq!(content.len() as u64, size_bytes, "{name}");
            assert_eq!(Id::of(&content), id, "{name} is there, but not whole");
            found.insert(name);
        }
    }
    for name in &promises.kept {
        assert!(found.contains(name), "{name} was saved and is lost");
    }
    for name in &promises.gone {
        let may_return = matches!(name.kind, FileKind::Pack | FileKind::Lock);
        assert!(
            may_return || !found.contains(name),
            "{name} was removed and is back"
        );
    }
    let after = FileName::new(FileKind::Snapshot, Id::of(b"after"));
    backend.save(after, &[b"after"]).unwrap();
    assert_eq!(backend.load(after, 5).unwrap(), b"after");
}

/// Cuts the power at every operation of `work` on a disk from `make`, and checks several reboots of each.
fn cut_everywhere<T>(
    seed: u64,
    reboots: u64,
    make: impl Fn() -> SimulatedDisk,
    work: impl Fn(&LocalBackend<SimulatedDisk>) -> T,
    check: impl Fn(&SimulatedDisk, &T),
) {
    for operations in 0.. {
        let disk = make();
        let backend = LocalBackend::on(disk.clone(), ROOT);
        disk.cut_power_after(operations);
        let done = work(&backend);
        for reboot in 0..reboots {
            let _note = Note::new(format!("power cut at {operations}, reboot {reboot}"));
            check(
                &disk.after_power_loss(seed ^ (operations << 16) ^ reboot),
                &done,
            );
        }
        if !disk.is_dead() {
            assert!(operations > 3, "the power went nowhere");
            break;
        }
    }
}

/// A disk with a repository that some other tool made: without folders for packs, and with all that it made durable.
fn disk_with_repository() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let backend = LocalBackend::on(disk.clone(), ROOT);
    backend.create().unwrap();
    backend.save(FileName::CONFIG, &[b"config"]).unwrap();
    disk
}

#[test]
fn what_was_promised_is_kept() {
    let seed = seed();
    let _seed = Note::seed(seed);
    for round in 0..8 {
        let seed = seed.wrapping_add(round);
        cut_everywhere(
            seed,
            REBOOTS,
            disk_with_repository,
            |backend| work(backend, seed),
            check,
        );
    }
}

#[test]
fn folders_that_another_process_made_a_moment_ago_are_made_durable_too() {
    let seed = seed();
    let _seed = Note::seed(seed);
    let make = || {
        let disk = SimulatedDisk::new();
        for folder in ["/srv", ROOT] {
            lifeboat_repo::backend::Disk::make_dir(&disk, Path::new(folder), 0o700).unwrap();
        }
        for parent in ["/", "/srv"] {
            lifeboat_repo::backend::Disk::sync_dir(&disk, Path::new(parent)).unwrap();
        }
        for name in [
            "keys",
            "locks",
            "snapshots",
            "index",
            "data",
            "data/00",
            "data/ff",
        ] {
            let folder = Path::new(ROOT).join(name);
            lifeboat_repo::backend::Disk::make_dir(&disk, &folder, 0o700).unwrap();
        }
        disk
    };
    let work = |backend: &LocalBackend<SimulatedDisk>| {
        let mut kept = Vec::new();
        for (kind, first) in [
            (FileKind::Index, 0),
            (FileKind::Pack, 0),
            (FileKind::Pack, 0x77),
            (FileKind::Pack, 0xff),
        ] {
            let mut id = Id::of(b"content");
            id.0[0] = first;
            let name = FileName::new(kind, id);
            if backend.save(name, &[b"content"]).is_err() {
                break;
            }
            kept.push(name);
        }
        kept
    };
    cut_everywhere(seed, REBOOTS, make, work, |disk, kept| {
        let backend = LocalBackend::on(disk.clone(), ROOT);
        for name in kept {
            assert_eq!(backend.load(*name, 7).unwrap(), b"content", "{name}");
        }
    });
}

#[test]
fn a_creation_that_was_cut_short_can_be_repeated() {
    let seed = seed();
    let _seed = Note::seed(seed);
    let create = |backend: &LocalBackend<SimulatedDisk>| {
        backend.create().is_ok() && backend.save(FileName::CONFIG, &[b"config"]).is_ok()
    };
    // 261 folders make many moments to lose power at, so that few reboots of each are enough.
    cut_everywhere(seed, 3, SimulatedDisk::new, create, |disk, done| {
        let backend = LocalBackend::on(disk.clone(), ROOT);
        match backend.load(FileName::CONFIG, 6) {
            Ok(config) => assert_eq!(config, b"config"),
            Err(error) => assert!(!done, "{error}"),
        }
        backend.create().unwrap();
        backend.save(FileName::CONFIG, &[b"config"]).unwrap();
        for kind in FileKind::NAMED {
            assert_eq!(listing(&backend, kind).unwrap().len(), 0);
        }
    });
}

#[test]
fn one_failure_of_the_disk_leaves_no_temporary_file_and_harms_nothing() {
    let name = FileName::new(FileKind::Pack, Id::of(b"content"));
    let folder = Path::new(ROOT).join(format!("data/{}", &name.id.to_string()[..2]));
    let mut failures = 0;
    for operation in 0..20 {
        let disk = disk_with_repository();
        let backend = LocalBackend::on(disk.clone(), ROOT);
        disk.fail_after(operation, ErrorKind::StorageFull);
        match backend.save(name, &[b"con", b"tent"]) {
            Ok(()) => break,
            Err(BackendError::Io { cause, .. }) => {
                assert_eq!(cause.kind(), ErrorKind::StorageFull);
            }
            Err(other) => panic!("{other:?}"),
        }
        failures += 1;
        let left = disk.names(&folder).unwrap();
        assert!(
            left.is_empty() || left == [name.id.to_string().as_str()],
            "after a failure of operation {operation}: {left:?}"
        );
        backend.save(name, &[b"content"]).unwrap();
        assert_eq!(backend.load(name, 7).unwrap(), b"content");
    }
    assert_eq!(
        failures, 8,
        "create, write twice, restrict, sync, sync of the folder above, rename, sync of the folder"
    );
}

#[test]
fn a_full_disk_is_named_and_leaves_room() {
    let disk = disk_with_repository();
    disk.limit_free_bytes(1000);
    let backend = LocalBackend::on(disk, ROOT);
    let name = FileName::new(FileKind::Pack, Id([3; 32]));
    let error = backend.save(name, &[&[0; 5000]]).unwrap_err();
    assert!(
        matches!(&error, BackendError::Io { cause, .. } if cause.kind() == ErrorKind::StorageFull),
        "{error:?}"
    );
    assert!(listing(&backend, FileKind::Pack).unwrap().is_empty());
    assert!(backend.size(name).unwrap_err().is_missing());
}

/// Creates and removes objects of the log until something fails: all that was tried, and what was promised of it.
#[derive(Debug, Default)]
struct LogPromises {
    tried: BTreeMap<LogName, Vec<u8>>,
    kept: BTreeSet<LogName>,
}

fn work_on_log(backend: &dyn Backend, seed: u64) -> LogPromises {
    let mut random = Random::new(seed);
    let mut promises = LogPromises::default();
    for number in 0..8 {
        let name = log_name(&format!(
            "wal/{}/{}/{number}",
            random.below(2),
            random.below(2)
        ));
        let length = random.index(3000) + 8;
        let content = random.bytes(length);
        promises.tried.insert(name.clone(), content.clone());
        let (first, second) = content.split_at(random.index(length));
        if backend.log_create(&name, &[first, second]).is_err() {
            return promises;
        }
        promises.kept.insert(name.clone());
        if random.chance(30) {
            // Once asked for, a removal may happen, whatever is answered.
            promises.kept.remove(&name);
            if backend.log_remove(&name).is_err() {
                return promises;
            }
        }
    }
    promises
}

#[test]
fn an_object_of_the_log_is_whole_or_not_there() {
    let seed = seed();
    let _seed = Note::seed(seed);
    for round in 0..3 {
        let seed = seed.wrapping_add(round);
        let work = |backend: &LocalBackend<SimulatedDisk>| work_on_log(backend, seed);
        cut_everywhere(
            seed,
            REBOOTS,
            disk_with_repository,
            work,
            |disk, promises| {
                let backend = LocalBackend::on(disk.clone(), ROOT);
                let found = log_listing(&backend, None).unwrap();
                for (name, size_bytes) in &found {
                    let content = backend.log_load(name, u64::MAX).unwrap();
                    assert_eq!(content.len() as u64, *size_bytes, "{name}");
                    assert_eq!(promises.tried[name], content, "{name} is not whole");
                }
                for name in &promises.kept {
                    assert!(found.contains_key(name), "{name} was created and is lost");
                }
                for (name, content) in &promises.tried {
                    let created = backend.log_create(name, &[content]).unwrap();
                    assert_eq!(created, Creation::Created, "{name}");
                }
                backend
                    .remove_unfinished(std::time::Duration::ZERO)
                    .unwrap();
                assert_eq!(
                    log_listing(&backend, None).unwrap().len(),
                    promises.tried.len()
                );
            },
        );
    }
}

/// One process is stopped anywhere, a second finds what it left and is told so: then that survives.
#[test]
fn what_another_process_is_told_of_is_durable() {
    let seed = seed();
    let _seed = Note::seed(seed);
    let name = log_name("wal/1/a");
    let mut ends = BTreeSet::new();
    for operation in 0..30 {
        let disk = disk_with_repository();
        disk.fail_after(operation, ErrorKind::Other);
        let first = LocalBackend::on(disk.clone(), ROOT).log_create(&name, &[b"first"]);
        let second = LocalBackend::on(disk.clone(), ROOT);
        // What did not hit the first one may hit this one, which then tries again.
        let told = second.log_create(&name, &[b"second"]);
        let told = told
            .or_else(|_| second.log_create(&name, &[b"second"]))
            .unwrap();
        let expected: &[u8] = match told {
            Creation::Created => b"second",
            Creation::Exists => b"first",
        };
        ends.insert((first.is_ok(), told == Creation::Exists));
        for reboot in 0..REBOOTS {
            let _note = Note::new(format!("stopped at {operation}, reboot {reboot}"));
            let after = disk.after_power_loss(seed ^ (operation << 16) ^ reboot);
            let backend = LocalBackend::on(after, ROOT);
            assert_eq!(backend.log_load(&name, 100).unwrap(), expected);
        }
    }
    let all = [(false, false), (false, true), (true, true)];
    assert_eq!(
        ends,
        BTreeSet::from(all),
        "stopped before, after, and not at all"
    );
}
