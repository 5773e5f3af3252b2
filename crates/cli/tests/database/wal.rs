//! The archive of the log: what the server pushes comes back to a moment, and nothing that is lost passes for the end.

use std::fs;
use std::path::Path;
use std::time::Duration;

use lifeboat_testkit::postgres::{Cluster, Options};
use lifeboat_testkit::wait::until;
use serde_json::Value;

use crate::common::{Program, objects};
use crate::scene::Scene;

/// Writes a stamp now and then, until a moment of the server is `seconds` away.
pub fn stamps(cluster: &Cluster, count: usize) {
    for _ in 0..count {
        cluster.sql("insert into stamps values (clock_timestamp())");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_cluster_comes_back_to_any_moment() {
    let scene = Scene::new();
    let cluster = &scene.cluster;
    cluster.sql("create table stamps (stamp timestamptz); create table kept as select 1 x");
    scene.capture();
    stamps(cluster, 10);
    let moment =
        "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
    let moment = cluster.sql(moment);
    stamps(cluster, 10);
    let lsn = cluster.sql("select pg_current_wal_insert_lsn()");
    let at_lsn = cluster.sql("select count(*) from stamps");
    stamps(cluster, 3);
    cluster.sql("select pg_create_restore_point('before the mistake')");
    cluster.sql("drop table kept");
    stamps(cluster, 3);
    let last = scene.switch();
    let all = cluster.sql("select count(*) from stamps");
    assert!(scene.archived(&last).exists());

    let back = scene.recovered(&["--to-time", &moment]);
    let near = format!(
        "select max(stamp) <= '{moment}' and max(stamp) > '{moment}'::timestamptz - interval '1 s' from stamps"
    );
    assert_eq!(back.sql(&near), "t");
    assert_eq!(back.sql("select count(*) from stamps"), "10");
    // It goes on from there, and archives into the same place.
    let mut back = back;
    back.stop();
    let push = format!("{} %p", scene.words("push"));
    back.set("archive_mode", "on");
    back.set("archive_command", &push);
    back.start_again();
    stamps(&back, 2);
    let name = back.sql("select pg_walfile_name(pg_switch_wal())");
    let is_archived = format!("select last_archived_wal >= '{name}' from pg_stat_archiver");
    until("the segment is archived", || back.sql(&is_archived) == "t");
    assert!(name.starts_with("00000002"), "{name}");
    assert!(
        scene.archived("00000002.history").exists(),
        "the history came with the segment"
    );
    let again = scene.recovered(&["--to-end"]);
    assert_eq!(again.sql("select count(*) from stamps"), "12");
    // Without its history nobody would find the timeline, and a server must not go on without it.
    let history = fs::read(scene.archived("00000002.history")).unwrap();
    fs::remove_file(scene.archived("00000002.history")).unwrap();
    let (mut lost, _) = scene.restored(&["--to-end"], 0);
    let words = lost.fails();
    assert!(words.contains("00000002.history of the cluster"), "{words}");
    fs::write(scene.archived("00000002.history"), history).unwrap();
    let first = ["--timeline", "1"];
    let back = scene.recovered(&[&["--to-name", "before the mistake"][..], &first].concat());
    assert_eq!(back.sql("select x from kept"), "1");
    let back = scene.recovered(&[&["--to-lsn", &lsn][..], &first].concat());
    assert_eq!(back.sql("select count(*) from stamps"), at_lsn);
    let back = scene.recovered(&[&["--to-end"][..], &first].concat());
    assert_eq!(back.sql("select count(*) from stamps"), all);
    assert_eq!(back.sql("select to_regclass('kept') is null"), "t");
    // Without a target it is where the capture ended.
    let (mut back, _) = (Cluster::place(Options::default()), ());
    let data = back.data();
    scene
        .run(
            "db",
            &[
                "restore",
                "--name",
                "app/db",
                "--target",
                data.to_str().unwrap(),
            ],
        )
        .ok();
    back.start_again();
    back.recovered();
    assert_eq!(back.sql("select count(*) from stamps"), "0");

    let status = scene.run("wal", &["status", "--json"]).ok();
    let archive = &objects(&status)[0];
    assert_eq!(
        archive["timelines"][0]["gaps"],
        Value::Array(Vec::new()),
        "{archive}"
    );
    // A moment before every capture.
    let (_, said) = scene.restored(&["--to-time", "2020-01-01 00:00:00"], 1);
    assert!(
        said.stderr.contains("there is no capture from before"),
        "{}",
        said.stderr
    );
    let (_, said) = scene.restored(&["--to-lsn", "0/1"], 1);
    assert!(said.stderr.contains("can't go back"), "{}", said.stderr);
}

#[test]
fn a_lost_segment_is_named_and_no_server_goes_on_without_it() {
    let scene = Scene::new();
    let cluster = &scene.cluster;
    cluster.sql("create table t (x int)");
    scene.capture();
    let (mut segments, mut positions) = (Vec::new(), Vec::new());
    for number in 0..5 {
        cluster.sql(&format!("insert into t values ({number})"));
        positions.push(cluster.sql("select pg_current_wal_lsn()"));
        // A server reads half a MiB ahead of what it replays, and would stop at a hole that it sees there.
        cluster.sql("create table ahead as select repeat('x', 100) from generate_series(1, 20000)");
        cluster.sql("drop table ahead");
        segments.push(scene.switch());
    }
    fs::remove_file(scene.archived(&segments[2])).unwrap();
    let said = scene.run("wal", &["status"]).ends(1);
    let lines: Vec<&str> = said
        .stderr
        .lines()
        .filter(|line| line.contains("MISSING"))
        .collect();
    assert!(
        lines.len() == 1 && lines[0].contains(&segments[2]),
        "{}",
        said.stderr
    );
    let back = Cluster::place(Options::default());
    let (data, password) = (back.data(), scene.home.join("password.txt"));
    let words = [
        "restore",
        "--name",
        "app/db",
        "--to-end",
        "--password-file",
        password.to_str().unwrap(),
        "--target",
    ];
    let words = [&words[..], &[data.to_str().unwrap()]].concat();
    let said = scene.run("db", &words).ends(1);
    assert!(
        said.stderr.contains(&segments[2]) && !back.data().exists(),
        "{}",
        said.stderr
    );
    // A target that nobody can tell the place of: the server comes to the hole, and stops there.
    let (mut back, said) = scene.restored(&["--to-xid", "4000000000"], 0);
    assert!(said.stderr.contains("the archive lacks"), "{}", said.stderr);
    let words = back.fails();
    assert!(
        words.contains("is lost: it is not in the archive"),
        "{words}"
    );
    assert!(words.contains("FATAL"), "{words}");
    // Before the hole it comes back.
    let back = scene.recovered(&["--to-lsn", &positions[0], "--before"]);
    assert_eq!(back.sql("select count(*) from t"), "1");
}

#[test]
fn a_server_is_told_of_the_end_only_where_it_is() {
    let scene = Scene::new();
    scene.capture();
    let first = scene.switch();
    // A directory in which a recovery would begin, without any log of its own.
    let (bare, out) = (scene.home.join("bare"), scene.home.join("out"));
    fs::create_dir_all(bare.join("global")).unwrap();
    let control = "global/pg_control";
    fs::copy(scene.cluster.data().join(control), bare.join(control)).unwrap();
    let data = bare.to_str().unwrap();
    let fetch = |name: &str, more: &[&str], code: i32| {
        let mut words = vec![
            "fetch",
            "--no-resident",
            name,
            out.to_str().unwrap(),
            "--data",
            data,
        ];
        words.extend(more);
        scene.run("wal", &words).ends(code).stderr
    };
    fetch(&first, &[], 0);
    assert_eq!(fs::metadata(&out).unwrap().len(), 16 << 20);
    fs::remove_file(&out).unwrap();
    // The only status below 126 for what is not there.
    fetch("0000000100000000000000F0", &[], 1);
    fetch("00000002.history", &[], 1);
    fetch("000000020000000000000001", &[], 1);
    fetch("no-segment", &[], 200);
    fetch(&first, &["--nonsense"], 200);
    // What is no regular file is left as it is, as a device would be.
    fs::create_dir(&out).unwrap();
    let said = fetch(&first, &[], 200);
    assert!(said.contains("no regular file"), "{said}");
    fs::remove_dir(&out).unwrap();
    fetch(&first, &["--repo", "/nowhere"], 200);
    let wrong = scene.home.join("wrong");
    fs::write(&wrong, "falsch").unwrap();
    fetch(&first, &["--password-file", wrong.to_str().unwrap()], 200);
    let archived = scene.archived(&first);
    let mut sealed = fs::read(&archived).unwrap();
    let middle = sealed.len() / 2;
    sealed[middle] ^= 1;
    fs::write(&archived, &sealed).unwrap();
    let said = fetch(&first, &[], 200);
    assert!(said.contains("is damaged"), "{said}");
    assert!(!out.exists());
    // What the server has itself, as a capture brings it along, it is left to.
    fs::create_dir(bare.join("pg_wal")).unwrap();
    fs::copy(
        scene.cluster.data().join("pg_wal").join(&first),
        bare.join("pg_wal").join(&first),
    )
    .unwrap();
    fetch(&first, &[], 200);
    fs::remove_file(&archived).unwrap();
    scene.switch();
    fetch(&first, &[], 200);
    let label = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000060\n\
        BACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIMELINE: 1\n";
    fs::write(bare.join("backup_label"), label).unwrap();
    fetch(&first, &[], 1);
    let misspelt = ["fetsch", &first, "out"];
    scene.run("wal", &misspelt).ends(200);
    scene.run("wal", &["Fetch", "%f", "out"]).ends(200);
    scene.run("wal", &["push"]).ends(2);
    scene.run("wal", &["--help"]).ok();
    scene.run("wal", &["fetch", "--help"]).ok();
}

#[test]
fn an_archive_is_proven_by_what_comes_back() {
    let mut scene = Scene::new();
    let url = scene.cluster.url("postgres");
    let check = |scene: &Scene, code: i32| {
        let words = ["check", "--postgres", &url, "--patience", "3"];
        let said = scene.run("db", &words).ends(code);
        said.text() + &said.stderr
    };
    let said = check(&scene, 0);
    assert!(said.contains("went to the archive and came back"), "{said}");
    // One that succeeds without doing anything.
    let restart = |scene: &mut Scene, command: &str| {
        scene.cluster.stop();
        scene.cluster.set("archive_command", command);
        scene.cluster.start_again();
    };
    restart(&mut scene, "/bin/true");
    let said = check(&scene, 1);
    assert!(said.contains("did not come into this repository"), "{said}");
    restart(&mut scene, "/bin/false");
    let said = check(&scene, 1);
    assert!(said.contains("failed to archive"), "{said}");
    scene.cluster.stop();
    scene.cluster.set("archive_mode", "off");
    scene.cluster.start_again();
    let said = check(&scene, 1);
    assert!(said.contains("does not archive"), "{said}");
}

#[test]
fn nothing_is_archived_twice_or_for_another_cluster() {
    let scene = Scene::new();
    let name = scene.switch();
    let (data, copy) = (scene.cluster.data(), scene.home.join(&name));
    let data = data.to_str().unwrap();
    fs::copy(scene.cluster.data().join("pg_wal").join(&name), &copy).unwrap();
    let push = |path: &Path, data: &str, code: i32| {
        scene
            .run(
                "wal",
                &[
                    "push",
                    "--no-resident",
                    path.to_str().unwrap(),
                    "--data",
                    data,
                ],
            )
            .ends(code)
            .stderr
    };
    push(&copy, data, 0);
    let mut content = fs::read(&copy).unwrap();
    content[(16 << 20) - 1] ^= 1;
    fs::write(&copy, &content).unwrap();
    let said = push(&copy, data, 1);
    assert!(said.contains("another server archives here"), "{said}");
    content.pop();
    fs::write(&copy, &content).unwrap();
    let said = push(&copy, data, 1);
    assert!(said.contains("bytes"), "{said}");
    let other = Cluster::make(Options::default());
    let said = push(&copy, other.data().to_str().unwrap(), 1);
    assert!(said.contains("belongs to the cluster"), "{said}");
    let odd = scene.home.join("core");
    fs::write(&odd, "x").unwrap();
    let said = push(&odd, data, 1);
    assert!(said.contains("is no name of a WAL segment"), "{said}");
    // A history is kept too, and a second one is not.
    let history = scene.home.join("00000002.history");
    fs::write(&history, "1\t0/3000000\tno recovery target specified\n").unwrap();
    push(&history, data, 0);
    push(&history, data, 0);
    fs::write(&history, "1\t0/4000000\tno recovery target specified\n").unwrap();
    push(&history, data, 1);
    // Who knows nothing of the log leaves it alone.
    let repository = scene.home.join("repository");
    Program::current(&repository).run(["prune"]).ok();
    Program::current(&repository)
        .run(["check", "--read-data"])
        .ok();
    for (content, why) in [
        ("", "empty"),
        ("3\t0/4000000\tx\n", "of itself"),
        ("1\t0/4000000\n1\t0/3", "torn"),
    ] {
        let wrong = history.with_file_name("00000003.history");
        fs::write(&wrong, content).unwrap();
        let said = push(&wrong, data, 1);
        assert!(
            said.contains("00000003.history can't be the history"),
            "{why}: {said}"
        );
    }
    let note = scene.home.join("000000010000000000000002.00000028.backup");
    fs::write(
        &note,
        "START WAL LOCATION: 0/3000028 (file 000000010000000000000003)\n",
    )
    .unwrap();
    let said = push(&note, data, 1);
    assert!(said.contains("can't be the note of a backup"), "{said}");
    scene.run("wal", &["status"]).ok();
}
