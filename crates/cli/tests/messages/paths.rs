//! What is said of paths to back up that are not there, given twice or empty. What is there is saved.

use std::io::Write;
use std::process::Stdio;

use crate::world::{Said, World};

#[test]
fn missing_paths() {
    let world = World::with_snapshot();
    assert_eq!(
        world
            .tell("one of two is missing", &["backup", "src", "nothing"])
            .code,
        3
    );
    assert_eq!(
        world.files("repo/snapshots").len(),
        2,
        "what is there is saved"
    );
    assert_eq!(
        world
            .tell(
                "one of two is missing, for programs",
                &["--json", "-q", "backup", "src", "nothing"]
            )
            .code,
        3
    );
    assert_eq!(
        world
            .tell("all are missing", &["backup", "nothing", "nobody"])
            .code,
        1
    );
    assert_eq!(
        world.tell("below a file", &["backup", "src/a.txt/x"]).code,
        1
    );
    assert_eq!(
        world.files("repo/snapshots").len(),
        3,
        "without a path there is no snapshot"
    );
    world.compare("missing_paths");
}

#[test]
fn paths_that_can_not_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    world.repository("repo");
    world.open_for_all_to_write("repo");
    world.write("src/open", "x");
    let closed = world.write("src/closed", "x");
    std::fs::set_permissions(closed, PermissionsExt::from_mode(0o000)).unwrap();
    world.write("src/dir/inner", "x");
    std::fs::set_permissions(world.path("src/dir"), PermissionsExt::from_mode(0o000)).unwrap();
    let said = Said::of(
        world
            .without_rights(["-q", "backup", "src"])
            .output()
            .unwrap(),
    );
    world.note(
        "without the right to read",
        "lifeboat repo -q backup src",
        &said,
    );
    assert_eq!(said.code, 3);
    std::fs::set_permissions(world.path("src/dir"), PermissionsExt::from_mode(0o755)).unwrap();
    world.compare("unreadable_paths");
}

#[test]
fn paths_given_twice_or_not_at_all() {
    let world = World::with_snapshot();
    assert_eq!(world.tell("twice", &["-q", "backup", "src", "src"]).code, 0);
    assert_eq!(
        world
            .tell("twice in other words", &["-q", "backup", "src", "./src/"])
            .code,
        0
    );
    assert_eq!(world.tell("an empty path", &["backup", "src", ""]).code, 1);
    assert_eq!(world.tell("no path", &["backup"]).code, 1);
    world.write("list", "src\n\nnothing*\n");
    world.write("raw", "src\0nothing");
    world.write("empty", "");
    assert_eq!(
        world
            .tell(
                "a list with a pattern that matches nothing",
                &["-q", "backup", "--files-from", "list"]
            )
            .code,
        0
    );
    assert_eq!(
        world
            .tell(
                "a list without its last zero byte",
                &["backup", "--files-from-raw", "raw"]
            )
            .code,
        1
    );
    assert_eq!(
        world
            .tell(
                "an empty list",
                &["backup", "--files-from-verbatim", "empty"]
            )
            .code,
        1
    );
    assert_eq!(
        world
            .tell("no list", &["backup", "--files-from", "missing"])
            .code,
        1
    );
    world.write("bad", "[a-\n");
    assert_eq!(
        world
            .tell(
                "a list with a bad pattern",
                &["backup", "--files-from", "bad"]
            )
            .code,
        1
    );
    world.compare("paths");
}

#[test]
fn streams_that_are_none() {
    let world = World::with_snapshot();
    let count = world.files("repo/snapshots").len();
    assert_eq!(
        world
            .tell("paths beside standard input", &["backup", "--stdin", "src"])
            .code,
        1
    );
    assert_eq!(
        world
            .tell(
                "a stream without a name",
                &["backup", "--stdin", "--stdin-filename", ""]
            )
            .code,
        1
    );
    assert_eq!(
        world
            .tell("no command", &["backup", "--stdin-from-command"])
            .code,
        1
    );
    assert_eq!(
        world
            .tell(
                "a command that does not exist",
                &["backup", "--stdin-from-command", "no-such-program"]
            )
            .code,
        1
    );
    let half = &[
        "backup",
        "--stdin-from-command",
        "--stdin-filename",
        "dump.sql",
        "--",
        "sh",
        "-c",
        "echo half; echo out of luck >&2; exit 4",
    ];
    assert_eq!(
        world.tell("a command that fails in the middle", half).code,
        1
    );
    assert_eq!(
        world
            .tell(
                "a command that prints nothing",
                &["backup", "--stdin-from-command", "true"]
            )
            .code,
        1
    );
    assert_eq!(
        world
            .tell("nothing on standard input", &["backup", "--stdin"])
            .code,
        1
    );
    assert_eq!(
        world.files("repo/snapshots").len(),
        count,
        "no snapshot of a dump that failed"
    );
    world.compare("streams");
    let mut fine = world
        .command(["-q", "backup", "--stdin"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    fine.stdin.take().unwrap().write_all(b"content").unwrap();
    assert_eq!(fine.wait().unwrap().code(), Some(0));
}
