//! The same damage to two equal repositories: ours repairs the one and restic 0.19 the other, with the same commands. Both
//! end with the same trees, and restic finds nothing wrong with what ours repaired.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::Note;
use lifeboat_testkit::restic::Said;
use serde_json::Value;

use crate::common::{Place, Program, array, summary};

/// Two snapshots in several packs, written by restic, so that the index is as it makes it.
fn repository() -> Place {
    let place = Place::new();
    let data = place.path("data");
    let mut random = Random::new(5);
    for (dir, files) in [("a", 3), ("a/b", 2), ("c", 2)] {
        fs::create_dir_all(data.join(dir)).unwrap();
        for number in 0..files {
            let content = random.bytes(30_000 + number);
            fs::write(data.join(dir).join(format!("file {number}")), content).unwrap();
        }
    }
    fs::write(data.join("large"), random.bytes(6 << 20)).unwrap();
    back_up(&place);
    fs::write(data.join("c/new"), random.bytes(200_000)).unwrap();
    fs::write(data.join("large"), random.bytes(5 << 20)).unwrap();
    back_up(&place);
    place
}

fn back_up(place: &Place) {
    let words = ["backup", "--pack-size", "4", "--host", "host", "data"];
    place.current().run(words).within(&place.path("")).ok();
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

fn files(repository: &Path, folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![repository.join(folder)];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => todo.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// The packs that the index gives for a kind of blob.
fn packs(place: &Place, kind: &str) -> Vec<String> {
    let mut found = BTreeSet::new();
    for file in files(&place.repository(), "index") {
        let said = place.current().run(["cat", "index", &name(&file)]).ok();
        let index: Value = serde_json::from_slice(&said.stdout).unwrap();
        for pack in index["packs"].as_array().unwrap() {
            if pack["blobs"][0]["type"] == kind {
                found.insert(pack["id"].as_str().unwrap().to_owned());
            }
        }
    }
    found.into_iter().collect()
}

fn pack_path(repository: &Path, id: &str) -> PathBuf {
    repository.join("data").join(&id[..2]).join(id)
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut content = fs::read(path).unwrap();
    change(&mut content);
    let mut permissions = fs::metadata(path).unwrap().permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "a file of a test")]
    permissions.set_readonly(false);
    fs::set_permissions(path, permissions).unwrap();
    fs::write(path, content).unwrap();
}

/// The trees of the snapshots by the time of the snapshot, and whose repaired form they are.
fn trees(program: &Program) -> BTreeMap<String, Value> {
    array(&program.run(["snapshots", "--json"]).ok())
        .into_iter()
        .map(|snapshot| {
            let kept = serde_json::json!([
                snapshot["tree"],
                snapshot["original"],
                snapshot["tags"],
                snapshot["paths"],
            ]);
            (format!("{} {}", snapshot["time"], snapshot["tags"]), kept)
        })
        .collect()
}

/// The IDs that a check of ours advises to repair.
fn check(program: &Program) -> Value {
    summary(&program.run(["check", "--read-data", "--json"]).any())
}

fn damaged_ids(checked: &Value) -> Vec<String> {
    let ids = checked["broken_packs"].as_array().unwrap();
    ids.iter()
        .map(|id| id.as_str().unwrap().to_owned())
        .collect()
}

/// The three repairs in their order, in a directory where copies are kept.
fn repair(program: &Program, dir: &Path, packs: &[String], forget: bool) {
    fs::create_dir_all(dir).unwrap();
    program.run(["repair", "index"]).within(dir).ok();
    if !packs.is_empty() {
        let words = [&["repair".to_owned(), "packs".to_owned()][..], packs].concat();
        program.run(words).within(dir).ok();
        let kept: BTreeSet<String> = files(dir, "").iter().map(|path| name(path)).collect();
        let expected = packs.iter().map(|id| format!("pack-{id}")).collect();
        assert_eq!(kept, expected);
    }
    let mut words = vec!["repair", "snapshots"];
    words.extend(forget.then_some("--forget"));
    program.run(words).within(dir).ok();
}

