//! The comparison of trees notices each thing that a restore can get wrong, because all others trust it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use lifeboat_testkit::compare::{Comparison, What};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, makedev, mknodat, utimensat};

/// A tree with one of everything, always the same.
fn tree(root: &Path) {
    fs::create_dir_all(root.join("dir/inner")).unwrap();
    fs::write(root.join("file"), vec![7; 200_000]).unwrap();
    fs::write(root.join("dir/same"), "linked").unwrap();
    fs::write(root.join("dir/other"), "linked").unwrap();
    fs::hard_link(root.join("dir/same"), root.join("dir/inner/same")).unwrap();
    symlink("target", root.join("link")).unwrap();
    mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    mknodat(CWD, root.join("socket"), FileType::Socket, Mode::RUSR, 0).unwrap();
    xattr::set(root.join("file"), "user.comment", b"a comment").unwrap();
    fs::set_permissions(root.join("file"), Permissions::from_mode(0o640)).unwrap();
    for path in [
        "file",
        "dir/same",
        "dir/other",
        "link",
        "pipe",
        "socket",
        "dir/inner",
        "dir",
        "",
    ] {
        set_time(&full(root, path), 1_600_000_000, 123_456_789);
    }
}

fn full(root: &Path, path: &str) -> PathBuf {
    if path.is_empty() {
        root.to_path_buf()
    } else {
        root.join(path)
    }
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// What is found after `change` was made to the right of two equal trees. Times of folders are set back, because most
/// changes touch them too.
fn after(comparison: Comparison, change: impl FnOnce(&Path)) -> Vec<(String, What)> {
    let temporary = tempfile::tempdir().unwrap();
    let (left, right) = (
        temporary.path().join("left"),
        temporary.path().join("right"),
    );
    tree(&left);
    tree(&right);
    comparison.assert_same(&left, &right);
    change(&right);
    let found = comparison
        .ignoring_dir_times()
        .differences(&left, &right)
        .unwrap();
    found
        .into_iter()
        .map(|one| (one.path.display().to_string(), one.what))
        .collect()
}

/// The same, with nothing ignored.
fn found(change: impl FnOnce(&Path)) -> Vec<(String, What)> {
    after(Comparison::exact(), change)
}

fn one(path: &str, what: What) -> Vec<(String, What)> {
    vec![(path.to_owned(), what)]
}

fn keeping_time(path: &Path, change: impl FnOnce(&Path)) {
    change(path);
    set_time(path, 1_600_000_000, 123_456_789);
}

#[test]
fn equal_trees_are_equal() {
    assert_eq!(found(|_| {}), []);
}

#[test]
fn one_byte_is_found() {
    let found = found(|root| {
        keeping_time(&root.join("file"), |path| {
            let mut content = vec![7; 200_000];
            content[150_000] = 8;
            fs::write(path, content).unwrap();
        });
    });
    assert_eq!(found, one("file", What::Content(150_000)));
}

#[test]
fn a_length_is_found() {
    for length in [199_999, 200_001, 0] {
        let found = found(|root| {
            keeping_time(&root.join("file"), |path| {
                fs::write(path, vec![7; length]).unwrap();
            });
        });
        assert_eq!(found, one("file", What::Size(200_000, length as u64)));
    }
}

#[test]
fn what_is_missing_or_too_much_is_found() {
    let missing = found(|root| fs::remove_file(root.join("pipe")).unwrap());
    assert_eq!(missing, one("pipe", What::OnlyLeft));
    let more = found(|root| fs::write(root.join("dir/more"), "").unwrap());
    assert_eq!(more, one("dir/more", What::OnlyRight));
    let renamed = found(|root| fs::rename(root.join("link"), root.join("lonk")).unwrap());
    assert_eq!(renamed.len(), 2);
}

#[test]
fn permissions_are_found() {
    let found = found(|root| {
        fs::set_permissions(root.join("file"), Permissions::from_mode(0o4640)).unwrap();
        fs::set_permissions(root, Permissions::from_mode(0o711)).unwrap();
    });
    let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["", "file"]);
    assert_eq!(found[1].1, What::Permissions(0o640, 0o4640));
}

#[test]
fn one_nanosecond_is_found() {
    for path in ["file", "link", "pipe"] {
        let found = found(|root| set_time(&root.join(path), 1_600_000_000, 123_456_788));
        let times = ((1_600_000_000, 123_456_789), (1_600_000_000, 123_456_788));
        assert_eq!(found, one(path, What::Modified(times.0, times.1)));
    }
    let ignored = after(Comparison::exact().ignoring_times(), |root| {
        set_time(&root.join("file"), 0, 0);
    });
    assert_eq!(ignored, []);
}

#[test]
fn the_time_of_a_folder_is_found_unless_ignored() {
    let temporary = tempfile::tempdir().unwrap();
    let (left, right) = (
        temporary.path().join("left"),
        temporary.path().join("right"),
    );
    tree(&left);
    tree(&right);
    set_time(&right.join("dir/inner"), 1, 0);
    let exact = Comparison::exact();
    assert_eq!(exact.differences(&left, &right).unwrap().len(), 1);
    exact.ignoring_dir_times().assert_same(&left, &right);
}

