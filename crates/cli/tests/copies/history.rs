//! Repositories with a few snapshots, and what restic says of them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use lifeboat_repo::backend::LocalBackend;
use lifeboat_repo::{Identity, KeyCost, Repository};
use lifeboat_testkit::random::Random;
use lifeboat_testkit::restic::{PASSWORD, Said};
use serde_json::Value;

use crate::common::{Place, Program, array};

/// A repository of a version, with a key of its own that costs nothing.
pub(crate) fn repository(place: &Place, name: &str, version: u32) -> PathBuf {
    let path = place.path(name);
    let (backend, who) = (Arc::new(LocalBackend::new(&path)), Identity::default());
    Repository::init(
        backend,
        PASSWORD.as_bytes(),
        version,
        None,
        &who,
        KeyCost::Test,
    )
    .unwrap();
    path
}

/// A copy of a repository, file by file.
pub(crate) fn clone(from: &Path, to: &Path) -> PathBuf {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
    to.to_path_buf()
}

/// Two snapshots of restic's and one of ours, of a tree that changes and has odd names.
pub(crate) fn history(place: &Place, repository: &Path) {
    let tree = place.path("tree");
    fs::create_dir_all(tree.join("sub/deep")).unwrap();
    let mut random = Random::new(3);
    fs::write(tree.join("big"), random.bytes(3_000_000)).unwrap();
    for number in 0..6 {
        let text = format!("line {number}\n").repeat(9_000);
        fs::write(tree.join(format!("sub/file {number}.log")), text).unwrap();
    }
    for name in [
        &b"\xff\xfe"[..],
        b"quo\"te\\",
        "uml\u{e4}ut <&>.tmp".as_bytes(),
        b"new\nline",
    ] {
        let name = std::ffi::OsStr::from_bytes(name);
        fs::write(tree.join("sub/deep").join(name), name.as_bytes()).unwrap();
    }
    fs::write(tree.join("empty"), b"").unwrap();
    fs::hard_link(tree.join("big"), tree.join("sub/hard")).unwrap();
    std::os::unix::fs::symlink("big", tree.join("link")).unwrap();
    let (restic, ours) = (Program::current(repository), Program::ours(repository));
    let back_up = |program: &Program, tag| {
        let words = ["backup", "--host", "web", "--tag", tag, "tree"];
        program.run(words).within(&place.path("")).ok();
    };
    back_up(&restic, "one,x");
    fs::write(tree.join("sub/file 1.log"), random.bytes(400_000)).unwrap();
    back_up(&restic, "two");
    fs::create_dir(tree.join("later")).unwrap();
    fs::write(tree.join("later/a.TMP"), b"more").unwrap();
    back_up(&ours, "three");
}

/// All snapshots as restic shows them, without what tells of the moment or the program that wrote them.
pub(crate) fn snapshots(repository: &Path, also_left_out: &[&str]) -> BTreeSet<String> {
    let listed = array(
        &Program::current(repository)
            .run(["--no-lock", "snapshots", "--json"])
            .ok(),
    );
    let shown = listed.into_iter().map(|mut snapshot: Value| {
        let fields = snapshot.as_object_mut().unwrap();
        for name in ["id", "short_id"].iter().chain(also_left_out) {
            fields.remove(*name);
        }
        snapshot.to_string()
    });
    shown.collect()
}

/// restic finds nothing wrong, reading all.
pub(crate) fn assert_sound(repository: &Path) {
    let said = Program::current(repository)
        .run(["check", "--read-data"])
        .ok();
    assert!(
        said.text().contains("no errors were found"),
        "{}",
        said.text()
    );
}

/// Copies with ours from one to another, with more arguments.
pub(crate) fn copy(from: &Path, to: &Path, words: &[&str]) -> Said {
    let run = Program::ours(to).run([&["copy"], words].concat());
    with_source(run, from).any()
}

/// Copies with restic.
pub(crate) fn restic_copy(from: &Path, to: &Path) -> Said {
    with_source(Program::current(to).run(["copy"]), from).ok()
}

/// With a repository to read from.
pub(crate) fn with_source(run: crate::common::Run, from: &Path) -> crate::common::Run {
    run.variable("RESTIC_FROM_REPOSITORY", from.to_str().unwrap())
        .variable("RESTIC_FROM_PASSWORD", PASSWORD)
}

/// Names of the files in a folder of a repository.
pub(crate) fn names(repository: &Path, folder: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut todo = vec![repository.join(folder)];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => todo.push(entry.path()),
                false => {
                    found.insert(entry.file_name().into_string().unwrap());
                }
            }
        }
    }
    found
}
