//! Failover: a standby becomes the primary, goes on archiving into the same place, and each timeline comes back to its end.
//! No row that was archived on one of them may be missing, and none of another may appear.

use std::fs;

use lifeboat_testkit::postgres::Cluster;
use lifeboat_testkit::wait::until;

use crate::common::objects;
use crate::scene::{Scene, switch};

fn names(cluster: &Cluster) -> String {
    cluster.sql("select string_agg(name, ' ' order by name) from rows")
}

fn insert(cluster: &Cluster, name: &str) {
    cluster.sql(&format!("insert into rows values ('{name}')"));
}

/// Waits until a standby has all that its primary wrote.
pub fn follows(standby: &Cluster, primary: &Cluster) {
    let position = primary.sql("select pg_current_wal_lsn()");
    let there = format!("select pg_last_wal_replay_lsn() >= '{position}'");
    until("the standby follows", || standby.sql(&there) == "t");
}

fn promote(standby: &Cluster) {
    standby.sql("select pg_promote()");
    standby.recovered();
}

#[test]
fn each_timeline_comes_back_to_its_end() {
    let mut scene = Scene::new();
    scene.cluster.sql("create table rows (name text)");
    scene.capture();
    insert(&scene.cluster, "a1");
    let standby = scene.standby(&[]);
    insert(&scene.cluster, "a2");
    switch(&scene.cluster);
    // It is on both, and in no segment that the first primary archived.
    insert(&scene.cluster, "a3");
    follows(&standby, &scene.cluster);
    let open = scene
        .cluster
        .sql("select pg_walfile_name(pg_current_wal_lsn())");
    let archive = scene.archive();
    scene.cluster.crash();

    promote(&standby);
    insert(&standby, "b1");
    switch(&standby);
    let there = |name: &str| archive.join(&name[..8]).join(name).exists();
    assert!(there("00000002.history"));
    assert!(there(&format!("{open}.partial")), "{open}");
    assert!(!there(&open), "{open}");
    // What comes from the new primary is a capture like any other, and its standby may become one too.
    let second = Scene {
        cluster: standby,
        ..scene
    };
    let third = second.standby(&[]);
    insert(&second.cluster, "b2");
    follows(&third, &second.cluster);
    promote(&third);
    insert(&third, "c1");
    switch(&third);
    insert(&second.cluster, "b3");
    switch(&second.cluster);
    assert!(there("00000003.history"));

    for (words, expected, timeline) in [
        (&["--to-end", "--timeline", "1"][..], "a1 a2", "4"),
        (&["--to-end", "--timeline", "2"], "a1 a2 a3 b1 b2 b3", "4"),
        (&["--to-end", "--timeline", "3"], "a1 a2 a3 b1 b2 c1", "4"),
        (&["--to-end"], "a1 a2 a3 b1 b2 c1", "4"),
    ] {
        let back = second.recovered(words);
        assert_eq!(names(&back), expected, "{words:?}");
        let now = back.sql("select timeline_id from pg_control_checkpoint()");
        assert_eq!(now, timeline, "{words:?}");
    }
    let status = second.run("wal", &["status", "--json"]).ok();
    let timelines = objects(&status)[0]["timelines"].clone();
    assert_eq!(timelines[0]["partial"], open, "{timelines}");
    for timeline in timelines.as_array().unwrap() {
        assert_eq!(timeline["gaps"].as_array().unwrap().len(), 0, "{timelines}");
    }
    // A timeline that nothing leads to.
    let (_, said) = second.restored(&["--to-end", "--timeline", "7"], 1);
    assert!(said.stderr.contains("no history leads"), "{}", said.stderr);
    // One on the way of which nothing is left but its history, and then not even that.
    let folder = archive.join("00000002");
    let mut lost: Vec<String> = Vec::new();
    for file in fs::read_dir(&folder).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        if !name.ends_with(".history") {
            fs::remove_file(file.path()).unwrap();
            lost.push(name);
        }
    }
    let first = lost.iter().filter(|name| name.len() == 24).min().unwrap();
    let missing = |history: &str| {
        let said = second.run("wal", &["status"]).ends(1).stderr;
        let line = format!("MISSING on timeline 2: {first}");
        assert!(said.contains(&line), "{history}: {said}");
        let said = second.run("wal", &["status", "--json"]).ends(1);
        let timelines = objects(&said)[0]["timelines"].clone();
        let mut timelines = timelines.as_array().unwrap().iter();
        let of_it = timelines.find(|timeline| timeline["timeline"] == 2);
        assert_eq!(of_it.unwrap()["gaps"][0][0], **first, "{history}");
    };
    missing("with its history");
    fs::remove_dir_all(&folder).unwrap();
    missing("without it");
}
