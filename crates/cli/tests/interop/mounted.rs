//! A mounted repository shows every snapshot as it was, written by us or by restic, and nothing else.
//! A machine without /dev/fuse can't run this, and fails: mounting would be untested.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lifeboat_testkit::compare::Comparison;
use lifeboat_testkit::fixtures::Generator;
use lifeboat_testkit::replay::{Note, seed};
use rustix::process::{Pid, Signal, kill_process};

use crate::common::{Place, Program};

/// From the start of the program until its mount can be looked at.
const READY_MAX: Duration = Duration::from_secs(60);

/// A mount that ends with the test.
struct Mount {
    child: Child,
    place: PathBuf,
}

impl Mount {
    fn start(place: &Place, arguments: &[&str]) -> Self {
        let at = place.path("mount");
        fs::create_dir_all(&at).unwrap();
        let Program::Ours {
            binary,
            repository,
            password,
        } = place.ours()
        else {
            unreachable!("it is ours");
        };
        let child = Command::new(binary)
            .args(["repo", "mount"])
            .arg(&at)
            .args(arguments)
            .env("RESTIC_REPOSITORY", repository)
            .env("RESTIC_PASSWORD", password)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut mount = Self { child, place: at };
        let began = Instant::now();
        while fs::read_dir(&mount.place).unwrap().next().is_none() {
            if let Some(status) = mount.child.try_wait().unwrap() {
                panic!("it ended with {status}: {}", mount.said());
            }
            assert!(began.elapsed() < READY_MAX, "nothing was mounted");
            std::thread::sleep(Duration::from_millis(20));
        }
        mount
    }

    fn said(&mut self) -> String {
        let mut text = String::new();
        for pipe in [
            self.child.stdout.as_mut().map(|pipe| pipe as &mut dyn Read),
            self.child.stderr.as_mut().map(|pipe| pipe as &mut dyn Read),
        ] {
            pipe.unwrap().read_to_string(&mut text).unwrap();
        }
        text
    }

    /// Ends it as Ctrl-C does, and gives how it ended.
    fn end(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let code = self.child.wait().unwrap().code();
        assert_eq!(fs::read_dir(&self.place).unwrap().count(), 0, "unmounted");
        code
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
            let _ = self.child.wait();
        }
    }
}

fn same() -> Comparison {
    // A file system that is read by the kernel has inodes of its own.
    Comparison::exact()
        .ignoring_hard_links()
        .ignoring_sockets()
        .ignoring_root()
}

fn only_entry(dir: &Path) -> PathBuf {
    let found: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with("latest"))
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

#[test]
fn every_snapshot_is_shown_as_it_was() {
    let seed = seed();
    let _seed = Note::seed(seed);
    let place = Place::new();
    let mut generator = Generator::new(seed);
    let (_first, ours) = generator.temporary_tree();
    let (_second, theirs) = generator.temporary_tree();
    place
        .ours()
        .run(["backup", ".", "--tag", "a/b", "--host", "ours"])
        .within(&ours)
        .ok();
    place
        .current()
        .run(["backup", ".", "--host", "theirs"])
        .within(&theirs)
        .ok();
    let mount = Mount::start(&place, &[]);
    let at = |path: &str| mount.place.join(path);
    same().assert_same(&ours, &only_entry(&at("hosts/ours")));
    same().assert_same(&ours, &only_entry(&at("tags/a_b")));
    same().assert_same(
        &theirs,
        &fs::canonicalize(at("hosts/theirs/latest")).unwrap(),
    );
    same().assert_same(&theirs, &fs::canonicalize(at("snapshots/latest")).unwrap());
    assert_eq!(fs::read_dir(at("ids")).unwrap().count(), 2);
    assert!(fs::write(at("new"), b"x").is_err(), "it can't be written");
    assert_eq!(mount.end(), Some(0));
    place.current().run(["check", "--read-data"]).ok();
}

#[test]
fn filters_and_templates_choose_what_is_shown() {
    let place = Place::new();
    for host in ["one", "two"] {
        fs::write(place.path(host), host).unwrap();
        place
            .ours()
            .run(["backup", host, "--host", host])
            .within(&place.path(""))
            .ok();
    }
    let mount = Mount::start(
        &place,
        &[
            "--host",
            "two",
            "--path-template",
            "%h/%T",
            "--time-template",
            "2006",
        ],
    );
    let latest = mount.place.join("two/latest");
    assert_eq!(fs::read(latest.join("two")).unwrap(), b"two");
    assert_eq!(fs::read_link(&latest).unwrap().as_os_str().len(), 4);
    assert!(!mount.place.join("one").exists());
    assert_eq!(mount.end(), Some(0));
}

#[test]
fn a_damaged_file_is_an_error_and_the_others_are_read() {
    let place = Place::new();
    let big = place.path("big");
    for (name, byte) in [("a", 1u8), ("b", 2)] {
        let mut content: Vec<u8> = (0..200_000u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        content.push(byte);
        fs::create_dir_all(&big).unwrap();
        fs::write(big.join(name), content).unwrap();
        place
            .ours()
            .run(["backup", "big"])
            .within(&place.path(""))
            .ok();
    }
    let packs = walk(&place.repository().join("data"));
    let largest = packs
        .iter()
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    let mut bytes = fs::read(largest).unwrap();
    bytes[100] ^= 1;
    fs::remove_file(largest).unwrap();
    fs::write(largest, bytes).unwrap();
    let mount = Mount::start(&place, &[]);
    let dir = mount.place.join("snapshots/latest/big");
    let read: Vec<bool> = ["a", "b"]
        .iter()
        .map(|name| fs::read(dir.join(name)).is_ok())
        .collect();
    assert_eq!(read.iter().filter(|good| **good).count(), 1, "{read:?}");
    assert_eq!(mount.end(), Some(0));
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                walk(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[test]
fn a_place_that_is_no_empty_directory_is_refused() {
    let place = Place::new();
    fs::write(place.path("file"), b"x").unwrap();
    fs::create_dir(place.path("full")).unwrap();
    fs::write(place.path("full/file"), b"x").unwrap();
    for (name, why) in [
        ("none", "No such file or directory"),
        ("file", "Not a directory"),
        ("full", "directory not empty"),
    ] {
        let said = place
            .ours()
            .run(["mount", name])
            .within(&place.path(""))
            .ends(1);
        assert!(said.stderr.contains(why), "{}", said.stderr);
    }
}