#[test]
fn ours_and_restic_repair_to_the_same_trees() {
    let sound = repository();
    let data = packs(&sound, "data");
    let tree = packs(&sound, "tree");
    assert!(data.len() > 2 && tree.len() > 1, "{data:?} {tree:?}");
    type Damage<'a> = (&'a str, Box<dyn Fn(&Path) + 'a>);
    let flip = |id: &str, at: usize| {
        let id = id.to_owned();
        move |repository: &Path| change(&pack_path(repository, &id), |c| c[at] ^= 2)
    };
    let all: [Damage<'_>; 8] = [
        (
            "all index files lost",
            Box::new(|to| {
                files(to, "index")
                    .iter()
                    .for_each(|f| fs::remove_file(f).unwrap())
            }),
        ),
        (
            "an index file cut short",
            Box::new(|to| change(&files(to, "index")[0], |c| c.truncate(c.len() / 2))),
        ),
        ("a data blob damaged", Box::new(flip(&data[0], 60))),
        ("a tree blob damaged", Box::new(flip(&tree[0], 60))),
        (
            "a header damaged",
            Box::new(|to| {
                change(&pack_path(to, &data[1]), |c| {
                    let at = c.len() - 30;
                    c[at] ^= 2;
                });
            }),
        ),
        (
            "a data pack cut short",
            Box::new(|to| change(&pack_path(to, &data[0]), |c| c.truncate(c.len() * 2 / 3))),
        ),
        (
            "a data pack lost",
            Box::new(|to| fs::remove_file(pack_path(to, &data[1])).unwrap()),
        ),
        (
            "a tree pack lost",
            Box::new(|to| fs::remove_file(pack_path(to, &tree[1])).unwrap()),
        ),
    ];
    for (what, damage) in all {
        let _note = Note::new(what);
        let place = Place::empty();
        copy(&sound.repository(), &place.repository());
        damage(&place.repository());
        let theirs = place.path("theirs");
        copy(&place.repository(), &theirs);
        let (ours, theirs) = (place.ours(), Program::current(&theirs));
        let checked = check(&ours);
        assert!(
            checked["num_errors"].as_u64() > Some(0),
            "{what}: {checked}"
        );
        let is_index = what.contains("index") || what.contains("pack lost");
        assert_eq!(checked["suggest_repair_index"], is_index, "{what}");
        let broken = damaged_ids(&checked);
        // restic gives a pack up whose header is damaged before it salvages it: it is named to it first.
        repair(&ours, &place.path("kept"), &broken, true);
        repair(&theirs, &place.path("kept by restic"), &broken, true);
        let (our, their) = (trees(&place.current()), trees(&theirs));
        if what.contains("cut short") && what.contains("data") {
            // restic's `repair index` has dropped what the index knew of it: ours saves the first blobs.
            assert_eq!(our.len(), their.len(), "{what}");
        } else {
            assert_eq!(our, their, "{what}");
        }
        assert_sound(&ours, &place.current(), what);
    }
}

fn assert_sound(ours: &Program, restic: &Program, what: &str) {
    let said = restic.run(["check", "--read-data"]).any();
    assert_eq!(said.code(), 0, "{what}: {}{}", said.text(), said.stderr);
    let said: Said = ours.run(["check", "--read-data"]).any();
    assert_eq!(said.code(), 0, "{what}: {}{}", said.text(), said.stderr);
}

#[test]
fn a_repaired_snapshot_beside_the_broken_one_is_restics() {
    let place = repository();
    let lost = pack_path(&place.repository(), &packs(&place, "data")[0]);
    fs::remove_file(lost).unwrap();
    let theirs = place.path("theirs");
    copy(&place.repository(), &theirs);
    let (ours, theirs) = (place.ours(), Program::current(&theirs));
    repair(&ours, &place.path("kept"), &[], false);
    repair(&theirs, &place.path("kept by restic"), &[], false);
    let our = trees(&place.current());
    assert_eq!(our, trees(&theirs));
    assert!(our.keys().any(|key| key.contains("repaired")));
    // What is broken stays named until it is forgotten, and a second run makes no second copy.
    ours.run(["check"]).ends(1);
    let said = ours.run(["repair", "snapshots", "--forget"]).ok();
    assert!(said.text().contains("repaired"), "{}", said.text());
    assert_sound(&ours, &place.current(), "forgotten");
}

#[test]
fn lost_packs_come_back_from_a_copy_that_restic_made() {
    let place = repository();
    let copy_of = place.path("copy");
    let cipher = lifeboat_testkit::restic::PASSWORD;
    let other = Program::current(&copy_of);
    let repository = place.repository();
    let repository = repository.to_str().unwrap();
    for words in [
        &["init", "--copy-chunker-params", "--from-repo", repository][..],
        &["copy", "--from-repo", repository],
    ] {
        let run = other.run(words).variable("RESTIC_FROM_PASSWORD", cipher);
        run.ok();
    }
    let before = trees(&place.current());
    for id in [&packs(&place, "data")[0], &packs(&place, "tree")[0]] {
        fs::remove_file(pack_path(&place.repository(), id)).unwrap();
    }
    let damaged = &packs(&place, "data")[1];
    change(&pack_path(&place.repository(), damaged), |c| c[70] ^= 1);
    let ours = place.ours();
    ours.run(["check", "--read-data"]).ends(1);
    let dir = place.path("kept");
    fs::create_dir(&dir).unwrap();
    let words = ["repair", "packs", "--read-data", "--from-repo"];
    let from = |words: &[&str]| {
        let words = [words, &[copy_of.to_str().unwrap()]].concat();
        ours.run(words)
            .within(&dir)
            .variable("RESTIC_FROM_PASSWORD", cipher)
    };
    let planned = from(&["repair", "packs", "--read-data", "--dry-run", "--from-repo"]).ok();
    assert!(planned.text().contains("dry run: nothing was changed"));
    assert!(files(&dir, "").is_empty());
    let said = from(&words).ok();
    assert!(said.text().contains(" 0 blobs lost"), "{}", said.text());
    assert_sound(&ours, &place.current(), "fetched");
    assert_eq!(trees(&place.current()), before);
    let again = from(&words).ok();
    assert!(again.text().contains("nothing to do"), "{}", again.text());
}
