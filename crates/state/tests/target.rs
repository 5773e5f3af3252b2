//! A volume's target against the conformance suite, and against whoever plants links in its way.
//! Nothing outside of its root may ever change, whatever is in the root or in the snapshot.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use common::{nobody::as_nobody, target};
use lifeboat_flow::{Entry, EntryKind, EntryPath, Target, Timestamp, Xattr};
use lifeboat_state::{VolumeTarget, Walk};

const WALKS: [Walk; 2] = [Walk::Auto, Walk::Components];

fn path(text: &str) -> EntryPath {
    EntryPath(text.as_bytes().to_vec())
}

fn entry(kind: EntryKind) -> Entry {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    Entry {
        uid,
        gid,
        modified: Timestamp::utc(1, 2),
        ..Entry::bare(b"entry", kind)
    }
}

/// A root with `outside` beside it, which holds a file and a directory.
struct Scene {
    _dir: tempfile::TempDir,
    root: PathBuf,
    outside: PathBuf,
    target: VolumeTarget,
}

impl Scene {
    fn new(walk: Walk) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir_all(outside.join("dir/inner")).expect("directories");
        fs::write(outside.join("file"), "outside").expect("a file");
        fs::set_permissions(outside.join("file"), fs::Permissions::from_mode(0o604))
            .expect("a mode");
        let target = target(&root, walk);
        Self {
            _dir: dir,
            root,
            outside,
            target,
        }
    }

    /// Fails unless the outside is as it was made.
    fn outside_is_untouched(&self) {
        let names = |dir: &Path| {
            let names = fs::read_dir(dir)
                .expect("readable")
                .map(|entry| entry.expect("an entry").file_name());
            let mut names: Vec<_> = names.collect();
            names.sort();
            names
        };
        assert_eq!(names(&self.outside), ["dir", "file"]);
        assert_eq!(names(&self.outside.join("dir")), ["inner"]);
        assert_eq!(names(&self.outside.join("dir/inner")).len(), 0);
        assert_eq!(
            fs::read(self.outside.join("file")).expect("readable"),
            b"outside"
        );
        let metadata = fs::metadata(self.outside.join("file")).expect("there");
        assert_eq!((metadata.mode() & 0o7777, metadata.nlink()), (0o604, 1));
    }
}

#[test]
fn a_volume_is_a_target_like_any() {
    for walk in WALKS {
        let scene = Scene::new(walk);
        common::conformance::any_target(&scene.target);
        scene.outside_is_untouched();
    }
}

#[test]
fn a_volume_is_a_target_like_any_without_rights() {
    as_nobody("a_volume_is_a_target_like_any_without_rights", || {
        common::conformance::any_target(&Scene::new(Walk::Auto).target);
    });
}

#[test]
fn a_link_in_the_place_of_a_directory_is_replaced_and_never_followed() {
    for walk in WALKS {
        for link in ["../outside/dir", "/", "."] {
            let scene = Scene::new(walk);
            let to = if link == "/" {
                scene.outside.join("dir")
            } else {
                PathBuf::from(link)
            };
            fs::create_dir_all(scene.root.join("a/b")).expect("directories");
            symlink(&to, scene.root.join("a/b/link")).expect("a link");
            for deep in [
                "a/b/link/new",
                "a/b/link/inner/new",
                "a/b/link/inner/x/y/z/1/2/3/new",
            ] {
                assert!(
                    scene.target.open_file(&path(deep), false).is_err(),
                    "{deep} via {}",
                    to.display()
                );
                assert!(scene.target.make_dir(&path(deep)).is_err());
                assert!(
                    scene
                        .target
                        .finish(&path(deep), &entry(EntryKind::File))
                        .is_err()
                );
                assert!(scene.target.remove(&path("a/b/link/inner")).is_err());
                assert!(scene.target.names(&path("a/b/link")).is_err());
                assert_eq!(scene.target.look(&path(deep)).expect("looked"), None);
            }
            scene
                .target
                .make_dir(&path("a/b/link"))
                .expect("a directory in place of the link");
            scene
                .target
                .open_file(&path("a/b/link/new"), false)
                .expect("a file")
                .write_at(b"in", 0)
                .expect("written");
            assert_eq!(
                fs::read(scene.root.join("a/b/link/new")).expect("inside"),
                b"in"
            );
            assert!(!scene.root.join("a/b/link").is_symlink());
            scene.outside_is_untouched();
        }
    }
}

