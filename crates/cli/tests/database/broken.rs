//! The server, or our session with it, ends in the middle of a capture: that is told, and nothing is acknowledged.
//! A capture whose log is lost must never pass for one that comes back.

use std::fs;
use std::process::Child;

use lifeboat_testkit::postgres::Cluster;
use lifeboat_testkit::wait::until;
use rustix::process::{Pid, Signal, kill_process};

use crate::capture::{capture, restored, with_checksums};
use crate::common::Place;

/// A capture that is held in the middle, with the server in backup mode.
struct Held(Child);

impl Held {
    fn start(place: &Place, cluster: &Cluster) -> Self {
        let url = cluster.url("postgres");
        let words = ["capture", "--postgres", &url, "--name", "app/db"];
        let held = Self(place.ours().run_in("db", words).start());
        let is_begun = "select count(*) from pg_stat_activity \
            where application_name = 'lifeboat' and state = 'idle' and query like '%pg_backup_start%'";
        until("the capture has begun", || cluster.sql(is_begun) == "1");
        held.signal(Signal::STOP);
        held
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.0.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Lets it go on, and gives what it says when it fails as it should.
    fn fails(self, place: &Place) -> String {
        self.signal(Signal::CONT);
        let output = self.0.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let listed = place.ours().run(["snapshots", "--json"]).ok().text();
        assert_eq!(listed.trim(), "[]", "{said}");
        let locks = fs::read_dir(place.repository().join("locks")).unwrap();
        assert_eq!(locks.count(), 0, "the lock was given back");
        said
    }
}

#[test]
fn a_server_that_stops_in_the_middle() {
    let (place, mut cluster) = (Place::new(), Cluster::start(with_checksums()));
    cluster.sql("create table t as select generate_series(1, 1000)");
    let held = Held::start(&place, &cluster);
    cluster.crash();
    let said = held.fails(&place);
    assert!(
        said.contains("immediate shutdown") && said.contains("run it again"),
        "{said}"
    );
    // It comes up as after any crash, and the next capture is whole.
    cluster.start_again();
    assert_eq!(capture(&place, &cluster, &[]).code(), 0);
    let rows = restored(&place, &[]).sql("select count(*) from t");
    assert_eq!(rows, "1000");
}

#[test]
fn a_session_that_somebody_ends() {
    let (place, cluster) = (Place::new(), Cluster::start(with_checksums()));
    let held = Held::start(&place, &cluster);
    let ended = cluster.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'lifeboat'",
    );
    assert_eq!(ended, "t");
    let said = held.fails(&place);
    assert!(said.contains("administrator command"), "{said}");
}

#[test]
fn a_slot_that_may_not_keep_the_log() {
    let options = with_checksums()
        .set("max_slot_wal_keep_size", "16MB")
        .set("max_wal_size", "32MB")
        .set("min_wal_size", "32MB");
    let (place, cluster) = (Place::new(), Cluster::start(options));
    let held = Held::start(&place, &cluster);
    for _ in 0..4 {
        cluster.sql(
            "create table much as select repeat(md5(g::text), 30) from generate_series(1, 40000) g",
        );
        cluster.sql("drop table much");
        cluster.sql("checkpoint");
    }
    let said = held.fails(&place);
    assert!(said.contains("max_slot_wal_keep_size"), "{said}");
    assert_eq!(capture(&place, &cluster, &[]).code(), 0);
}
