//! Prune beside restic 0.19 and rustic: each reads what another left, the times of marks count both ways, locks hold,
//! and a rustic backup that runs meanwhile without a lock loses nothing.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::{Note, seed};
use lifeboat_testkit::restic::{PASSWORD, tool_path};
use serde_json::Value;

use crate::common::{Place, Program, summary};

const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);
const FILE_BYTES: usize = 700_000;

/// rustic, as `cargo xtask tools` builds it.
fn rustic(place: &Place) -> Command {
    let told = std::env::var_os("LIFEBOAT_RUSTIC").map(PathBuf::from);
    let binary = told.or_else(|| tool_path("bin/rustic")).unwrap_or_default();
    assert!(
        binary.is_file(),
        "rustic is not installed, and nothing is proven without it: `cargo xtask tools` installs it"
    );
    let mut command = Command::new(binary);
    command
        .env("RUSTIC_REPOSITORY", place.repository())
        .env("RUSTIC_PASSWORD", PASSWORD)
        .env("RUSTIC_NO_CACHE", "true")
        .env("RUSTIC_NO_PROGRESS", "true")
        .env("HOME", place.path("home"))
        .stdin(Stdio::null());
    command
}

fn rustic_ok(place: &Place, words: &[&str]) -> String {
    let output = rustic(place).args(words).output().unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{words:?}: {said}");
    said
}

fn files(place: &Place, names: &str, count: u64) -> String {
    let tree = place.path("tree");
    fs::create_dir_all(&tree).unwrap();
    for number in 0..count {
        let seed = number + u64::from(names.as_bytes()[0]) * 1000;
        let content = Random::new(seed).bytes(FILE_BYTES);
        fs::write(tree.join(format!("{names}{number}")), content).unwrap();
    }
    tree.to_str().unwrap().to_owned()
}

fn remove(place: &Place, is_wanted: impl Fn(u64) -> bool) {
    for entry in fs::read_dir(place.path("tree")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let number: u64 = name[1..].parse().unwrap();
        if is_wanted(number) {
            fs::remove_file(path).unwrap();
        }
    }
}

/// A repository with two snapshots, the first of which is forgotten: packs used whole, in part and not at all.
fn history(place: &Place) -> String {
    let tree = files(place, "a", 30);
    let ours = place.ours();
    ours.run(["backup", "--pack-size", "4", &tree]).ok();
    remove(place, |number| number < 8 || number % 5 == 0);
    files(place, "b", 6);
    ours.run(["backup", "--pack-size", "4", &tree]).ok();
    ours.run(["forget", "--keep-last", "1"]).ok();
    tree
}

fn prune(program: &Program, words: &[&str]) -> Value {
    let said = program.run([&["prune", "--json"], words].concat()).ok();
    summary(&said)
}

/// Every snapshot, restored by ours, and everything read by restic.
fn assert_sound(place: &Place) {
    place.current().run(["check", "--read-data"]).ok();
    place.ours().run(["check", "--read-data"]).ok();
}

fn assert_restores(place: &Place, program: &Program, tree: &str) {
    let to = place.path("restored");
    program
        .run(["restore", "latest", "--target", to.to_str().unwrap()])
        .ok();
    let same = Command::new("diff")
        .arg("-r")
        .arg(tree)
        .arg(to.join(&tree[1..]))
        .status();
    assert!(same.unwrap().success());
    fs::remove_dir_all(to).unwrap();
}

fn packs(place: &Place) -> usize {
    let folders = fs::read_dir(place.repository().join("data")).unwrap();
    folders
        .map(|folder| fs::read_dir(folder.unwrap().path()).unwrap().count())
        .sum()
}

#[test]
fn numbers_are_restics() {
    let place = Place::new();
    let tree = history(&place);
    // A second writer that knew nothing of the first stores some of it once more.
    let index = place.path("index");
    fs::rename(place.repository().join("index"), &index).unwrap();
    fs::create_dir(place.repository().join("index")).unwrap();
    let ours = place.ours();
    ours.run([
        "backup",
        "--force",
        "--pack-size",
        "4",
        &format!("{tree}/b1"),
        &format!("{tree}/b2"),
    ])
    .ok();
    for entry in fs::read_dir(&index).unwrap() {
        let entry = entry.unwrap();
        let to = place.repository().join("index").join(entry.file_name());
        fs::rename(entry.path(), to).unwrap();
    }
    let said = place
        .current()
        .run(["prune", "--dry-run", "-v"])
        .ok()
        .text();
    let theirs = |label: &str| {
        let line = said.lines().find(|line| line.starts_with(label)).unwrap();
        let number = line.split_whitespace().nth(1).unwrap();
        number.parse::<u64>().unwrap()
    };
    let our = prune(&ours, &["--dry-run"]);
    assert!(our["duplicate"]["blobs"].as_u64().unwrap() > 0, "{our}");
    for (label, field) in [
        ("used:", "used"),
        ("duplicates:", "duplicate"),
        ("unused:", "unused"),
    ] {
        assert_eq!(our[field]["blobs"], theirs(label), "{label} {said} {our}");
    }
    assert_sound(&place);
}

