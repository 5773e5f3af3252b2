//! A repository's life on each kind of server: backups, forgetting and pruning, a copy to this machine, a restore.

use std::fs;
use std::sync::Arc;

use lifeboat_repo::backend::{BackendOptions, LocalBackend};
use lifeboat_repo::{Identity, KeyCost, Repository};
use lifeboat_testkit::compare::Comparison;
use lifeboat_testkit::garage::Garage;
use lifeboat_testkit::random::Random;
use lifeboat_testkit::rclone::Rclone;
use lifeboat_testkit::rest_server::{Options, RestServer};
use lifeboat_testkit::restic::{PASSWORD, Restic};
use lifeboat_testkit::sshd::Sshd;
use serde_json::Value;

use crate::peer::Peer;

/// Lives through it.
fn live(location: String, options: BackendOptions) {
    // The program makes one too; calibrating its key takes half a second each time it is opened, so no other uses it.
    let made = Peer::empty(format!("{location}-made"), options.clone());
    made.ok(&["init"]);
    let again = made.any(&mut made.command(&["init"]));
    assert_eq!(again.code(), 1, "{}", again.stderr);
    assert!(again.stderr.contains("there is already a repository"));

    let peer = Peer::new(location, options);
    let source = peer.path("source");
    fs::create_dir_all(source.join("sub")).unwrap();
    fs::write(source.join("big"), Random::new(11).bytes(3 << 20)).unwrap();
    fs::write(source.join("sub/old"), "first").unwrap();
    peer.ok(&["backup", "source"]);
    fs::remove_file(source.join("sub/old")).unwrap();
    fs::write(source.join("sub/new"), "second").unwrap();
    let said = peer.ok(&["backup", "source"]).text();
    assert!(said.contains("comparing with snapshot"), "{said}");
    peer.ok(&["forget", "--keep-last", "1", "--prune"]);
    peer.ok(&["prune", "--keep-delete", "0s"]);
    let listed = peer.ok(&["snapshots", "--json"]);
    let listed: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed.len(), 1);
    let locks = open_locks(&peer);
    assert_eq!(locks, 0, "every lock was given back");

    let local = peer.path("local");
    let backend = Arc::new(LocalBackend::new(&local));
    let who = Identity::of_this_process();
    Repository::init(backend, PASSWORD.as_bytes(), 2, None, &who, KeyCost::Test).unwrap();
    let local_text = local.display().to_string();
    peer.ok(&["copy", "-r", &local_text, "--from-repo", &peer.location]);

    peer.ok(&[
        "restore",
        "latest:/source",
        "--target",
        "restored",
        "--verify",
    ]);
    peer.ok(&[
        "restore",
        "latest:/source",
        "--target",
        "from-copy",
        "-r",
        &local_text,
    ]);
    for name in ["restored", "from-copy"] {
        Comparison::as_user()
            .ignoring_root()
            .assert_same(&source, &peer.path(name));
    }
    peer.ok(&["check", "--read-data"]);
    peer.restic_checks();
    Restic::current(&local).run(&["check", "--read-data"]);
}

fn open_locks(peer: &Peer) -> u64 {
    let said = peer.ok(&["unlock", "--remove-all"]).text();
    let words: Vec<&str> = said.split_whitespace().collect();
    words[1].parse().unwrap()
}

#[test]
fn garage() {
    let garage = Garage::start();
    live(garage.location("life"), garage.options());
}

#[test]
fn rest_server() {
    let server = RestServer::start(Options {
        auth: true,
        tls: true,
        ..Options::default()
    });
    live(
        server.repository("life").trim_end_matches('/').to_owned(),
        server.options(),
    );
}

#[test]
fn sshd() {
    let sshd = Sshd::start();
    let place = tempfile::tempdir().unwrap();
    live(sshd.location(&place.path().join("life")), sshd.options());
}

#[test]
fn rclone() {
    let rclone = Rclone::new();
    live(rclone.repository("life"), rclone.options());
}
