//! What programs read of us, value by value against restic.

use serde_json::Value;

use crate::fixture::{Fixture, text};

#[test]
fn ls_lists_as_restic() {
    let fixture = Fixture::shared();
    let everything = fixture.assert_same_json(&["ls", "--json", "latest"]);
    assert!(everything.len() > 20);
    let first = &fixture.snapshots[0];
    fixture.assert_same_json(&["ls", "--json", first]);
    fixture.assert_same_json(&["ls", "--json", &first[..12], "/tree/planted"]);
    fixture.assert_same_json(&[
        "ls",
        "--json",
        "latest",
        "/tree/planted/",
        "/tree/planted/deep",
    ]);
    fixture.assert_same_json(&["ls", "--json", "--recursive", "latest", "/tree/planted"]);
    fixture.assert_same_json(&["ls", "--json", "latest:/tree/planted"]);
    fixture.assert_same_json(&["ls", "--json", "--host", "web", "latest", "/"]);
    for sort in ["size", "time", "atime", "ctime", "extension"] {
        fixture.assert_same_json(&["ls", "--json", "--sort", sort, "latest"]);
    }
    for sort in ["name", "mtime"] {
        fixture.assert_same_json(&["ls", "--json", "--sort", sort, "--reverse", "latest"]);
    }
    fixture.assert_same_json(&["ls", "--ncdu", "latest"]);
    fixture.assert_same_json(&["ls", "--ncdu", "latest", "/tree/planted"]);
}

#[test]
fn listings_for_people_have_restics_lines() {
    let fixture = Fixture::shared();
    for arguments in [&["ls", "latest"][..], &["ls", "-l", "latest"]] {
        let run = |program: &crate::common::Program| {
            let said = program.run(arguments).variable("TZ", "Europe/Berlin").ok();
            // The line about the snapshot is ours.
            let end_of_first = said.stdout.iter().position(|byte| *byte == b'\n').unwrap();
            said.stdout[end_of_first..].to_vec()
        };
        let (ours, theirs) = (run(&fixture.ours), run(&fixture.theirs));
        assert!(
            ours == theirs,
            "{arguments:?}\n{}\n{}",
            String::from_utf8_lossy(&ours),
            String::from_utf8_lossy(&theirs)
        );
    }
}

#[test]
fn find_finds_as_restic() {
    let fixture = Fixture::shared();
    let snapshot = &fixture.snapshots[0];
    for arguments in [
        &["*"][..],
        &["once.CONF"],
        &["ONCE.*", "-i"],
        &["ONCE.*"],
        &["/tree/planted/**/*.CONF", "large"],
        &["/tree/planted"],
        &[
            "*",
            "--oldest",
            "2020-09-13 12:00:00",
            "--newest",
            "2022-01-01",
        ],
        &["*", "--oldest", "2024-01-01"],
        &["changed", "--snapshot", snapshot],
        &["changed", "--host", "db", "--reverse"],
        &["changed", "--reverse"],
        &["no such name"],
    ] {
        fixture.assert_same_json(&[&["find", "--json"], arguments].concat());
    }
    let said = fixture.ours.run(["find", "once.CONF"]).ok().text();
    assert_eq!(
        said.matches("/tree/planted/deep/once.CONF").count(),
        2,
        "{said}"
    );
}

