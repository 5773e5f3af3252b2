//! What no snapshot leads to any more is found again, also where index files are lost.

use std::fs;

use crate::common::{Place, Program, summary};
use crate::history::{assert_sound, clone, history, names};

/// Paths of a snapshot, without the first directory.
fn paths(program: &Program, id: &str) -> Vec<String> {
    let said = program.run(["--no-lock", "ls", id]).ok();
    let lines = said
        .lines()
        .into_iter()
        .filter(|line| line.starts_with('/'));
    let mut paths: Vec<String> = lines.collect();
    paths.sort();
    paths
}

#[test]
fn a_forgotten_snapshot_comes_back_as_with_restic() {
    let place = Place::new();
    history(&place, &place.repository());
    place
        .ours()
        .run(["forget", "--tag", "one", "--unsafe-allow-remove-all"])
        .ok();
    let theirs = clone(&place.repository(), &place.path("theirs"));
    let (ours, restic) = (place.ours(), Program::current(&theirs));
    let dry = summary(&ours.run(["recover", "--dry-run", "--json"]).ok());
    assert_eq!(
        (&dry["roots"], &dry["snapshot_id"]),
        (&1.into(), &serde_json::Value::Null)
    );
    assert_eq!(names(&place.repository(), "snapshots").len(), 2);
    let done = summary(&ours.run(["recover", "--json"]).ok());
    assert!(done["snapshot_id"].is_string());
    restic.run(["recover"]).ok();
    let reader = place.current();
    assert_eq!(paths(&reader, "latest"), paths(&restic, "latest"));
    let shown = |program: &Program| {
        let said = program
            .run(["--no-lock", "snapshots", "latest", "--json"])
            .ok();
        let all: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
        let latest = &all[0];
        ["paths", "tags", "hostname", "username"].map(|name| latest[name].clone())
    };
    assert_eq!(shown(&reader), shown(&restic));
    assert_sound(&place.repository());
    let again = summary(&ours.run(["recover", "--json"]).ok());
    assert_eq!(again["roots"], 0);
}

#[test]
fn everything_comes_back_when_snapshots_and_index_are_lost() {
    let place = Place::new();
    history(&place, &place.repository());
    let reader = place.current();
    let before = paths(&reader, "latest");
    for folder in ["snapshots", "index"] {
        for name in names(&place.repository(), folder) {
            fs::remove_file(place.repository().join(folder).join(name)).unwrap();
        }
    }
    let dry = place.ours().run(["recover", "--dry-run"]).ok();
    assert!(
        dry.text().contains("3 directories would be recovered"),
        "{}",
        dry.text()
    );
    assert!(names(&place.repository(), "index").is_empty());
    place.ours().run(["recover"]).ok();
    assert_sound(&place.repository());
    let after = paths(&reader, "latest");
    assert!(has_directory(&after, &before), "{before:?}\n{after:?}");
    let said = place.ours().run(["recover"]).ok();
    assert!(
        said.text().contains("belongs to a snapshot"),
        "{}",
        said.text()
    );
}

/// Whether one of the directories of a recovered snapshot holds exactly what another snapshot held.
fn has_directory(recovered: &[String], paths: &[String]) -> bool {
    let roots = recovered
        .iter()
        .filter(|path| path.matches('/').count() == 1);
    roots.into_iter().any(|root| {
        let below = recovered.iter().filter_map(|path| path.strip_prefix(root));
        below.filter(|path| !path.is_empty()).eq(paths)
    })
}

/// Everything of a snapshot, below the directory that it has in a recovered one.
fn recovered(program: &Program) -> Vec<String> {
    let all = paths(program, "latest");
    let root = all.iter().min_by_key(|path| path.len()).unwrap().clone();
    let below = all.iter().filter_map(|path| path.strip_prefix(&root));
    let below = below.filter(|path| !path.is_empty());
    below.map(str::to_owned).collect()
}

#[test]
fn what_a_prune_has_marked_comes_back_and_stays() {
    let place = Place::new();
    history(&place, &place.repository());
    let (ours, reader) = (place.ours(), place.current());
    let before = paths(&reader, "latest");
    ours.run(["forget", "latest"]).ok();
    ours.run(["prune", "--max-unused", "0"]).ok();
    // Its data is in no pack any more that a program without the marks would find.
    let dry = ours.run(["recover", "--dry-run"]).ok();
    assert!(
        dry.text()
            .contains("marked to be deleted by a prune, searched as well"),
        "{}",
        dry.text()
    );
    let done = summary(&ours.run(["recover", "--json"]).ok());
    assert_eq!(done["roots"], 1, "{done}");
    assert_eq!(recovered(&reader), before);
    assert_sound(&place.repository());
    // Two prunes later, of which the second deletes all that the first found marked.
    for _ in 0..2 {
        ours.run(["prune", "--max-unused", "0", "--keep-delete", "0s"])
            .ok();
        assert_eq!(recovered(&reader), before);
        assert_sound(&place.repository());
    }
}

#[test]
fn packs_that_were_marked_without_their_blobs_come_back() {
    let place = Place::new();
    history(&place, &place.repository());
    let (ours, reader) = (place.ours(), place.current());
    let before = paths(&reader, "latest");
    for folder in ["snapshots", "index"] {
        for name in names(&place.repository(), folder) {
            fs::remove_file(place.repository().join(folder).join(name)).unwrap();
        }
    }
    // A prune in despair: it marks every pack, and knows nothing of what they hold.
    ours.run(["prune"]).ok();
    ours.run(["recover"]).ok();
    for _ in 0..2 {
        ours.run(["prune", "--keep-delete", "0s"]).ok();
        assert_sound(&place.repository());
    }
    let after = paths(&reader, "latest");
    assert!(has_directory(&after, &before), "{before:?}\n{after:?}");
}
