//! What commands say and leave that need to remove, on a server that lets nobody remove anything.

use std::collections::BTreeSet;
use std::fs;

use lifeboat_testkit::rest_server::{Options, RestServer};
use lifeboat_testkit::restic::Said;

use crate::peer::Peer;

/// A repository with a snapshot, on such a server.
fn append_only() -> (RestServer, Peer) {
    let server = RestServer::start(Options {
        append_only: true,
        ..Options::default()
    });
    let peer = Peer::new(server.repository("repository"), server.options());
    fs::write(peer.path("file"), "content").unwrap();
    peer.ok(&["backup", "file"]);
    (server, peer)
}

fn names(server: &RestServer, folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(server.directory("repository").join(folder)).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn fails(peer: &Peer, arguments: &[&str]) -> Said {
    let said = peer.any(&mut peer.command(arguments));
    assert_eq!(said.code(), 1, "{}{}", said.text(), said.stderr);
    said
}

#[test]
fn both_snapshots_exist_when_the_old_one_can_not_be_removed() {
    for command in [
        &["tag", "--add", "new"][..],
        &["rewrite", "--new-host", "other", "--forget"],
    ] {
        let (server, peer) = append_only();
        let old = names(&server, "snapshots").pop_first().unwrap();
        let mut both = BTreeSet::new();
        for _ in 0..3 {
            let said = fails(&peer, command);
            both = names(&server, "snapshots");
            let new = both.iter().find(|name| **name != old).unwrap();
            let (location, old_short, new_short) = (&peer.location, &old[..8], &new[..8]);
            assert_eq!(
                said.stderr.lines().collect::<Vec<_>>(),
                [
                    &format!(
                        "error: the repository is append-only for these credentials: snapshot {new_short} is stored in the place of {old_short}, which could not be removed, so that both exist now: cannot remove snapshots/{old} in {location}: the server answered 403 Forbidden: likely it is append-only, as rest-server is with --append-only, and removes nothing but locks"
                    ),
                    "hint: nothing is lost; remove the old one with `lifeboat repo forget ID` from a machine whose credentials may remove. Others that should change stay as they were",
                ]
            );
        }
        assert_eq!(both.len(), 2, "no copy more for each try");
    }
}

#[test]
fn a_snapshot_that_can_not_be_forgotten_stays_and_is_named() {
    let (server, peer) = append_only();
    peer.ok(&["backup", "file"]);
    let before = names(&server, "snapshots");
    for command in [
        &["forget", "latest"][..],
        &["forget", "--keep-last", "1"],
        &["forget", "--keep-last", "1", "--prune"],
    ] {
        let said = fails(&peer, command);
        let start =
            "error: the repository is append-only for these credentials: cannot remove snapshots/";
        let lines: Vec<&str> = said.stderr.lines().collect();
        assert!(
            lines.len() == 2 && lines[0].starts_with(start),
            "{}",
            said.stderr
        );
        assert!(before.iter().any(|name| lines[0].contains(name.as_str())));
        assert_eq!(
            lines[1],
            "hint: backups go on as they are; forget, prune and unlock need credentials that may remove, on a machine that is trusted with them"
        );
        assert!(!said.text().contains("removed"), "{}", said.text());
        assert_eq!(names(&server, "snapshots"), before);
    }
    peer.ok(&["forget", "--keep-last", "1", "--dry-run"]);
    peer.ok(&["check"]);
}

#[test]
fn a_prune_that_may_remove_nothing_leaves_nothing_that_grows() {
    let (server, peer) = append_only();
    // Something to prune: a snapshot goes in a way that this server does not have.
    for name in names(&server, "snapshots") {
        let file = server.directory("repository").join("snapshots").join(name);
        fs::remove_file(file).unwrap();
    }
    fs::write(peer.path("file"), "other content").unwrap();
    peer.ok(&["backup", "file"]);
    let folders = ["index", "snapshots", "locks"];
    let before = folders.map(|folder| names(&server, folder));
    let packs = packs(&server);
    for _ in 0..3 {
        let said = fails(&peer, &["prune", "--max-unused", "0"]);
        assert!(
            said.stderr.starts_with(
                "error: the repository is append-only for these credentials: cannot remove data/"
            ),
            "{}",
            said.stderr
        );
        assert!(
            said.stderr
                .contains("hint: the place does not allow to remove files"),
            "{}",
            said.stderr
        );
        assert_eq!(folders.map(|folder| names(&server, folder)), before);
        assert_eq!(
            self::packs(&server),
            packs + 1,
            "what was tried to be removed"
        );
    }
    peer.ok(&["check", "--read-data"]);
}

fn packs(server: &RestServer) -> usize {
    let folders = names(server, "data").into_iter();
    folders
        .map(|folder| names(server, &format!("data/{folder}")).len())
        .sum()
}
