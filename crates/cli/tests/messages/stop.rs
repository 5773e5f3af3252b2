//! A wish to stop is heard at once, leaves the repository valid and no lock behind; a second one ends the program.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::world::{Said, World};

/// From the wish to the end: much less than anything takes here that was not stopped, and more than a busy machine is late.
const STOP_MAX: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(60);

fn spawn(command: &mut Command) -> Child {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Waits for the end and says how long it took.
fn end(mut child: Child, stdin: impl Sized) -> (Said, Duration) {
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it did not stop");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let took = began.elapsed();
    // Until now the other end was open.
    drop(stdin);
    (Said::of(child.wait_with_output().unwrap()), took)
}

fn is_sound(world: &World) {
    assert_eq!(
        world.files("repo/locks"),
        Vec::<std::path::PathBuf>::new(),
        "no lock is left"
    );
    let said = world.lifeboat(["-q", "check", "--read-data"]);
    assert_eq!(said.code, 0, "{said:?}");
}

#[test]
fn a_backup_of_standard_input_stops_while_nothing_comes() {
    for (name, wish) in [("SIGINT", Signal::INT), ("SIGTERM", Signal::TERM)] {
        let world = World::with_snapshot();
        let mut backup = spawn(&mut world.command(["-q", "backup", "--stdin"]));
        let mut stdin = backup.stdin.take().unwrap();
        stdin.write_all(b"the first half").unwrap();
        world.wait_for_lock();
        std::thread::sleep(Duration::from_millis(300));
        signal(&backup, wish);
        let (said, took) = end(backup, stdin);
        assert_eq!(said.code, 130, "{name}: {said:?}");
        assert!(took < STOP_MAX, "{name}: {took:?}");
        assert_eq!(
            world.files("repo/snapshots").len(),
            1,
            "no snapshot of a half"
        );
        is_sound(&world);
        if name == "SIGINT" {
            world.note("Ctrl-C", "lifeboat repo -q backup --stdin", &said);
            world.compare("stopped");
        }
    }
}

#[test]
fn a_backup_of_files_stops_in_their_middle() {
    let world = World::with_snapshot();
    let file = std::fs::File::create(world.path("src/large")).unwrap();
    // A hole: gigabytes to hash that take no room.
    file.set_len(64 << 30).unwrap();
    let backup = spawn(&mut world.command(["-q", "backup", "src"]));
    world.wait_for_lock();
    std::thread::sleep(Duration::from_millis(700));
    signal(&backup, Signal::INT);
    let (said, took) = end(backup, ());
    assert_eq!(said.code, 130, "{said:?}");
    assert!(took < STOP_MAX, "{took:?}");
    is_sound(&world);
}

#[test]
fn a_command_that_waits_for_a_lock_stops() {
    let world = World::with_snapshot();
    let holder = spawn(&mut world.command(["-q", "backup", "--stdin"]));
    world.wait_for_lock();
    let mut waiting =
        spawn(&mut world.command(["--retry-lock", "1h", "forget", "--keep-last", "1"]));
    let notes = BufReader::new(waiting.stderr.take().unwrap());
    let mut notes = notes.lines().map_while(Result::ok);
    assert!(notes.any(|note| note.contains("waiting up to")));
    signal(&waiting, Signal::TERM);
    let (said, took) = end(waiting, ());
    assert_eq!(said.code, 130, "{said:?}");
    assert!(took < STOP_MAX, "{took:?}");
    signal(&holder, Signal::INT);
    assert_eq!(end(holder, ()).0.code, 130);
    is_sound(&world);
}

#[test]
fn the_second_wish_ends_at_once() {
    let world = World::with_snapshot();
    // The command of a password hears nothing and lasts long.
    let lasting = "sh -c 'touch asked; exec sleep 600'";
    let mut command = world.command(["--password-command", lasting, "snapshots"]);
    let mut asking = spawn(command.env_remove("RESTIC_PASSWORD"));
    let asked = world.path("asked");
    let began = Instant::now();
    while !asked.exists() {
        assert!(began.elapsed() < PATIENCE, "no password was asked for");
        std::thread::sleep(Duration::from_millis(5));
    }
    // One that comes before the last was heard is none of its own: it is sent until it is.
    let began = Instant::now();
    let status = loop {
        signal(&asking, Signal::INT);
        std::thread::sleep(Duration::from_millis(200));
        if let Some(status) = asking.try_wait().unwrap() {
            break status;
        }
        assert!(began.elapsed() < STOP_MAX, "it does not end");
    };
    assert_eq!(status.code(), Some(130));
}

#[test]
fn a_reader_that_leaves_is_an_error_without_a_cry() {
    let world = World::with_snapshot();
    for number in 0..3 {
        world.write("src/a.txt", format!("{number}"));
        assert_eq!(world.lifeboat(["-q", "backup", "src"]).code, 0);
    }
    let mut list = world.command(["snapshots"]);
    let mut list = list
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Nobody reads from the first byte on.
    drop(list.stdout.take());
    let said = Said::of(list.wait_with_output().unwrap());
    assert_eq!((said.code, said.stderr.as_str()), (1, ""));
    let to_full = |arguments: &[&str]| {
        let full = std::fs::File::create("/dev/full").unwrap();
        Said::of(
            world
                .command(arguments)
                .stdout(full)
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
                .wait_with_output()
                .unwrap(),
        )
    };
    world.note(
        "a result that can't be stored",
        "lifeboat repo snapshots > /dev/full",
        &to_full(&["snapshots"]),
    );
    assert_eq!(world.files("repo/locks").len(), 0, "the lock is released");
    world.compare("closed_output");
}