#[test]
fn restic_and_rustic_read_what_is_left_at_each_step() {
    let place = Place::new();
    let tree = history(&place);
    let ours = place.ours();
    let before = packs(&place);
    let dry = prune(&ours, &["--dry-run"]);
    assert_eq!(packs(&place), before);
    let done = prune(&ours, &[]);
    assert!(done["done"]["marked"].as_u64() > Some(2), "{done}");
    assert_eq!(done["done"]["deleted"], 0, "{done}");
    assert_eq!(dry["used"]["blobs"], done["used"]["blobs"]);
    assert_sound(&place);
    // rustic knows the marks and lets them wait.
    rustic_ok(&place, &["check", "--read-data"]);
    let marked = packs(&place);
    rustic_ok(&place, &["prune"]);
    rustic_ok(&place, &["check", "--read-data"]);
    assert!(packs(&place) >= marked, "rustic deleted before the time");
    assert_sound(&place);
    assert_restores(&place, &ours, &tree);
    // And deletes them when it is told that their time has come; so do we with what it marked.
    rustic_ok(&place, &["prune", "--keep-delete", "0s"]);
    assert!(packs(&place) < marked);
    assert_sound(&place);
    assert_restores(&place, &place.current(), &tree);
}

#[test]
fn rustics_marks_wait_for_their_time() {
    let place = Place::new();
    let tree = history(&place);
    let ours = place.ours();
    rustic_ok(&place, &["prune"]);
    let marked = packs(&place);
    let waits = prune(&ours, &["--max-unused", "unlimited"]);
    assert!(waits["waiting"]["packs"].as_u64() > Some(1), "{waits}");
    // Nothing goes; copies of blobs that lie twice may have been written anew, so that one is known to be good.
    assert_eq!(waits["done"]["deleted"], 0, "{waits}");
    assert!(packs(&place) >= marked, "{waits}");
    assert_sound(&place);
    let done = prune(&ours, &["--keep-delete", "0s"]);
    let marked = [&waits["waiting"]["packs"], &waits["done"]["marked"]];
    let marked: u64 = marked.map(|packs| packs.as_u64().unwrap()).iter().sum();
    assert_eq!(done["done"]["deleted"], marked, "{waits} {done}");
    assert_sound(&place);
    rustic_ok(&place, &["check", "--read-data"]);
    assert_restores(&place, &ours, &tree);
}

#[test]
fn forget_prunes_if_that_is_wanted() {
    let place = Place::new();
    let tree = files(&place, "a", 12);
    let ours = place.ours();
    ours.run(["backup", "--pack-size", "4", &tree]).ok();
    remove(&place, |number| number < 9);
    ours.run(["backup", "--pack-size", "4", &tree]).ok();
    let before = packs(&place);
    let words = ["forget", "--keep-last", "1", "--prune"];
    let dry = ours.run([&words[..], &["--dry-run"]].concat()).ok().text();
    assert!(
        dry.contains("1 snapshot would be removed") && dry.contains("marked"),
        "{dry}"
    );
    assert_eq!(packs(&place), before);
    let done = ours
        .run([&words[..], &["--instant-delete"]].concat())
        .ok()
        .text();
    assert!(
        done.contains("removed 1 snapshot") && done.contains("are free"),
        "{done}"
    );
    assert!(packs(&place) < before);
    assert_sound(&place);
    assert_restores(&place, &ours, &tree);
}

#[test]
fn a_lock_of_anybody_keeps_everything() {
    let place = Place::new();
    let tree = history(&place);
    let ours = place.ours();
    let before = packs(&place);
    for holder in [place.ours(), place.current()] {
        let mut holding = holder.run(["backup", "--stdin"]).start();
        wait_for_lock(&place);
        let refused = ours.run(["prune"]).ends(11);
        assert!(
            refused.stderr.contains("nothing was marked or deleted"),
            "{}",
            refused.stderr
        );
        // restic may not prune beside ours either.
        place
            .current()
            .run(["forget", "--keep-last", "1", "--prune"])
            .ends(11);
        finish(&mut holding);
        assert!(packs(&place) >= before);
    }
    // When a prune is told of marks that are due, it says since when.
    prune(&ours, &[]);
    let mut holding = ours.run(["backup", "--stdin"]).start();
    wait_for_lock(&place);
    let refused = ours.run(["prune", "--keep-delete", "0s"]).ends(11);
    assert!(
        refused.stderr.contains("overdue since"),
        "{}",
        refused.stderr
    );
    finish(&mut holding);
    assert_sound(&place);
    fs::metadata(tree).unwrap();
}

