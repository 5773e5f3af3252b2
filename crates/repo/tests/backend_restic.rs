//! restic and the local backend see the same files in a directory, whichever of them wrote it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use lifeboat_repo::backend::{Backend, FileKind, FileName, LocalBackend};
use lifeboat_testkit::conformance::listing;
use lifeboat_testkit::fixtures::{Generator, Shape};
use lifeboat_testkit::restic::Restic;

const NO_LIMIT: u64 = u64::MAX;

/// All files and folders below a repository with their permissions.
fn walk(root: &Path) -> BTreeSet<(PathBuf, u32)> {
    let mut found = BTreeSet::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(path) = left.pop() {
        let entry = fs::symlink_metadata(&path).unwrap();
        if entry.is_dir() {
            left.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
        let below = path.strip_prefix(root).unwrap().to_path_buf();
        found.insert((below, entry.permissions().mode() & 0o7777));
    }
    found
}

#[test]
fn a_repository_that_is_copied_file_by_file_is_the_same_to_restic() {
    let shape = Shape {
        entries: 40,
        depth: 2,
        largest_bytes: 1 << 20,
    };
    let (temporary, tree) = Generator::with_shape(1, shape).temporary_tree();
    let theirs = temporary.path().join("theirs");
    let restic = Restic::current(&theirs);
    restic.run(&["init"]);
    restic.run(&["backup", tree.to_str().unwrap()]);

    let from = LocalBackend::new(&theirs);
    let ours = temporary.path().join("ours");
    let to = LocalBackend::new(&ours);
    to.create().unwrap();
    let mut copied = 0;
    for kind in FileKind::NAMED.into_iter().chain([FileKind::Config]) {
        for (id, size_bytes) in listing(&from, kind).unwrap() {
            let name = FileName::new(kind, id);
            let content = from.load(name, size_bytes).unwrap();
            to.save(name, &[&content]).unwrap();
            copied += 1;
        }
    }
    assert!(
        copied >= 5,
        "config, key, snapshot, index file, pack: {copied}"
    );
    assert_eq!(walk(&theirs), walk(&ours), "the same names and permissions");

    let restic = Restic::current(&ours);
    restic.run(&["check", "--read-data"]);
    Restic::debian(&ours).run(&["check", "--read-data"]);
    assert_eq!(restic.run(&["list", "snapshots"]).lines().len(), 1);

    // What restic removes is missing to us, and what we remove is missing to restic.
    let (snapshot, _) = listing(&to, FileKind::Snapshot)
        .unwrap()
        .pop_first()
        .unwrap();
    let snapshot = FileName::new(FileKind::Snapshot, snapshot);
    to.remove(snapshot).unwrap();
    assert_eq!(restic.run(&["list", "snapshots"]).lines().len(), 0);
    to.save(snapshot, &[&from.load(snapshot, NO_LIMIT).unwrap()])
        .unwrap();
    restic.run(&["forget", &snapshot.id.to_string()]);
    assert!(to.size(snapshot).unwrap_err().is_missing());
}
