//! A directory is shared with other tools and other people: what they leave there, and what they may see of ours.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use lifeboat_format::Id;
use lifeboat_repo::backend::{Backend, BackendError, Creation, FileKind, FileName, LocalBackend};
use lifeboat_testkit::conformance::{listing, log_listing, log_name};

const ID: Id = Id([0xab; 32]);

struct Place {
    _temporary: tempfile::TempDir,
    root: PathBuf,
    backend: LocalBackend,
}

fn repository() -> Place {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path().join("repository");
    let backend = LocalBackend::new(&root);
    backend.create().unwrap();
    backend.save(FileName::CONFIG, &[b"config"]).unwrap();
    Place {
        _temporary: temporary,
        root,
        backend,
    }
}

fn permissions(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn only_the_owner_may_look_and_nobody_writes() {
    let place = repository();
    place
        .backend
        .save(FileName::new(FileKind::Pack, ID), &[b"x"])
        .unwrap();
    assert_eq!(permissions(place.root.join("config")), 0o400);
    assert_eq!(permissions(place.root.join(format!("data/ab/{ID}"))), 0o400);
    for folder in ["", "keys", "locks", "snapshots", "index", "data", "data/00"] {
        assert_eq!(permissions(place.root.join(folder)), 0o700, "{folder}");
    }
}

#[test]
fn the_group_may_read_what_is_beside_a_config_that_it_may_read() {
    let place = repository();
    let config = place.root.join("config");
    fs::set_permissions(config, fs::Permissions::from_mode(0o440)).unwrap();
    fs::remove_dir(place.root.join("data/ab")).unwrap();
    let backend = LocalBackend::new(&place.root);
    backend
        .save(FileName::new(FileKind::Pack, ID), &[b"x"])
        .unwrap();
    assert_eq!(permissions(place.root.join(format!("data/ab/{ID}"))), 0o440);
    // The umask of whoever runs this takes its part.
    assert_eq!(permissions(place.root.join("data/ab")) & 0o750, 0o750);
}

#[test]
fn what_is_no_file_of_ours_is_not_shown() {
    let place = repository();
    let root = &place.root;
    let id = ID.to_string();
    fs::write(root.join(format!("data/ab/{id}-tmp-123456")), "x").unwrap();
    fs::write(root.join(format!("data/cd/{id}")), "in the wrong folder").unwrap();
    fs::write(root.join(format!("data/ab/{}", id.to_uppercase())), "x").unwrap();
    fs::write(root.join(format!("data/{id}")), "in no folder").unwrap();
    fs::write(root.join("data/README"), "x").unwrap();
    fs::create_dir(root.join("data/lost+found")).unwrap();
    fs::create_dir(root.join(format!("data/ab/{id}"))).unwrap();
    fs::remove_dir(root.join("data/ef")).unwrap();
    fs::write(root.join("data/ef"), "a file with the name of a folder").unwrap();
    symlink("nowhere", root.join(format!("snapshots/{id}"))).unwrap();
    fs::write(root.join("snapshots/.DS_Store"), "x").unwrap();
    for kind in FileKind::NAMED {
        assert!(
            listing(&place.backend, kind).unwrap().is_empty(),
            "{kind:?}"
        );
    }
}

#[test]
fn a_pipe_with_the_name_of_a_file_holds_nobody() {
    let place = repository();
    let path = place.root.join(format!("index/{ID}"));
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert!(fs::metadata(path).unwrap().file_type().is_fifo());
    let error = place
        .backend
        .load(FileName::new(FileKind::Index, ID), 10)
        .unwrap_err();
    assert!(matches!(error, BackendError::Io { .. }), "{error:?}");
}

#[test]
fn a_folder_for_packs_may_be_missing_but_not_all_of_data() {
    let place = repository();
    fs::remove_dir(place.root.join("data/ab")).unwrap();
    let name = FileName::new(FileKind::Pack, ID);
    assert!(place.backend.size(name).unwrap_err().is_missing());
    place.backend.remove(name).unwrap();
    place.backend.save(name, &[b"x"]).unwrap();
    assert_eq!(listing(&place.backend, FileKind::Pack).unwrap().len(), 1);

    fs::rename(place.root.join("data"), place.root.join("away")).unwrap();
    for result in [
        listing(&place.backend, FileKind::Pack).map(|_| ()),
        place.backend.size(name).map(|_| ()),
        place.backend.remove(name),
        place.backend.save(name, &[b"x"]),
    ] {
        let error = result.unwrap_err();
        assert!(
            matches!(error, BackendError::NoRepository { .. }),
            "{error:?}"
        );
    }
}

#[test]
fn a_folder_on_a_disk_that_is_not_mounted_is_no_empty_folder() {
    let place = repository();
    fs::remove_dir(place.root.join("data/ab")).unwrap();
    symlink("/nowhere/at/all", place.root.join("data/ab")).unwrap();
    let error = listing(&place.backend, FileKind::Pack).unwrap_err();
    assert!(
        matches!(&error, BackendError::Io { what, .. } if what == "data/ab"),
        "{error:?}"
    );
}

#[test]
fn nothing_is_made_in_the_place_of_a_disk_that_is_not_mounted() {
    let mount_point = tempfile::tempdir().unwrap();
    for root in [mount_point.path(), &mount_point.path().join("repository")] {
        let backend = LocalBackend::new(root);
        for kind in FileKind::NAMED {
            let name = FileName::new(kind, ID);
            for result in [backend.save(name, &[b"x"]), backend.remove(name)] {
                let error = result.unwrap_err();
                assert!(
                    matches!(error, BackendError::NoRepository { .. }),
                    "{error:?}"
                );
            }
        }
    }
    let backend = LocalBackend::new(mount_point.path().join("repository"));
    assert!(backend.save(FileName::CONFIG, &[b"x"]).is_err());
    let left: Vec<_> = fs::read_dir(mount_point.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn locks_may_be_missing_beside_a_config() {
    let place = repository();
    let lock = FileName::new(FileKind::Lock, ID);
    fs::remove_dir(place.root.join("locks")).unwrap();
    assert!(listing(&place.backend, FileKind::Lock).unwrap().is_empty());
    assert!(place.backend.size(lock).unwrap_err().is_missing());
    place.backend.remove(lock).unwrap();
    place.backend.save(lock, &[b"x"]).unwrap();
    assert_eq!(listing(&place.backend, FileKind::Lock).unwrap().len(), 1);
    for folder in ["snapshots", "index", "keys"] {
        fs::remove_dir(place.root.join(folder)).unwrap();
    }
    for kind in [FileKind::Snapshot, FileKind::Index, FileKind::Key] {
        assert!(listing(&place.backend, kind).is_err(), "{kind:?}");
    }
}

#[test]
fn what_may_not_be_read_is_an_error() {
    let place = repository();
    if rustix::process::geteuid().is_root() {
        // Root may read everything, but not list a file: what stands in the way is an error all the same.
        fs::remove_dir(place.root.join("index")).unwrap();
        fs::write(place.root.join("index"), "x").unwrap();
    } else {
        let closed = fs::Permissions::from_mode(0o000);
        fs::set_permissions(place.root.join("index"), closed).unwrap();
    }
    let error = listing(&place.backend, FileKind::Index).unwrap_err();
    assert!(matches!(error, BackendError::Io { .. }), "{error:?}");
}

#[test]
fn old_temporary_files_are_removed_and_young_ones_stay() {
    let place = repository();
    let old = [
        place.root.join("config-tmp-12"),
        place.root.join(format!("data/ab/{ID}-tmp-12")),
    ];
    let kept = [
        place.root.join(format!("locks/{ID}-tmp-99")),
        place.root.join("notes-tmp-1"),
    ];
    for path in old.iter().chain(&kept) {
        fs::write(path, "half").unwrap();
    }
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    for path in old.iter().chain(&kept[1..]) {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(yesterday - Duration::from_secs(1))
            .unwrap();
    }
    assert_eq!(place.backend.remove_temporaries(yesterday).unwrap(), 2);
    assert!(old.iter().all(|path| !path.exists()) && kept.iter().all(|path| path.exists()));
}

#[test]
fn a_relative_path_works() {
    // The test's own directory is the crate; nothing is written there.
    let backend = LocalBackend::new("no/such/repository");
    let error = listing(&backend, FileKind::Snapshot).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no repository at no/such/repository: the folder snapshots is missing"
    );
}

#[test]
fn objects_of_the_log_are_files_that_only_the_owner_may_read() {
    let place = repository();
    let name = log_name("wal/7/a");
    place.backend.log_create(&name, &[b"x"]).unwrap();
    for folder in ["lifeboat", "lifeboat/wal", "lifeboat/wal/7"] {
        assert_eq!(permissions(place.root.join(folder)), 0o700, "{folder}");
    }
    let folder = place.root.join("lifeboat/wal/7");
    assert_eq!(permissions(folder.join("a")), 0o400);
    let names: Vec<_> = fs::read_dir(folder).unwrap().collect();
    assert_eq!(names.len(), 1, "nothing else is left there");
    let group = fs::Permissions::from_mode(0o440);
    fs::set_permissions(place.root.join("config"), group).unwrap();
    let backend = LocalBackend::new(&place.root);
    backend.log_create(&log_name("wal/8/a"), &[b"x"]).unwrap();
    // The umask of whoever runs this may take the right to write away.
    assert_eq!(
        permissions(place.root.join("lifeboat/wal/8")) & 0o757,
        0o750
    );
    assert_eq!(permissions(place.root.join("lifeboat/wal/8/a")), 0o440);
}

#[test]
fn a_log_on_a_disk_that_is_not_mounted_is_no_empty_log() {
    for link in ["lifeboat", "lifeboat/wal", "lifeboat/wal/7"] {
        let place = repository();
        let path = place.root.join(link);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink("/nowhere/at/all", &path).unwrap();
        let name = log_name("wal/7/a");
        let errors = [
            log_listing(&place.backend, None).unwrap_err(),
            log_listing(&place.backend, Some(&log_name("wal/7"))).unwrap_err(),
            place.backend.log_load(&name, 1).unwrap_err(),
            place.backend.log_remove(&name).unwrap_err(),
            place.backend.log_create(&name, &[b"x"]).unwrap_err(),
        ];
        for error in errors {
            let is_told = matches!(&error, BackendError::Io { what, .. } if what.starts_with(link));
            assert!(is_told && !error.is_missing(), "{link}: {error:?}");
        }
    }
}

#[test]
fn what_is_no_object_of_the_log_is_not_shown_and_not_overwritten() {
    let place = repository();
    let name = log_name("wal/7/a");
    place.backend.log_create(&name, &[b"object"]).unwrap();
    let folder = place.root.join("lifeboat/wal/7");
    for other in [".a-tmp-00", ".hidden", "with space", "ümlaut"] {
        fs::write(folder.join(other), "x").unwrap();
    }
    fs::create_dir(folder.join("folder")).unwrap();
    let listed = log_listing(&place.backend, None).unwrap();
    assert_eq!(listed.into_keys().collect::<Vec<_>>(), [name]);
    // A folder or a link in the place of an object is none, and stays.
    symlink("/nowhere", folder.join("link")).unwrap();
    for taken in ["wal/7/folder", "wal/7/link"] {
        let made = place.backend.log_create(&log_name(taken), &[b"x"]);
        assert!(made.is_err(), "{made:?}");
    }
    assert!(folder.join("folder").is_dir() && folder.join("link").is_symlink());
}

#[test]
fn what_a_killed_writer_left_in_the_log_is_removed_when_it_is_old() {
    let place = repository();
    let name = log_name("wal/7/a");
    place.backend.log_create(&name, &[b"object"]).unwrap();
    let old = place.root.join("lifeboat/wal/7/.b-tmp-00000000000000ff");
    fs::write(&old, "half").unwrap();
    let before = SystemTime::now() - Duration::from_secs(60);
    assert_eq!(place.backend.remove_temporaries(before).unwrap(), 0);
    let after = SystemTime::now() + Duration::from_secs(60);
    assert_eq!(place.backend.remove_temporaries(after).unwrap(), 1);
    assert!(!old.exists());
    assert_eq!(place.backend.log_load(&name, 6).unwrap(), b"object");
}

/// Several processes, each with a value of its own.
#[test]
fn one_of_many_processes_creates_an_object() {
    let place = repository();
    for round in 0..10 {
        let name = log_name(&format!("wal/{round}/a"));
        let made: Vec<Creation> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8u8)
                .map(|thread| {
                    let (root, name) = (&place.root, &name);
                    scope.spawn(move || {
                        let backend = LocalBackend::new(root);
                        backend.log_create(name, &[&vec![thread; 100_000]]).unwrap()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let created = made.iter().filter(|made| **made == Creation::Created);
        assert_eq!(created.count(), 1);
        let kept = place.backend.log_load(&name, 100_000).unwrap();
        assert_eq!(made[usize::from(kept[0])], Creation::Created);
        assert!(kept.len() == 100_000 && kept.iter().all(|byte| *byte == kept[0]));
    }
}
