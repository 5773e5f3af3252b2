//! Trees deeper than any path: more bytes than the kernel takes in one, more levels than there are open files.
//! Depth must never be a limit of its own, nor cost an open file a level.

mod common;

use std::os::fd::OwnedFd;
use std::path::Path;

use common::{assert_same, entry_path, put, target, walk};
use lifeboat_flow::{EntryPath, Target};
use lifeboat_state::{VolumeOptions, VolumeSource, Walk};
use rustix::fs::{CWD, Mode, OFlags};

/// Directories inside each other with these names, a file and a link in each.
fn dig(root: &Path, name: &str, levels: usize) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut fd: OwnedFd = rustix::fs::openat(CWD, root, flags, Mode::empty()).expect("the root");
    for level in 0..levels {
        let create = OFlags::WRONLY | OFlags::CREATE;
        let file =
            rustix::fs::openat(&fd, "file", create, Mode::from_raw_mode(0o644)).expect("a file");
        rustix::io::write(&file, level.to_string().as_bytes()).expect("written");
        rustix::fs::fsetxattr(
            &file,
            "user.level",
            &level.to_le_bytes(),
            rustix::fs::XattrFlags::empty(),
        )
        .expect("set");
        rustix::fs::symlinkat("file", &fd, "link").expect("a link");
        rustix::fs::mkdirat(&fd, name, Mode::from_raw_mode(0o755)).expect("a directory");
        fd = rustix::fs::openat(&fd, name, flags, Mode::empty()).expect("a directory");
    }
}

#[test]
fn paths_longer_than_the_kernel_takes_come_back_and_go_away() {
    for (name, levels, walk_by) in [
        ("n".repeat(200), 40, Walk::Auto),
        ("n".repeat(200), 40, Walk::Components),
        ("deep".to_owned(), 1_200, Walk::Auto),
    ] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::create_dir(&from).expect("a directory");
        dig(&from, &name, levels);
        let read = |root: &Path| {
            let source = VolumeSource::new(vec![root.to_path_buf()], VolumeOptions::default())
                .expect("a volume");
            walk(&source, &entry_path(root)).whole()
        };
        let tree = read(&from);
        assert_eq!(tree.len(), 3 * levels);
        assert!(tree.keys().map(Vec::len).max() > Some(4_096));
        let target = target(&to, walk_by);
        let failures = put(&tree, &target);
        assert!(failures.is_empty(), "{failures:?}");
        assert_same(&tree, &read(&to));
        let top = EntryPath(name.into_bytes());
        target
            .remove(&top)
            .expect("removed from a target that knows it");
        common::target(&from, walk_by)
            .remove(&top)
            .expect("removed from one that does not");
        assert_eq!(target.look(&top).expect("looked"), None);
    }
}
