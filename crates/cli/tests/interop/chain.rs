//! Each program takes a snapshot of the other for its parent and finds nothing new in an unchanged tree.

use std::path::Path;

use lifeboat_testkit::fixtures::Generator;
use lifeboat_testkit::replay::{self, Note};
use serde_json::Value;

use crate::common::{Place, Program, array, summary};

/// With a half hour and summer time, with a quarter of an hour, and without anything.
const ZONES: [(&str, &str); 3] = [
    ("America/St_Johns", "-03:30"),
    ("Asia/Kathmandu", "+05:45"),
    ("UTC", "Z"),
];

fn backup(program: &Program, tree: &Path, zone: &str) -> Value {
    let run = program.run(["backup", "--json", "."]);
    summary(&run.within(tree).variable("TZ", zone).ok())
}

/// Fails unless the second backup went on with the first and stored no data; nor trees, if those must be equal.
fn assert_goes_on(context: &str, place: &Place, first: &Value, second: &Value, same_trees: bool) {
    let count = |name: &str| second[name].as_u64().unwrap_or_else(|| panic!("{second}"));
    for name in ["files_new", "files_changed", "data_blobs"] {
        assert_eq!(count(name), 0, "{context}: {name} in {second}");
    }
    assert_eq!(
        Some(count("files_unmodified")),
        first["files_new"].as_u64(),
        "{context}"
    );
    let snapshots = array(&place.current().run(["snapshots", "--json"]).ok());
    let of = |done: &Value| {
        let is_it = |snapshot: &&Value| {
            let id = done["snapshot_id"].as_str().unwrap();
            // restic 0.14 shortens it.
            snapshot["id"].as_str().unwrap().starts_with(id)
        };
        snapshots.iter().find(is_it).unwrap().clone()
    };
    let (first, second) = (of(first), of(second));
    assert_eq!(second["parent"], first["id"], "{context}");
    if same_trees {
        assert_eq!(second["tree"], first["tree"], "{context}: trees differ");
        assert_eq!(count("tree_blobs"), 0, "{context}");
        assert_eq!(
            (count("dirs_new"), count("dirs_changed")),
            (0, 0),
            "{context}"
        );
    }
}

#[test]
fn a_chain_goes_on_with_the_other_program() {
    let seed = replay::seed();
    let _note = Note::seed(seed);
    for (zone, offset) in ZONES {
        let mut generator = Generator::new(seed);
        let (_keep, tree) = generator.temporary_tree();
        // A link target that is no UTF-8 is stored in another way since restic 0.16, so that 0.14 writes another tree.
        for (name, same_trees) in [("restic 0.19", true), ("restic 0.14", false)] {
            if !same_trees && zone != ZONES[0].0 {
                continue;
            }
            for ours_first in [true, false] {
                let place = Place::new();
                let ours = place.ours();
                let theirs = if same_trees {
                    place.current()
                } else {
                    place.debian()
                };
                let (one, other) = if ours_first {
                    (&ours, &theirs)
                } else {
                    (&theirs, &ours)
                };
                let context = format!("{zone}, {name}, ours first: {ours_first}");
                let first = backup(one, &tree, zone);
                let second = backup(other, &tree, zone);
                assert_goes_on(&context, &place, &first, &second, same_trees);
                // Whether the zone was there at all: without it, everything would be in UTC and prove nothing.
                let listing = place.current().run(["ls", "--json", "latest"]).ok().text();
                assert!(
                    listing.contains(&format!("{offset}\"")),
                    "{context}: {listing}"
                );
                let third = backup(one, &tree, zone);
                assert_eq!(third["data_blobs"], 0, "{context}");
            }
        }
    }
}
