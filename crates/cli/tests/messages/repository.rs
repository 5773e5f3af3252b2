//! What is said of a repository that is not there, not ours, not whole, in use or out of reach.

use std::os::unix::fs::PermissionsExt;

use lifeboat_flow::Cancel;
use lifeboat_format::Config;
use lifeboat_repo::{Identity, LockGuard, LockRequest, LockTiming};
use lifeboat_testkit::heard::Unheard;

use crate::world::{Said, World};

#[test]
fn a_repository_that_is_not_there() {
    let world = World::new();
    for command in ["snapshots", "check", "unlock"] {
        assert_eq!(world.tell("no directory", &[command]).code, 10);
    }
    world.write("src/file", "x");
    assert_eq!(world.tell("no directory", &["backup", "src"]).code, 10);
    std::fs::create_dir(world.path("repo")).unwrap();
    assert_eq!(world.tell("an empty directory", &["snapshots"]).code, 10);
    world.write("file", "no repository");
    assert_eq!(world.tell("a file", &["-r", "file", "snapshots"]).code, 1);
    assert_eq!(
        world.tell("init on a file", &["-r", "file", "init"]).code,
        1
    );
    assert_eq!(
        world
            .tell("below a file", &["-r", "file/below", "init"])
            .code,
        1
    );
    world.compare("not_there");
}

#[test]
fn a_repository_that_is_there_already() {
    let world = World::with_snapshot();
    assert_eq!(world.tell("init where one is", &["init"]).code, 1);
    std::fs::remove_file(world.path("repo/config")).unwrap();
    assert_eq!(
        world.tell("init where the config is lost", &["init"]).code,
        1
    );
    assert_eq!(
        world
            .tell("reading where the config is lost", &["snapshots"])
            .code,
        10
    );
    assert_eq!(
        world
            .tell("an unknown version", &["init", "--repository-version", "3"])
            .code,
        1
    );
    world.compare("there_already");
}

