//! The record that ties the captures of an app together, and the identity that they carry.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use lifeboat_flow::Cancel;
use lifeboat_format::BlobKind;
use lifeboat_repo::backend::LocalBackend;
use lifeboat_repo::{PackListing, Repository};
use lifeboat_testkit::postgres::Cluster;
use lifeboat_testkit::restic::PASSWORD;
use lifeboat_testkit::wait::until;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::capture::{capture_as, with_checksums};
use crate::common::{Place, array};

/// Captures under this name from this host.
fn captured(place: &Place, cluster: &Cluster, name: &str, host: &str) {
    let said = capture_as(place, cluster, (name, host), &[]);
    assert_eq!(said.code(), 0, "{}{}", said.text(), said.stderr);
}

/// The newest point of the app, as the real restic shows it.
fn point(place: &Place, host: &str) -> Value {
    let words = [
        "dump",
        "--host",
        host,
        "--path",
        "/apps/app",
        "latest",
        "/recovery-point.json",
    ];
    let said = place.current().run(words).ok();
    serde_json::from_slice(&said.stdout).unwrap()
}

fn tree(place: &Place, path: &str) -> Value {
    let words = [
        "snapshots",
        "--json",
        "--latest",
        "1",
        "--host",
        "nas",
        "--path",
        path,
    ];
    let found = array(&place.current().run(words).ok());
    assert_eq!(found.len(), 1, "{found:?}");
    found[0]["tree"].clone()
}

#[test]
fn a_point_ties_the_newest_captures_of_an_app_together() {
    let (place, cluster) = (Place::new(), Cluster::start(with_checksums()));
    captured(&place, &cluster, "app/one", "nas");
    let first = point(&place, "nas");
    assert_eq!(first["version"], 1, "{first}");
    assert_eq!(first["members"]["one"]["state"], "captured", "{first}");
    assert_eq!(first["instant"], first["members"]["one"]["instant"]);
    captured(&place, &cluster, "app/two", "nas");
    let second = point(&place, "nas");
    assert_eq!(second["members"]["one"]["state"], "carried", "{second}");
    assert_eq!(second["members"]["two"]["state"], "captured");
    assert_eq!(second["instant"], first["instant"], "as old as the oldest");
    assert_ne!(second["point"], first["point"]);
    assert_eq!(second["fleet"], first["fleet"]);
    for name in ["one", "two"] {
        let of_capture = tree(&place, &format!("/apps/app/{name}"));
        assert_eq!(second["members"][name]["tree"], of_capture);
    }
    // What is not of this app, or of another fleet, has nothing to do with it.
    captured(&place, &cluster, "other/one", "nas");
    captured(&place, &cluster, "app/three", "box");
    assert_eq!(point(&place, "nas"), second);
    let other = point(&place, "box");
    assert_ne!(other["fleet"], second["fleet"]);
    assert_eq!(other["members"].as_object().unwrap().len(), 1);
    // Every snapshot carries the identity of its fleet.
    let all = array(&place.current().run(["snapshots", "--json"]).ok());
    assert_eq!(all.len(), 8);
    for snapshot in all {
        let fleet = match snapshot["hostname"].as_str() {
            Some("nas") => &second["fleet"],
            _ => &other["fleet"],
        };
        let tag = format!("fleet={}", fleet.as_str().unwrap());
        let tags = snapshot["tags"].as_array().unwrap();
        assert!(tags.iter().any(|known| known == tag.as_str()), "{snapshot}");
    }
}

#[test]
fn captures_at_the_same_time_end_in_one_point() {
    let (place, cluster) = (Place::new(), Cluster::start(with_checksums()));
    let url = cluster.url("postgres");
    let words = [
        "capture",
        "--postgres",
        &url,
        "--name",
        "app/one",
        "--host",
        "nas",
        "--limit-upload",
        "2000",
    ];
    let slow = place.ours().run_in("db", words).start();
    until("it is connected", || {
        let sessions = "select count(*) from pg_stat_activity where application_name = 'lifeboat'";
        cluster.sql(sessions) == "1"
    });
    // It knows of no other capture yet, and sleeps while there is one.
    let pid = Pid::from_child(&slow);
    kill_process(pid, Signal::STOP).unwrap();
    captured(&place, &cluster, "app/two", "nas");
    assert_eq!(point(&place, "nas")["members"]["one"], Value::Null);
    kill_process(pid, Signal::CONT).unwrap();
    let said = slow.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{stderr}");
    let last = point(&place, "nas");
    for (name, state) in [("one", "captured"), ("two", "carried")] {
        assert_eq!(last["members"][name]["state"], state, "{last}");
        let of_capture = tree(&place, &format!("/apps/app/{name}"));
        assert_eq!(last["members"][name]["tree"], of_capture);
    }
}

