//! A volume's source: what exclusions leave out, what changes under its hands, and what it may not read.
//! Whatever is left out must be left out by a rule or named as a problem.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use common::{entry_path, nobody::as_nobody, odd_tree, walk};
use lifeboat_flow::{EntryKind, EntryPath, Source, SourceError};
use lifeboat_state::{DirTag, VolumeError, VolumeOptions, VolumeSource};

fn source(root: &Path) -> VolumeSource {
    with(root, VolumeOptions::default())
}

fn with(root: &Path, options: VolumeOptions) -> VolumeSource {
    VolumeSource::new(vec![root.to_path_buf()], options).expect("a volume")
}

fn names(source: &VolumeSource, root: &Path) -> Vec<String> {
    let walked = walk(source, &entry_path(root));
    assert!(
        walked.problems.is_empty() && walked.errors.is_empty(),
        "{walked:?}"
    );
    walked.names()
}

fn files(root: &Path, names: &[&str]) {
    for name in names {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("below the root")).expect("directories");
        fs::write(path, name).expect("a file");
    }
}

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let root = dir.path().join("root");
    fs::create_dir(&root).expect("a directory");
    (dir, root)
}

#[test]
fn a_volume_is_a_source_like_any() {
    let (_dir, root) = scratch();
    odd_tree::make(&root);
    common::conformance::any_source(&source(&root), &entry_path(&root));
    let file = walk(&source(&root.join("large")), &entry_path(&root)).whole();
    assert_eq!(file.len(), 1, "a target may be a file");
}

#[test]
fn tagged_directories_keep_only_their_tag() {
    let (_dir, root) = scratch();
    files(
        &root,
        &[
            "a/keep",
            "cache/data",
            "cache/deep/data",
            "fake/data",
            "skip/.nobackup",
            "skip/data",
            "both/.nobackup",
            "both/x",
        ],
    );
    let cache = DirTag::cache();
    fs::write(
        root.join("cache/CACHEDIR.TAG"),
        [cache.header.as_slice(), b"\n# made by a test"].concat(),
    )
    .expect("a file");
    fs::write(root.join("both/CACHEDIR.TAG"), &cache.header).expect("a file");
    fs::write(root.join("fake/CACHEDIR.TAG"), "Signature: none").expect("a file");
    let tag = DirTag {
        name: b".nobackup".to_vec(),
        header: Vec::new(),
    };
    let options = VolumeOptions {
        exclude_caches: true,
        exclude_if_present: vec![tag],
        ..VolumeOptions::default()
    };
    let expected = [
        "a",
        "a/keep",
        "both",
        "cache",
        "cache/CACHEDIR.TAG",
        "fake",
        "fake/CACHEDIR.TAG",
        "fake/data",
        "skip",
        "skip/.nobackup",
    ];
    assert_eq!(names(&with(&root, options), &root), expected);
}

#[test]
fn large_files_are_left_out_and_directories_never_are() {
    let (_dir, root) = scratch();
    files(&root, &["dir/small"]);
    fs::write(root.join("at-limit"), [0; 100]).expect("a file");
    fs::write(root.join("over"), [0; 101]).expect("a file");
    let options = VolumeOptions {
        exclude_larger_than_bytes: Some(100),
        ..VolumeOptions::default()
    };
    assert_eq!(
        names(&with(&root, options), &root),
        ["at-limit", "dir", "dir/small"]
    );
}

#[test]
fn a_selection_sees_absolute_paths_and_never_the_target_itself() {
    let (_dir, root) = scratch();
    files(&root, &["a/x.log", "a/y", "b/c/z"]);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let select = Arc::new(move |path: &Path, kind, size_bytes| {
        seen.lock()
            .expect("no panic")
            .push((path.to_path_buf(), kind, size_bytes));
        !(path.extension().is_some_and(|extension| extension == "log") || path.ends_with("b/c"))
    });
    let options = VolumeOptions {
        select: Some(select),
        ..VolumeOptions::default()
    };
    assert_eq!(names(&with(&root, options), &root), ["a", "a/y", "b"]);
    let asked = asked.lock().expect("no panic");
    let expected = [
        ("a", EntryKind::Dir, 0),
        ("a/x.log", EntryKind::File, 7),
        ("a/y", EntryKind::File, 3),
        ("b", EntryKind::Dir, 0),
        ("b/c", EntryKind::Dir, 0),
    ];
    assert_eq!(asked.len(), expected.len(), "{asked:?}");
    for (name, kind, size_bytes) in expected {
        assert!(
            asked.contains(&(root.join(name), kind, size_bytes)),
            "{name}: {asked:?}"
        );
    }
}

