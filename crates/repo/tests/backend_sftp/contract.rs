//! What every backend must do, over SFTP; also on servers without OpenSSH's extensions.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use lifeboat_format::Id;
use lifeboat_repo::backend::{Backend, BackendError, Creation, FileKind, FileName};
use lifeboat_testkit::conformance::{check_backend, listing, log_listing, log_name};
use lifeboat_testkit::faults::{Fault, FaultPlan, FaultyBackend};
use lifeboat_testkit::replay::{Note, seed};
use lifeboat_testkit::retrying::retrying;
use lifeboat_testkit::sshd::Sshd;

use crate::Place;

const FAILING_PERCENT: u64 = 20;
const ID: Id = Id([0xab; 32]);

#[test]
fn the_contract_of_a_backend() {
    let place = Place::new();
    let count = AtomicU64::new(0);
    check_backend(&|| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        Box::new(place.backend(&format!("parent/{number}")))
    });
}

#[test]
fn the_contract_when_requests_fail() {
    let place = Place::new();
    let count = AtomicU64::new(0);
    check_backend(&|| {
        let seed = seed();
        let _seed = Note::seed(seed);
        let number = count.fetch_add(1, Ordering::Relaxed);
        let backend = place.backend(&format!("parent/{number}"));
        let faults = [Fault::FailBefore, Fault::FailAfter];
        let plan = FaultPlan::random(seed, FAILING_PERCENT, &faults);
        Box::new(retrying(FaultyBackend::new(backend, plan)))
    });
}

#[test]
fn a_server_without_extensions_serves_too() {
    let denied = "internal-sftp -P posix-rename,fsync,limits,statvfs,fstatvfs";
    let place = Place::on(Sshd::with_subsystem(denied));
    let backend = place.repository("repository");
    backend.save(FileName::CONFIG, &[b"config"]).unwrap();
    let content = vec![7; 3 << 20];
    let name = FileName::new(FileKind::Pack, Id::of(&content));
    for _ in 0..2 {
        backend.save(name, &[&content]).unwrap();
    }
    assert!(backend.load(name, u64::MAX).unwrap() == content);
    assert_eq!(listing(&backend, FileKind::Pack).unwrap().len(), 1);
    assert_eq!(
        files_of_pack(&place.path("repository"), name.id),
        [name.id.to_string()]
    );
    // It can't replace a file in one step, and a config that is gone for a moment would be a repository that is gone.
    let error = backend.save(FileName::CONFIG, &[b"another"]).unwrap_err();
    assert!(matches!(error, BackendError::Remote { .. }), "{error:?}");
    assert_eq!(backend.load(FileName::CONFIG, 100).unwrap(), b"config");
}

