//! The store fails in the middle of a recovery: the server stops, and comes up whole when the store is back.
//! It must never come up with less than all rows, wherever in the recovery that happened.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use lifeboat_testkit::postgres::{Cluster, Options, give_away};
use lifeboat_testkit::proxy::{HttpFault, HttpPlan, HttpProxy};
use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::{Note, seed};
use lifeboat_testkit::rest_server::{self, RestServer};

use crate::scene::{Scene, copy_dir};

/// Segments that a recovery fetches after the capture.
const SEGMENTS: usize = 4;
/// Moments of an outage that are tried, unless all are.
const SAMPLE: usize = 3;

/// A cluster with a row in each of some archived segments, and a capture from before them.
fn with_rows(scene: &Scene) -> String {
    scene.cluster.sql("create table rows (x int)");
    scene.capture();
    for number in 0..SEGMENTS {
        scene
            .cluster
            .sql(&format!("insert into rows values ({number})"));
        scene.switch();
    }
    scene.cluster.sql("select count(*) from rows")
}

/// A place with a copy of what was restored.
fn again(pristine: &Cluster) -> Cluster {
    let back = Cluster::place(Options::default());
    copy_dir(&pristine.data(), &back.data());
    back
}

fn count(back: &Cluster) -> String {
    back.recovered();
    back.sql("select count(*) from rows")
}

/// Some of so many moments, or all for who has the time.
fn moments(count: u64, seed: u64) -> Vec<u64> {
    if std::env::var_os("LIFEBOAT_SOAK").is_some() {
        return (0..count).collect();
    }
    let mut random = Random::new(seed);
    (0..SAMPLE).map(|_| random.below(count)).collect()
}

fn number(file: &Path) -> u64 {
    fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

/// Lets the store go away before each of some fetches of a recovery, by a way to lose it that a shell knows.
fn goes_away(lost: &str, kept: &str, expected: &str) {
    let seed = seed();
    let _note = Note::seed(seed);
    let scene = Scene::new();
    let rows = with_rows(&scene);
    let home = scene.home.display();
    let script = scene.home.join("fetch.sh");
    // Counts its calls, and takes the store away before one of them.
    let text = format!(
        "#!/bin/sh\ncd {home}\nn=$(cat calls)\n[ \"$n\" = \"$(cat lost_at)\" ] && mv {lost} {kept}\n\
         echo $((n + 1)) > calls\ncd \"$OLDPWD\"\nexec {} \"$@\"\n",
        scene.words("fetch")
    );
    fs::write(&script, text).unwrap();
    give_away(&script);
    let (calls, lost_at) = (scene.home.join("calls"), scene.home.join("lost_at"));
    let set = |at: &str| {
        for (file, text) in [(&calls, "0"), (&lost_at, at)] {
            fs::write(file, text).unwrap();
            give_away(file);
        }
    };
    let command = format!("{} %f %p", script.display());
    let (pristine, _) = scene.restored_by(&command, &["--to-end"], 0);
    set("never");
    let mut back = again(&pristine);
    back.start_again();
    assert_eq!(count(&back), rows);
    let all = number(&calls);
    assert!(all > SEGMENTS as u64, "{all}");
    for moment in moments(all, seed) {
        let _note = Note::new(format!(
            "the store went away before fetch {moment} of {all}"
        ));
        set(&moment.to_string());
        let mut back = again(&pristine);
        let words = back.fails();
        assert!(
            words.contains(expected) && words.contains("FATAL"),
            "{words}"
        );
        assert_eq!(number(&calls), moment + 1, "it asked for nothing more");
        fs::rename(scene.home.join(kept), scene.home.join(lost)).unwrap();
        set("never");
        back.start_again();
        assert_eq!(count(&back), rows);
    }
}

#[test]
fn a_repository_that_goes_away_stops_the_recovery() {
    goes_away("repository", "elsewhere", "there is no repository");
}

#[test]
fn an_archive_that_goes_away_is_not_the_end_of_the_log() {
    goes_away(
        "repository/lifeboat",
        "repository/elsewhere",
        "nothing of the log of the cluster",
    );
}

#[test]
fn a_server_that_refuses_stops_the_recovery() {
    let seed = seed();
    let _note = Note::seed(seed);
    let server = RestServer::start(rest_server::Options::default());
    let proxy = HttpProxy::start(server.address().parse::<SocketAddr>().unwrap());
    let scene = Scene::served(&format!("rest:{}/nas/", proxy.url()));
    let rows = with_rows(&scene);
    let (pristine, _) = scene.restored(&["--to-end"], 0);
    proxy.follow(HttpPlan::none());
    let mut back = again(&pristine);
    back.start_again();
    assert_eq!(count(&back), rows);
    let all = proxy.exchanges().len() as u64;
    assert!(all > SEGMENTS as u64, "{all}");
    for moment in moments(all, seed) {
        let _note = Note::new(format!(
            "the server refused from request {moment} of {all} on"
        ));
        proxy.follow(HttpPlan::from(moment, HttpFault::RefuseClock));
        let mut back = again(&pristine);
        let words = back.fails();
        assert!(words.contains("FATAL"), "{words}");
        proxy.follow(HttpPlan::none());
        back.start_again();
        assert_eq!(count(&back), rows);
    }
    // One whose files are gone, as those of a disk that is not mounted, is no end either.
    let (files, aside) = (server.directory("nas"), server.directory("aside"));
    fs::rename(&files, &aside).unwrap();
    let mut back = again(&pristine);
    let words = back.fails();
    assert!(words.contains("there is no repository"), "{words}");
    fs::rename(&aside, &files).unwrap();
    back.start_again();
    assert_eq!(count(&back), rows);
}
