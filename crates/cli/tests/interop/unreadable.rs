//! What can't be read, vanishes or changes is named, the rest is saved and the status is 3; also for users without rights.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use lifeboat_testkit::compare::Comparison;
use lifeboat_testkit::program::copy_program;
use lifeboat_testkit::restic::PASSWORD;
use serde_json::Value;

use crate::common::{Place, array, summary};

/// The user nobody.
const NOBODY: &str = "65534";
const PATIENCE: Duration = Duration::from_secs(30);

/// Our program as a user without rights, who gets a copy of it: where it was built, others may not be let in.
struct Nobody {
    place: Place,
}

impl Nobody {
    fn new() -> Self {
        let place = Place::empty();
        let binary = place.path("lifeboat");
        copy_program(env!("CARGO_BIN_EXE_lifeboat").as_ref(), &binary);
        let home = place.path("home");
        fs::create_dir(&home).unwrap();
        for (path, mode) in [(place.path(""), 0o755), (binary, 0o755), (home, 0o777)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        Self { place }
    }

    fn home(&self) -> PathBuf {
        self.place.path("home")
    }

    /// Runs a command as nobody, or as whoever runs the tests if that is not root.
    fn command(&self, program: &Path) -> Command {
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command
                .args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}")])
                .args(["--clear-groups", "--"])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        command
            .current_dir(self.home())
            .env("HOME", self.home())
            .env("TMPDIR", self.home())
            .env("RESTIC_REPOSITORY", self.home().join("repository"))
            .env("RESTIC_PASSWORD", PASSWORD)
            .env("NO_COLOR", "1");
        command
    }

