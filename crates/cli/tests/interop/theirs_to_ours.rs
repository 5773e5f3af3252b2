//! What restic writes, in both versions of the format, is checked, restored and continued by us.

use lifeboat_testkit::fixtures::Generator;
use lifeboat_testkit::replay::{self, Note};
use serde_json::Value;

use crate::common::{Place, Program, summary};
use crate::ours_to_theirs::assert_restored;

#[test]
fn we_read_and_continue_what_restic_writes() {
    let seed = replay::seed();
    let _note = Note::seed(seed);
    for (version, current) in [("2", true), ("2", false), ("1", true), ("1", false)] {
        let place = Place::empty();
        let (name, theirs) = if current {
            ("restic 0.19", place.current())
        } else {
            ("restic 0.14", place.debian())
        };
        let context = format!("{name}, version {version}");
        let mut generator = Generator::new(seed);
        let (_keep, tree) = generator.temporary_tree();
        theirs.run(["init", "--repository-version", version]).ok();
        place.cheapen();
        let ours = place.ours();
        for round in 0..2 {
            let first = summary(&theirs.run(["backup", "--json", "."]).within(&tree).ok());
            let target = place.path(format!("target {round}"));
            let to = target.to_str().unwrap();
            let restored = ours.run(["restore", "latest", "--target", to, "--verify"]);
            restored.ok();
            assert_restored(name, &tree, &target);
            let second = summary(&ours.run(["backup", "--json", "."]).within(&tree).ok());
            for field in ["files_new", "files_changed", "data_blobs"] {
                assert_eq!(second[field], 0, "{context}: {field} in {second}");
            }
            let count = |name: &str| first[name].as_u64().unwrap();
            let all = count("files_new") + count("files_changed") + count("files_unmodified");
            assert_eq!(second["files_unmodified"], all, "{context}");
            generator.edit(&tree, 12);
            ours.run(["backup", "."]).within(&tree).ok();
        }
        ours.run(["check", "--read-data"]).ok();
        for (name, theirs) in Program::both(&place.repository()) {
            theirs.run(["check", "--read-data"]).ok();
            let target = place.path(name);
            let to = target.to_str().unwrap();
            theirs.run(["restore", "latest", "--target", to]).ok();
            assert_restored(name, &tree, &target);
        }
        let config = ours_config(&theirs);
        assert_eq!(config["version"].to_string(), version);
    }
}

fn ours_config(program: &Program) -> Value {
    let said = program.run(["cat", "config"]).ok();
    serde_json::from_slice(&said.stdout).unwrap()
}

#[test]
fn restic_opens_what_we_init() {
    for version in ["1", "2"] {
        let place = Place::empty();
        let ours = place.ours();
        ours.run(["init", "--repository-version", version]).ok();
        for (name, theirs) in Program::both(&place.repository()) {
            let config = ours_config(&theirs);
            assert_eq!(config["version"].to_string(), version, "{name}");
            theirs.run(["check"]).ok();
        }
        // A place that has one is refused, by each of the three.
        ours.run(["init"]).ends(1);
    }
}
