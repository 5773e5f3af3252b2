//! The oracles agree with the fixtures and the comparison: restic brings a generated tree back, so that a difference is ours.

use std::fs;

use lifeboat_testkit::compare::Comparison;
use lifeboat_testkit::fixtures::{Generator, Shape};
use lifeboat_testkit::replay::{Note, seed};
use lifeboat_testkit::restic::Restic;

const SHAPE: Shape = Shape {
    entries: 120,
    depth: 4,
    largest_bytes: 3 << 20,
};

#[test]
fn restic_brings_back_a_generated_tree_after_edits() {
    let seed = seed();
    let _seed = Note::seed(seed);
    let mut generator = Generator::with_shape(seed, SHAPE);
    let (temporary, tree) = generator.temporary_tree();
    let restic = Restic::current(&temporary.path().join("repository"));
    restic.run(&["init"]);
    for round in 0..3 {
        restic.run(&["backup", tree.to_str().unwrap()]);
        let target = temporary.path().join(format!("target-{round}"));
        fs::create_dir(&target).unwrap();
        let of = format!("latest:{}", tree.display());
        restic.run(&["restore", &of, "--target", target.to_str().unwrap()]);
        let mut comparison = Comparison::as_user().ignoring_sockets().ignoring_root();
        if !rustix::process::geteuid().is_root() {
            // restic sets an ACL that takes the owner's right to write before the attributes that need it, and is
            // silent about those that then fail (0.19.1, `internal/fs/node.go`). Ours must do better.
            comparison = comparison.ignoring_attributes();
        }
        comparison.assert_same(&tree, &target);
        generator.edit(&tree, 15);
    }
    restic.run(&["check", "--read-data"]);
}

#[test]
fn both_restics_answer_and_a_failure_is_told() {
    let temporary = tempfile::tempdir().unwrap();
    let repository = temporary.path().join("repository");
    let [current, debian] = Restic::both(&repository);
    debian.run(&["init"]);
    assert!(
        current
            .run(&["snapshots", "--json"])
            .text()
            .starts_with('[')
    );
    let wrong = current.with_password("wrong").try_run(&["snapshots"]);
    assert_eq!(wrong.code(), 12);
    assert!(wrong.stderr.contains("wrong password"), "{}", wrong.stderr);
}
