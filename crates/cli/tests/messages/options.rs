//! What is said of options and arguments that make no sense. Nothing is done then.

use crate::world::World;

#[test]
fn wrong_usage() {
    let world = World::with_snapshot();
    for (what, arguments) in [
        (
            "an unknown option",
            &["backup", "--no-such-option", "src"][..],
        ),
        ("an unknown command", &["bakcup", "src"]),
        ("no target", &["restore", "latest"]),
        ("no snapshot", &["restore", "--target", "out"]),
        ("quiet and verbose", &["-q", "-v", "snapshots"]),
        (
            "two ways to choose",
            &[
                "restore",
                "latest",
                "--target",
                "out",
                "--include",
                "a",
                "--exclude",
                "b",
            ],
        ),
        (
            "two ways to overwrite",
            &[
                "restore",
                "latest",
                "--target",
                "out",
                "--overwrite",
                "sometimes",
            ],
        ),
        ("no number", &["backup", "--pack-size", "big", "src"]),
        (
            "a negative number",
            &["backup", "--read-concurrency=-1", "src"],
        ),
        (
            "two ways to tag",
            &["tag", "--set", "a", "--add", "b", "latest"],
        ),
        (
            "stdin and a command",
            &["backup", "--stdin", "--stdin-from-command", "true"],
        ),
        ("an option without its value", &["backup", "src", "--tag"]),
    ] {
        assert_eq!(world.tell(what, arguments).code, 2, "{what}");
    }
    world.compare("usage");
}

#[test]
fn locations_that_make_no_sense() {
    let world = World::with_snapshot();
    let tell = |what: &str, arguments: &[&str]| {
        let mut command = world.command(arguments);
        command.env_remove("RESTIC_REPOSITORY");
        assert_eq!(world.tell_command(what, &mut command).code, 1, "{what}");
    };
    world.write("location", "repo\n");
    world.write("empty", "");
    tell("no location", &["snapshots"]);
    tell(
        "two locations",
        &["-r", "repo", "--repository-file", "location", "snapshots"],
    );
    tell(
        "a file of locations that is missing",
        &["--repository-file", "nothing", "snapshots"],
    );
    tell(
        "an empty file",
        &["--repository-file", "empty", "snapshots"],
    );
    tell("an empty location", &["-r", "", "snapshots"]);
    for (what, location) in [
        (
            "credentials in a bucket's URL",
            "s3:https://user:hunter2@s3.example.net/bucket",
        ),
        ("no bucket", "s3:s3.example.net"),
        (
            "another protocol",
            "rest:ftp://user:hunter2@nas.example.net/",
        ),
        ("no directory", "sftp:nas.example.net"),
        ("no remote", "rclone:"),
        ("another program's backend", "b2:bucket:path"),
    ] {
        tell(what, &["-r", location, "snapshots"]);
    }
    world.compare("locations");
    let mut fine = world.command(["-q", "--repository-file", "location", "check"]);
    assert_eq!(
        fine.env_remove("RESTIC_REPOSITORY")
            .status()
            .unwrap()
            .code(),
        Some(0)
    );
    // A name with a colon is a directory of this machine.
    world.repository("a:b");
    assert_eq!(world.lifeboat(["-q", "-r", "a:b", "check"]).code, 0);
    assert_eq!(world.lifeboat(["-q", "-r", "local:a:b", "check"]).code, 0);
}

#[test]
fn values_that_make_no_sense() {
    let world = World::with_snapshot();
    world.write("patterns", "*.tmp\n[a-\n");
    world.write("good", "*.tmp\n");
    let backup: &[&[&str]] = &[
        &["--exclude-larger-than", "1.5G"],
        &["--exclude-larger-than", ""],
        &["--exclude-larger-than=-1"],
        &["--exclude-larger-than", "9E"],
        &["--exclude", "[a-"],
        &["--iexclude", "x["],
        &["--exclude", "a\\"],
        &["--exclude-file", "patterns"],
        &["--exclude-file", "nothing"],
        &["--iexclude-file", "patterns"],
        &["--exclude-if-present", ""],
        &["--exclude-if-present", "a/b"],
        &["--time", "yesterday"],
        &["--time", "2006-02-30 12:00:00"],
        &["--compression", "fast"],
        &["--pack-size", "3"],
        &["--pack-size", "129"],
        &["--pack-size", "18446744073709551615"],
        &["--read-concurrency", "0"],
        &["--group-by", "host,colour"],
        &["--parent", "ffffffff"],
        &["--parent", "src"],
    ];
    for options in backup {
        let arguments = [&["backup"][..], options, &["src"]].concat();
        assert_eq!(world.tell("a bad value", &arguments).code, 1, "{options:?}");
    }
    let others: &[&[&str]] = &[
        &["-o", "s3.region", "snapshots"],
        &["-o", "region=eu", "snapshots"],
        &["-o", "b2.connections=3", "snapshots"],
        &[
            "-o",
            "s3.region=eu",
            "--option",
            "S3.region=us",
            "snapshots",
        ],
        &["--stuck-request-timeout", "5", "snapshots"],
        &["--stuck-request-timeout", "0s", "snapshots"],
        &["--retry-lock", "5", "snapshots"],
        &["--retry-lock", "5x", "snapshots"],
        &["--retry-lock=-5m", "snapshots"],
        &["forget", "--keep-last", "-2"],
        &["forget", "--keep-last", "many"],
        &["forget", "--keep-daily", "1.5"],
        &["forget", "--keep-within", "2x"],
        &["forget", "--keep-within-daily", "7"],
        &["forget", "--keep-last", "0"],
        &["forget"],
        &["forget", "--keep-last", "1", "latest"],
        &["forget", "--group-by", "size", "--keep-last", "1"],
        &["check", "--read-data-subset", "0/7"],
        &["check", "--read-data-subset", "8/7"],
        &["check", "--read-data-subset", "120%"],
        &["check", "--read-data-subset", "some"],
        &["restore", "latest", "--target", "out", "--include", "[a-"],
        &[
            "restore",
            "latest",
            "--target",
            "out",
            "--exclude-file",
            "nothing",
        ],
        &["snapshots", "--group-by", "size"],
        &["tag", "latest"],
    ];
    for arguments in others {
        assert_eq!(
            world.tell("a bad value", arguments).code,
            1,
            "{arguments:?}"
        );
    }
    assert!(!world.path("out").exists(), "nothing was made");
    world.compare("values");
    let snapshots = world.files("repo/snapshots");
    assert_eq!(snapshots.len(), 1, "nothing was stored or removed");
    // Environment variables are read as their options.
    let mut command = world.command(["backup", "src"]);
    let said = world.tell_command(
        "from the environment",
        command.env("RESTIC_COMPRESSION", "fast"),
    );
    assert_eq!(said.code, 1);
}
