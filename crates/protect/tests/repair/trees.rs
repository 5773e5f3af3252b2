//! Trees that can't be read, in snapshots that are repaired: each is stored anew where that is possible, and losses that
//! many snapshots share are held once.

use std::path::Path;
use std::sync::{Arc, RwLock};

use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::{BlobKind, Id, Node, NodeKind, Tree};
use lifeboat_repo::backend::{Backend, FileKind, FileName, MemoryBackend};
use lifeboat_repo::{
    CheckOptions, Index, Ingest, IngestOptions, PackListing, RepoError, Repository, SnapshotVerdict,
};
use lifeboat_testkit::faults::{FaultyBackend, Operation, Verb};

use crate::common::{Seen, back_up, draft, init, open, scratch};
use crate::fixture::{losses, repair_snapshots};

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
        ..Default::default()
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

fn store(repository: &Repository, trees: &[Tree]) -> Vec<Id> {
    let (index, options) = (RwLock::new(Index::new()), IngestOptions::default());
    let stored = Ingest::run(repository, &index, None, options, |ingest| {
        let mut sealer = ingest.sealer()?;
        let mut ids = Vec::new();
        for tree in trees {
            let json = tree.to_json().unwrap();
            ids.push(Id::of(&json));
            ingest.add(BlobKind::Tree, Id::of(&json), &json, &mut sealer)?;
        }
        Ok::<_, RepoError>(ids)
    });
    stored.unwrap().0
}

/// A directory of files whose content was lost, in more snapshots than what is lost of them should be noted at once.
#[test]
fn many_snapshots_over_one_damaged_tree_are_repaired_in_parts() {
    const SNAPSHOTS: usize = 250;
    const FILES: usize = 1_000;
    let memory = MemoryBackend::new();
    let repository = init(memory.clone());
    let file = |number: usize| Node {
        size_bytes: 10,
        content: Some(vec![Id::of(format!("lost {number}").as_bytes())]),
        ..Node::bare(format!("file {number:06}").as_bytes(), NodeKind::File)
    };
    let shared = Tree {
        nodes: (0..FILES).map(file).collect(),
    };
    let shared = store(&repository, &[shared])[0];
    let root = |number: usize| {
        let dir = Node {
            subtree: Some(shared),
            ..Node::bare(b"shared", NodeKind::Dir)
        };
        let name = format!("snapshot {number:06}");
        let other = Node::bare(name.as_bytes(), NodeKind::Fifo);
        Tree {
            nodes: vec![dir, other],
        }
    };
    let roots: Vec<Tree> = (0..SNAPSHOTS).map(root).collect();
    for tree in store(&repository, &roots) {
        let mut snapshot = draft(None);
        snapshot.tree = tree;
        repository.save_snapshot(&snapshot).unwrap();
    }
    let backend = FaultyBackend::recording(memory.clone());
    let done = repair_snapshots(backend.clone(), true).unwrap();
    assert_eq!(done.len(), SNAPSHOTS);
    assert!(
        done.iter()
            .all(|one| one.plan.losses.count() == FILES as u64)
    );
    assert!(done.iter().all(|one| one.new.is_some() && one.removed));
    let first = losses(&done[0]);
    assert_eq!(first[0].path, b"/shared/file 000000");
    // What was planned was carried out, and told, before all was planned.
    let log = backend.log();
    let is_stored = |operation: &&Operation| {
        operation.verb == Verb::Save && operation.kind == Some(FileKind::Snapshot)
    };
    let is_read = |operation: &&Operation| {
        operation.verb == Verb::LoadAt && operation.kind == Some(FileKind::Pack)
    };
    let stored = log.iter().find(is_stored).unwrap().number;
    let after = log
        .iter()
        .filter(is_read)
        .filter(|read| read.number > stored);
    assert!(after.count() >= SNAPSHOTS / 3);
    assert!(structure_is_sound(&open(memory).unwrap()));
}
