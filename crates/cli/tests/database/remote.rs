//! Captures over a connection alone are those of the data directory: they come back, share what is stored, and are as honest.

use std::fs;
use std::path::PathBuf;

use lifeboat_testkit::postgres::{Cluster, Options, give_away};
use lifeboat_testkit::restic::Said;
use lifeboat_testkit::sshd::free_port;
use lifeboat_testkit::wait::until;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::capture::{
    Load, SUMS, amcheck, capture, count_files, fill, flip, restored, with_checksums,
};
use crate::common::{Place, array, summary};

const SLOTS: &str = "select count(*) from pg_replication_slots";
const SENDERS: &str = "select count(*) from pg_stat_replication";

fn remote(place: &Place, cluster: &Cluster) -> Value {
    let said = capture(place, cluster, &["--remote"]);
    assert_eq!(said.code(), 0, "{}{}", said.text(), said.stderr);
    summary(&said)
}

fn number(summary: &Value, name: &str) -> u64 {
    summary[name].as_u64().unwrap()
}

/// The snapshots of all captures, the oldest first.
fn captures(place: &Place) -> Vec<String> {
    let words = ["snapshots", "--json", "--path", "/apps/app/db"];
    let found = array(&place.ours().run(words).ok());
    let ids = found
        .iter()
        .map(|one| one["id"].as_str().unwrap().to_owned());
    ids.collect()
}

fn listed(place: &Place) -> usize {
    captures(place).len()
}

/// What differs between the last two captures.
fn differences(place: &Place) -> Vec<String> {
    let captures = captures(place);
    let [.., before, last] = captures.as_slice() else {
        panic!("{captures:?}");
    };
    let diff = place.ours().run(["diff", before, last]).ok();
    let text = diff.text();
    let lines = text.lines().filter(|line| {
        ["M  ", "+  ", "-  "]
            .iter()
            .any(|sign| line.starts_with(sign))
    });
    let paths: Vec<String> = lines.map(|line| line[1..].trim().to_owned()).collect();
    // Each has a record of its own: who does not find it would find nothing.
    assert!(paths.iter().any(|path| path == "/member.json"), "{text}");
    paths
}

#[test]
fn a_role_that_may_only_replicate_captures_a_cluster_under_load_over_tcp() {
    let lines = [
        "local all,replication tester trust",
        "host postgres,replication copier 127.0.0.1/32 scram-sha-256",
    ];
    let mut cluster = Cluster::make(Options {
        hba: lines.map(str::to_owned).to_vec(),
        ..with_checksums()
    });
    let port = free_port();
    cluster.listen(port);
    cluster.start_again();
    cluster.sql("create role copier login replication password 'ab schrift'");
    fill(&cluster);
    let load = Load::start(&cluster);
    let place = Place::new();
    let url = format!("postgresql://copier@127.0.0.1:{port}/postgres");
    let words = [
        "capture",
        "--remote",
        "--postgres",
        &url,
        "--name",
        "app/db",
        "--json",
    ];
    let said = place
        .ours()
        .run_in("db", words)
        .variable("PGPASSWORD", "ab schrift")
        .ok();
    let entries = cluster.sql("select count(*) from pgbench_history");
    drop(load);
    let done = summary(&said);
    assert_eq!(done["faults"], 0, "{done}");
    assert_eq!(done["page_checksums"], true, "{done}");
    assert_eq!((&*cluster.sql(SLOTS), &*cluster.sql(SENDERS)), ("0", "0"));
    let back = restored(&place, &[]);
    assert_eq!(back.sql(SUMS), "t|t|t|t");
    let found: u64 = back
        .sql("select count(*) from pgbench_history")
        .parse()
        .unwrap();
    assert!(found > 50 && found <= entries.parse().unwrap(), "{found}");
    amcheck(&back);
    assert_eq!(back.sql("show archive_mode"), "off");
    let scratch = place.path("scratch");
    fs::create_dir(&scratch).unwrap();
    for dir in [&place.path("."), &scratch] {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).unwrap();
    }
    let words = [
        "verify",
        "--name",
        "app/db",
        "--scratch",
        scratch.to_str().unwrap(),
    ];
    let said = place.ours().run_in("db", words).ok();
    assert!(
        said.text().contains("recoverable: app/db"),
        "{}",
        said.text()
    );
    place.current().run(["check", "--read-data"]).ok();
}

