//! Standard input and the output of commands become files of a snapshot as with restic 0.19, and failures no snapshot.

use lifeboat_testkit::random::Random;

use crate::pair::{Above, Pair};

/// A stream's entries have no time but that of the backup.
const TIME: [&str; 2] = ["--time", "2021-03-04 05:06:07"];

#[test]
fn streams_are_stored_as_by_restic() {
    let pair = Pair::new();
    let dir = pair.path("");
    let noise = Random::new(4).bytes(3_000_000);
    let backup = |words: &[&str], input: &[u8]| {
        pair.backup(&dir, Above::Left, &[&TIME, words].concat(), Some(input))
    };
    // Each has a host of its own: restic compares a stream with nothing, or with whatever was last.
    backup(&["--stdin", "--host", "a"], b"hello");
    backup(
        &["--stdin", "--host", "b", "--stdin-filename", "dump.sql"],
        &noise,
    );
    backup(
        &[
            "--stdin",
            "--host",
            "c",
            "--stdin-filename",
            "/db/app/dump.sql",
        ],
        &noise,
    );
    backup(
        &[
            "--stdin",
            "--host",
            "d",
            "--stdin-filename",
            "db/./x/../dump.sql",
        ],
        b"short",
    );
    backup(&["--stdin", "--host", "e", "--tag", "db"], b"with a tag");
    // Refused: paths beside a stream.
    backup(&["--stdin", "somewhere"], b"");
    // Where restic stores a directory without the file and says 3, we store nothing: an empty dump is no backup.
    let said = pair.ours.run(["backup", "--stdin"]).input(b"").ends(1);
    assert!(said.stderr.contains("no data came"), "{}", said.stderr);
    pair.ours.run(["check", "--read-data"]).ok();
    let target = pair.path("target");
    let to = target.to_str().unwrap();
    pair.ours
        .run([
            "restore",
            "latest",
            "--target",
            to,
            "--path",
            "/db/app/dump.sql",
        ])
        .ok();
    assert_eq!(
        std::fs::read(target.join("db/app/dump.sql")).unwrap(),
        noise
    );
    pair.finish();
}

#[test]
fn commands_are_stored_as_by_restic_if_they_succeed() {
    let pair = Pair::new();
    let dir = pair.path("");
    let backup = |words: &[&str]| {
        let first = [&TIME[..], &["--stdin-from-command"]].concat();
        pair.backup(&dir, Above::Left, &[&first, words].concat(), None)
    };
    backup(&[
        "--host",
        "a",
        "--stdin-filename",
        "db/out",
        "--",
        "sh",
        "-c",
        "echo one; echo two >&2",
    ]);
    backup(&["--host", "b", "--", "seq", "300000"]);
    let (ours, _) = backup(&["--", "sh", "-c", "echo half; echo the reason >&2; exit 7"]);
    assert_eq!(ours.code(), 1);
    // What the command says and how it ended is shown.
    assert!(
        ours.stderr.contains("the reason") && ours.stderr.contains('7'),
        "{}",
        ours.stderr
    );
    backup(&["--", "sh", "-c", "kill -9 $$"]);
    backup(&["--", "/nowhere/at/all"]);
    backup(&[]);
    pair.ours.run(["check", "--read-data"]).ok();
    pair.finish();
}
