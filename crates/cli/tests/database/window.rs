//! Retention by a recovery window on a real cluster and a new one in its place: what is in the window comes back.

use std::sync::Arc;
use std::time::Duration;

use lifeboat_flow::Cancel;
use lifeboat_format::Timestamp;
use lifeboat_plan::{StayReason, WindowFacts, WindowPlan, keep_window};
use lifeboat_protect::postgres::{add_logs, captured, expire, naming_points};
use lifeboat_repo::backend::LocalBackend;
use lifeboat_repo::{
    BlobReader, Identity, LockGuard, LockRequest, LockTiming, PackListing, Repository,
};
use lifeboat_testkit::heard::Unheard;
use lifeboat_testkit::postgres::Cluster;
use lifeboat_testkit::restic::PASSWORD;
use lifeboat_testkit::wait::until;
use serde_json::Value;

use crate::capture::with_checksums;
use crate::common::{Program, array, objects};
use crate::fold::walk;
use crate::scene::{Scene, give_all_away, switch};
use crate::wal::stamps;

/// A window that is longer than the test takes.
const DAYS: i64 = 1000;

/// A cluster in the place of the scene's, which archives into the same repository.
fn successor(scene: &Scene) -> Cluster {
    let mut cluster = Cluster::make(with_checksums());
    let push = format!("{} %p", scene.words("push"));
    cluster.set("archive_mode", "on");
    cluster.set("archive_command", &push);
    cluster.start_again();
    cluster
}

fn capture(scene: &Scene, cluster: &Cluster) {
    let url = cluster.url("postgres");
    scene
        .run("db", &["capture", "--postgres", &url, "--name", "app/db"])
        .ok();
    give_all_away(&scene.home.join("repository"));
}

