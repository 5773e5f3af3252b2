//! A disk that is full, where the repository is and where a restore goes. It is real: a small file system in memory.

use std::process::Command;

use crate::world::{Said, World};

/// Runs a shell script with `full`, a file system of 4 MiB, mounted for it alone: `$lifeboat` is the program.
fn with_small_disk(world: &World, script: &str) -> Said {
    std::fs::create_dir_all(world.path("full")).unwrap();
    let mut command = Command::new("unshare");
    world.surround(&mut command);
    command.arg(if rustix::process::geteuid().is_root() {
        "-m"
    } else {
        "-rm"
    });
    let script = format!("mount -t tmpfs -o size=4m tmpfs full || exit 99\n{script}");
    command
        .args(["sh", "-c", &script])
        .env("lifeboat", env!("CARGO_BIN_EXE_lifeboat"));
    let said = Said::of(command.output().unwrap());
    assert_ne!(
        said.code, 99,
        "a file system in memory must be mountable here: {}",
        said.stderr
    );
    said
}

/// Compares what was said. In a name space of users, owners can't be given back, and that is said too.
fn compare(world: &World, name: &str, said: &Said) {
    assert!(said.stderr.contains("disk is full"), "{said:?}");
    if rustix::process::geteuid().is_root() {
        world.compare(name);
    }
}

/// Random bytes, which nothing makes smaller.
fn noise(bytes: usize) -> Vec<u8> {
    lifeboat_testkit::random::Random::new(7).bytes(bytes)
}

#[test]
fn a_full_disk_under_the_repository() {
    let world = World::with_snapshot();
    world.write("big/file", noise(8 << 20));
    let said = with_small_disk(
        &world,
        "cp -r repo full/; export RESTIC_REPOSITORY=$PWD/full/repo
        $lifeboat repo -q backup big; code=$?
        echo stored after that: $(ls full/repo/snapshots | wc -l)
        # Room for the lock of a reader.
        rm -f full/repo/locks/*; $lifeboat repo -q --no-lock check && echo still valid
        $lifeboat repo -q --no-lock restore latest --target back && cmp back/src/a.txt src/a.txt && echo still restored
        exit $code",
    );
    world.note("backing up", "lifeboat repo -q backup big", &said);
    assert_eq!(said.code, 1);
    let said = with_small_disk(
        &world,
        "head -c 5m /dev/zero > full/filler 2>/dev/null; $lifeboat repo -r full/repo init",
    );
    world.note("a new repository", "lifeboat repo -r full/repo init", &said);
    assert_eq!(said.code, 1);
    compare(&world, "full_repository", &said);
}

#[test]
fn a_full_disk_under_the_target() {
    let world = World::with_snapshot();
    world.write("src/d/big", noise(8 << 20));
    world.write("src/z.txt", "last");
    assert_eq!(world.lifeboat(["-q", "backup", "src"]).code, 0);
    let said = with_small_disk(
        &world,
        "$lifeboat repo -q restore latest:/src --target full/out; code=$?
        ls full/out/d | grep -v big; exit $code",
    );
    world.note(
        "restoring",
        "lifeboat repo -q restore latest:/src --target full/out",
        &said,
    );
    assert_eq!(said.code, 1);
    compare(&world, "full_target", &said);
}
