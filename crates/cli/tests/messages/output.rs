//! Results, progress and problems each where they belong: for people, for programs, on a terminal and off it.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::world::{Said, World};

/// A backup that takes a while: its input comes slowly.
fn slowly(mut command: Command) -> Said {
    let mut backup = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = backup.stdin.take().unwrap();
    let noise = lifeboat_testkit::random::Random::new(3).bytes(400_000);
    for _ in 0..14 {
        stdin.write_all(&noise).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(stdin);
    let said = Said::of(backup.wait_with_output().unwrap());
    assert_eq!(said.code, 0, "{said:?}");
    said
}

/// The objects of an output that must hold nothing else.
fn objects(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}")))
        .collect()
}

fn kinds(objects: &[Value]) -> Vec<&str> {
    objects
        .iter()
        .map(|object| object["message_type"].as_str().unwrap_or("-"))
        .collect()
}

#[test]
fn people_off_a_terminal_get_plain_lines() {
    let world = World::with_snapshot();
    let mut command = world.command(["backup", "--stdin"]);
    command.env("RESTIC_PROGRESS_FPS", "5");
    let said = slowly(command);
    let lines: Vec<&str> = said.stderr.lines().collect();
    assert!(lines.len() >= 3, "{said:?}");
    for line in &lines {
        assert!(
            line.starts_with("[0:0") && line.contains("/s), "),
            "{line:?}"
        );
    }
    assert!(!said.stderr.contains(['\r', '\x1b']), "{said:?}");
    assert!(
        said.stdout.contains("snapshot ") && !said.stdout.contains("/s), "),
        "{said:?}"
    );
}

#[test]
fn programs_get_objects_alone() {
    let world = World::with_snapshot();
    let said = slowly(world.command(["--json", "backup", "--stdin"]));
    assert_eq!(said.stderr, "");
    let objects = objects(&said.stdout);
    let kinds = kinds(&objects);
    assert_eq!(kinds.first(), Some(&"status"));
    assert_eq!(kinds.last(), Some(&"summary"));
    assert!(
        kinds[..kinds.len() - 1]
            .iter()
            .all(|kind| *kind == "status"),
        "{kinds:?}"
    );
    for (kind, names) in [
        ("status", &["percent_done", "bytes_done", "files_done"][..]),
        (
            "summary",
            &[
                "snapshot_id",
                "files_new",
                "data_added",
                "total_bytes_processed",
                "total_duration",
                "dry_run",
            ],
        ),
    ] {
        let object = objects
            .iter()
            .find(|object| object["message_type"] == kind)
            .unwrap();
        for name in names {
            assert!(object.get(name).is_some(), "{name} in {object}");
        }
    }
}

#[test]
fn every_command_gives_programs_json_alone() {
    let world = World::with_snapshot();
    for (arguments, last) in [
        (&["backup", "src"][..], "summary"),
        (&["backup", "src", "--dry-run"], "summary"),
        (&["restore", "latest", "--target", "out"], "summary"),
        (&["check"], "summary"),
        (&["snapshots"], "-"),
        (&["key", "list"], "-"),
        (&["unlock"], "summary"),
        (&["tag", "--add", "x"], "-"),
        (&["forget", "--keep-last", "1"], "-"),
        (&["-r", "new", "init"], "initialized"),
    ] {
        let arguments = [&["--json"], arguments].concat();
        let said = world.lifeboat(&arguments);
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{arguments:?}");
        let objects = objects(&said.stdout);
        if last != "-" {
            assert_eq!(kinds(&objects).last(), Some(&last), "{arguments:?}");
        }
    }
    let said = world.lifeboat(["--json", "backup", "nothing"]);
    assert_eq!((said.code, said.stdout.as_str()), (1, ""));
    let errors = objects(&said.stderr);
    assert_eq!(kinds(&errors), ["exit_error"]);
    assert_eq!(errors[0]["code"], 1);
    let said = world.lifeboat(["--json", "backup", "src", "nothing"]);
    assert_eq!(said.code, 3);
    assert_eq!(kinds(&objects(&said.stderr)), ["error"]);
}

#[test]
fn quiet_commands_say_nothing() {
    let world = World::with_snapshot();
    for arguments in [
        &["-r", "new", "init"][..],
        &["backup", "src"],
        &["check"],
        &["restore", "latest", "--target", "out"],
        &["tag", "--add", "x"],
        &["forget", "--keep-last", "1"],
        &["unlock"],
    ] {
        let said = world.lifeboat([&["-q"], arguments].concat());
        assert_eq!(
            (said.code, said.stdout.as_str(), said.stderr.as_str()),
            (0, "", ""),
            "{arguments:?}"
        );
    }
}

/// Runs a shell command with a terminal of its own, and gives what it showed.
fn on_a_terminal(world: &World, script: &str, set: &[(&str, &str)]) -> Said {
    let mut command = Command::new("script");
    world.surround(&mut command);
    command
        .args(["-qec", script, "/dev/null"])
        .env("TERM", "xterm")
        .env("SHELL", "/bin/sh")
        .env("lifeboat", env!("CARGO_BIN_EXE_lifeboat"));
    command.envs(set.iter().copied());
    Said::of(command.output().unwrap())
}

const SLOW: &str = "(for i in 1 2 3 4 5 6 7; do head -c 400000 /dev/urandom; sleep 0.2; done) | $lifeboat repo backup --stdin";

#[test]
fn people_on_a_terminal_get_a_line_that_is_redrawn() {
    let world = World::with_snapshot();
    let said = on_a_terminal(&world, SLOW, &[]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("\r\x1b[K[0:0"), "{said:?}");
    assert!(said.stdout.contains("/s)"), "{said:?}");
    assert!(!said.stdout.contains('{'), "{said:?}");
    // The line is gone before the next one comes.
    let last = said.stdout.rfind("[0:0").unwrap();
    assert!(said.stdout[last..].contains("\r\x1b[K"), "{said:?}");
    let quiet = on_a_terminal(&world, &SLOW.replace("repo", "repo -q"), &[]);
    assert_eq!((quiet.code, quiet.stdout.as_str()), (0, ""));
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let world = World::with_snapshot();
    let script = "$lifeboat repo restore nothing --target out";
    let colour = on_a_terminal(&world, script, &[]);
    assert!(
        colour.stdout.contains("\x1b[1;31merror:\x1b[0m"),
        "{colour:?}"
    );
    for set in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let plain = on_a_terminal(&world, script, &[set]);
        assert!(
            plain.stdout.contains("error:") && !plain.stdout.contains('\x1b'),
            "{set:?}: {plain:?}"
        );
    }
    assert!(
        !world
            .lifeboat(["restore", "nothing", "--target", "out"])
            .stderr
            .contains('\x1b')
    );
}