#[test]
fn kinds_are_found() {
    let found = found(|root| {
        fs::remove_file(root.join("link")).unwrap();
        fs::write(root.join("link"), "target").unwrap();
        fs::remove_file(root.join("pipe")).unwrap();
        fs::create_dir(root.join("pipe")).unwrap();
    });
    assert_eq!(
        found,
        [
            ("link".to_owned(), What::Kind("symlink", "file")),
            ("pipe".to_owned(), What::Kind("fifo", "dir"))
        ]
    );
}

#[test]
fn the_target_of_a_link_is_found() {
    let found = found(|root| {
        fs::remove_file(root.join("link")).unwrap();
        symlink("target2", root.join("link")).unwrap();
        set_time(&root.join("link"), 1_600_000_000, 123_456_789);
    });
    assert_eq!(
        found,
        one("link", What::LinkTarget("target".into(), "target2".into()))
    );
}

#[test]
fn a_lost_and_a_gained_hard_link_are_found() {
    let lost = |root: &Path| {
        fs::remove_file(root.join("dir/inner/same")).unwrap();
        keeping_time(&root.join("dir/inner/same"), |path| {
            fs::write(path, "linked").unwrap();
        });
    };
    let all = found(lost);
    assert_eq!(all.len(), 2, "at both paths: {all:?}");
    assert!(
        all.iter()
            .all(|(_, what)| matches!(what, What::HardLinks(..)))
    );
    assert_eq!(after(Comparison::exact().ignoring_hard_links(), lost), []);
    let gained = found(|root| {
        fs::remove_file(root.join("dir/other")).unwrap();
        fs::hard_link(root.join("dir/same"), root.join("dir/other")).unwrap();
    });
    assert_eq!(gained.len(), 3, "{gained:?}");
}

#[test]
fn extended_attributes_are_found() {
    let found_values = found(|root| {
        xattr::set(root.join("file"), "user.comment", b"a commenT").unwrap();
    });
    let (old, new) = (b"a comment".to_vec(), b"a commenT".to_vec());
    let what = What::Attribute("user.comment".into(), Some(old.clone()), Some(new));
    assert_eq!(found_values, one("file", what));
    let lost = |root: &Path| xattr::remove(root.join("file"), "user.comment").unwrap();
    let what = What::Attribute("user.comment".into(), Some(old), None);
    assert_eq!(found(lost), one("file", what));
    assert_eq!(after(Comparison::exact().ignoring_attributes(), lost), []);
    let gained = found(|root| xattr::set(root.join("dir"), "user.new", b"").unwrap());
    let what = What::Attribute("user.new".into(), None, Some(Vec::new()));
    assert_eq!(gained, one("dir", what));
}

#[test]
fn owners_are_found() {
    // Root may give to anybody; others only to a group that they are in, and are told nothing new by that.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for path in ["file", "link", "dir"] {
        let give = |root: &Path| lchown(root.join(path), Some(1234), None).unwrap();
        let found = found(give);
        assert!(
            matches!(found[..], [(_, What::Owner((0, _), (1234, _)))]),
            "{found:?}"
        );
        assert_eq!(after(Comparison::exact().ignoring_owner(), give), []);
    }
}

#[test]
fn device_numbers_are_found() {
    let make = |root: &Path, minor| {
        let path = root.join("device");
        let device = makedev(7, minor);
        mknodat(CWD, &path, FileType::CharacterDevice, Mode::RUSR, device).map(|()| path)
    };
    let temporary = tempfile::tempdir().unwrap();
    let (left, right) = (
        temporary.path().join("left"),
        temporary.path().join("right"),
    );
    fs::create_dir_all(&left).unwrap();
    fs::create_dir_all(&right).unwrap();
    // Devices belong to root, and not to every root of a container.
    let (Ok(one), Ok(other)) = (make(&left, 300), make(&right, 301)) else {
        return;
    };
    set_time(&one, 1, 1);
    set_time(&other, 1, 1);
    let found = Comparison::exact()
        .ignoring_root()
        .differences(&left, &right)
        .unwrap();
    assert!(
        matches!(found[..], [ref difference] if matches!(difference.what, What::Device(..))),
        "{found:?}"
    );
}

#[test]
fn sockets_and_the_root_can_be_ignored() {
    let comparison = Comparison::exact().ignoring_sockets().ignoring_root();
    let found = after(comparison, |root| {
        fs::remove_file(root.join("socket")).unwrap();
        fs::set_permissions(root, Permissions::from_mode(0o711)).unwrap();
    });
    assert_eq!(found, []);
}

#[test]
#[should_panic(expected = "differ in 1 ways")]
fn an_assertion_fails() {
    let temporary = tempfile::tempdir().unwrap();
    let (left, right) = (
        temporary.path().join("left"),
        temporary.path().join("right"),
    );
    fs::create_dir(&left).unwrap();
    fs::create_dir(&right).unwrap();
    fs::write(right.join("more"), "").unwrap();
    Comparison::exact()
        .ignoring_root()
        .assert_same(&left, &right);
}

#[test]
fn a_tree_that_is_not_there_is_an_error() {
    let temporary = tempfile::tempdir().unwrap();
    let missing = temporary.path().join("missing");
    assert!(
        Comparison::exact()
            .differences(temporary.path(), &missing)
            .is_err()
    );
}
