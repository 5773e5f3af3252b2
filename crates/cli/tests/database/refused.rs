//! What is in the way of a capture is told with what to do about it, and nothing is left behind.

use std::fs;

use lifeboat_testkit::postgres::{Cluster, Options};

use crate::capture::{capture, with_checksums};
use crate::common::Place;

/// What a capture with a URL says that can't go well.
fn refused(place: &Place, url: &str, more: &[&str], code: i32) -> String {
    let mut words = vec!["capture", "--postgres", url, "--name", "app/db"];
    words.extend(more);
    let said = place.ours().run_in("db", words).ends(code);
    assert_eq!(
        place.ours().run(["snapshots", "--json"]).ok().text().trim(),
        "[]"
    );
    said.stderr
}

#[test]
fn each_refusal_says_what_to_do() {
    let lines = ["local all tester trust", "local all all scram-sha-256"];
    let (place, cluster) = (
        Place::new(),
        Cluster::start(Options {
            hba: lines.map(str::to_owned).to_vec(),
            ..with_checksums()
        }),
    );
    cluster.sql("create role weak login password 'weak'");
    let url = cluster.url("postgres");
    let weak = url.replace("tester@", "weak@");
    let said = refused(&place, &weak, &[], 1);
    assert!(
        said.contains("asks for a password") && said.contains("PGPASSWORD"),
        "{said}"
    );
    let run = |words: &[&str], password: &str| {
        let run = place
            .ours()
            .run_in("db", words)
            .variable("PGPASSWORD", password);
        run.ends(1).stderr
    };
    let words = ["capture", "--postgres", &weak, "--name", "app/db"];
    let said = run(&words, "falsch");
    assert!(
        said.contains("password authentication failed") && !said.contains("falsch"),
        "{said}"
    );
    let said = run(&words, "weak");
    assert!(said.contains("--data"), "{said}");
    let data = cluster.data();
    let with_data = [&words[..], &["--data", data.to_str().unwrap()]].concat();
    let said = run(&with_data, "weak");
    assert!(
        said.contains("permission denied") && said.contains("pg_backup_start"),
        "{said}"
    );
    let said = refused(&place, &weak.replace("weak@", "weak:weak@"), &[], 1);
    assert!(
        said.contains("every user of this machine") && !said.contains("weak:weak"),
        "{said}"
    );
    let said = refused(&place, "postgresql://x@/x?host=/nowhere", &[], 1);
    assert!(said.contains("no server has its socket there"), "{said}");
    let said = refused(&place, &url, &["--chunk-size", "20"], 1);
    assert!(said.contains("power of two"), "{said}");
    let other = Cluster::make(Options::default());
    let other = other.data();
    let said = refused(&place, &url, &["--data", other.to_str().unwrap()], 1);
    assert!(
        said.contains("is the data directory of the cluster"),
        "{said}"
    );
    assert_eq!(
        cluster.sql("select count(*) from pg_replication_slots"),
        "0"
    );
}

#[test]
fn a_file_that_cant_be_read_is_no_small_thing() {
    let (place, cluster) = (Place::new(), Cluster::start(with_checksums()));
    cluster.sql("create table t as select generate_series(1, 1000)");
    let path = cluster
        .data()
        .join(cluster.sql("select pg_relation_filepath('t')"));
    cluster.sql("checkpoint");
    // A directory is what even root can't read as a file.
    let aside = cluster.home().join("aside");
    fs::rename(&path, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &path).unwrap();
    let said = capture(&place, &cluster, &[]);
    fs::remove_file(&path).unwrap();
    fs::rename(&aside, &path).unwrap();
    assert_eq!(said.code(), 1, "{}{}", said.text(), said.stderr);
}

#[test]
fn a_cluster_is_restored_only_into_a_place_of_its_own() {
    let (place, cluster) = (Place::new(), Cluster::start(with_checksums()));
    assert_eq!(capture(&place, &cluster, &[]).code(), 0);
    let live = cluster.data();
    let restore = |target: &str, more: &[&str]| {
        let mut words = vec!["restore", "--name", "app/db", "--target", target];
        words.extend(more);
        place.ours().run_in("db", words)
    };
    let said = restore(live.to_str().unwrap(), &[]).ends(1).stderr;
    assert!(said.contains("is not empty"), "{said}");
    let target = place.path("back");
    let said = restore(target.to_str().unwrap(), &["--dry-run"]).ok();
    assert!(
        said.text().contains("which lets a server start there"),
        "{}",
        said.text()
    );
    assert!(!target.exists());
    let said = restore(target.to_str().unwrap(), &["--tablespace", "/nowhere=/x"])
        .ends(1)
        .stderr;
    assert!(said.contains("no tablespace at /nowhere"), "{said}");
    let file = place.path("file");
    fs::write(&file, "x").unwrap();
    place.ours().run(["backup", file.to_str().unwrap()]).ok();
    let id = place
        .ours()
        .run(["snapshots", "--json", "--path", file.to_str().unwrap()])
        .ok();
    let id = id.text().split("\"id\":\"").nth(1).unwrap()[..8].to_owned();
    let said = restore(target.to_str().unwrap(), &[&id]).ends(1).stderr;
    assert!(said.contains("no capture of a database"), "{said}");
    assert_eq!(cluster.sql("select 1"), "1");
}