/// What lies there under a pack's name, with its size, may be what an earlier loss of power left.
#[test]
fn what_a_server_can_not_replace_is_compared() {
    let denied = "internal-sftp -P posix-rename,fsync,limits,statvfs,fstatvfs";
    let place = Place::on(Sshd::with_subsystem(denied));
    let backend = place.repository("repository");
    backend.save(FileName::CONFIG, &[b"config"]).unwrap();
    // More than is compared at once.
    let content: Vec<u8> = (0..5_000_000u32).map(|number| number as u8).collect();
    let name = FileName::new(FileKind::Pack, Id::of(&content));
    backend.save(name, &[&content]).unwrap();
    let id = name.id.to_string();
    let file = place.path("repository/data").join(&id[..2]).join(&id);
    let mut permissions = fs::metadata(&file).unwrap().permissions();
    permissions.set_mode(0o600);
    fs::set_permissions(&file, permissions).unwrap();
    for at in [0, content.len() / 2, content.len() - 1, content.len()] {
        let mut garbage = content.clone();
        match garbage.get_mut(at) {
            Some(byte) => *byte ^= 1,
            None => garbage.truncate(at / 3),
        }
        fs::write(&file, garbage).unwrap();
        let (first, second) = content.split_at(1_000_000);
        backend.save(name, &[first, b"", second]).unwrap();
        assert!(backend.load(name, u64::MAX).unwrap() == content, "{at}");
        assert_eq!(files_of_pack(&place.path("repository"), name.id), [&*id]);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// The names in the folder of a pack.
fn files_of_pack(repository: &Path, id: Id) -> Vec<String> {
    let folder = repository.join("data").join(&id.to_string()[..2]);
    let names = fs::read_dir(folder).unwrap();
    names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn permissions(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn permissions_are_those_of_the_local_backend() {
    let place = Place::new();
    let root = place.path("repository");
    let backend = place.repository("repository");
    backend.save(FileName::CONFIG, &[b"config"]).unwrap();
    let pack = FileName::new(FileKind::Pack, ID);
    backend.save(pack, &[b"x"]).unwrap();
    assert_eq!(permissions(root.join("config")), 0o400);
    assert_eq!(permissions(root.join(format!("data/ab/{ID}"))), 0o400);
    for folder in ["", "keys", "locks", "snapshots", "index", "data", "data/00"] {
        assert_eq!(permissions(root.join(folder)), 0o700, "{folder}");
    }
    // The group may read what is beside a config that it may read.
    fs::set_permissions(root.join("config"), fs::Permissions::from_mode(0o440)).unwrap();
    let backend = place.backend("repository");
    let key = FileName::new(FileKind::Key, ID);
    backend.save(key, &[b"x"]).unwrap();
    assert_eq!(permissions(root.join(format!("keys/{ID}"))), 0o440);
}

#[test]
fn what_is_no_file_of_ours_is_not_shown() {
    let place = Place::new();
    let root = &place.path("repository");
    let backend = place.repository("repository");
    backend.save(FileName::CONFIG, &[b"config"]).unwrap();
    let id = ID.to_string();
    fs::write(root.join(format!("data/ab/{id}-tmp-123456")), "x").unwrap();
    fs::write(root.join(format!("data/cd/{id}")), "in the wrong folder").unwrap();
    fs::write(root.join(format!("data/ab/{}", id.to_uppercase())), "x").unwrap();
    fs::write(root.join(format!("data/{id}")), "in no folder").unwrap();
    fs::create_dir(root.join("data/lost+found")).unwrap();
    fs::create_dir(root.join(format!("data/ab/{id}"))).unwrap();
    fs::remove_dir(root.join("data/ef")).unwrap();
    fs::write(root.join("data/ef"), "a file with the name of a folder").unwrap();
    symlink("nowhere", root.join(format!("snapshots/{id}"))).unwrap();
    fs::write(root.join("snapshots/.DS_Store"), "x").unwrap();
    for kind in FileKind::NAMED {
        assert!(listing(&backend, kind).unwrap().is_empty(), "{kind:?}");
    }
    // A link to a file is a file, and one that is a directory is no pack.
    fs::write(root.join("elsewhere"), "content").unwrap();
    symlink("../elsewhere", root.join(format!("index/{id}"))).unwrap();
    let found = listing(&backend, FileKind::Index).unwrap();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [(ID, 7)]);
    let error = backend
        .load(FileName::new(FileKind::Pack, ID), 100)
        .unwrap_err();
    assert!(error.to_string().ends_with("it is a directory"), "{error}");
}

#[test]
fn a_disk_that_is_not_mounted_is_no_empty_folder() {
    let place = Place::new();
    let root = &place.path("repository");
    let backend = place.repository("repository");
    fs::remove_dir(root.join("data/ab")).unwrap();
    symlink("/no/such/disk", root.join("data/ab")).unwrap();
    let error = listing(&backend, FileKind::Pack).unwrap_err();
    assert!(matches!(error, BackendError::Remote { .. }), "{error:?}");
}

#[test]
fn locks_may_be_missing_beside_a_config() {
    let place = Place::new();
    let root = &place.path("repository");
    let backend = place.repository("repository");
    backend.save(FileName::CONFIG, &[b"config"]).unwrap();
    let lock = FileName::new(FileKind::Lock, ID);
    fs::remove_dir(root.join("locks")).unwrap();
    assert!(listing(&backend, FileKind::Lock).unwrap().is_empty());
    assert!(backend.size(lock).unwrap_err().is_missing());
    backend.remove(lock).unwrap();
    backend.save(lock, &[b"x"]).unwrap();
    assert_eq!(listing(&backend, FileKind::Lock).unwrap().len(), 1);
    for (folder, kind) in [
        ("snapshots", FileKind::Snapshot),
        ("index", FileKind::Index),
        ("keys", FileKind::Key),
    ] {
        fs::remove_dir(root.join(folder)).unwrap();
        assert!(listing(&backend, kind).is_err(), "{kind:?}");
    }
}

#[test]
fn a_folder_with_thousands_of_files_is_listed_whole() {
    const FILES: u32 = 5000;
    let place = Place::new();
    let backend = place.repository("repository");
    for number in 0..FILES {
        let id = Id::of(&number.to_be_bytes());
        fs::write(
            place.path("repository").join(format!("index/{id}")),
            "index",
        )
        .unwrap();
    }
    let found = listing(&backend, FileKind::Index).unwrap();
    assert_eq!(found.len(), FILES as usize);
    assert!(found.values().all(|size_bytes| *size_bytes == 5));
}

#[test]
fn old_temporary_files_are_removed_and_young_ones_stay() {
    const DAY: Duration = Duration::from_secs(86_400);
    let place = Place::new();
    let root = &place.path("repository");
    let backend = place.repository("repository");
    assert_eq!(backend.remove_unfinished(DAY).unwrap(), 0);
    let old = [
        root.join("config-tmp-12"),
        root.join(format!("data/ab/{ID}-tmp-12")),
        root.join(format!("data/ab/{ID}-restic-temp-0123abcd")),
    ];
    let kept = [
        root.join(format!("locks/{ID}-tmp-99")),
        root.join("notes-tmp-1"),
    ];
    for path in old.iter().chain(&kept) {
        fs::write(path, "half").unwrap();
    }
    let yesterday = SystemTime::now() - DAY - Duration::from_secs(10);
    for path in old.iter().chain(&kept[1..]) {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(yesterday).unwrap();
    }
    assert_eq!(backend.remove_unfinished(DAY).unwrap(), 3);
    assert!(old.iter().all(|path| !path.exists()) && kept.iter().all(|path| path.exists()));
    let names = fs::read_dir(root).unwrap().count();
    assert_eq!(
        names,
        5 + 1,
        "five folders and a note, and no probe of the clock"
    );
}

#[test]
fn a_relative_path_begins_in_the_home_directory() {
    let place = Place::new();
    // Up from the home directory, wherever that is, and down again.
    let up = "../".repeat(16);
    let path = format!("{up}{}", place.path("repository").display());
    let location = format!(
        "sftp://{}@127.0.0.1:{}/{path}",
        place.sshd.user(),
        place.sshd.port()
    );
    let backend = crate::backend_at(&location, &place.sshd.options());
    backend.create().unwrap();
    assert!(place.path("repository/data/ff").is_dir());
}

/// With and without hard links, which a server may not offer: each process has a connection of its own.
#[test]
fn one_of_several_processes_creates_an_object_of_the_log() {
    let without = "internal-sftp -P hardlink,posix-rename,fsync,limits,statvfs,fstatvfs";
    for sshd in [Sshd::start(), Sshd::with_subsystem(without)] {
        let place = Place::on(sshd);
        place
            .repository("r")
            .save(FileName::CONFIG, &[b"config"])
            .unwrap();
        let backends: Vec<_> = (0..4).map(|_| place.backend("r")).collect();
        for round in 0..5 {
            let name = log_name(&format!("wal/{round}/a"));
            let made: Vec<Creation> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0u8..)
                    .zip(&backends)
                    .map(|(number, backend)| {
                        let name = &name;
                        scope
                            .spawn(move || backend.log_create(name, &[&[number; 100_000]]).unwrap())
                    })
                    .collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap())
                    .collect()
            });
            let created = made.iter().filter(|made| **made == Creation::Created);
            assert_eq!(created.count(), 1, "{made:?}");
            let kept = backends[0].log_load(&name, 100_000).unwrap();
            assert_eq!(made[usize::from(kept[0])], Creation::Created);
            assert!(kept == vec![kept[0]; 100_000]);
            let folder = place.path("r").join(format!("lifeboat/wal/{round}"));
            let left: Vec<_> = fs::read_dir(folder).unwrap().collect();
            assert_eq!(left.len(), 1, "{left:?}");
        }
    }
}