    /// Runs ours; gives status, standard output and standard error.
    fn ours(&self, words: &[&str]) -> (i32, String, String) {
        let mut command = self.command(&self.place.path("lifeboat"));
        let output = command.arg("repo").args(words).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap_or(-1),
            text(output.stdout),
            text(output.stderr),
        )
    }

    fn shell(&self, script: &str) {
        let mut command = self.command(Path::new("/bin/sh"));
        let output = command.args(["-euc", script]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn a_user_without_rights_backs_up_and_restores_what_he_can_read() {
    let nobody = Nobody::new();
    nobody.shell(
        "mkdir -p tree/open/deep tree/closed tree/listed
         printf one > tree/open/one; printf two > tree/open/deep/two
         printf secret > tree/open/secret; printf x > tree/closed/inside; printf y > tree/listed/y
         ln -s one tree/open/link; ln tree/open/one tree/open/hard; mkfifo tree/open/pipe
         chmod 0 tree/open/secret tree/closed; chmod 400 tree/listed; chmod 2750 tree/open/deep
         touch -d '2001-02-03 04:05:06.789' tree/open/one tree/open/deep",
    );
    let (code, _, said) = nobody.ours(&["init"]);
    assert_eq!(code, 0, "{said}");
    let (code, out, said) = nobody.ours(&["backup", "tree"]);
    assert_eq!(code, 3, "{out}{said}");
    for name in ["open/secret", "tree/closed", "listed"] {
        let named =
            |line: &&str| line.contains(name) && line.to_lowercase().contains("permission denied");
        assert_eq!(said.lines().filter(named).count(), 1, "{name}: {said}");
    }
    let (code, _, said) = nobody.ours(&["restore", "latest", "--target", "target"]);
    assert_eq!(code, 0, "{said}");
    // What could not be read is not in it, and everything else is.
    nobody.shell(
        "chmod 700 tree/closed tree/listed; rm tree/closed/inside tree/listed/y tree/open/secret",
    );
    let (tree, target) = (
        nobody.home().join("tree"),
        nobody.home().join("target/tree"),
    );
    let differences = Comparison::exact()
        .ignoring_times()
        .differences(&tree, &target)
        .unwrap();
    let differing: Vec<_> = differences
        .iter()
        .map(|difference| difference.path.clone())
        .collect();
    // Their permissions were just changed here.
    let changed: [PathBuf; 2] = ["closed".into(), "listed".into()];
    assert!(
        differing.iter().all(|path| changed.contains(path)),
        "{differences:?}"
    );
    for name in ["open/one", "open/deep"] {
        let time = |root: &Path| root.join(name).metadata().unwrap().modified().unwrap();
        assert_eq!(time(&tree), time(&target), "{name}");
    }
    let (code, _, said) = nobody.ours(&["check", "--read-data"]);
    assert_eq!(code, 0, "{said}");
    // Once everything can be read again, nothing is left of it.
    let (code, out, said) = nobody.ours(&["backup", "--json", "tree"]);
    assert_eq!((code, said.as_str()), (0, ""), "{out}");
    let home = nobody.home();
    let place = crate::common::Program::current(&home.join("repository"));
    let all = array(&place.run(["snapshots", "--json"]).ok());
    assert_eq!((all.len(), &all[0]["uid"]), (2, &65534.into()));
    place.run(["check", "--read-data"]).ok();
}

#[test]
fn what_vanishes_or_changes_while_it_is_read_is_named() {
    let place = Place::new();
    let tree = place.path("tree");
    fs::create_dir(&tree).unwrap();
    let big = tree.join("big");
    // A hole takes no room, and so long to read that everything below happens meanwhile.
    File::create(&big).unwrap().set_len(64 << 30).unwrap();
    for name in ["stays", "vanishes"] {
        fs::write(tree.join(name), name).unwrap();
    }
    let ours = place.ours();
    let mut run = ours
        .run(["backup", "--json", "--read-concurrency", "1", "."])
        .within(&tree);
    let child = run.start();
    let began = Instant::now();
    let descriptors = PathBuf::from(format!("/proc/{}/fd", child.id()));
    let reads_it = || {
        let files = fs::read_dir(&descriptors).into_iter().flatten().flatten();
        files
            .filter_map(|file| file.path().read_link().ok())
            .any(|file| file == big)
    };
    while !reads_it() {
        assert!(began.elapsed() < PATIENCE, "the file was never opened");
        sleep(Duration::from_millis(5));
    }
    fs::remove_file(tree.join("vanishes")).unwrap();
    let mut file = File::options().write(true).open(&big).unwrap();
    file.set_len(0).unwrap();
    file.write_all(b"shorter").unwrap();
    let output = child.wait_with_output().unwrap();
    let said = lifeboat_testkit::restic::Said {
        status: output.status,
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    assert_eq!(said.code(), 3, "{said:?}");
    let errors: Vec<Value> = said
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let named = |name: &str| {
        let ends = |error: &&Value| error["item"].as_str().unwrap().ends_with(name);
        let found = errors.iter().find(ends);
        found.unwrap_or_else(|| panic!("{name}: {errors:?}"))["error"]["message"].to_string()
    };
    assert!(named("big").contains("changed"), "{errors:?}");
    assert!(named("vanishes").contains("No such file"), "{errors:?}");
    assert_eq!(errors.len(), 2, "{errors:?}");
    let done = summary(&said);
    assert_eq!(done["errors"], 2);
    // The node of what changed says so, and holds what was read; restic restores it all.
    let theirs = place.current();
    let id = done["snapshot_id"].as_str().unwrap();
    let snapshot = theirs.run(["cat", "snapshot", id]).ok();
    let snapshot: Value = serde_json::from_slice(&snapshot.stdout).unwrap();
    let nodes = theirs
        .run(["cat", "blob", snapshot["tree"].as_str().unwrap()])
        .ok();
    let nodes: Value = serde_json::from_slice(&nodes.stdout).unwrap();
    let nodes = nodes["nodes"].as_array().unwrap();
    let names: Vec<&str> = nodes
        .iter()
        .map(|node| node["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["big", "stays"]);
    assert!(
        nodes[0]["error"].as_str().unwrap().contains("changed"),
        "{}",
        nodes[0]
    );
    assert_eq!(nodes[1]["error"], Value::Null);
    theirs.run(["check", "--read-data"]).ok();
    // What has an error is read again, although neither time nor size may tell.
    let again = ours.run(["backup", "--json", "."]).within(&tree).ok();
    let done = summary(&again);
    assert_eq!(
        (&done["files_changed"], &done["files_unmodified"]),
        (&1.into(), &1.into())
    );
    let target = place.path("target");
    ours.run(["restore", "latest", "--target", target.to_str().unwrap()])
        .ok();
    Comparison::as_user()
        .ignoring_root()
        .assert_same(&tree, &target);
}
