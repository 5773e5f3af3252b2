//! What a source reads out, a target puts back: the same tree, whatever is in it.
//! Neither side may lose, change or invent anything on the way.

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;

use common::{assert_same, nobody::as_nobody, odd_tree, put, target, volume};
use lifeboat_state::Walk;

#[test]
fn a_tree_of_all_there_is_comes_back() {
    for walk in [Walk::Auto, Walk::Components] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (from, to) = (dir.path().join("from"), dir.path().join("new/to"));
        fs::create_dir(&from).expect("a directory");
        odd_tree::make(&from);
        let tree = volume(&from);
        let failures = put(&tree, &target(&to, walk));
        assert!(failures.is_empty(), "{failures:?}");
        assert_same(&tree, &volume(&to));
        let ids = |name: &str| fs::metadata(to.join(name)).expect("restored").ino();
        assert_eq!(ids("linked"), ids("names/linked-too"));
        // Again over what is there now: everything is replaced in place and the same again.
        let failures = put(&tree, &target(&to, walk));
        assert!(failures.is_empty(), "{failures:?}");
        assert_same(&tree, &volume(&to));
    }
}

#[test]
fn a_tree_comes_back_without_rights() {
    as_nobody("a_tree_comes_back_without_rights", || {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir(&from).expect("a directory");
        odd_tree::make(&from);
        let tree = volume(&from);
        for _ in 0..2 {
            // The second time over read-only files and directories.
            let failures = put(&tree, &target(&to, Walk::Auto));
            assert!(failures.is_empty(), "{failures:?}");
            assert_same(&tree, &volume(&to));
        }
    });
}

#[test]
fn holes_stay_holes() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let target = target(dir.path(), Walk::Auto);
    let path = lifeboat_flow::EntryPath(b"sparse".to_vec());
    let file = lifeboat_flow::Target::open_file(&target, &path, false).expect("a file");
    file.set_len(64 << 20).expect("a length");
    file.write_at(b"end", (64 << 20) - 3).expect("written");
    let metadata = fs::metadata(dir.path().join("sparse")).expect("there");
    assert_eq!(metadata.len(), 64 << 20);
    assert!(
        metadata.blocks() * 512 < 1 << 20,
        "{} blocks are used",
        metadata.blocks()
    );
}
