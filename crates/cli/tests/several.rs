//! Several processes at once on one repository, and processes that are killed at any moment.
//! Nothing acknowledged is ever lost, and a dead process keeps nobody waiting.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lifeboat_repo::backend::LocalBackend;
use lifeboat_repo::{Identity, KeyCost, Repository};
use lifeboat_testkit::compare::Comparison;
use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::{self, Note};

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Self { dir };
        let backend = Arc::new(LocalBackend::new(place.repository()));
        Repository::init(
            backend,
            b"test",
            2,
            None,
            &Identity::default(),
            KeyCost::Test,
        )
        .unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn repository(&self) -> PathBuf {
        self.path("repository")
    }

    /// Lock files that have their name; the others were never written whole.
    fn locks(&self) -> usize {
        let entries = std::fs::read_dir(self.repository().join("locks")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.len() == 64).count()
    }

    fn snapshots(&self) -> Vec<String> {
        let listed = self.run(&["snapshots", "--json"]);
        let all: serde_json::Value = serde_json::from_str(listed.trim()).unwrap();
        let ids = all.as_array().unwrap().iter();
        ids.map(|snapshot| snapshot["id"].as_str().unwrap().to_owned())
            .collect()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command
            .arg("repo")
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("RESTIC_REPOSITORY", self.repository())
            .env("RESTIC_PASSWORD", "test")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    /// Runs to the end, which must be a good one.
    fn run(&self, arguments: &[&str]) -> String {
        done(self.start(arguments), arguments)
    }

    fn back_up(&self, tree: &Path) -> String {
        snapshot_id(&self.run(&backup(tree)))
    }

    fn assert_restores(&self, snapshot: &str, tree: &Path) {
        let to = tempfile::tempdir_in(self.dir.path()).unwrap();
        let what = format!("{snapshot}:{}", tree.display());
        self.run(&["restore", &what, "--target", to.path().to_str().unwrap()]);
        Comparison::as_user()
            .ignoring_root()
            .assert_same(tree, to.path());
    }

    fn assert_sound(&self) {
        self.run(&["check", "--read-data"]);
    }
}

fn backup(tree: &Path) -> [&str; 5] {
    [
        "backup",
        tree.to_str().unwrap(),
        "--json",
        "--retry-lock",
        "5m",
    ]
}

fn text(output: &Output) -> String {
    format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn done(child: Child, arguments: &[&str]) -> String {
    let output = child.wait_with_output().unwrap();
    let text = text(&output);
    assert!(
        output.status.success(),
        "{arguments:?} ended with {}: {text}",
        output.status
    );
    text
}

fn snapshot_id(text: &str) -> String {
    let summary = text
        .lines()
        .rev()
        .find(|line| line.contains("\"summary\""))
        .unwrap();
    let summary: serde_json::Value = serde_json::from_str(summary).unwrap();
    summary["snapshot_id"].as_str().unwrap().to_owned()
}

/// Files of random bytes; those that are common are the same in every tree.
fn grow(tree: &Path, random: &mut Random, files: usize) {
    std::fs::create_dir_all(tree.join("common")).unwrap();
    for number in 0..files as u64 {
        let common = Random::new(number).bytes(200_000);
        std::fs::write(tree.join(format!("common/{number}")), common).unwrap();
        let name = format!("own {:016x}", random.number());
        std::fs::write(tree.join(name), random.bytes(200_000)).unwrap();
    }
}

#[test]
fn all_that_several_acknowledge_at_once_restores() {
    let seed = replay::seed();
    let _seed = Note::seed(seed);
    let mut random = Random::new(seed);
    let place = Place::new();
    let trees: Vec<PathBuf> = (0..3)
        .map(|number| place.path(&format!("tree {number}")))
        .collect();
    for tree in &trees {
        grow(tree, &mut random, 3);
    }
    let to_forget = place.back_up(&trees[0]);
    let forget = ["forget", &to_forget, "--retry-lock", "5m"];
    let check = ["check", "--read-data", "--retry-lock", "5m"];
    for round in 0..2 {
        let _note = Note::new(format!("round {round}"));
        for tree in &trees {
            grow(tree, &mut random, 6);
        }
        let backups: Vec<_> = trees
            .iter()
            .map(|tree| (tree, place.start(&backup(tree))))
            .collect();
        let checking = place.start(&check);
        let forgetting = (round == 0).then(|| place.start(&forget));
        let acknowledged: Vec<_> = backups
            .into_iter()
            .map(|(tree, child)| (tree, snapshot_id(&done(child, &backup(tree)))))
            .collect();
        done(checking, &check);
        if let Some(child) = forgetting {
            done(child, &forget);
        }
        for (tree, snapshot) in &acknowledged {
            place.assert_restores(snapshot, tree);
        }
        place.assert_sound();
        let listed = place.snapshots();
        assert!(!listed.contains(&to_forget));
        for (_, snapshot) in &acknowledged {
            assert!(listed.contains(snapshot));
        }
    }
    assert_eq!(place.locks(), 0);
}

#[test]
fn who_is_killed_loses_nothing_and_keeps_nobody_waiting() {
    let seed = replay::seed();
    let _seed = Note::seed(seed);
    let mut random = Random::new(seed);
    let rounds = if std::env::var_os("LIFEBOAT_SOAK").is_some() {
        40
    } else {
        6
    };
    let place = Place::new();
    let tree = place.path("tree");
    grow(&tree, &mut random, 4);
    let first_tree = place.path("first");
    grow(&first_tree, &mut random, 2);
    let first = place.back_up(&first_tree);
    for round in 0..rounds {
        grow(&tree, &mut random, 10);
        // The first one waits for its input, so that it is killed before its end for certain.
        let mut child = match round {
            0 => place
                .command(&["backup", "--stdin"])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap(),
            _ => place.start(&backup(&tree)),
        };
        let began = Instant::now();
        while place.locks() == 0 && child.try_wait().unwrap().is_none() {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "no lock was taken"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        let delay = Duration::from_millis(random.below(600));
        let _note = Note::new(format!("round {round}, killed {delay:?} after its lock"));
        std::thread::sleep(delay);
        child.kill().unwrap();
        child.wait().unwrap();
        let left = place.locks();
        assert!(
            round > 0 || left == 1,
            "a process that is killed leaves its lock"
        );
        // A command that must be alone does not wait for the dead.
        let alone = place.run(&["forget", "--keep-last", "1000"]);
        assert_eq!(left > 0, alone.contains("stale"), "{left} locks: {alone}");
        place.assert_sound();
        place.assert_restores(&first, &first_tree);
        if round % 3 == 2 {
            let next = place.back_up(&tree);
            place.assert_restores(&next, &tree);
        }
        place.run(&["unlock"]);
        assert_eq!(place.locks(), 0);
    }
    let next = place.back_up(&tree);
    place.assert_restores(&next, &tree);
    place.assert_sound();
}
