//! What goes on beside a capture: prunes of the repository, and a kill in the middle of it.
//! A capture that was acknowledged must come out whole, and one that was not must leave nothing that is in the way.

use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use lifeboat_testkit::postgres::Cluster;
use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::{Note, seed};
use lifeboat_testkit::wait::until;

use crate::capture::{Load, SUMS, capture, fill_by, restored, with_checksums};
use crate::common::{Place, array};

/// What a capture may store in a second, in KiB, so that it takes its time.
const PACE: &str = "2000";

/// Starts a capture that takes its time.
fn begun(place: &Place, cluster: &Cluster) -> Child {
    let url = cluster.url("postgres");
    let words = [
        "capture",
        "--postgres",
        &url,
        "--name",
        "app/db",
        "--limit-upload",
        PACE,
        "--retry-lock",
        "1m",
        "--quiet",
    ];
    place.ours().run_in("db", words).start()
}

/// The captures that are listed, oldest first.
fn captures(place: &Place) -> Vec<String> {
    let words = ["snapshots", "--json", "--path", "/apps/app/db"];
    let listed = array(&place.current().run(words).ok());
    listed
        .iter()
        .map(|snapshot| snapshot["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn prunes_beside_a_capture_take_nothing_of_it() {
    let (place, cluster) = (Place::new(), Cluster::start(with_checksums()));
    fill_by(&cluster, 1);
    let load = Load::start(&cluster);
    assert_eq!(capture(&place, &cluster, &[]).code(), 0);
    for is_forgotten_before in [true, false] {
        let known = captures(&place);
        let forget = || {
            let words = ["forget"]
                .into_iter()
                .chain(known.iter().map(String::as_str));
            place.ours().run(words)
        };
        let prune = ["prune", "--max-unused", "0"];
        if is_forgotten_before {
            // What the capture stores again is marked when it begins.
            forget().ok();
            place.ours().run(prune).ok();
        }
        let mut child = begun(&place, &cluster);
        until("the capture has begun", || {
            cluster.sql("select count(*) from pg_replication_slots") == "1"
        });
        // Each does what it may: nothing is deleted under the lock of a capture.
        let mut ended = Vec::new();
        while child.try_wait().unwrap().is_none() {
            let ours = [&prune[..], &["--keep-delete", "0s"]].concat();
            for said in [
                forget().any(),
                place.ours().run(ours).any(),
                place.current().run(prune).any(),
            ] {
                let is_gone = said.stderr.contains("no snapshot has an ID");
                assert!([0, 11].contains(&said.code()) || is_gone, "{said:?}");
                ended.push(said.code());
            }
        }
        assert!(
            ended.contains(&11),
            "nothing ran beside the capture: {ended:?}"
        );
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
    }
    drop(load);
    place.ours().run(["check", "--read-data"]).ok();
    place.current().run(["check", "--read-data"]).ok();
    let words = ["verify", "--name", "app/db"];
    place.ours().run_in("db", words).ok();
}

#[test]
fn a_capture_that_is_killed_anywhere_leaves_nothing_in_the_way() {
    let seed = seed();
    let _note = Note::seed(seed);
    let mut random = Random::new(seed);
    let kills = match std::env::var_os("LIFEBOAT_SOAK") {
        Some(_) => 30,
        None => 2,
    };
    let (place, cluster) = (Place::new(), Cluster::start(with_checksums()));
    fill_by(&cluster, 1);
    let load = Load::start(&cluster);
    let began = Instant::now();
    let output = begun(&place, &cluster).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let whole = u64::try_from(began.elapsed().as_millis()).unwrap();
    for number in 0..kills {
        // What the next one stores is another thing than before.
        cluster.sql("update pgbench_accounts set filler = md5(random()::text) where aid % 3 = 0");
        let known = captures(&place).len();
        let mut child = begun(&place, &cluster);
        let after = random.below(whole);
        let _note = Note::new(format!("kill {number}, after {after} of {whole} ms"));
        sleep(Duration::from_millis(after));
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        until("the server has forgotten it", || {
            cluster.sql(
                "select (select count(*) from pg_stat_activity where application_name = 'lifeboat') \
                 + (select count(*) from pg_replication_slots) + (select count(*) from pg_stat_progress_basebackup)",
            ) == "0"
        });
        assert!(!cluster.data().join("backup_label").exists());
        let found = captures(&place).len();
        if found != known {
            // It came so far, and was killed at its very end: then all of it is there.
            assert_eq!(found, known + 1, "{ended}");
            assert_eq!(restored(&place, &[]).sql(SUMS), "t|t|t|t");
        }
        // The next one works without anybody doing anything about what is left.
        let said = capture(&place, &cluster, &[]);
        assert_eq!(said.code(), 0, "{}{}", said.text(), said.stderr);
        assert_eq!(captures(&place).len(), found + 1);
    }
    drop(load);
    place.current().run(["unlock"]).ok();
    place.current().run(["check", "--read-data"]).ok();
    assert_eq!(restored(&place, &[]).sql(SUMS), "t|t|t|t");
}
