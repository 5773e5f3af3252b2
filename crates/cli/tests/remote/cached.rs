//! Repairs and migrations ask the server, and not what this machine's cache still has of it from better days.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat_flow::Cancel;
use lifeboat_format::BlobKind;
use lifeboat_repo::backend::{BackendOptions, open};
use lifeboat_repo::{Identity, KeyCost, PackListing, Repository};
use lifeboat_testkit::rest_server::{Options, RestServer};
use lifeboat_testkit::restic::PASSWORD;

use crate::peer::Peer;

/// A server with a repository of this version and one snapshot, all of which the cache has.
fn world(version: u32) -> (RestServer, Peer) {
    let server = RestServer::start(Options::default());
    let location = server.repository("r");
    let peer = Peer::empty(location.clone(), server.options());
    let backend = open(&location.parse().unwrap(), &server.options()).unwrap();
    let who = Identity::of_this_process();
    let cost = KeyCost::Test;
    Repository::init(backend, PASSWORD.as_bytes(), version, None, &who, cost).unwrap();
    fs::create_dir(peer.path("source")).unwrap();
    fs::write(peer.path("source/file"), "content").unwrap();
    peer.ok(&["backup", "source"]);
    peer.ok(&["ls", "latest"]);
    (server, peer)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap();
    files.map(|file| file.unwrap().path()).collect()
}

fn flip(file: &Path, at: usize) {
    let mut content = fs::read(file).unwrap();
    content[at] ^= 1;
    fs::write(file, content).unwrap();
}

/// Damages the only file of a kind on the server.
fn damage(server: &RestServer, kind: &str) {
    flip(&files(&server.directory("r").join(kind))[0], 20);
}

#[test]
fn an_index_file_that_is_damaged_on_the_server_is_repaired() {
    let (server, peer) = world(2);
    damage(&server, "index");
    assert_eq!(peer.any(&mut peer.command(&["check"])).code(), 1);
    let said = peer.ok(&["repair", "index"]).text();
    assert!(said.contains("index file"), "{said}");
    peer.ok(&["check", "--read-data"]);
    peer.restic_checks();
}

#[test]
fn a_snapshot_that_is_damaged_on_the_server_is_not_called_whole() {
    let (server, peer) = world(2);
    damage(&server, "snapshots");
    assert_eq!(peer.any(&mut peer.command(&["check"])).code(), 1);
    let said = peer.any(&mut peer.command(&["repair", "snapshots"]));
    assert_eq!(said.code(), 1, "{}{}", said.text(), said.stderr);
    peer.ok(&["repair", "snapshots", "--forget"]);
    peer.ok(&["check", "--read-data"]);
}

#[test]
fn a_repository_that_is_damaged_on_the_server_is_not_migrated() {
    let (server, peer) = world(1);
    damage(&server, "index");
    let config = fs::read(server.directory("r").join("config")).unwrap();
    let said = peer.any(&mut peer.command(&["migrate", "upgrade_repo_v2"]));
    assert_eq!(said.code(), 1, "{}{}", said.text(), said.stderr);
    assert_eq!(
        fs::read(server.directory("r").join("config")).unwrap(),
        config
    );
}

/// Of a tree that lies in two packs, the server has a damaged copy that the cache has whole.
#[test]
fn the_only_good_copy_of_a_tree_is_not_given_up() {
    let (server, peer) = world(2);
    // A writer that saw nothing of the first stores everything again.
    let aside = peer.path("aside");
    fs::create_dir(&aside).unwrap();
    let index = server.directory("r").join("index");
    for file in files(&index) {
        fs::copy(&file, aside.join(file.file_name().unwrap())).unwrap();
        fs::remove_file(file).unwrap();
    }
    peer.ok(&["backup", "--force", "source"]);
    for file in files(&aside) {
        fs::copy(&file, index.join(file.file_name().unwrap())).unwrap();
    }
    let backend = open(&peer.location.parse().unwrap(), &BackendOptions::default()).unwrap();
    let repository = Arc::new(Repository::open(backend, PASSWORD.as_bytes(), None).unwrap());
    let tree = repository.snapshots().unwrap().all[0].1.tree;
    let (index, _) = repository
        .load_index(PackListing::Skip, &Cancel::new())
        .unwrap();
    let places = index.find_all(BlobKind::Tree, &tree);
    assert_eq!(places.len(), 2);
    peer.ok(&["ls", "latest"]);
    let pack = |place: usize| places[place].pack.to_string();
    let cache = peer.path(".cache/lifeboat/repositories");
    let cached = |place: usize| {
        let id = pack(place);
        let folder = cache.join(&repository.config().id);
        folder.join("data").join(&id[..2]).join(&id).exists()
    };
    let rotten = (0..2).find(|place| cached(*place)).unwrap();
    let id = pack(rotten);
    flip(
        &server.directory("r").join("data").join(&id[..2]).join(&id),
        places[rotten].offset_bytes as usize + 20,
    );
    peer.ok(&["repair", "packs", &pack(1 - rotten)]);
    peer.ok(&["ls", "latest", "--no-cache"]);
}