#[test]
fn find_finds_blobs_trees_and_packs_as_restic() {
    let fixture = Fixture::shared();
    let planted = format!("{}:/tree/planted", fixture.snapshots[1]);
    let json = fixture.assert_same_bytes(&["cat", "tree", &planted]);
    let tree: Value = serde_json::from_slice(&json).unwrap();
    let node = |name: &str| {
        tree["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .find(|node| node["name"] == name)
            .unwrap()
            .clone()
    };
    let (large, deep) = (node("large"), text(&node("deep")["subtree"]));
    let blobs: Vec<String> = large["content"]
        .as_array()
        .unwrap()
        .iter()
        .map(text)
        .collect();
    assert!(blobs.len() > 1);
    fixture.assert_same_json(&["find", "--json", "--blob", &blobs[0]]);
    fixture.assert_same_json(&["find", "--json", "--blob", &blobs[1][..8], &blobs[0]]);
    fixture.assert_same_json(&["find", "--json", "--tree", &deep]);
    fixture.assert_same_json(&["find", "--json", "--tree", &deep[..8]]);
    let pack = fixture.theirs.run(["list", "packs"]).ok().lines()[0].clone();
    let found = fixture.assert_same_json(&["find", "--json", "--pack", &pack]);
    assert!(!found[0].as_array().unwrap().is_empty());
    let shown = fixture
        .ours
        .run(["find", "--show-pack-id", "--blob", &blobs[0]])
        .ok()
        .text();
    assert!(
        shown.contains("/tree/planted/link") && shown.contains("lies in pack"),
        "{shown}"
    );
}

#[test]
fn diff_compares_as_restic() {
    let fixture = Fixture::shared();
    let (first, second) = (fixture.snapshots[0].as_str(), fixture.snapshots[1].as_str());
    let changes = fixture.assert_same_json(&["diff", "--json", first, second]);
    assert!(changes.contains(&serde_json::json!({"message_type": "change", "path": "/tree/planted/changed", "modifier": "M"})));
    fixture.assert_same_json(&["diff", "--json", second, first]);
    fixture.assert_same_json(&["diff", "--json", "--metadata", first, second]);
    fixture.assert_same_json(&["diff", "--json", first, first]);
    fixture.assert_same_json(&[
        "diff",
        "--json",
        &format!("{first}:/tree"),
        &format!("{second}:/tree/planted"),
    ]);
    let shown = fixture.ours.run(["diff", first, second]).ok().text();
    assert!(
        shown.contains("\nM    /tree/planted/changed\n") && shown.contains("Files:"),
        "{shown}"
    );
}

#[test]
fn stats_count_as_restic() {
    let fixture = Fixture::shared();
    // Which of two files of one content counts depends on the order, and restic takes snapshots as they come unless
    // they are named.
    let both: Vec<&str> = fixture.snapshots.iter().map(String::as_str).collect();
    for mode in [
        "restore-size",
        "files-by-contents",
        "blobs-per-file",
        "raw-data",
    ] {
        for which in [
            &both[..],
            &["latest"],
            &["--host", "web"],
            &["--tag", "b", "--path", "/nowhere"],
        ] {
            fixture.assert_same_json(&[&["stats", "--json", "--mode", mode], which].concat());
        }
    }
    fixture.assert_same_json(&["stats", "--json"]);
    let said = fixture.ours.run(["stats", "--mode", "raw-data"]).ok();
    let shown = said.text();
    assert!(
        shown.contains("2 snapshots") && shown.contains("Compression ratio"),
        "{shown}"
    );
}

#[test]
fn cat_shows_what_restic_shows() {
    let fixture = Fixture::shared();
    fixture.assert_same_bytes(&["cat", "config"]);
    fixture.assert_same_bytes(&["cat", "masterkey"]);
    for snapshot in &fixture.snapshots {
        fixture.assert_same_bytes(&["cat", "snapshot", snapshot]);
        fixture.assert_same_bytes(&["cat", "tree", snapshot]);
    }
    for (list, what) in [("index", "index"), ("keys", "key"), ("packs", "pack")] {
        for id in fixture.theirs.run(["list", list]).ok().lines() {
            fixture.assert_same_bytes(&["cat", what, &id]);
        }
    }
    for line in fixture
        .theirs
        .run(["list", "blobs"])
        .ok()
        .lines()
        .iter()
        .take(20)
    {
        let id = line.rsplit(' ').next().unwrap();
        fixture.assert_same_bytes(&["cat", "blob", id]);
    }
}