#[test]
fn a_link_swapped_in_while_we_work_is_not_followed() {
    for walk in WALKS {
        let scene = Scene::new(walk);
        scene.target.make_dir(&path("a")).expect("a directory");
        scene.target.make_dir(&path("a/dir")).expect("a directory");
        let file = scene
            .target
            .open_file(&path("a/dir/before"), false)
            .expect("a file");
        fs::rename(scene.root.join("a/dir"), scene.root.join("a/moved")).expect("moved");
        symlink(scene.outside.join("dir"), scene.root.join("a/dir")).expect("a link");
        file.write_at(b"x", 0)
            .expect("into the file that was opened");
        let _ = scene
            .target
            .open_file(&path("a/dir/after"), false)
            .map(|file| file.write_at(b"y", 0));
        let _ = scene.target.make_dir(&path("a/dir/inner"));
        let _ = scene.target.remove(&path("a/dir/inner"));
        assert!(
            scene
                .target
                .finish(&path("a/dir"), &entry(EntryKind::Dir))
                .is_err(),
            "it is a link now"
        );
        scene.outside_is_untouched();
        // A target that was not there before sees the link and nothing else.
        let fresh = target(&scene.root, walk);
        assert!(fresh.open_file(&path("a/dir/after"), false).is_err());
        scene.outside_is_untouched();
    }
}

#[test]
fn a_link_in_the_place_of_a_file_is_replaced_and_never_followed() {
    for walk in WALKS {
        for keep in [true, false] {
            let scene = Scene::new(walk);
            let place = scene.root.join("file");
            symlink("../outside/file", &place).expect("a link");
            let finished = scene.target.finish(&path("file"), &entry(EntryKind::File));
            assert!(finished.is_err(), "a link was finished as a file");
            scene
                .target
                .make_link(&path("file"), &path("linked"))
                .expect("a hard link of the link itself");
            assert!(scene.root.join("linked").is_symlink());
            let file = scene.target.open_file(&path("file"), keep).expect("a file");
            file.write_at(b"inside", 0).expect("written");
            file.finish(&entry(EntryKind::File)).expect("finished");
            assert_eq!(fs::read(&place).expect("inside"), b"inside");
            assert!(!place.is_symlink());
            scene.outside_is_untouched();
        }
    }
}

#[test]
fn removing_a_tree_removes_links_and_not_what_they_lead_to() {
    let scene = Scene::new(Walk::Auto);
    fs::create_dir_all(scene.root.join("a/b/c")).expect("directories");
    symlink(&scene.outside, scene.root.join("a/b/absolute")).expect("a link");
    symlink("../../../outside/dir", scene.root.join("a/relative")).expect("a link");
    symlink(&scene.outside, scene.root.join("alone")).expect("a link");
    scene.target.remove(&path("alone")).expect("removed");
    scene.target.remove(&path("a")).expect("removed");
    assert_eq!(
        scene.target.names(&EntryPath::top()).expect("names"),
        Vec::<Vec<u8>>::new()
    );
    scene.outside_is_untouched();
}

#[test]
fn a_pipe_in_the_place_of_a_file_blocks_nobody() {
    let scene = Scene::new(Walk::Auto);
    for keep in [true, false] {
        scene
            .target
            .make_special(&path("pipe"), &entry(EntryKind::Fifo))
            .expect("a pipe");
        scene.target.open_file(&path("pipe"), keep).expect("a file");
        assert!(
            fs::metadata(scene.root.join("pipe"))
                .expect("there")
                .is_file()
        );
    }
}

#[test]
fn what_the_snapshot_does_not_have_is_taken_away() {
    let scene = Scene::new(Walk::Auto);
    fs::write(scene.root.join("file"), "x").expect("a file");
    let attributes = [
        ("user.old", b"1".to_vec()),
        ("user.kept", b"old".to_vec()),
        ("system.posix_acl_access", common::odd_tree::acl(33, 7)),
    ];
    let file = scene.root.join("file");
    for (name, value) in attributes {
        rustix::fs::setxattr(&file, name, &value, rustix::fs::XattrFlags::empty())
            .expect("an attribute");
    }
    let kept = Xattr {
        name: "user.kept".to_owned(),
        value: b"new".to_vec(),
    };
    let entry = Entry {
        permissions: 0o640,
        xattrs: vec![kept],
        ..entry(EntryKind::File)
    };
    scene
        .target
        .finish(&path("file"), &entry)
        .expect("finished");
    let restored = common::volume(&scene.root);
    let (restored, _) = &restored[b"file".as_slice()];
    assert_eq!(
        (restored.permissions, &restored.xattrs),
        (0o640, &entry.xattrs)
    );
}