#[test]
fn an_init_that_broke_off() {
    let world = World::new();
    world.repository("repo");
    let config = std::fs::read(world.path("repo/config")).unwrap();
    world.replace("repo/config", &config[..100]);
    assert_eq!(world.tell("reading", &["snapshots"]).code, 1);
    let said = world.tell_command(
        "init with another password",
        world.command(["init"]).env("RESTIC_PASSWORD", "another"),
    );
    assert_eq!(said.code, 1);
    let said = world.lifeboat(["init"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(world.tell("after init", &["-q", "snapshots"]).code, 0);
    world.compare("init_broken_off");
}

#[test]
fn a_wrong_password() {
    let world = World::with_snapshot();
    for command in ["snapshots", "check", "unlock"] {
        let said = world.tell_command(
            "wrong password",
            world.command([command]).env("RESTIC_PASSWORD", "wrong"),
        );
        assert_eq!(said.code, 12);
    }
    let said = world.tell_command(
        "for programs",
        world
            .command(["--json", "snapshots"])
            .env("RESTIC_PASSWORD", "wrong"),
    );
    assert_eq!(said.code, 12);
    assert!(said.stdout.is_empty());
    world.compare("wrong_password");
}

#[test]
fn a_repository_of_the_future_or_of_nobody() {
    let world = World::new();
    let repository = world.repository("repo");
    let future = br#"{"version":3,"id":"x","of":"the future"}"#;
    let mut sealed = vec![0; lifeboat_format::NONCE_BYTES];
    sealed.extend_from_slice(future);
    repository.master().seal(&[7; 16], &mut sealed).unwrap();
    assert!(Config::from_json(future).is_err());
    world.replace("repo/config", &sealed);
    assert_eq!(world.tell("version 3", &["snapshots"]).code, 1);

    let mut sealed = vec![0; lifeboat_format::NONCE_BYTES];
    sealed.extend_from_slice(b"nonsense");
    repository.master().seal(&[7; 16], &mut sealed).unwrap();
    world.replace("repo/config", &sealed);
    assert_eq!(
        world.tell("a config that is no JSON", &["snapshots"]).code,
        1
    );
    world.damage(&world.path("repo/config"));
    assert_eq!(world.tell("a damaged config", &["snapshots"]).code, 1);
    world.replace("repo/config", b"");
    assert_eq!(world.tell("an empty config", &["snapshots"]).code, 1);

    let key = world.only_file("repo/keys");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(&key, b"{}").unwrap();
    assert_eq!(world.tell("a damaged key", &["snapshots"]).code, 1);
    std::fs::remove_file(&key).unwrap();
    assert_eq!(world.tell("no key", &["snapshots"]).code, 12);
    world.compare("of_the_future");
}

#[test]
fn damage_is_named() {
    let world = World::with_snapshot();
    world.damage(&world.only_file("repo/snapshots"));
    assert_eq!(
        world
            .tell("a damaged snapshot, listed", &["snapshots"])
            .code,
        0
    );
    assert_eq!(
        world
            .tell(
                "a damaged snapshot, wanted",
                &["restore", "latest", "--target", "out"]
            )
            .code,
        1
    );
    assert_eq!(
        world
            .tell("a damaged snapshot, tagged", &["tag", "--add", "keep"])
            .code,
        1
    );
    assert_eq!(
        world.tell("a damaged snapshot, checked", &["check"]).code,
        1
    );

    let world2 = World::with_snapshot();
    world2.damage(&world2.only_file("repo/index"));
    assert_eq!(
        world2
            .tell(
                "a damaged index file, restoring",
                &["restore", "latest", "--target", "out"]
            )
            .code,
        1
    );
    assert_eq!(
        world2
            .tell("a damaged index file, checked", &["check"])
            .code,
        1
    );

    let world3 = World::with_snapshot();
    for pack in world3.files("repo/data") {
        let bytes: Vec<u8> = std::fs::read(&pack)
            .unwrap()
            .iter()
            .map(|byte| !byte)
            .collect();
        world3.replace(pack.to_str().unwrap(), &bytes);
    }
    assert_eq!(
        world3
            .tell(
                "damaged packs, restoring",
                &["restore", "latest", "--target", "out"]
            )
            .code,
        1
    );
    let mut said = world3.lifeboat(["check", "--read-data"]);
    // Packs come in the order of their IDs, and those differ each time.
    let mut lines: Vec<&str> = said.stderr.lines().collect();
    let is_hint = |line: &&str| line.starts_with("hint:");
    let ends = lines.iter().position(is_hint).unwrap();
    lines[..ends].sort_by_key(|line| {
        line.split_whitespace()
            .filter(|word| word.len() < 16)
            .collect::<String>()
            .split_off(10)
    });
    said.stderr = lines.join("\n");
    world3.note(
        "damaged packs, checked",
        "lifeboat repo check --read-data",
        &said,
    );
    assert_eq!(said.code, 1);
    world.compare("damaged_snapshot");
    world2.compare("damaged_index");
    world3.compare("damaged_packs");
}

#[test]
fn a_place_without_any_pack() {
    let world = World::with_snapshot();
    for pack in world.files("repo/data") {
        std::fs::remove_file(pack).unwrap();
    }
    let before = world.files("repo");
    for arguments in [
        &["repair", "index"][..],
        &["repair", "snapshots"],
        &["repair", "snapshots", "--forget"],
    ] {
        let said = world.tell("repairing where no pack is", arguments);
        assert_eq!(said.code, 1);
    }
    assert_eq!(world.files("repo"), before);
    world.compare("no_packs");
}

/// Whoever runs the tests, the lock's holder has this name.
fn robin() -> Identity {
    Identity {
        username: "robin".into(),
        ..Identity::of_this_process()
    }
}

#[test]
fn a_locked_repository() {
    let world = World::with_snapshot();
    let repository = world.open("repo");
    let request = LockRequest {
        exclusive: true,
        retry_for: std::time::Duration::ZERO,
        timing: LockTiming::default(),
        early: false,
        reads: false,
    };
    let lock = LockGuard::take(&repository, &robin(), request, &Unheard, &Cancel::new()).unwrap();
    assert_eq!(
        world
            .tell("locked exclusively, backing up", &["backup", "src"])
            .code,
        11
    );
    assert_eq!(
        world
            .tell("locked exclusively, reading", &["snapshots"])
            .code,
        11
    );
    assert_eq!(
        world
            .tell(
                "locked exclusively, reading all the same",
                &["-q", "--no-lock", "check"]
            )
            .code,
        0
    );
    assert_eq!(
        world
            .tell("waiting in vain", &["--retry-lock", "1s", "snapshots"])
            .code,
        11
    );
    assert_eq!(
        world
            .tell("unlocking while the holder lives", &["unlock"])
            .code,
        0
    );
    // For programs: how many went, how many stay and why.
    let counts = |arguments: &[&str]| {
        let said = world.lifeboat([&["--json", "unlock"], arguments].concat());
        assert_eq!(said.code, 0, "{said:?}");
        let told: serde_json::Value = serde_json::from_str(said.stdout.trim()).unwrap();
        let count = |name: &str| told[format!("locks_{name}")].as_u64().unwrap();
        [count("removed"), count("live"), count("unreadable")]
    };
    assert_eq!(counts(&[]), [0, 1, 0]);
    drop(lock);
    let shared = LockRequest {
        exclusive: false,
        ..request
    };
    let lock = LockGuard::take(&repository, &robin(), shared, &Unheard, &Cancel::new()).unwrap();
    assert_eq!(
        world
            .tell(
                "locked by a writer, removing",
                &["forget", "--keep-last", "1"]
            )
            .code,
        11
    );
    drop(lock);
    assert_eq!(
        world
            .tell("a writer without a lock", &["--no-lock", "backup", "src"])
            .code,
        1
    );
    world.write(&format!("repo/locks/{}", "ab".repeat(32)), "no lock");
    assert_eq!(
        world
            .tell("a lock that nobody can read", &["snapshots"])
            .code,
        11
    );
    assert_eq!(
        world
            .tell("unlocking what nobody can read", &["unlock"])
            .code,
        0
    );
    assert_eq!(counts(&[]), [0, 0, 1]);
    assert_eq!(
        world
            .tell("unlocking all", &["unlock", "--remove-all"])
            .code,
        0
    );
    world.write(&format!("repo/locks/{}", "ab".repeat(32)), "no lock");
    assert_eq!(counts(&["--remove-all"]), [1, 0, 0]);
    world.compare("locked");
}

#[test]
fn a_waiting_command_goes_on_when_the_lock_is_gone() {
    let world = World::with_snapshot();
    let repository = world.open("repo");
    let request = LockRequest {
        exclusive: true,
        retry_for: std::time::Duration::ZERO,
        timing: LockTiming::default(),
        early: false,
        reads: false,
    };
    let lock = LockGuard::take(&repository, &robin(), request, &Unheard, &Cancel::new()).unwrap();
    let waiting = world
        .command(["--retry-lock", "30s", "-q", "snapshots"])
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    drop(lock);
    let said = Said::of(waiting.wait_with_output().unwrap());
    assert_eq!(said.code, 0, "{said:?}");
}

#[test]
fn a_repository_without_the_right_to_it() {
    let world = World::with_snapshot();
    if rustix::process::geteuid().is_root() {
        // A repository is for its owner alone.
        let said = Said::of(world.without_rights(["snapshots"]).output().unwrap());
        world.note(
            "another user's repository",
            "lifeboat repo snapshots",
            &said,
        );
        assert_eq!(said.code, 1);
    }
    // All may read, nobody may write: the usual case of a copy on a read-only share.
    world.open_to_all("repo");
    for (what, arguments, code) in [
        (
            "reading with a lock where nothing can be written",
            &["snapshots"][..],
            1,
        ),
        ("reading without a lock", &["--no-lock", "-q", "check"], 0),
        (
            "backing up where nothing can be written",
            &["backup", "src"],
            1,
        ),
        (
            "a new repository where nothing can be written",
            &["-r", "repo/new", "init"],
            1,
        ),
    ] {
        let said = Said::of(world.without_rights(arguments).output().unwrap());
        world.note(
            what,
            &format!("lifeboat repo {}", arguments.join(" ")),
            &said,
        );
        assert_eq!(said.code, code, "{said:?}");
    }
    if rustix::process::geteuid().is_root() {
        world.compare("without_rights");
    }
}

#[test]
fn a_place_that_protects_nothing() {
    let world = World::with_snapshot();
    let before = world.files("repo/data");
    for arguments in [
        &["check", "--try-delete"][..],
        &["check", "--try-delete", "--json"],
        &["check", "--try-delete", "--no-lock"],
    ] {
        assert_eq!(world.tell("a directory", arguments).code, 1);
    }
    assert_eq!(
        world.files("repo/data"),
        before,
        "nothing is left of the try"
    );
    assert!(world.files("repo/locks").is_empty());
    world.compare("try_delete");
}
