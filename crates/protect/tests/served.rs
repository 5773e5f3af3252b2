//! A repository that rest-server or rclone serves is the same to restic as to us, in both directions.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{PASSWORD, Seen, back_up, check_all, init, lock, open, restore, same, small_tree};
use lifeboat_repo::backend::{self, Backend, BackendOptions, Location};
use lifeboat_repo::chain;
use lifeboat_testkit::rclone::Rclone;
use lifeboat_testkit::rest_server::{Options, RestServer};
use lifeboat_testkit::restic::Restic;

/// A served repository: how we reach it, and how restic does.
struct Served {
    location: Location,
    options: BackendOptions,
    repository: String,
    variables: Vec<(String, String)>,
}

impl Served {
    fn by_rest_server(server: &RestServer, path: &str) -> Self {
        Self {
            location: server.location(path),
            options: server.options(),
            repository: server.repository(path),
            variables: server.variables(),
        }
    }

    fn by_rclone(rclone: &Rclone, path: &str) -> Self {
        Self {
            location: rclone.location(path),
            options: rclone.options(),
            repository: rclone.repository(path),
            variables: rclone.variables(),
        }
    }

    fn backend(&self) -> Arc<dyn Backend> {
        backend::open(&self.location, &self.options).unwrap()
    }

    fn restic(&self) -> Restic {
        let password = std::str::from_utf8(PASSWORD).unwrap();
        let restic = Restic::current(Path::new(&self.repository)).with_password(password);
        self.variables.iter().fold(restic, |restic, (name, value)| {
            restic.with_variable(name, value)
        })
    }
}

/// What one of the two writes is read and checked by the other, who then goes on where the first one stopped.
fn both_directions(ours: &Served, theirs: &Served) {
    let scratch = common::scratch();
    let tree = scratch.path().join("tree");
    small_tree(&tree, 1);
    let seen = Seen::default();

    let repository = init(ours.backend());
    let outcome = back_up(&repository, &tree, &seen).unwrap();
    let restic = ours.restic();
    restic.run(&["check", "--read-data"]);
    let restored = scratch.path().join("by restic");
    restic.run(&["restore", "latest", "--target", restored.to_str().unwrap()]);
    let inside = restored.join(tree.strip_prefix("/").unwrap());
    same().assert_same(&tree, &inside);
    let said = restic
        .run(&["backup", "--json", tree.to_str().unwrap()])
        .text();
    assert!(
        said.contains(r#""data_blobs":0"#),
        "nothing was stored twice: {said}"
    );
    assert!(check_all(&repository).findings.is_empty());
    let ours_again = scratch.path().join("ours");
    restore(
        &repository,
        outcome.snapshot.unwrap(),
        &tree,
        &ours_again,
        |_| {},
        &seen,
    )
    .unwrap();
    same().assert_same(&tree, &ours_again);

    let restic = theirs.restic();
    restic.run(&["init"]);
    restic.run(&["backup", tree.to_str().unwrap()]);
    let repository = open(theirs.backend()).unwrap();
    assert!(check_all(&repository).findings.is_empty());
    let snapshot = repository.snapshots().unwrap().all[0].0;
    let from_theirs = scratch.path().join("from theirs");
    restore(&repository, snapshot, &tree, &from_theirs, |_| {}, &seen).unwrap();
    same().assert_same(&tree, &from_theirs);
    back_up(&repository, &tree, &seen).unwrap();
    restic.run(&["check", "--read-data"]);
    assert_eq!(restic.run(&["list", "snapshots"]).lines().len(), 2);
    assert_eq!(restic.run(&["list", "locks"]).lines().len(), 0);
    assert_eq!(seen.problems(), Vec::<String>::new());
}

#[test]
fn rest_server_between_us_and_restic() {
    let server = RestServer::start(Options {
        auth: true,
        ..Options::default()
    });
    both_directions(
        &Served::by_rest_server(&server, "ours"),
        &Served::by_rest_server(&server, "their/s"),
    );
}

#[test]
fn rclone_between_us_and_restic() {
    let rclone = Rclone::new();
    both_directions(
        &Served::by_rclone(&rclone, "ours"),
        &Served::by_rclone(&rclone, "their/s"),
    );
}

#[test]
fn append_only_is_enough_to_back_up_check_and_restore() {
    let server = RestServer::start(Options {
        append_only: true,
        ..Options::default()
    });
    let served = Served::by_rest_server(&server, "a");
    let scratch = common::scratch();
    let tree = scratch.path().join("tree");
    small_tree(&tree, 2);
    let seen = Seen::default();
    let repository = init(served.backend());
    let outcome = back_up(&repository, &tree, &seen).unwrap();
    std::fs::write(tree.join("new"), "more").unwrap();
    let outcome_2 = back_up(&repository, &tree, &seen).unwrap();
    assert!(check_all(&repository).findings.is_empty());
    let restored = scratch.path().join("restored");
    restore(
        &repository,
        outcome_2.snapshot.unwrap(),
        &tree,
        &restored,
        |_| {},
        &seen,
    )
    .unwrap();
    same().assert_same(&tree, &restored);
    drop(lock(&repository, true).unwrap());
    served.restic().run(&["check", "--read-data"]);

    let error = repository
        .remove_snapshot(outcome.snapshot.unwrap())
        .unwrap_err();
    let said = chain(&error);
    assert!(
        said.contains("403 Forbidden: likely it is append-only"),
        "{said}"
    );
    assert_eq!(repository.snapshots().unwrap().all.len(), 2);
}
