//! The log of a cluster on servers as users have them: streamed there, folded, expired, and recovered from.
//! None of them may lose a row on the way, nor keep what was said to be removed.

use lifeboat_testkit::garage::Garage;
use lifeboat_testkit::rest_server::{self, RestServer};
use lifeboat_testkit::wait::until;

use crate::common::objects;
use crate::scene::{Scene, Stream, kept};

/// Inserts a row into each of two segments and one into the next, and waits until the archive has all.
fn rows(scene: &Scene) {
    for _ in 0..2 {
        scene.cluster.sql("insert into rows default values");
        scene.cluster.sql("select pg_switch_wal()");
    }
    scene.cluster.sql("insert into rows default values");
    kept(&scene.cluster);
}

/// What comes back of the rows.
fn back(scene: &Scene) -> String {
    let back = scene.recovered(&["--to-end"]);
    back.sql("select count(*) from rows")
}

/// The number of files in the log, and of segments that the archive has.
fn segments(scene: &Scene) -> u64 {
    let said = scene.run("wal", &["status", "--json"]).ok();
    let timeline = &objects(&said)[0]["timelines"][0];
    assert_eq!(timeline["gaps"], serde_json::json!([]), "{timeline}");
    timeline["segments"].as_u64().unwrap()
}

/// A life of the log: streamed, folded with its pieces beside it, and expired.
fn lives(scene: &Scene) {
    scene.cluster.sql("create table rows (x serial)");
    scene.capture();
    let stream = Stream::begun(scene, &scene.cluster, &[]);
    rows(scene);
    let before = segments(scene);
    let said = scene
        .run("wal", &["fold", "--unfolded", "1", "--json"])
        .ok();
    let folded = &objects(&said)[0];
    let taken_out = folded["taken_out"].as_u64().unwrap();
    assert!(taken_out > 0, "{folded}");
    assert_eq!(segments(scene), before);
    assert_eq!(back(scene), "3");
    scene.capture();
    rows(scene);
    stream.stop();
    let before = segments(scene);
    let forget = ["forget", "--name", "app/db", "--window", "1s"];
    until("the window begins after the second capture", || {
        let words = [&forget[..], &["--dry-run"]].concat();
        let said = scene.run("db", &words).ok();
        said.text().contains("would remove 1 capture:")
    });
    scene.run("db", &forget).ok();
    assert!(segments(scene) < before);
    assert_eq!(back(scene), "6");
    let said = scene.run("db", &forget).ok().text();
    assert!(said.contains("removed 0 snapshots and 0 files"), "{said}");
}

#[test]
fn on_s3() {
    let garage = Garage::start();
    let variables = [
        ("AWS_ACCESS_KEY_ID", garage.key_id()),
        ("AWS_SECRET_ACCESS_KEY", garage.secret()),
    ];
    lives(&Scene::served_silently(&garage.location("log"), &variables));
}

#[test]
fn on_a_rest_server() {
    let server = RestServer::start(rest_server::Options::default());
    lives(&Scene::served_silently(&server.repository("nas"), &[]));
}
