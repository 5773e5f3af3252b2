//! Where passwords come from and what is said when they don't; and that they are shown to nobody.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::world::{PASSWORD, Said, World};

#[test]
fn passwords_that_do_not_come() {
    let world = World::with_snapshot();
    let without = |arguments: &[&str]| {
        let mut command = world.command(arguments);
        command.env_remove("RESTIC_PASSWORD");
        command
    };
    let tell = |what: &str, arguments: &[&str], code: i32| {
        assert_eq!(
            world.tell_command(what, &mut without(arguments)).code,
            code,
            "{what}"
        );
    };
    tell("no password and no terminal", &["snapshots"], 1);
    // What can't be done anyhow is said before anybody is asked.
    for (arguments, says) in [
        (["--no-lock", "tag", "--add=x"], "only read"),
        (["--retry-lock=5x", "snapshots", "-v"], "--retry-lock"),
    ] {
        let said = Said::of(without(&arguments).output().unwrap());
        assert!(
            said.code == 1 && said.stderr.contains(says),
            "{}",
            said.stderr
        );
    }
    tell("no password file", &["-p", "nothing", "snapshots"], 1);
    tell(
        "a password file that is a directory",
        &["-p", "src", "snapshots"],
        1,
    );
    world.write("empty", "");
    tell("an empty password file", &["-p", "empty", "snapshots"], 1);
    world.write("large", "x".repeat(70_000));
    tell(
        "a file that is no password",
        &["-p", "large", "snapshots"],
        1,
    );
    world.write("binary", b"\xff\xfe");
    tell(
        "a password file that is no text",
        &["-p", "binary", "snapshots"],
        1,
    );
    tell(
        "a command that fails",
        &[
            "--password-command",
            "sh -c 'echo no luck >&2; exit 3'",
            "snapshots",
        ],
        1,
    );
    tell(
        "a command that is killed",
        &["--password-command", "sh -c 'kill -9 $$'", "snapshots"],
        1,
    );
    tell(
        "a command that does not exist",
        &["--password-command", "no-such-program", "snapshots"],
        1,
    );
    tell(
        "a command that prints nothing",
        &["--password-command", "true", "snapshots"],
        1,
    );
    tell(
        "an empty command",
        &["--password-command", " ", "snapshots"],
        1,
    );
    tell(
        "a quote without an end",
        &["--password-command", "echo 'x", "snapshots"],
        1,
    );
    tell(
        "a file and a command",
        &["-p", "empty", "--password-command", "true", "snapshots"],
        1,
    );
    world.compare("passwords");
}

#[test]
fn passwords_that_come() {
    let world = World::with_snapshot();
    world.write("right", format!("{PASSWORD}\n"));
    for arguments in [
        &["-p", "right", "-q", "check"][..],
        &["--password-command", "cat right", "-q", "check"],
    ] {
        let mut command = world.command(arguments);
        let said = Said::of(command.env_remove("RESTIC_PASSWORD").output().unwrap());
        assert_eq!(
            (said.code, said.stdout.as_str(), said.stderr.as_str()),
            (0, "", "")
        );
    }
}

#[test]
fn new_passwords_that_protect_nothing() {
    let world = World::with_snapshot();
    world.write("empty", "\n");
    let mut init = world.command(["-r", "new", "init"]);
    init.env("RESTIC_PASSWORD", "");
    assert_eq!(
        world
            .tell_command("init with an empty password", &mut init)
            .code,
        1
    );
    assert!(!world.path("new").exists(), "nothing was made");
    assert_eq!(
        world
            .tell(
                "adding an empty password",
                &["key", "add", "--new-password-file", "empty"]
            )
            .code,
        1
    );
    assert_eq!(
        world
            .tell("adding without a password", &["key", "add"])
            .code,
        1
    );
    assert_eq!(
        world
            .tell(
                "removing a key that is not there",
                &["key", "remove", "ffff"]
            )
            .code,
        1
    );
    let key = world.only_file("repo/keys");
    let id = key.file_name().unwrap().to_str().unwrap();
    let said = world.lifeboat(["key", "remove", &id[..8]]);
    world.note(
        "removing the only key",
        "lifeboat repo key remove <id>",
        &said,
    );
    assert_eq!(said.code, 1);
    world.compare("new_passwords");
}

#[test]
fn secrets_are_shown_to_nobody() {
    let world = World::with_snapshot();
    world.write("secret/file", "for one's own eyes");
    let temporary = world.path("tmp");
    std::fs::create_dir(&temporary).unwrap();
    world.write("pw", PASSWORD);
    let mut backup = world
        .command(["-p", "pw", "-vv", "backup", "--stdin", "--tag", "t"])
        .env("TMPDIR", &temporary)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // While its standard input is open it runs.
    world.wait_for_lock();
    let list = std::fs::read(format!("/proc/{}/cmdline", backup.id())).unwrap();
    assert!(!String::from_utf8_lossy(&list).contains(PASSWORD));
    assert_eq!(
        std::fs::read_dir(&temporary).unwrap().count(),
        0,
        "no temporary files"
    );
    std::io::Write::write_all(backup.stdin.as_mut().unwrap(), b"content").unwrap();
    drop(backup.stdin.take());
    assert_eq!(Said::of(backup.wait_with_output().unwrap()).code, 0);
    for file in world.files("repo") {
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} is for its owner alone", file.display());
        let content = std::fs::read(&file).unwrap();
        assert!(
            !content
                .windows(PASSWORD.len())
                .any(|part| part == PASSWORD.as_bytes())
        );
    }
    // Also where it is in the way: as a key hint, in a name that does not exist, in a failing command's own text.
    for arguments in [
        &["--key-hint", "0", "snapshots"][..],
        &["-p", "nothing", "snapshots"],
        &["-p", "pw", "-r", "nowhere", "snapshots"],
        &["-p", "pw", "--json", "ls", "nothing"],
    ] {
        // What is shown is looked at in every run.
        world.lifeboat(arguments);
    }
}