#[test]
fn impossible_metadata_fails_alone() {
    let scene = Scene::new(Walk::Auto);
    scene
        .target
        .open_file(&path("file"), false)
        .expect("a file");
    let bad = |name: &str, value: Vec<u8>| Xattr {
        name: name.to_owned(),
        value,
    };
    let xattrs = vec![
        bad("user.nul\0", vec![]),
        bad("", vec![]),
        bad("nowhere.x", vec![]),
        bad("user.large", vec![0; 1 << 20]),
    ];
    let hostile = Entry {
        uid: u32::MAX,
        gid: u32::MAX,
        permissions: u32::MAX,
        modified: Timestamp {
            seconds: i64::MAX,
            nanoseconds: u32::MAX,
            offset_seconds: i32::MIN,
        },
        accessed: Timestamp {
            seconds: i64::MIN,
            nanoseconds: 0x3fff_ffff,
            offset_seconds: 0,
        },
        xattrs,
        ..entry(EntryKind::File)
    };
    let failures = scene
        .target
        .finish(&path("file"), &hostile)
        .expect_err("nothing of it is possible");
    assert!(failures.len() >= 5, "{failures:?}");
    assert!(
        failures
            .iter()
            .all(|failure| failure.path.ends_with("root/file")),
        "{failures:?}"
    );
    let mode = fs::metadata(scene.root.join("file")).expect("there").mode();
    assert_eq!(
        mode & 0o7000,
        0o1000,
        "the set-ID bits need an owner that could be set"
    );
    let file = scene
        .target
        .open_file(&path("other"), false)
        .expect("a file");
    assert!(file.set_len(u64::MAX).is_err());
    assert!(file.write_at(b"x", u64::MAX).is_err());
}

#[test]
fn a_root_may_be_a_link_and_is_made_with_its_parents() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    symlink("real/deep", dir.path().join("link")).expect("a link");
    fs::create_dir_all(dir.path().join("real/deep")).expect("directories");
    let made = target(&dir.path().join("link"), Walk::Auto);
    made.open_file(&path("file"), false).expect("a file");
    assert!(dir.path().join("real/deep/file").exists());
    target(&dir.path().join("a/b/c"), Walk::Auto);
    assert!(dir.path().join("a/b/c").is_dir());
    fs::write(dir.path().join("file"), "").expect("a file");
    let refused = VolumeTarget::create(&dir.path().join("file/below"), &Default::default());
    assert_eq!(refused.expect_err("below a file").doing, "create directory");
}

#[test]
fn the_owner_of_read_only_files_can_restore_over_them() {
    as_nobody("the_owner_of_read_only_files_can_restore_over_them", || {
        let scene = Scene::new(Walk::Auto);
        let dir = scene.root.join("dir");
        fs::create_dir(&dir).expect("a directory");
        for name in ["kept", "emptied", "replaced"] {
            fs::write(dir.join(name), "old content").expect("a file");
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o400)).expect("a mode");
        }
        fs::create_dir(dir.join("locked")).expect("a directory");
        fs::write(dir.join("locked/inner"), "x").expect("a file");
        fs::set_permissions(dir.join("locked"), fs::Permissions::from_mode(0o000)).expect("a mode");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o500)).expect("a mode");

        scene.target.make_dir(&path("dir")).expect("kept");
        let kept = scene
            .target
            .open_file(&path("dir/kept"), true)
            .expect("a file");
        kept.write_at(b"new", 0).expect("written");
        scene
            .target
            .open_file(&path("dir/emptied"), false)
            .expect("a file");
        scene
            .target
            .make_special(&path("dir/replaced"), &entry(EntryKind::Fifo))
            .expect("a pipe");
        scene
            .target
            .remove(&path("dir/locked"))
            .expect("removed with what is in it");
        let xattrs = vec![Xattr {
            name: "user.x".to_owned(),
            value: b"1".to_vec(),
        }];
        let read_only = Entry {
            permissions: 0o400,
            xattrs,
            ..entry(EntryKind::File)
        };
        kept.finish(&read_only).expect("finished");
        scene
            .target
            .finish(&path("dir/kept"), &read_only)
            .expect("finished again, now read-only");
        scene
            .target
            .finish(
                &path("dir"),
                &Entry {
                    permissions: 0o500,
                    ..entry(EntryKind::Dir)
                },
            )
            .expect("finished");
        assert_eq!(
            fs::read(dir.join("kept")).expect("readable"),
            b"new content"
        );
        assert_eq!(fs::metadata(&dir).expect("there").mode() & 0o7777, 0o500);
    });
}

