//! What is said of snapshots that do not exist, of names that fit several, and of targets that can't be written.

use std::os::unix::fs::PermissionsExt;

use crate::world::{Said, World};

#[test]
fn names_of_snapshots() {
    let world = World::with_snapshot();
    // So many that two IDs begin alike, whatever they are: there are 16 digits.
    for number in 0..17 {
        world.write("src/a.txt", format!("{number}"));
        assert_eq!(world.lifeboat(["-q", "backup", "src"]).code, 0);
    }
    let ids: Vec<String> = world
        .files("repo/snapshots")
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    let twin = ids
        .windows(2)
        .find(|pair| pair[0][..1] == pair[1][..1])
        .unwrap()[0][..1]
        .to_owned();
    let restore = |name: &str| {
        Said::of(
            world
                .command(["restore", name, "--target", "out"])
                .output()
                .unwrap(),
        )
    };
    for (what, name, shown) in [
        ("an unknown snapshot", "ffffffffffff", "ffffffffffff"),
        ("an ambiguous prefix", twin.as_str(), "<digit>"),
        ("no ID", "yesterday", "yesterday"),
        ("no name", "", "\"\""),
        ("so long ago", "latest~99", "latest~99"),
        ("no number", "latest~x", "latest~x"),
        ("no such directory", "latest:/nothing", "latest:/nothing"),
        (
            "a file instead of a directory",
            "latest:/src/a.txt",
            "latest:/src/a.txt",
        ),
    ] {
        let mut said = restore(name);
        assert_eq!(said.code, 1, "{what}: {said:?}");
        if shown == "<digit>" {
            // Which snapshots begin alike is up to chance.
            said.stderr = said.stderr.replace(&format!("{twin:?}"), "\"<digit>\"");
        }
        world.note(
            what,
            &format!("lifeboat repo restore {shown} --target out"),
            &said,
        );
    }
    assert_eq!(
        world
            .tell(
                "nothing of that host",
                &[
                    "restore",
                    "latest",
                    "--host",
                    "elsewhere",
                    "--target",
                    "out"
                ]
            )
            .code,
        1
    );
    assert_eq!(
        world
            .tell("nothing to forget", &["forget", "ffffffffffff"])
            .code,
        1
    );
    assert!(!world.path("out").exists(), "nothing was made");
    world.compare("snapshot_names");
}

#[test]
fn an_empty_repository_has_no_latest() {
    let world = World::new();
    world.repository("repo");
    assert_eq!(
        world
            .tell(
                "no snapshot at all",
                &["restore", "latest", "--target", "out"]
            )
            .code,
        1
    );
    assert_eq!(world.tell("no snapshot to list", &["snapshots"]).code, 0);
    assert_eq!(world.tell("nothing to check", &["check"]).code, 0);
    world.compare("no_snapshots");
}

#[test]
fn targets_that_can_not_be_written() {
    let world = World::with_snapshot();
    world.write("file", "in the way");
    assert_eq!(
        world
            .tell("a file", &["restore", "latest", "--target", "file"])
            .code,
        1
    );
    assert_eq!(
        world
            .tell(
                "below a file",
                &["restore", "latest", "--target", "file/below"]
            )
            .code,
        1
    );
    assert_eq!(
        world
            .tell("nothing", &["restore", "latest", "--target", ""])
            .code,
        2
    );
    assert_eq!(std::fs::read(world.path("file")).unwrap(), b"in the way");
    std::fs::create_dir(world.path("closed")).unwrap();
    std::fs::set_permissions(world.path("closed"), PermissionsExt::from_mode(0o555)).unwrap();
    world.open_to_all("repo");
    for target in ["closed", "closed/below"] {
        let arguments = ["--no-lock", "-q", "restore", "latest", "--target", target];
        let said = Said::of(world.without_rights(arguments).output().unwrap());
        world.note(
            "without the right to write",
            &format!("lifeboat repo {}", arguments.join(" ")),
            &said,
        );
        assert_eq!(said.code, 1, "{said:?}");
    }
    world.compare("targets");
}

#[test]
fn paths_that_are_not_in_a_snapshot() {
    let world = World::with_snapshot();
    for (what, arguments) in [
        (
            "a path on this machine",
            &["dump", "latest", "/home/me/src/b/c.txt"][..],
        ),
        ("without its beginning", &["dump", "latest", "/b/c.txt"]),
        ("other letters", &["dump", "latest", "/SRC/B/c.TXT"]),
        ("only its name", &["dump", "latest:/src", "c.txt"]),
        ("nothing like it", &["dump", "latest", "/nowhere/at/all"]),
        ("below a file", &["dump", "latest", "/src/a.txt/b"]),
        ("a directory", &["restore", "latest:/B", "--target", "out"]),
        ("a file", &["restore", "latest:/a.txt", "--target", "out"]),
        (
            "nothing like it",
            &["restore", "latest:/nowhere", "--target", "out"],
        ),
    ] {
        assert_eq!(world.tell(what, arguments).code, 1);
    }
    assert!(!world.path("out").exists());
    world.compare("not_in_a_snapshot");
}