#[test]
fn it_is_the_capture_of_the_data_directory_and_shares_what_that_has_stored() {
    let (place, cluster) = (Place::new(), Cluster::start(with_checksums()));
    fill(&cluster);
    let local = capture(&place, &cluster, &[]);
    assert_eq!(local.code(), 0, "{}", local.stderr);
    let first = summary(&local);
    cluster.sql("update pgbench_tellers set tbalance = 7 where tid < 5");
    let second = remote(&place, &cluster);
    // The log is new each time.
    assert!(
        number(&second, "data_added") < number(&first, "data_added") / 4,
        "{first} {second}"
    );
    // Nothing of the server's was left out, and nothing came with it.
    capture(&place, &cluster, &[]);
    let differ = differences(&place);
    let is_new = |path: &String| {
        let of_this_one = [
            "/base/backup_label",
            "/base/global/pg_control",
            "/member.json",
        ];
        of_this_one.contains(&&**path) || path.starts_with("/wal/")
    };
    let others: Vec<_> = differ.iter().filter(|path| !is_new(path)).collect();
    assert!(others.is_empty(), "{others:?}");
    let member = |which: &str| -> Value {
        let said = place
            .ours()
            .run(["dump", "--path", "/apps/app/db", which, "/member.json"])
            .ok();
        serde_json::from_slice(&said.stdout).unwrap()
    };
    let (here, sent) = (member("latest"), member("latest~1"));
    for name in ["kind", "engine_version", "files", "baseline"] {
        assert_eq!(here[name], sent[name], "{name}");
    }
    for name in [
        "system_id",
        "timeline",
        "segment_bytes",
        "chunk_bytes",
        "data_directory",
        "settings",
        "config_files",
    ] {
        assert_eq!(here["postgres"][name], sent["postgres"][name], "{name}");
    }
    let back = restored(&place, &["latest~1"]);
    let tellers = "select count(*) from pgbench_tellers where tbalance = 7";
    assert_eq!(back.sql(tellers), "4");
    amcheck(&back);
    // A dry run leaves nothing.
    let third = summary(&capture(&place, &cluster, &["--remote", "--dry-run"]));
    assert!(third["snapshot_id"].is_null(), "{third}");
    assert_eq!(listed(&place), 3);
}

#[test]
fn tablespaces_come_too_and_unlogged_tables_come_back_empty() {
    let (place, cluster) = (Place::new(), Cluster::start(with_checksums()));
    let space = cluster.home().join("space");
    fs::create_dir(&space).unwrap();
    give_away(&space);
    let space = space.display();
    cluster.sql(&format!("create tablespace far location '{space}'"));
    cluster.sql(
        "create table far (x int) tablespace far; insert into far select generate_series(1, 1000)",
    );
    cluster.sql("create unlogged table quick as select generate_series(1, 1000) x");
    cluster
        .sql("create unlogged table far_quick tablespace far as select generate_series(1, 1000) x");
    remote(&place, &cluster);
    assert_eq!(capture(&place, &cluster, &[]).code(), 0);
    let differ = differences(&place);
    assert!(
        differ.iter().all(|path| !path.contains("pg_tblspc")),
        "{differ:?}"
    );
    let moved = Cluster::place(Options::default());
    let to = moved.home().join("moved");
    let mapping = format!("{space}={}", to.display());
    let back = restored(&place, &["latest~1", "--tablespace", &mapping]);
    assert_eq!(back.sql("select count(*) from far"), "1000");
    assert_eq!(back.sql("select count(*) from quick"), "0");
    assert_eq!(back.sql("select count(*) from far_quick"), "0");
    back.sql("insert into far values (1); insert into quick values (1); insert into far_quick values (1); checkpoint");
}

