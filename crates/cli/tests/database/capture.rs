//! Physical captures: taken while the server works, restored elsewhere, started, and compared.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use lifeboat_testkit::postgres::{Cluster, Options, USER, give_away};
use lifeboat_testkit::restic::Said;
use lifeboat_testkit::wait::until;
use serde_json::Value;

use crate::common::{Place, summary};

/// What pgbench keeps the same: each transaction adds one number to three tables, and notes it in a fourth.
pub const SUMS: &str = "select (select sum(abalance) from pgbench_accounts) = all_deltas, \
     (select sum(tbalance) from pgbench_tellers) = all_deltas, (select sum(bbalance) from pgbench_branches) = all_deltas, entries > 0 \
     from (select coalesce(sum(delta), 0) all_deltas, count(*) entries from pgbench_history) h";

pub fn with_checksums() -> Options {
    Options {
        initdb: vec!["--data-checksums".into()],
        ..Options::default()
    }
    .set("shared_buffers", "16MB")
}

pub fn pgbench(cluster: &Cluster, words: &[&str]) -> Child {
    let mut pgbench = cluster.program("pgbench");
    pgbench.args(words).arg(cluster.url("postgres"));
    pgbench
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

pub fn fill(cluster: &Cluster) {
    fill_by(cluster, 5);
}

/// Makes the tables of pgbench, with so many times 100,000 accounts.
pub fn fill_by(cluster: &Cluster, scale: u32) {
    let scale = format!("--scale={scale}");
    let done = pgbench(cluster, &["--initialize", &scale, "--quiet"]).wait();
    assert!(done.unwrap().success());
}

/// Clients that work until they are stopped.
pub struct Load(Child);

impl Load {
    pub fn start(cluster: &Cluster) -> Self {
        let load = Self(pgbench(
            cluster,
            &["--client=4", "--time=600", "--no-vacuum"],
        ));
        until("clients work", || {
            cluster.sql("select count(*) > 50 from pgbench_history") == "t"
        });
        load
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn capture(place: &Place, cluster: &Cluster, more: &[&str]) -> Said {
    capture_as(place, cluster, ("app/db", "nas"), more)
}

/// Captures under a name, from a host.
pub fn capture_as(
    place: &Place,
    cluster: &Cluster,
    (name, host): (&str, &str),
    more: &[&str],
) -> Said {
    let url = cluster.url("postgres");
    let mut words = vec![
        "capture",
        "--postgres",
        &url,
        "--name",
        name,
        "--host",
        host,
        "--json",
    ];
    words.extend(more);
    place.ours().run_in("db", words).any()
}

fn captured(place: &Place, cluster: &Cluster) -> Value {
    let said = capture(place, cluster, &[]);
    assert_eq!(said.code(), 0, "{}{}", said.text(), said.stderr);
    summary(&said)
}

/// Restores the newest capture and starts a server on it.
pub fn restored(place: &Place, more: &[&str]) -> Cluster {
    let mut cluster = Cluster::place(Options::default());
    let data = cluster.data();
    let mut words = vec![
        "restore",
        "--name",
        "app/db",
        "--target",
        data.to_str().unwrap(),
    ];
    words.extend(more);
    place.ours().run_in("db", words).ok();
    cluster.start_again();
    cluster.recovered();
    cluster
}

pub fn amcheck(cluster: &Cluster) {
    let mut amcheck = cluster.program("pg_amcheck");
    amcheck.args([
        "--all",
        "--install-missing",
        "--heapallindexed",
        "-U",
        USER,
        "-h",
    ]);
    let output = amcheck.arg(cluster.home()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_cluster_under_load_comes_back_consistent_and_so_does_the_next_capture() {
    let (place, cluster) = (Place::new(), Cluster::start(with_checksums()));
    fill(&cluster);
    let load = Load::start(&cluster);
    let first = captured(&place, &cluster);
    assert_eq!(first["faults"], 0, "{first}");
    assert_eq!(first["page_checksums"], true, "{first}");
    let entries: u64 = cluster
        .sql("select count(*) from pgbench_history")
        .parse()
        .unwrap();
    until("clients go on", || {
        cluster.sql(&format!(
            "select count(*) > {entries} + 200 from pgbench_history"
        )) == "t"
    });
    let second = captured(&place, &cluster);
    assert_eq!(second["faults"], 0, "{second}");
    drop(load);
    let mut back = restored(&place, &[]);
    assert_eq!(back.sql(SUMS), "t|t|t|t");
    let found: u64 = back
        .sql("select count(*) from pgbench_history")
        .parse()
        .unwrap();
    assert!(found >= entries + 200, "{found}, {entries}");
    amcheck(&back);
    // It is a cluster of its own from here on.
    assert_eq!(back.sql("show archive_mode"), "off");
    assert_eq!(
        back.sql("select timeline_id from pg_control_checkpoint()"),
        "2"
    );
    back.sql("insert into pgbench_history select * from pgbench_history limit 1; checkpoint");
    back.stop();
    let first = restored(&place, &["latest~1"]);
    assert_eq!(first.sql(SUMS), "t|t|t|t");
    // And others read it.
    place.current().run(["check", "--read-data"]).ok();
    let plain = place.path("plain");
    place
        .current()
        .run([
            "restore",
            "latest",
            "--path",
            "/apps/app/db",
            "--target",
            plain.to_str().unwrap(),
        ])
        .ok();
    for name in [
        "base/PG_VERSION",
        "base/backup_label",
        "base/global/pg_control",
        "wal",
        "member.json",
    ] {
        assert!(plain.join(name).exists(), "{name}");
    }
    // By hand, as the documentation says for whoever has no Lifeboat.
    let mut by_hand = Cluster::place(Options::default());
    let script = "set -e; cd \"$1\"; mv wal/* base/pg_wal/; rm -f base/tablespace_map; chmod 700 base; \
        echo \"archive_mode = off\" >> base/postgresql.auto.conf; mv base \"$2\"";
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script, "sh"])
        .arg(&plain)
        .arg(by_hand.data());
    assert!(shell.status().unwrap().success());
    by_hand.start_again();
    by_hand.recovered();
    assert_eq!(by_hand.sql(SUMS), "t|t|t|t");
    amcheck(&by_hand);
}

fn listed(place: &Place) -> String {
    place.ours().run(["snapshots", "--json"]).ok().text()
}

#[test]
fn what_did_not_change_is_neither_read_nor_stored_again() {
    let (place, cluster) = (Place::new(), Cluster::start(with_checksums()));
    fill(&cluster);
    let number = |summary: &Value, name: &str| summary[name].as_u64().unwrap();
    let first = captured(&place, &cluster);
    cluster.sql("update pgbench_tellers set tbalance = 7 where tid < 5");
    let second = captured(&place, &cluster);
    assert!(
        number(&second, "data_added") < number(&first, "data_added") / 2,
        "{first} {second}"
    );
    let back = restored(&place, &[]);
    assert_eq!(
        back.sql("select count(*) from pgbench_tellers where tbalance = 7"),
        "4"
    );
    amcheck(&back);
    let before = listed(&place);
    assert_eq!(
        before.matches("\"short_id\"").count(),
        4,
        "two captures, and a point of each: {before}"
    );
    // A dry run leaves nothing.
    let third = summary(&capture(
        &place,
        &cluster,
        &["--chunk-size", "64", "--dry-run"],
    ));
    assert!(third["snapshot_id"].is_null(), "{third}");
    assert_eq!(listed(&place), before);
}

#[test]
fn tablespaces_move_and_unlogged_tables_come_back_empty() {
    let (place, cluster) = (Place::new(), Cluster::start(with_checksums()));
    let space = cluster.home().join("space");
    fs::create_dir(&space).unwrap();
    give_away(&space);
    cluster.sql(&format!(
        "create tablespace far location '{}'",
        space.display()
    ));
    cluster.sql(
        "create table far (x int) tablespace far; insert into far select generate_series(1, 1000)",
    );
    cluster.sql("create unlogged table quick as select generate_series(1, 1000) x");
    cluster
        .sql("create unlogged table far_quick tablespace far as select generate_series(1, 1000) x");
    captured(&place, &cluster);
    // Where it was is taken.
    let taken = cluster.home().join("elsewhere");
    let words = [
        "restore",
        "--name",
        "app/db",
        "--target",
        taken.to_str().unwrap(),
    ];
    let said = place.ours().run_in("db", words).ends(1);
    assert!(
        said.stderr.contains("is not empty, and the tablespace"),
        "{}",
        said.stderr
    );
    assert!(!taken.exists());
    let moved = Cluster::place(Options::default());
    let to = moved.home().join("moved");
    let mapping = format!("{}={}", space.display(), to.display());
    let back = restored(&place, &["--tablespace", &mapping]);
    assert_eq!(back.sql("select count(*) from far"), "1000");
    assert_eq!(back.sql("select count(*) from quick"), "0");
    assert_eq!(back.sql("select count(*) from far_quick"), "0");
    let leads = fs::read_dir(back.data().join("pg_tblspc"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(fs::read_link(leads.path()).unwrap(), to);
    back.sql("insert into far values (1); insert into quick values (1); insert into far_quick values (1); checkpoint");
}

/// Changes one bit of a file of a cluster whose server does not run.
pub fn flip(cluster: &Cluster, path: &str, at: u64) {
    let file = cluster.data().join(path);
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(file)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn a_flipped_byte_is_named_with_file_and_block() {
    let (place, mut cluster) = (Place::new(), Cluster::start(with_checksums()));
    cluster.sql("create table t as select g, repeat('x', 100) from generate_series(1, 20000) g");
    let path = cluster.sql("select pg_relation_filepath('t')");
    cluster.stop();
    flip(&cluster, &path, 7 * 8192 + 4000);
    flip(&cluster, &path, 100 * 8192 + 9);
    cluster.start_again();
    let said = capture(&place, &cluster, &[]);
    assert_eq!(said.code(), 3, "{}{}", said.text(), said.stderr);
    for block in [7, 100] {
        let line = said
            .stderr
            .lines()
            .find(|line| line.contains(&format!("block {block} is damaged")));
        assert!(
            line.is_some_and(|line| line.contains(&path)),
            "{}",
            said.stderr
        );
    }
    assert_eq!(summary(&said)["faults"], 2);
    let member = place
        .ours()
        .run(["dump", "--path", "/apps/app/db", "latest", "/member.json"])
        .ok();
    let member: Value = serde_json::from_slice(&member.stdout).unwrap();
    assert_eq!(member["faults_count"], 2);
    // What is there comes back, and it is said what it is.
    let target = place.path("back");
    let words = [
        "restore",
        "--name",
        "app/db",
        "--target",
        target.to_str().unwrap(),
    ];
    let said = place.ours().run_in("db", words).ok();
    assert!(said.stderr.contains("2 faults"), "{}", said.stderr);
}

#[test]
fn a_capture_that_is_killed_leaves_no_trace_on_the_server_and_no_snapshot() {
    let (place, cluster) = (Place::new(), Cluster::start(with_checksums()));
    fill(&cluster);
    let url = cluster.url("postgres");
    let words = [
        "capture",
        "--postgres",
        &url,
        "--name",
        "app/db",
        "--limit-upload",
        "500",
    ];
    let mut child = place.ours().run_in("db", words).start();
    let slots = "select count(*) from pg_replication_slots";
    until("the capture has begun", || cluster.sql(slots) == "1");
    // Something of it is stored already.
    let packs = place.repository().join("data");
    until("a pack is there", || count_files(&packs) > 0);
    child.kill().unwrap();
    child.wait().unwrap();
    let sessions = "select count(*) from pg_stat_activity where application_name = 'lifeboat'";
    until("the session ended", || {
        cluster.sql(sessions) == "0" && cluster.sql(slots) == "0"
    });
    assert_eq!(
        place.ours().run(["snapshots", "--json"]).ok().text().trim(),
        "[]"
    );
    place.ours().run(["unlock"]).ok();
    place.ours().run(["check"]).ok();
    captured(&place, &cluster);
    assert_eq!(cluster.sql(slots), "0");
    assert!(!cluster.data().join("backup_label").exists());
}

pub fn count_files(dir: &Path) -> usize {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .map(|path| if path.is_dir() { count_files(&path) } else { 1 })
        .sum()
}

#[test]
fn a_standby_is_captured_as_well() {
    let place = Place::new();
    let primary = Cluster::start(with_checksums());
    fill(&primary);
    let options = Options::default().set("shared_buffers", "16MB");
    let standby = Cluster::standby_of(&primary, options, &[]);
    // Its files under the backup mode of its primary would be a capture of neither.
    let (url, data) = (primary.url("postgres"), standby.data());
    let words = [
        "capture",
        "--postgres",
        &url,
        "--name",
        "app/db",
        "--data",
        data.to_str().unwrap(),
    ];
    let said = place.ours().run_in("db", words).ends(1);
    assert!(
        said.stderr
            .contains("not the data directory of this server"),
        "{}",
        said.stderr
    );
    let load = Load::start(&primary);
    until("the standby follows", || {
        standby.sql("select count(*) > 50 from pgbench_history") == "t"
    });
    let done = captured(&place, &standby);
    assert_eq!(done["faults"], 0, "{done}");
    drop(load);
    let back = restored(&place, &[]);
    assert_eq!(back.sql(SUMS), "t|t|t|t");
    amcheck(&back);
}

#[test]
fn configuration_behind_a_link_comes_along_and_commands_of_the_original_do_not_act() {
    let (place, mut cluster) = (Place::new(), Cluster::make(with_checksums()));
    let (inside, outside) = (
        cluster.data().join("postgresql.conf"),
        cluster.home().join("elsewhere.conf"),
    );
    fs::rename(&inside, &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &inside).unwrap();
    let mut text = fs::read_to_string(&outside).unwrap();
    text.push_str("work_mem = '5MB'\narchive_cleanup_command = '/bin/false'\nrecovery_end_command = '/bin/false'\n");
    fs::write(&outside, &text).unwrap();
    cluster.start_again();
    assert_eq!(cluster.sql("show work_mem"), "5MB");
    captured(&place, &cluster);
    let back = restored(&place, &[]);
    let kept = back.data().join("restored_config/postgresql.conf");
    assert_eq!(fs::read_to_string(kept).unwrap(), text);
    // The link would lead to the configuration of the original.
    assert!(!back.data().join("postgresql.conf").is_symlink());
    for setting in [
        "archive_cleanup_command",
        "recovery_end_command",
        "primary_conninfo",
    ] {
        assert_eq!(back.sql(&format!("show {setting}")), "", "{setting}");
    }
    assert_eq!(fs::read_to_string(&outside).unwrap(), text);
    // Nor what was set with ALTER SYSTEM.
    let (place, cluster) = (Place::new(), Cluster::start(with_checksums()));
    cluster.sql("alter system set archive_cleanup_command = '/bin/false'");
    captured(&place, &cluster);
    assert_eq!(
        restored(&place, &[]).sql("show archive_cleanup_command"),
        ""
    );
}