#[test]
fn a_damaged_point_is_passed_over() {
    let (place, cluster) = (Place::new(), Cluster::start(with_checksums()));
    captured(&place, &cluster, "app/one", "nas");
    captured(&place, &cluster, "app/two", "nas");
    captured(&place, &cluster, "app/three", "nas");
    let root = tree(&place, "/apps/app");
    let backend = Arc::new(LocalBackend::new(place.repository()));
    let repository = Repository::open(backend, PASSWORD.as_bytes(), None).unwrap();
    let (index, _) = repository
        .load_index(PackListing::Skip, &Cancel::new())
        .unwrap();
    let root = root.as_str().unwrap().parse().unwrap();
    let found = index.find(BlobKind::Tree, &root).unwrap();
    let pack = found.pack.to_string();
    let path = place.repository().join("data").join(&pack[..2]).join(&pack);
    let mut content = fs::read(&path).unwrap();
    content[found.offset_bytes as usize + 20] ^= 1;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, content).unwrap();
    let said = capture_as(&place, &cluster, ("app/four", "nas"), &[]);
    assert_eq!(said.code(), 0, "{}", said.stderr);
    let why = "of app is damaged and passed over";
    assert_eq!(said.stderr.matches(why).count(), 1, "{}", said.stderr);
    let last = point(&place, "nas");
    let members = last["members"].as_object().unwrap().keys();
    // The third was in the damaged one alone, and comes with its next capture.
    assert_eq!(members.collect::<Vec<_>>(), ["four", "one", "two"]);
    captured(&place, &cluster, "app/three", "nas");
    let last = point(&place, "nas");
    assert_eq!(last["members"].as_object().unwrap().len(), 4, "{last}");
}

#[test]
fn what_is_no_point_is_passed_over() {
    let (place, cluster) = (Place::new(), Cluster::start(with_checksums()));
    captured(&place, &cluster, "app/one", "nas");
    // Somebody else's snapshot with the path of points.
    let words = ["backup", "--host", "nas", "--stdin", "--stdin-filename"];
    let words = [&words[..], &["/apps/app"]].concat();
    place.current().run(words).input(b"no point").ok();
    assert_eq!(tree(&place, "/apps/app").as_str().map(str::len), Some(64));
    let said = capture_as(&place, &cluster, ("app/two", "nas"), &[]);
    assert_eq!(said.code(), 0, "{}", said.stderr);
    let why = "of app is damaged and passed over";
    assert_eq!(said.stderr.matches(why).count(), 1, "{}", said.stderr);
    let last = point(&place, "nas");
    assert_eq!(last["members"]["one"]["state"], "carried", "{last}");
    assert_eq!(last["members"]["two"]["state"], "captured", "{last}");
}

#[test]
fn a_fleet_captures_a_database_and_its_files_as_one_app() {
    let (place, cluster) = (Place::new(), Cluster::start(with_checksums()));
    cluster.sql("create table t as select generate_series(1, 1000) n");
    let files = place.path("files");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("one"), "one").unwrap();
    let secret = place.path("secret");
    fs::write(&secret, PASSWORD).unwrap();
    let (repository, secret) = (place.repository(), secret.display().to_string());
    let (url, data) = (cluster.url("postgres"), cluster.data());
    let fleet = format!(
        "version: 1\nname: nas\nrepositories: {{ here: {{ url: {repository:?}, password: {{ file: {secret:?} }} }} }}\n\
         policies: {{ daily: {{ schedule: daily, keep: {{ daily: 7 }} }} }}\ndefaults: {{ policy: daily }}\n\
         apps:\n  app:\n    databases:\n      db: {{ postgres: {url:?}, data: {data:?} }}\n      \
         dumps: {{ postgres: {url:?}, method: dump }}\n      sent: {{ postgres: {url:?}, method: stream }}\n    \
         volumes: {{ files: {{ path: {files:?} }} }}\n"
    );
    fs::write(place.path("lifeboat.yaml"), fleet).unwrap();
    let run = |words: &[&str]| {
        let program = place.ours();
        program.run_in("backup", words).within(&place.path("")).ok()
    };
    run(&[]);
    run(&["app"]);
    let last = point(&place, "nas");
    let members = last["members"].as_object().unwrap();
    let told = members.iter().map(|(name, member)| {
        let [state, engine] = ["state", "engine"].map(|key| member[key].as_str().unwrap());
        format!("{name} {state} {engine}")
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            "db captured postgresql",
            "dumps captured postgresql",
            "files captured volume",
            "sent captured postgresql"
        ]
    );
    // The capture of a fleet is one as any other: it is proven by starting it.
    for name in ["app/db", "app/dumps", "app/sent"] {
        let words = ["verify", "--host", "nas", "--name", name];
        place.ours().run_in("db", words).ok();
    }
}
