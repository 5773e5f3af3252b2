//! What we write is checked, listed, restored and rewritten by restic, and stays whole when restic works on it.

use std::fs;
use std::path::Path;

use lifeboat_testkit::compare::{Comparison, Difference, What};
use lifeboat_testkit::fixtures::Generator;
use lifeboat_testkit::replay::{self, Note};
use serde_json::Value;

use crate::common::{Place, Program, array, summary};
use crate::listing::{listed, walked};

const ROUNDS: usize = 3;
const EDITS: usize = 15;

/// A restored tree against the one that was backed up from within: its top has no node of its own.
pub(crate) fn assert_restored(name: &str, tree: &Path, target: &Path) {
    let same = Comparison::as_user().ignoring_root().ignoring_sockets();
    let mut found = same.differences(tree, target).unwrap();
    if name == "restic 0.14" {
        // It knows no link targets that are no UTF-8 (they came with 0.16).
        let is_known = |difference: &Difference| matches!(&difference.what, What::LinkTarget(left, _) if left.to_str().is_none());
        found.retain(|difference| !is_known(difference));
    }
    assert!(found.is_empty(), "{name}: {found:#?}");
}

#[test]
fn restic_reads_every_backup_of_a_changing_tree() {
    let seed = replay::seed();
    let _note = Note::seed(seed);
    let mut generator = Generator::new(seed);
    let (_keep, tree) = generator.temporary_tree();
    let place = Place::new();
    let ours = place.ours();
    for round in 0..ROUNDS {
        let done = ours
            .run(["backup", "--json", "--tag", "a,b", "."])
            .within(&tree)
            .ok();
        let id = summary(&done)["snapshot_id"].as_str().unwrap().to_owned();
        let ours_lists = ours.run(["ls", "--json", &id]).ok();
        assert_eq!(listed(&ours_lists), walked(&tree));
        for (name, theirs) in Program::both(&place.repository()) {
            let target = place.path(format!("{name} {round}"));
            let to = target.to_str().unwrap();
            theirs.run(["restore", &id, "--target", to]).ok();
            assert_restored(name, &tree, &target);
            fs::remove_dir_all(&target).unwrap();
            let listing = theirs.run(["ls", "--json", &id]).ok();
            assert_eq!(listed(&listing), walked(&tree), "{name}");
            same_snapshots(name, &ours, &theirs);
        }
        generator.edit(&tree, EDITS);
    }
    for (_, theirs) in Program::both(&place.repository()) {
        theirs.run(["check", "--read-data"]).ok();
    }
    rewriting_changes_nothing(&place);
}

fn same_snapshots(name: &str, ours: &Program, theirs: &Program) {
    let all = |program: &Program| array(&program.run(["snapshots", "--json"]).ok());
    let (mut our, mut their) = (all(ours), all(theirs));
    for snapshot in &mut our {
        // Ours alone: restic ignores it.
        snapshot.as_object_mut().unwrap().remove("lifeboat_whole");
    }
    if name == "restic 0.14" {
        for snapshot in our.iter_mut().chain(&mut their) {
            let fields = snapshot.as_object_mut().unwrap();
            // They came later.
            fields.remove("summary");
            fields.remove("program_version");
        }
    }
    assert_eq!(our, their, "{name}");
}

/// restic writes each tree that it rewrites again, and fails if that gives other bytes.
fn rewriting_changes_nothing(place: &Place) {
    let theirs = place.current();
    let all = || -> Vec<Value> { array(&theirs.run(["snapshots", "--json"]).ok()) };
    let before = all();
    let said = theirs
        .run(["rewrite", "--forget", "--exclude", "/nonexisting-xyz"])
        .ok();
    assert!(
        said.text().contains("no snapshots were modified"),
        "{}",
        said.text()
    );
    assert_eq!(all(), before);
}

#[test]
fn a_repository_outlives_restics_upkeep() {
    let seed = replay::seed();
    let _note = Note::seed(seed);
    for current in [true, false] {
        let place = Place::new();
        let (name, theirs) = if current {
            ("restic 0.19", place.current())
        } else {
            ("restic 0.14", place.debian())
        };
        let mut generator = Generator::new(seed);
        let (_keep, tree) = generator.temporary_tree();
        let ours = place.ours();
        for _ in 0..3 {
            ours.run(["backup", "."]).within(&tree).ok();
            generator.edit(&tree, EDITS);
        }
        ours.run(["backup", "--tag", "last", "."])
            .within(&tree)
            .ok();
        theirs.run(["tag", "--add", "theirs", "latest"]).ok();
        theirs
            .run(["forget", "--keep-last", "1", "--prune", "--max-unused", "0"])
            .ok();
        let left = array(&ours.run(["snapshots", "--json"]).ok());
        assert_eq!(left.len(), 1, "{name}");
        assert_eq!(left[0]["tags"], serde_json::json!(["last", "theirs"]));
        assert!(left[0]["original"].is_string(), "{name}: {}", left[0]);
        ours.run(["check", "--read-data"]).ok();
        let target = place.path("target");
        let to = target.to_str().unwrap();
        ours.run(["restore", "latest", "--target", to]).ok();
        assert_restored("ours", &tree, &target);
        // What was pruned is stored again, and the chain goes on.
        let done = summary(&ours.run(["backup", "--json", "."]).within(&tree).ok());
        assert_eq!(
            (&done["files_new"], &done["files_changed"]),
            (&0.into(), &0.into())
        );
        // The other way round: what we remove and tag, restic prunes.
        ours.run(["tag", "--set", "ours", "latest"]).ok();
        ours.run(["forget", "--keep-last", "1"]).ok();
        theirs.run(["prune"]).ok();
        theirs.run(["check", "--read-data"]).ok();
        ours.run(["check", "--read-data"]).ok();
        let left = array(&theirs.run(["snapshots", "--json"]).ok());
        assert_eq!(left[0]["tags"], serde_json::json!(["ours"]), "{name}");
    }
}