#[test]
fn mount_points_are_empty_directories_on_one_file_system() {
    let options = VolumeOptions {
        one_file_system: true,
        ..VolumeOptions::default()
    };
    let source = with(Path::new("/"), options);
    let top = source.list(&EntryPath::top()).expect("the root directory");
    let proc = top
        .entries
        .iter()
        .find(|entry| entry.name == b"proc")
        .expect("/proc");
    assert_eq!(proc.kind, EntryKind::Dir);
    assert!(
        source
            .list(&EntryPath(b"proc".to_vec()))
            .expect("/proc")
            .entries
            .is_empty()
    );
    // Named by the user, it is read all the same.
    let options = VolumeOptions {
        one_file_system: true,
        ..VolumeOptions::default()
    };
    let source =
        VolumeSource::new(vec!["/".into(), "/proc/self/attr".into()], options).expect("a volume");
    let walked = source
        .list(&EntryPath(b"proc/self/attr".to_vec()))
        .expect("named");
    assert!(!walked.entries.is_empty());
}

#[test]
fn missing_targets_are_named_and_none_left_is_an_error() {
    let (_dir, root) = scratch();
    files(&root, &["a"]);
    let (there, gone) = (root.join("a"), root.join("gone"));
    let source = VolumeSource::new(vec![there, gone.clone()], VolumeOptions::default())
        .expect("one is there");
    assert_eq!(source.missing().len(), 1);
    assert_eq!(source.missing()[0].path, gone.to_string_lossy());
    match VolumeSource::new(vec![gone], VolumeOptions::default()) {
        Err(VolumeError::AllMissing(missing)) => assert_eq!(missing.len(), 1),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        VolumeSource::new(vec![], VolumeOptions::default()),
        Err(VolumeError::NoTargets)
    ));
}

#[test]
fn what_vanishes_or_changes_its_kind_after_the_listing_is_said_and_blocks_nobody() {
    let (dir, root) = scratch();
    files(
        &root,
        &["vanish", "pipe", "link", "socket", "dir", "sub/inner"],
    );
    let source = source(&root);
    let at = entry_path(&root);
    assert_eq!(source.list(&at).expect("listed").entries.len(), 6);
    assert_eq!(
        source.list(&at.join(b"sub")).expect("listed").entries.len(),
        1
    );
    for name in ["vanish", "pipe", "link", "socket", "dir"] {
        fs::remove_file(root.join(name)).expect("removed");
    }
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("pipe"),
        rustix::fs::FileType::Fifo,
        mode,
        0,
    )
    .expect("a pipe");
    symlink("/etc/passwd", root.join("link")).expect("a link");
    let _listener = std::os::unix::net::UnixListener::bind(root.join("socket")).expect("a socket");
    fs::create_dir(root.join("dir")).expect("a directory");
    let failure = |name: &[u8]| {
        source
            .open(&at.join(name))
            .map(|_| ())
            .expect_err("it is no file any more")
    };
    match failure(b"vanish") {
        SourceError::Unreadable { cause, .. } => {
            assert_eq!(cause.kind(), std::io::ErrorKind::NotFound)
        }
        other => panic!("{other:?}"),
    }
    for (name, now) in [
        (b"pipe".as_slice(), "a named pipe"),
        (b"link", "a symbolic link"),
        (b"socket", "a socket"),
        (b"dir", "a directory"),
    ] {
        match failure(name) {
            SourceError::Changed { is, .. } => assert_eq!(is, now),
            other => panic!("{other:?}"),
        }
    }
    // A directory swapped for a link leads nowhere, not even for files that were listed.
    fs::create_dir(dir.path().join("elsewhere")).expect("a directory");
    fs::write(dir.path().join("elsewhere/inner"), "secret").expect("a file");
    fs::rename(root.join("sub"), root.join("moved")).expect("moved");
    symlink("../elsewhere", root.join("sub")).expect("a link");
    let fresh = with(&root, VolumeOptions::default());
    assert!(fresh.open(&at.join(b"sub").join(b"inner")).is_err());
    assert!(fresh.list(&at.join(b"sub")).is_err());
}