fn moment(cluster: &Cluster) -> String {
    cluster.sql(
        "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    )
}

/// Decides and removes as if it were later.
fn forget_at(scene: &Scene, now: impl Fn(&WindowFacts) -> Timestamp) -> WindowPlan {
    let backend = Arc::new(LocalBackend::new(scene.home.join("repository")));
    let repository = Arc::new(Repository::open(backend, PASSWORD.as_bytes(), None).unwrap());
    let cancel = Cancel::new();
    let request = LockRequest {
        exclusive: true,
        retry_for: Duration::ZERO,
        timing: LockTiming::default(),
        early: false,
        reads: false,
    };
    let who = Identity::of_this_process();
    let lock = LockGuard::take(&repository, &who, request, &Unheard, &cancel).unwrap();
    let snapshots = repository.snapshots().unwrap().all;
    let (index, _) = repository.load_index(PackListing::Skip, &cancel).unwrap();
    let reader = BlobReader::new(&repository, &index);
    let found = captured(&reader, &snapshots).unwrap();
    let hosts = found.iter().map(|found| found.hostname.clone()).collect();
    let captures: Vec<_> = found.into_iter().map(|found| found.capture).collect();
    let mut facts = WindowFacts {
        fleet: captures.first().and_then(|first| first.fleet.clone()),
        captures,
        points: naming_points(&reader, &snapshots, "/apps/app", &hosts).unwrap(),
        ..WindowFacts::default()
    };
    add_logs(&reader, &snapshots, &mut facts, &Cancel::new()).unwrap();
    let now = now(&facts);
    let plan = keep_window(facts, format!("{DAYS}d").parse().unwrap(), now);
    expire(&plan, &repository, &lock, &cancel).unwrap();
    plan
}

#[test]
fn what_is_in_the_window_comes_back_and_what_is_not_goes() {
    let scene = Scene::new();
    let cluster = &scene.cluster;
    cluster.sql("create table stamps (stamp timestamptz)");
    capture(&scene, cluster);
    stamps(cluster, 2);
    let first = scene.switch();
    capture(&scene, cluster);
    stamps(cluster, 3);
    let in_window = moment(cluster);
    stamps(cluster, 1);
    let last = scene.switch();
    let heir = successor(&scene);
    heir.sql("create table stamps (stamp timestamptz)");
    capture(&scene, &heir);
    stamps(&heir, 4);
    switch(&heir);

    // Nothing is old enough, and a dry run says what a real one does.
    let forget = ["forget", "--name", "app/db", "--window", "1000d", "--json"];
    let plan = objects(
        &scene
            .run("db", &[&forget[..], &["--dry-run"]].concat())
            .ok(),
    )
    .remove(0);
    assert_eq!(plan["keep"].as_array().unwrap().len(), 3, "{plan}");
    assert_eq!(plan["remove"], Value::Array(Vec::new()));

    // The window begins with the second capture.
    let plan = forget_at(&scene, |facts| {
        let mut times: Vec<Timestamp> =
            facts.captures.iter().map(|known| known.completed).collect();
        times.sort();
        Timestamp {
            seconds: times[1].seconds + DAYS * 86_400,
            ..times[1]
        }
    });
    let reasons: Vec<StayReason> = plan.keep.iter().map(|(_, reason)| *reason).collect();
    assert_eq!(reasons, [StayReason::Within, StayReason::Base]);
    assert_eq!(plan.remove.len(), 1);
    assert!(
        !scene.archived(&first).exists(),
        "it was before the second capture"
    );
    assert!(scene.archived(&last).exists());
    scene.run("wal", &["status"]).ok();
    // The first capture has gone, and so has what was before the second one.
    let back = scene.recovered(&["--to-time", &in_window]);
    assert_eq!(back.sql("select count(*) from stamps"), "5");
    let back = scene.recovered(&["--to-end"]);
    assert_eq!(back.sql("select count(*) from stamps"), "4");

    // When the new cluster alone is in the window, nothing of the old one is left.
    let forget = ["forget", "--name", "app/db", "--window", "1s"];
    until("the window begins after the new capture", || {
        let said = scene
            .run("db", &[&forget[..], &["--dry-run"]].concat())
            .ok();
        said.text().contains("would remove 1 capture:")
    });
    assert!(scene.archived(&last).exists());
    let said = scene.run("db", &forget).ok();
    assert!(
        said.text()
            .contains("the newest good one before the window"),
        "{}",
        said.text()
    );
    assert!(!scene.archived(&last).exists());
    assert!(
        said.text().contains("remove 1 recovery point of them"),
        "{}",
        said.text()
    );
    let points = ["snapshots", "--json", "--path", "/apps/app"];
    let points = array(&scene.run("repo", &points).ok());
    assert_eq!(points.len(), 1, "{points:?}");
    scene.run("wal", &["status"]).ok();
    let back = scene.recovered(&["--to-end"]);
    assert_eq!(back.sql("select count(*) from stamps"), "4");
    // Once more there is nothing to do.
    let said = scene.run("db", &forget).ok();
    assert!(
        said.text().contains("removed 0 snapshots and 0 files"),
        "{}",
        said.text()
    );
    Program::current(&scene.home.join("repository"))
        .run(["prune"])
        .ok();
    let back = scene.recovered(&["--to-end"]);
    assert_eq!(back.sql("select count(*) from stamps"), "4");
}

#[test]
fn two_clusters_that_live_under_one_name_are_left_alone() {
    let scene = Scene::new();
    let heir = successor(&scene);
    for cluster in [&scene.cluster, &heir, &scene.cluster, &heir] {
        capture(&scene, cluster);
        switch(cluster);
    }
    let files = || {
        let mut files = walk(&scene.home.join("repository"));
        files.sort();
        files
    };
    let before = files();
    for more in [&[][..], &["--dry-run"]] {
        let words = ["forget", "--name", "app/db", "--window", "1s"];
        let said = scene.run("db", &[&words[..], more].concat()).ends(1);
        let why = "are of two clusters at the same time";
        assert!(said.stderr.contains(why), "{}", said.stderr);
    }
    assert_eq!(files(), before);
}

#[test]
fn nothing_goes_that_one_can_not_be_sure_of() {
    let scene = Scene::new();
    let forget = |more: &[&str], code: i32| {
        let words = [&["forget", "--name", "app/db", "--window"][..], more].concat();
        scene.run("db", &words).ends(code).stderr
    };
    let said = forget(&["6m"], 1);
    assert!(
        said.contains("weeks, days of 24 hours, hours and seconds"),
        "{said}"
    );
    let said = forget(&["14d"], 1);
    assert!(said.contains("there is no capture of app/db"), "{said}");
    scene.capture();
    let url = scene.cluster.url("postgres");
    let words = [
        "capture",
        "--postgres",
        &url,
        "--name",
        "app/db",
        "--host",
        "other",
    ];
    scene.run("db", &words).ok();
    let said = forget(&["1s"], 1);
    assert!(said.contains("are from several hosts: "), "{said}");
    forget(&["1s", "--host", "other", "--dry-run"], 0);
    let said = forget(&["1s", "--host", "other", "--fleet", "mistyped"], 1);
    assert!(said.contains("is of the fleet mistyped"), "{said}");
    // A capture whose record can't be read may need all of the log.
    let repository = scene.home.join("repository");
    let program = Program::ours(&repository);
    let index = std::fs::read_dir(repository.join("index")).unwrap();
    for file in index {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    let said = forget(&["1s", "--host", "other"], 1);
    assert!(said.contains("read which log the capture"), "{said}");
    program.run(["snapshots"]).ok();
}