#[test]
fn a_log_on_a_disk_of_the_server_that_is_not_mounted_is_no_empty_log() {
    for link in ["lifeboat", "lifeboat/wal"] {
        let place = Place::new();
        let backend = place.repository("r");
        backend.save(FileName::CONFIG, &[b"config"]).unwrap();
        let path = place.path("r").join(link);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink("/nowhere/at/all", &path).unwrap();
        let errors = [
            log_listing(&backend, None).unwrap_err(),
            log_listing(&backend, Some(&log_name("wal/7"))).unwrap_err(),
            backend.log_load(&log_name("wal/7/a"), 1).unwrap_err(),
            backend.log_remove(&log_name("wal/7/a")).unwrap_err(),
            backend
                .log_create(&log_name("wal/7/a"), &[b"x"])
                .unwrap_err(),
        ];
        for error in errors {
            let is_told =
                matches!(&error, BackendError::Remote { what, .. } if what.starts_with(link));
            assert!(is_told, "{link}: {error:?}");
        }
    }
}

#[test]
fn what_a_killed_writer_left_in_the_log_is_removed() {
    let place = Place::new();
    let backend = place.repository("r");
    backend.save(FileName::CONFIG, &[b"config"]).unwrap();
    let name = log_name("wal/7/a");
    backend.log_create(&name, &[b"object"]).unwrap();
    let left = place
        .path("r")
        .join("lifeboat/wal/7/.b-tmp-00000000000000ff");
    fs::write(&left, "half").unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    let file = fs::File::options().write(true).open(&left).unwrap();
    file.set_modified(long_ago).unwrap();
    assert_eq!(log_listing(&backend, None).unwrap().len(), 1);
    assert_eq!(
        backend.remove_unfinished(Duration::from_secs(60)).unwrap(),
        1
    );
    assert!(!left.exists());
    assert_eq!(backend.log_load(&name, 6).unwrap(), b"object");
}