#[test]
fn damaged_pages_are_named_as_from_the_data_directory() {
    let (place, mut cluster) = (Place::new(), Cluster::start(with_checksums()));
    let space = cluster.home().join("space");
    fs::create_dir(&space).unwrap();
    give_away(&space);
    let space = space.display();
    cluster.sql(&format!("create tablespace far location '{space}'"));
    let path = |name: &str| cluster.sql(&format!("select pg_relation_filepath('{name}')"));
    for (name, place) in [("t", ""), ("far", "tablespace far")] {
        cluster.sql(&format!(
            "create table {name} {place} as select g, repeat('x', 100) from generate_series(1, 20000) g"
        ));
    }
    let (near, far) = (path("t"), path("far"));
    cluster.stop();
    flip(&cluster, &near, 7 * 8192 + 4000);
    flip(&cluster, &near, 100 * 8192 + 9);
    flip(&cluster, &far, 3 * 8192 + 4000);
    cluster.start_again();
    let faults = |more: &[&str]| {
        let said = capture(&place, &cluster, more);
        assert_eq!(said.code(), 3, "{}{}", said.text(), said.stderr);
        assert_eq!(summary(&said)["faults"], 3);
        let member = place
            .ours()
            .run(["dump", "--path", "/apps/app/db", "latest", "/member.json"])
            .ok();
        let member: Value = serde_json::from_slice(&member.stdout).unwrap();
        let mut faults: Vec<String> = serde_json::from_value(member["faults"].clone()).unwrap();
        faults.sort();
        (faults, said.stderr)
    };
    let (sent, said) = faults(&["--remote"]);
    let (here, _) = faults(&[]);
    assert_eq!(sent, here);
    for (path, block) in [(&near, 7), (&near, 100), (&far, 3)] {
        let line = said
            .lines()
            .find(|line| line.contains(&format!("block {block} is damaged")));
        assert!(line.is_some_and(|line| line.contains(path)), "{said}");
    }
    // Nothing of it was lost on the way.
    let differ = differences(&place);
    assert!(
        differ
            .iter()
            .all(|differs| *differs != format!("/base/{near}")),
        "{differ:?}"
    );
    let target = place.path("back");
    let below = place.path("spaces");
    let words = [
        "restore",
        "latest~1",
        "--name",
        "app/db",
        "--target",
        target.to_str().unwrap(),
        "--tablespaces-below",
        below.to_str().unwrap(),
    ];
    let said = place.ours().run_in("db", words).ok();
    assert!(said.stderr.contains("3 faults"), "{}", said.stderr);
}

#[test]
fn a_standby_sends_its_files_as_well() {
    let place = Place::new();
    let primary = Cluster::start(with_checksums());
    fill(&primary);
    let options = Options::default().set("shared_buffers", "16MB");
    let standby = Cluster::standby_of(&primary, options, &[]);
    let load = Load::start(&primary);
    until("the standby follows", || {
        standby.sql("select count(*) > 50 from pgbench_history") == "t"
    });
    let done = remote(&place, &standby);
    assert_eq!(done["faults"], 0, "{done}");
    drop(load);
    let member = place
        .ours()
        .run(["dump", "--path", "/apps/app/db", "latest", "/member.json"])
        .ok();
    let member: Value = serde_json::from_slice(&member.stdout).unwrap();
    assert_eq!(member["postgres"]["standby"], true);
    let back = restored(&place, &[]);
    assert_eq!(back.sql(SUMS), "t|t|t|t");
    amcheck(&back);
}

/// Fills a cluster with what hardly compresses, and is more than a capture may hold in memory.
fn fill_with_noise(cluster: &Cluster) {
    cluster.sql(
        "create table noise as select string_agg(md5(random()::text), '') from generate_series(1, 2500000) g group by g % 9999",
    );
}

/// A capture that takes its time, when a part of it is stored already.
fn half_done(place: &Place, cluster: &Cluster) -> std::process::Child {
    let url = cluster.url("postgres");
    let words = [
        "capture",
        "--remote",
        "--postgres",
        &url,
        "--name",
        "app/db",
        "--limit-upload",
        "1000",
        "--memory",
        "32",
    ];
    let packs = place.repository().join("data");
    let before = count_files(&packs);
    let child = place.ours().run_in("db", words).start();
    until("files come and are stored", || {
        cluster.sql(SENDERS) == "1" && cluster.sql(SLOTS) == "1" && count_files(&packs) > before
    });
    child
}

fn left_alone(cluster: &Cluster) {
    until("the sessions ended", || {
        let sessions = "select count(*) from pg_stat_activity where application_name = 'lifeboat'";
        cluster.sql(sessions) == "0" && cluster.sql(SLOTS) == "0"
    });
    assert!(!cluster.data().join("backup_label").exists());
}