#[test]
fn without_rights_the_owner_stays_and_all_else_is_set() {
    as_nobody("without_rights_the_owner_stays_and_all_else_is_set", || {
        let scene = Scene::new(Walk::Auto);
        let foreign = Entry {
            uid: 0,
            gid: 0,
            permissions: 0o750,
            ..entry(EntryKind::File)
        };
        let file = scene
            .target
            .open_file(&path("file"), false)
            .expect("a file");
        file.finish(&foreign)
            .expect("that we own it now is no failure");
        let metadata = fs::metadata(scene.root.join("file")).expect("there");
        assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o750, 1));
        // A set-user-ID program of another user must not become one of ours.
        let failures = file
            .finish(&Entry {
                permissions: 0o4755,
                ..foreign
            })
            .expect_err("said");
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert_eq!(
            fs::metadata(scene.root.join("file")).expect("there").mode() & 0o7777,
            0o755
        );
        let device = Entry {
            device: 259,
            ..entry(EntryKind::CharDevice)
        };
        let refused = scene
            .target
            .make_special(&path("device"), &device)
            .expect_err("devices need rights");
        assert_eq!(refused.cause.kind(), std::io::ErrorKind::PermissionDenied);
    });
}

#[test]
fn a_half_written_file_is_for_its_owner_alone() {
    let scene = Scene::new(Walk::Auto);
    for (keep, mode) in [(true, 0o6777), (true, 0o644), (false, 0o6777)] {
        fs::write(scene.root.join("file"), "public").expect("a file");
        fs::set_permissions(scene.root.join("file"), fs::Permissions::from_mode(mode))
            .expect("a mode");
        let file = scene.target.open_file(&path("file"), keep).expect("a file");
        file.write_at(b"secret", 0).expect("written");
        let now = fs::metadata(scene.root.join("file")).expect("there").mode() & 0o7777;
        assert_eq!(now & 0o7077, 0, "{now:o} after {mode:o}");
    }
    scene.target.make_dir(&path("dir")).expect("a directory");
    assert_eq!(
        fs::metadata(scene.root.join("dir")).expect("there").mode() & 0o7777,
        0o700
    );
}

#[test]
fn a_mounted_file_system_is_not_emptied() {
    // Mounting takes rights that containers lack; the rule itself is the same for any other device number.
    let scene = Scene::new(Walk::Auto);
    let dir = scene.root.join("a/mounted");
    fs::create_dir_all(&dir).expect("directories");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "none"])
        .arg(&dir)
        .output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        return;
    }
    fs::write(dir.join("precious"), "x").expect("a file");
    let refused = scene.target.remove(&path("a"));
    let is_there = dir.join("precious").exists();
    let unmounted = std::process::Command::new("umount")
        .arg(&dir)
        .status()
        .expect("umount");
    assert!(unmounted.success());
    assert_eq!(
        refused.expect_err("refused").cause.kind(),
        std::io::ErrorKind::CrossesDevices
    );
    assert!(is_there);
}

#[test]
fn a_running_program_is_replaced_and_runs_on() {
    let scene = Scene::new(Walk::Auto);
    let program = scene.root.join("sleep");
    for keep in [true, false] {
        fs::copy("/bin/sleep", &program).expect("a program");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a mode");
        let mut command = std::process::Command::new(&program);
        let started = common::nobody::patiently(|| command.arg("60").spawn());
        let mut child = started.expect("started");
        let file = scene
            .target
            .open_file(&path("sleep"), keep)
            .expect("a file");
        file.write_at(b"x", 0).expect("written");
        assert_eq!(
            child.try_wait().expect("a status"),
            None,
            "the program still runs"
        );
        child.kill().expect("killed");
        child.wait().expect("ended");
        drop(file);
        fs::remove_file(&program).expect("removed");
    }
}
