//! Verifying: a capture that comes back, one that does not, and one of which nobody knows are told apart by their status.

use std::fs;
use std::path::{Path, PathBuf};

use lifeboat_testkit::postgres::Cluster;
use lifeboat_testkit::restic::Said;
use lifeboat_testkit::wait::until;
use serde_json::Value;

use crate::capture::{capture, flip, with_checksums};
use crate::common::{Place, summary};

/// A repository with a capture, and a directory for scratch.
struct Scene {
    place: Place,
    scratch: PathBuf,
}

impl Scene {
    fn new(cluster: &Cluster, code: i32) -> Self {
        let place = Place::new();
        let said = capture(&place, cluster, &[]);
        assert_eq!(said.code(), code, "{}{}", said.text(), said.stderr);
        let scratch = place.path("scratch");
        fs::create_dir(&scratch).unwrap();
        // The server of the scratch runs as somebody else, who must get through.
        open(place.path(".").as_path());
        open(&scratch);
        Self { place, scratch }
    }

    fn verify(&self, more: &[&str], code: i32) -> Said {
        let scratch = self.scratch.to_str().unwrap();
        let mut words = vec!["verify", "--name", "app/db", "--scratch", scratch, "--json"];
        words.extend(more);
        let said = self.place.ours().run_in("db", words).ends(code);
        let left = fs::read_dir(&self.scratch).unwrap().count();
        assert_eq!(left, 0, "the scratch is not empty: {}", said.stderr);
        said
    }
}

pub fn open(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).unwrap();
}

fn table(cluster: &Cluster) -> String {
    cluster.sql("create table t as select g, repeat('x', 100) x from generate_series(1, 20000) g");
    cluster.sql("create index on t (g)");
    cluster.sql("select pg_relation_filepath('t')")
}

fn check<'a>(proof: &'a Value, name: &str) -> &'a Value {
    let checks = proof["report"]["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == name);
    &check.unwrap_or_else(|| panic!("{name}: {proof}"))["found"]
}

#[test]
fn a_capture_that_comes_back_is_seen_to_come_back() {
    let cluster = Cluster::start(with_checksums());
    table(&cluster);
    let scene = Scene::new(&cluster, 0);
    let proof = summary(&scene.verify(&[], 0));
    assert_eq!(proof["verdict"], "recoverable", "{proof}");
    for name in ["baseline", "amcheck", "checksums"] {
        assert_eq!(*check(&proof, name), "nothing", "{proof}");
    }
    assert_eq!(proof["report"]["timeline"], 1, "{proof}");
    // The record says what was there.
    let member = scene
        .place
        .ours()
        .run(["dump", "--path", "/apps/app/db", "latest", "/member.json"])
        .ok();
    let member: Value = serde_json::from_slice(&member.stdout).unwrap();
    let tables = member["baseline"]["databases"][0]["largest"]
        .as_array()
        .unwrap();
    assert!(
        tables.iter().any(|table| table["rows"]["exact"] == 20000),
        "{member}"
    );
    // The live server has not noticed.
    assert_eq!(cluster.sql("select count(*) from t"), "20000");
    assert_eq!(
        cluster.sql("select timeline_id from pg_control_checkpoint()"),
        "1"
    );
}

#[test]
fn a_cluster_whose_template_lets_nobody_in_is_verified_too() {
    let cluster = Cluster::start(with_checksums());
    cluster.sql("update pg_database set datallowconn = false where datname = 'template1'");
    let scene = Scene::new(&cluster, 0);
    let proof = summary(&scene.verify(&[], 0));
    assert_eq!(proof["verdict"], "recoverable", "{proof}");
}

#[test]
fn damage_is_not_recoverable_and_says_where() {
    let mut cluster = Cluster::start(with_checksums());
    let path = table(&cluster);
    cluster.stop();
    flip(&cluster, &path, 7 * 8192 + 4000);
    cluster.start_again();
    let scene = Scene::new(&cluster, 3);
    let proof = summary(&scene.verify(&[], 20));
    let words = proof["verdict"]["not_recoverable"]["words"]
        .as_str()
        .unwrap();
    assert!(
        words.contains(&path) || words.contains("page verification"),
        "{proof}"
    );
}

#[test]
fn what_is_gone_from_the_repository_is_not_recoverable() {
    let cluster = Cluster::start(with_checksums());
    table(&cluster);
    let scene = Scene::new(&cluster, 0);
    // Of all packs the largest, which holds data.
    let mut packs = Vec::new();
    for folder in fs::read_dir(scene.place.repository().join("data")).unwrap() {
        packs.extend(
            fs::read_dir(folder.unwrap().path())
                .unwrap()
                .map(|pack| pack.unwrap().path()),
        );
    }
    let largest = packs
        .into_iter()
        .max_by_key(|pack| fs::metadata(pack).unwrap().len())
        .unwrap();
    fs::remove_file(largest).unwrap();
    let proof = summary(&scene.verify(&[], 20));
    assert!(
        proof["verdict"]["not_recoverable"]["words"].is_string(),
        "{proof}"
    );
}

#[test]
fn what_is_in_the_way_here_says_nothing_of_the_capture() {
    let cluster = Cluster::start(with_checksums());
    let scene = Scene::new(&cluster, 0);
    let nowhere = scene.place.path("nowhere");
    let proof = summary(&scene.verify(&["--programs", nowhere.to_str().unwrap()], 22));
    let why = proof["verdict"]["undetermined"]["why"].as_str().unwrap();
    assert!(why.contains("install the server of PostgreSQL"), "{why}");
    // A library that the live server has and this machine has not is another such thing.
    let proof = summary(&scene.verify(&[], 0));
    assert_eq!(proof["verdict"], "recoverable");
}

#[test]
fn a_verification_that_is_killed_leaves_no_server() {
    let cluster = Cluster::start(with_checksums());
    table(&cluster);
    let scene = Scene::new(&cluster, 0);
    let scratch = scene.scratch.to_str().unwrap();
    let words = ["verify", "--name", "app/db", "--scratch", scratch];
    let mut child = scene.place.ours().run_in("db", words).start();
    let runs = || {
        let dirs = fs::read_dir(&scene.scratch).unwrap().flatten();
        dirs.map(|dir| dir.path().join("data/postmaster.pid"))
            .find(|file| file.exists())
    };
    until("the scratch server runs", || runs().is_some());
    let pid = until_some(|| {
        fs::read_to_string(runs()?)
            .ok()?
            .lines()
            .next()?
            .parse::<u32>()
            .ok()
    });
    child.kill().unwrap();
    child.wait().unwrap();
    until("the server ended", || {
        !Path::new(&format!("/proc/{pid}")).exists()
    });
}

fn until_some<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    until("something is there", || {
        found = look();
        found.is_some()
    });
    found.unwrap()
}