#[test]
fn one_that_is_stopped_or_killed_leaves_no_trace_and_no_snapshot() {
    let (place, cluster) = (Place::new(), Cluster::start(with_checksums()));
    fill_with_noise(&cluster);
    let child = half_done(&place, &cluster);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let said = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(130), "{stderr}");
    left_alone(&cluster);
    assert_eq!(listed(&place), 0);
    let mut child = half_done(&place, &cluster);
    child.kill().unwrap();
    child.wait().unwrap();
    left_alone(&cluster);
    assert_eq!(listed(&place), 0);
    place.ours().run(["unlock"]).ok();
    place.ours().run(["check"]).ok();
    remote(&place, &cluster);
    left_alone(&cluster);
}

#[test]
fn a_server_that_goes_in_the_middle_leaves_no_snapshot() {
    let (place, mut cluster) = (Place::new(), Cluster::start(with_checksums()));
    fill_with_noise(&cluster);
    let child = half_done(&place, &cluster);
    cluster.crash();
    let said = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("take a base backup"), "{stderr}");
    assert_eq!(listed(&place), 0);
}

#[test]
fn configuration_from_outside_comes_along_if_the_role_may_read_it() {
    let (place, mut cluster) = (Place::new(), Cluster::make(with_checksums()));
    let (inside, outside) = (
        cluster.data().join("postgresql.conf"),
        cluster.home().join("it's elsewhere.conf"),
    );
    fs::rename(&inside, &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &inside).unwrap();
    let mut text = fs::read_to_string(&outside).unwrap();
    text.push_str("work_mem = '5MB'\n");
    fs::write(&outside, &text).unwrap();
    cluster.start_again();
    cluster.sql("create role reader login replication; grant pg_read_all_settings to reader");
    remote(&place, &cluster);
    let back = restored(&place, &[]);
    let kept = back.data().join("restored_config/postgresql.conf");
    assert_eq!(fs::read_to_string(kept).unwrap(), text);
    let url = cluster.url("postgres").replace("tester@", "reader@");
    let words = [
        "capture",
        "--remote",
        "--postgres",
        &url,
        "--name",
        "app/other",
    ];
    let said = place.ours().run_in("db", words).ok();
    assert!(
        said.stderr.contains("is not in the capture") && said.stderr.contains("permission denied"),
        "{}",
        said.stderr
    );
}

/// What a capture with a URL says that can't go well.
fn refused(place: &Place, url: &str) -> String {
    let words = ["capture", "--remote", "--postgres", url, "--name", "app/db"];
    let said = place.ours().run_in("db", words).ends(1);
    assert_eq!(listed(place), 0);
    said.stderr
}

#[test]
fn each_refusal_says_what_to_do() {
    let lines = ["local all all trust", "local replication tester,weak trust"];
    let (place, mut cluster) = (
        Place::new(),
        Cluster::start(Options {
            hba: lines.map(str::to_owned).to_vec(),
            ..with_checksums()
        }),
    );
    cluster.sql("create role weak login; create role stranger login replication");
    let url = cluster.url("postgres");
    let said = refused(&place, &url.replace("tester@", "weak@"));
    assert!(said.contains("ALTER ROLE … REPLICATION"), "{said}");
    let said = refused(&place, &url.replace("tester@", "stranger@"));
    assert!(
        said.contains("no pg_hba.conf entry") && said.contains("a line for the database"),
        "{said}"
    );
    let data: PathBuf = cluster.data();
    let words = [
        "capture",
        "--remote",
        "--postgres",
        &url,
        "--data",
        data.to_str().unwrap(),
    ];
    let said: Said = place.ours().run_in("db", words).ends(2);
    assert!(
        said.stderr.contains("cannot be used with"),
        "{}",
        said.stderr
    );
    // Whoever forgets it is told of it.
    let words = ["capture", "--postgres", &url, "--data", "/nowhere/data"];
    let said = place.ours().run_in("db", words).ends(1);
    assert!(said.stderr.contains("--remote"), "{}", said.stderr);
    cluster.stop();
    cluster.set("wal_level", "minimal");
    cluster.set("max_wal_senders", "0");
    cluster.start_again();
    let said = refused(&place, &url);
    assert!(said.contains("raise max_wal_senders"), "{said}");
}
