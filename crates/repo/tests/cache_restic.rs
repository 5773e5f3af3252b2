//! restic and we share one cache: what either fetched, the other need not fetch.

use std::path::Path;
use std::sync::Arc;

use lifeboat_flow::Cancel;
use lifeboat_format::BlobKind;
use lifeboat_repo::backend::{CachedBackend, FileKind, LocalBackend};
use lifeboat_repo::{BlobReader, PackListing, Repository};
use lifeboat_testkit::faults::{FaultyBackend, Verb};
use lifeboat_testkit::fixtures::{Generator, Shape};
use lifeboat_testkit::heard::Notes;
use lifeboat_testkit::restic::{PASSWORD, Restic};

/// Reads all snapshots, index files and trees through a cache; gives how many were read and how many of them came from
/// the repository.
fn read_all(repository: &Path, cache: &Path) -> (usize, usize) {
    let recorded = Arc::new(FaultyBackend::recording(LocalBackend::new(repository)));
    let seen = Arc::new(Notes::default());
    let opened = Repository::open(recorded.clone(), PASSWORD.as_bytes(), None).unwrap();
    let opened = opened
        .with_backend(|inner, config| CachedBackend::wrap(inner, cache, &config.id, seen.clone()));
    let snapshots = opened.snapshots().unwrap().all.len();
    let (index, report) = opened
        .load_index(PackListing::Compare, &Cancel::new())
        .unwrap();
    assert!(report.damaged.is_empty() && report.missing_packs.is_empty());
    let reader = BlobReader::new(&opened, &index);
    let mut trees = Vec::new();
    index.each(|kind, id, _| {
        if kind == BlobKind::Tree {
            trees.push(id);
        }
    });
    for id in &trees {
        reader.tree(*id).unwrap();
    }
    assert_eq!(*seen.0.lock().unwrap(), Vec::<String>::new());
    let fetched = [FileKind::Snapshot, FileKind::Index, FileKind::Pack]
        .into_iter()
        .map(|kind| {
            recorded.count(Verb::Load, Some(kind)) + recorded.count(Verb::LoadAt, Some(kind))
        });
    (snapshots + trees.len(), fetched.sum())
}

#[test]
fn what_restic_keeps_is_read_by_us_and_what_we_keep_by_restic() {
    let shape = Shape {
        entries: 40,
        depth: 3,
        largest_bytes: 1 << 16,
    };
    let (temporary, tree) = Generator::with_shape(3, shape).temporary_tree();
    let place = temporary.path().join("repository");
    let [theirs, ours] = ["theirs", "ours"].map(|name| temporary.path().join(name));
    for restic in [Restic::current(&place), Restic::debian(&place)] {
        let _ = std::fs::remove_dir_all(&place);
        let [theirs, ours] = [&theirs, &ours].map(|path| {
            let _ = std::fs::remove_dir_all(path);
            path.to_str().unwrap()
        });
        restic.run(&["--cache-dir", theirs, "init"]);
        let source = tree.to_str().unwrap();
        restic.run(&["--cache-dir", theirs, "backup", source]);

        // It kept all of it when it stored it.
        let (read, fetched) = read_all(&place, theirs.as_ref());
        assert!(read > 5, "{read}");
        assert_eq!(fetched, 0);

        // Ours is filled once, and restic takes it for its own.
        assert!(read_all(&place, ours.as_ref()).1 > 0);
        assert_eq!(read_all(&place, ours.as_ref()).1, 0);
        let listed = restic.run(&["--cache-dir", ours, "ls", "latest"]);
        assert!(listed.lines().len() > 20);
        // Without the packs only the cache can say what is in the trees.
        std::fs::rename(place.join("data"), temporary.path().join("away")).unwrap();
        let again = restic.run(&["--cache-dir", ours, "--no-lock", "ls", "latest"]);
        assert_eq!(again.text(), listed.text());
        std::fs::rename(temporary.path().join("away"), place.join("data")).unwrap();
        restic.run(&["--cache-dir", ours, "check", "--with-cache", "--read-data"]);
    }
}