/// Lets a backup of standard input end.
fn finish(holding: &mut Child) {
    holding
        .stdin
        .take()
        .unwrap()
        .write_all(b"streamed")
        .unwrap();
    assert!(holding.wait().unwrap().success());
}

fn wait_for_lock(place: &Place) {
    wait_until("no lock appeared", || {
        fs::read_dir(place.repository().join("locks"))
            .unwrap()
            .count()
            > 0
    });
    // A lock counts when its holder has looked a second time, which takes 200 ms.
    sleep(Duration::from_millis(300));
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        sleep(POLL);
    }
}

#[test]
fn a_prune_of_restic_beside_our_backup_takes_nothing() {
    let seed = seed();
    let _seed = Note::seed(seed);
    let mut random = Random::new(seed);
    let place = Place::new();
    let (ours, theirs) = (place.ours(), place.current());
    for names in ["a", "b"] {
        // Much to store, and some that only forgotten snapshots hold.
        let tree = files(&place, names, 16);
        let words = ["backup", "--pack-size", "4", "--retry-lock", "5m", &tree];
        let backup = ours.run(words).start();
        let delay = Duration::from_millis(random.below(400));
        let _note = Note::new(format!("files {names}, the prune begins {delay:?} later"));
        sleep(delay);
        let words = ["forget", "--keep-last", "1", "--prune", "--max-unused", "0"];
        let prune = theirs
            .run([&words[..], &["--retry-lock", "5m"]].concat())
            .start();
        for child in [backup, prune] {
            let done = child.wait_with_output().unwrap();
            assert!(done.status.success(), "{done:?}");
        }
        assert_sound(&place);
        assert_restores(&place, &ours, &tree);
        remove(&place, |number| number % 3 == 0);
    }
}

/// A process that is stopped, and goes on when this is asked.
struct Stopped(Child);

impl Stopped {
    fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        let sent = Command::new("kill").args([name, &id]).status();
        assert!(sent.unwrap().success());
    }
}

/// The names of all packs, to see the first that a writer stores.
fn pack_names(repository: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(repository.join("data")).unwrap();
    let mut names: Vec<PathBuf> = folders
        .flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    names
}

#[test]
fn a_rustic_backup_that_runs_meanwhile_loses_nothing() {
    let place = Place::new();
    let ours = place.ours();
    // What rustic will find in the index and rely on: it must not store it anew.
    let tree = files(&place, "a", 20);
    ours.run(["backup", "--pack-size", "4", &tree]).ok();
    files(&place, "c", 150);
    let before = pack_names(&place.repository());
    let mut backup = rustic(&place);
    backup
        .args(["backup", "--force", "--host", "rustic", &tree])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut backup = Stopped(backup.spawn().unwrap());
    // It stores a pack, so it has loaded its index, and is stopped in the middle.
    wait_until("rustic stored nothing", || {
        pack_names(&place.repository()) != before
    });
    backup.signal("-STOP");
    assert_eq!(backup.0.try_wait().unwrap(), None, "rustic was faster");
    // The only snapshot that needs the old packs goes, and with it what they hold.
    ours.run(["forget", "latest"]).ok();
    let left = ours.run(["snapshots", "--json"]).ok().text();
    assert_eq!(left.trim(), "[]");
    let done = prune(&ours, &[]);
    assert!(
        done["done"]["marked"].as_u64() >= Some(before.len() as u64),
        "{done}"
    );
    let now = pack_names(&place.repository());
    assert!(
        before.iter().all(|pack| now.contains(pack)),
        "a pack was deleted"
    );
    backup.signal("-CONT");
    assert!(backup.0.wait().unwrap().success());
    // Ours reads it at once, though its packs are marked, and says what is to be done.
    assert_restores(&place, &ours, &tree);
    let found = ours.run(["check"]).ends(1);
    assert!(
        found.stderr.contains("prune indexes it again"),
        "{}",
        found.stderr
    );
    let done = prune(&ours, &[]);
    assert!(done["done"]["recovered"].as_u64() > Some(2), "{done}");
    assert_eq!(done["done"]["deleted"], 0);
    assert_sound(&place);
    rustic_ok(&place, &["check", "--read-data"]);
    assert_restores(&place, &place.current(), &tree);
    // Much later nothing is taken from it either.
    prune(&ours, &["--keep-delete", "0s"]);
    assert_sound(&place);
    assert_restores(&place, &ours, &tree);
}
