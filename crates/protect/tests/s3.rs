//! Whole backups in buckets: ours are read by restic, restic's by us, and who may only read restores and writes nothing.

mod common;

use std::path::Path;
use std::sync::{Arc, LazyLock};

use common::{PASSWORD, Seen, back_up, init, open, restore, same};
use lifeboat_repo::backend::{self, Backend, BackendError, BackendOptions, FileKind};
use lifeboat_repo::{RepoError, chain};
use lifeboat_testkit::conformance::listing;
use lifeboat_testkit::fixtures::{Generator, Shape};
use lifeboat_testkit::garage::Garage;
use lifeboat_testkit::restic::Restic;

static GARAGE: LazyLock<Garage> = LazyLock::new(Garage::start);

const SMALL: Shape = Shape {
    entries: 40,
    depth: 2,
    largest_bytes: 1 << 20,
};

fn backend(place: &str, options: &BackendOptions) -> Arc<dyn Backend> {
    backend::open(&GARAGE.location(place).parse().unwrap(), options).unwrap()
}

/// Both restics. Neither of them learns a region.
fn restics(place: &str) -> [Restic; 2] {
    let location = GARAGE.location(place);
    Restic::both(Path::new(&location)).map(|restic| {
        restic
            .with_password(std::str::from_utf8(PASSWORD).unwrap())
            .with_variable("AWS_ACCESS_KEY_ID", GARAGE.key_id())
            .with_variable("AWS_SECRET_ACCESS_KEY", GARAGE.secret())
            .with_variable("AWS_DEFAULT_REGION", GARAGE.region())
    })
}

#[test]
fn restic_reads_what_we_wrote_and_goes_on_with_it() {
    let mut generator = Generator::with_shape(1, SMALL);
    let (keep, tree) = generator.temporary_tree();
    let ours = backend("ours", &GARAGE.options());
    let repository = init(Arc::clone(&ours));
    back_up(&repository, &tree, &Seen::default()).unwrap();
    for restic in restics("ours") {
        restic.run(&["check", "--read-data"]);
        let target = keep.path().join("theirs");
        restic.run(&["restore", "latest", "--target", target.to_str().unwrap()]);
        let below = target.join(tree.strip_prefix("/").unwrap());
        same().assert_same(&tree, &below);
        std::fs::remove_dir_all(&target).unwrap();
        // What it adds and removes in the same bucket, we see.
        let before = listing(&ours, FileKind::Snapshot).unwrap().len();
        restic.run(&["backup", tree.to_str().unwrap()]);
        assert_eq!(
            listing(&ours, FileKind::Snapshot).unwrap().len(),
            before + 1
        );
        restic.run(&["forget", "latest", "--prune"]);
        assert_eq!(listing(&ours, FileKind::Snapshot).unwrap().len(), before);
    }
    assert!(listing(&ours, FileKind::Lock).unwrap().is_empty());
}

#[test]
fn we_read_what_restic_wrote_also_with_a_key_that_may_only_read() {
    let mut generator = Generator::with_shape(2, SMALL);
    let (keep, tree) = generator.temporary_tree();
    for (number, restic) in restics("theirs").iter().enumerate() {
        if number == 0 {
            restic.run(&["init"]);
        }
        generator.edit(&tree, 5);
        restic.run(&["backup", tree.to_str().unwrap()]);
        let reader = backend("theirs", &GARAGE.reader());
        let repository = open(Arc::clone(&reader)).unwrap();
        let snapshots = repository.snapshots().unwrap();
        let (snapshot, _) = snapshots.all.last().unwrap();
        let target = keep.path().join(format!("restored {number}"));
        let seen = Seen::default();
        restore(&repository, *snapshot, &tree, &target, |_| {}, &seen).unwrap();
        assert_eq!(seen.problems(), Vec::<String>::new());
        same().assert_same(&tree, &target);

        let before = listing(&reader, FileKind::Pack).unwrap();
        let error = back_up(&repository, &tree, &seen).unwrap_err();
        let said = chain(&error);
        assert!(
            said.contains("Operation is not allowed for this key"),
            "{said}"
        );
        assert_eq!(listing(&reader, FileKind::Pack).unwrap(), before);
        assert!(listing(&reader, FileKind::Lock).unwrap().is_empty());
    }
}

#[test]
fn a_repository_whose_config_is_gone_is_none() {
    let ours = backend("without", &GARAGE.options());
    init(Arc::clone(&ours));
    ours.remove(lifeboat_repo::backend::FileName::CONFIG)
        .unwrap();
    match open(Arc::clone(&ours)).map(|_| ()).unwrap_err() {
        RepoError::Backend(BackendError::NoRepository { what, .. }) => {
            assert_eq!(what, "the file config");
        }
        other => panic!("{other:?}"),
    }
}
