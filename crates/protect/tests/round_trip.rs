//! Random trees and sequences of edits: a backup after each, every snapshot restored and compared, fresh and in place.

mod common;

use common::{Seen, back_up, copy, init, open, restore, same};
use lifeboat_repo::backend::MemoryBackend;
use lifeboat_testkit::fixtures::Generator;
use lifeboat_testkit::replay::{self, Note};

#[test]
fn every_snapshot_of_a_changing_tree_comes_back() {
    let seed = replay::seed();
    let _note = Note::seed(seed);
    for round in 0..4 {
        let mut generator = Generator::new(seed.wrapping_add(round));
        let (_keep, tree) = generator.temporary_tree();
        let scratch = tempfile::tempdir().unwrap();
        let repository = init(MemoryBackend::new());
        let mut states = Vec::new();
        for state in 0..4 {
            let seen = Seen::default();
            let outcome = back_up(&repository, &tree, &seen).unwrap();
            assert_eq!(seen.problems(), Vec::<String>::new());
            let kept = scratch.path().join(format!("state {state}"));
            copy(&tree, &kept);
            states.push((outcome.snapshot.unwrap(), kept));
            generator.edit(&tree, 12);
        }
        let in_place = scratch.path().join("in place");
        for (number, (snapshot, kept)) in states.iter().enumerate() {
            let fresh = scratch.path().join(format!("fresh {number}"));
            let seen = Seen::default();
            let outcome = restore(
                &repository,
                *snapshot,
                &tree,
                &fresh,
                |o| o.verify = true,
                &seen,
            )
            .unwrap();
            assert_eq!(seen.problems(), Vec::<String>::new());
            assert!(outcome.files_verified > 0);
            same().assert_same(kept, &fresh);
            // Over what the last restore left, with deletion: the result must be the same.
            restore(
                &repository,
                *snapshot,
                &tree,
                &in_place,
                |o| o.delete = true,
                &seen,
            )
            .unwrap();
            assert_eq!(seen.problems(), Vec::<String>::new());
            same().assert_same(kept, &in_place);
        }
        let report = repository
            .check(
                &lifeboat_repo::CheckOptions {
                    read_packs: Some(repository.packs().unwrap().into_keys().collect()),
                    threads: 2,
                    ..Default::default()
                },
                &lifeboat_flow::Counters::default(),
                &lifeboat_flow::Cancel::new(),
            )
            .unwrap();
        assert_eq!(report.findings, Vec::new());
    }
}

#[test]
fn an_unchanged_tree_stores_nothing_and_reads_no_file() {
    let (_keep, tree) = Generator::new(7).temporary_tree();
    let backend = MemoryBackend::new();
    let repository = init(backend.clone());
    let first = back_up(&repository, &tree, &Seen::default()).unwrap();
    let packs = repository.packs().unwrap();
    let second = back_up(&open(backend).unwrap(), &tree, &Seen::default()).unwrap();
    let summary = &second.summary;
    assert_eq!(
        (summary.files_new, summary.files_changed, summary.data_blobs),
        (0, 0, 0)
    );
    assert_eq!(summary.files_unmodified, first.summary.files_new);
    // Only the directories above the tree may have changed: the temporary one is shared with other tests.
    assert!(summary.dirs_changed <= 2, "{summary:?}");
    assert!(repository.packs().unwrap().len() <= packs.len() + 1);
}