#[test]
fn a_file_that_changes_while_it_is_read_says_so_and_keeps_its_first_time() {
    let (_dir, root) = scratch();
    fs::write(root.join("file"), vec![1; 200_000]).expect("a file");
    odd_tree::set_time(&root.join("file"), 1_000, 5);
    let source = source(&root);
    let mut content = source
        .open(&entry_path(&root).join(b"file"))
        .expect("opened");
    let mut start = [0; 1000];
    content.read_exact(&mut start).expect("read");
    let mut writer = fs::OpenOptions::new()
        .append(true)
        .open(root.join("file"))
        .expect("opened");
    writer.write_all(b"more").expect("written");
    let mut rest = Vec::new();
    content.read_to_end(&mut rest).expect("read");
    let entry = content.finish().expect("finished").expect("an entry");
    assert!(content.changed());
    assert_eq!(
        (entry.modified.seconds, entry.modified.nanoseconds),
        (1_000, 5)
    );
    assert_eq!(entry.size_bytes, (start.len() + rest.len()) as u64);
}

#[test]
fn what_may_not_be_read_is_a_problem_and_the_rest_is_read() {
    as_nobody(
        "what_may_not_be_read_is_a_problem_and_the_rest_is_read",
        || {
            let (_dir, root) = scratch();
            files(&root, &["file", "fine", "dir/inner", "blind/inner"]);
            for (name, mode) in [("file", 0o000), ("dir", 0o000), ("blind", 0o400)] {
                fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode))
                    .expect("a mode");
            }
            let walked = walk(&source(&root), &entry_path(&root));
            let names = walked.names();
            let (problems, errors) = (walked.problems, walked.errors);
            for name in ["dir", "blind"] {
                fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o700))
                    .expect("a mode");
            }
            assert_eq!(names, ["blind", "dir", "file", "fine"]);
            assert_eq!(problems.len(), 1, "names without a look: {problems:?}");
            assert!(problems[0].path.ends_with("blind/inner"));
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(errors.len(), 2, "{errors:?}");
            assert!(
                errors
                    .iter()
                    .any(|error| error.starts_with("open file ") && error.ends_with("/file")),
                "{errors:?}"
            );
            assert!(
                errors
                    .iter()
                    .any(|error| error.starts_with("read directory ") && error.ends_with("/dir")),
                "{errors:?}"
            );
        },
    );
}

#[test]
fn access_times_are_kept_only_if_asked_for_and_reading_does_not_move_them() {
    let (_dir, root) = scratch();
    files(&root, &["file"]);
    let old = rustix::fs::Timespec {
        tv_sec: 1_000,
        tv_nsec: 1,
    };
    let new = rustix::fs::Timespec {
        tv_sec: 2_000,
        tv_nsec: 2,
    };
    let times = rustix::fs::Timestamps {
        last_access: old,
        last_modification: new,
    };
    rustix::fs::utimensat(
        rustix::fs::CWD,
        root.join("file"),
        &times,
        rustix::fs::AtFlags::empty(),
    )
    .expect("times");
    for (with_atime, seconds) in [(false, 2_000), (true, 1_000), (true, 1_000)] {
        let source = with(
            &root,
            VolumeOptions {
                with_atime,
                ..VolumeOptions::default()
            },
        );
        let tree = walk(&source, &entry_path(&root)).whole();
        assert_eq!(tree[b"file".as_slice()].0.accessed.seconds, seconds);
    }
}
