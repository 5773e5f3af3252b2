//! Trees that can't be read, in snapshots that are repaired: each is stored anew where that is possible, and losses that
//! many snapshots share are held once.

use std::path::Path;
use std::sync::Arc;

use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::{BlobKind, Id, Tree};
use lifeboat_repo::backend::{Backend, FileKind, FileName, MemoryBackend};
use lifeboat_repo::{CheckOptions, PackListing, Repository, SnapshotVerdict};

use crate::common::{Seen, back_up, init, open, scratch};
use crate::fixture::repair_snapshots;

/// Flips a bit of a tree where it lies.
fn damage_tree(backend: &MemoryBackend, tree: Id) {
    let repository = open(backend.clone()).unwrap();
    let (index, _) = repository
        .load_index(PackListing::Skip, &Cancel::new())
        .unwrap();
    for place in index.find_all(BlobKind::Tree, &tree) {
        let name = FileName::new(FileKind::Pack, place.pack);
        let mut content = backend.load(name, u64::MAX).unwrap();
        content[place.offset_bytes as usize + 20] ^= 1;
        backend.save(name, &[&content]).unwrap();
    }
}

fn structure_is_sound(repository: &Repository) -> bool {
    let options = CheckOptions {
        read_packs: None,
        threads: 2,
    };
    let report = repository.check(&options, &Counters::default(), &Cancel::new());
    !report.unwrap().is_serious()
}

fn made(tree: &Path) -> MemoryBackend {
    let backend = MemoryBackend::new();
    let repository: Arc<Repository> = init(backend.clone());
    back_up(&repository, tree, &Seen::default()).unwrap();
    backend
}

#[test]
fn an_empty_tree_that_is_damaged_is_stored_anew_and_nothing_is_lost() {
    let scratch = scratch();
    let tree = scratch.path().join("tree");
    std::fs::create_dir_all(tree.join("empty")).unwrap();
    std::fs::write(tree.join("file"), "content").unwrap();
    let backend = made(&tree);
    let before = open(backend.clone()).unwrap().snapshots().unwrap().all;
    damage_tree(&backend, Id::of(&Tree::default().to_json().unwrap()));
    assert!(!structure_is_sound(&open(backend.clone()).unwrap()));
    let done = repair_snapshots(backend.clone(), true).unwrap();
    assert_eq!(done[0].plan.verdict, SnapshotVerdict::Whole);
    assert!(done[0].plan.losses.is_empty());
    let repository = open(backend.clone()).unwrap();
    assert!(structure_is_sound(&repository));
    let left = repository.snapshots().unwrap().all;
    assert_eq!(left, before, "the snapshot is as it was");
    // And nothing is left to do.
    let files = backend.files().len();
    repair_snapshots(backend.clone(), true).unwrap();
    assert_eq!(backend.files().len(), files);
}
