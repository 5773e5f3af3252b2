//! Each repair stopped at any operation of the backend: nothing that could be read before is lost, and the next run of the
//! same command completes it.

use std::collections::BTreeSet;

use lifeboat_format::{BlobKind, Id};
use lifeboat_repo::backend::{Backend, FileKind, FileName, MemoryBackend};
use lifeboat_repo::remove_locks;
use lifeboat_testkit::crash::CrashPoints;
use lifeboat_testkit::replay::{self, Note};

use crate::common::open;
use crate::fixture::*;

/// Points of a matrix that a normal run tries.
const SAMPLE: usize = 20;

fn points() -> (CrashPoints, Note) {
    let seed = replay::seed();
    (CrashPoints::sampled(seed, SAMPLE), Note::seed(seed))
}

fn unlock(backend: &MemoryBackend) {
    remove_locks(&open(backend.clone()).unwrap(), true).unwrap();
}

#[test]
fn a_repair_of_the_index_is_stopped() {
    let fixture = Fixture::new(21);
    let files = fixture.names(FileKind::Index);
    let damaged = fixture.without(&files[..1]);
    let broken = files[1];
    damaged.save(broken, &[b"what is that?"]).unwrap();
    let before = readable(&damaged);
    let (points, _seed) = points();
    points.run(
        || damaged.fork(),
        |backend| repair_index(backend, false).is_ok(),
        |left, point, done| {
            assert!(point.is_some() || done);
            unlock(left);
            assert!(before.is_subset(&readable(left)));
            repair_index(left.clone(), false).unwrap();
            fixture.assert_whole(left);
        },
    );
}

#[test]
fn a_repair_of_packs_is_stopped() {
    let fixture = Fixture::new(22);
    let names = [
        fixture.packs(BlobKind::Data)[0],
        fixture.packs(BlobKind::Tree)[0],
    ];
    let damaged = fixture.backend.fork();
    for name in names {
        let mut content = damaged.load(name, u64::MAX).unwrap();
        content[60] ^= 1;
        damaged.save(name, &[&content]).unwrap();
    }
    let gone = fixture.packs(BlobKind::Data)[1];
    damaged.remove(gone).unwrap();
    let (before, ids) = (readable(&damaged), names.map(|name| name.id));
    for other in [None, Some(&fixture.backend)] {
        let (points, _seed) = points();
        points.run(
            || damaged.fork(),
            |backend| {
                let mut kept = Kept::new();
                let done = repair_packs(backend, &ids, other, &mut kept).is_ok();
                (kept, done)
            },
            |left, point, (mut kept, done)| {
                assert!(point.is_some() || done);
                unlock(left);
                assert!(before.is_subset(&readable(left)));
                for name in names {
                    let is_gone = left.size(name).is_err();
                    assert!(!is_gone || kept.contains_key(&name.id), "no copy was kept");
                }
                repair_packs(left.clone(), &ids, other, &mut kept).unwrap();
                assert!(names.iter().all(|name| left.size(*name).is_err()));
                assert!(before.is_subset(&readable(left)));
                if other.is_some() {
                    fixture.assert_whole(left);
                }
            },
        );
    }
}

#[test]
fn a_repair_of_snapshots_is_stopped() {
    let fixture = Fixture::new(23);
    let damaged = fixture.without(&[fixture.packs(BlobKind::Data)[0]]);
    repair_index(damaged.clone(), false).unwrap();
    let before = readable(&damaged);
    let (points, _seed) = points();
    points.run(
        || damaged.fork(),
        |backend| repair_snapshots(backend, true).is_ok(),
        |left, point, done| {
            assert!(point.is_some() || done);
            unlock(left);
            assert!(before.is_subset(&readable(left)));
            let standing = |left: &MemoryBackend| -> BTreeSet<Id> {
                let all = open(left.clone()).unwrap().snapshots().unwrap().all;
                all.iter()
                    .map(|(id, snapshot)| snapshot.original.unwrap_or(*id))
                    .collect()
            };
            let all: BTreeSet<Id> = fixture.snapshots.iter().map(|(id, _)| *id).collect();
            assert_eq!(standing(left), all, "each or what stands for it");
            repair_snapshots(left.clone(), true).unwrap();
            assert_eq!(standing(left), all);
            let repository = open(left.clone()).unwrap();
            assert_eq!(repository.snapshots().unwrap().all.len(), 2);
            assert_clean(&repository);
        },
    );
}

/// The name of a file that no test makes, so that a repair which takes any file for its own is found out.
#[test]
fn a_repair_leaves_what_it_was_not_asked_about() {
    let fixture = Fixture::new(24);
    let backend = fixture.backend.fork();
    let name = fixture.packs(BlobKind::Data)[0];
    let mut content = backend.load(name, u64::MAX).unwrap();
    content[60] ^= 1;
    backend.save(name, &[&content]).unwrap();
    let others: BTreeSet<FileName> = backend
        .files()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|file| *file != name && file.kind != FileKind::Index)
        .collect();
    repair_packs(backend.clone(), &[name.id], None, &mut Kept::new()).unwrap();
    let left: BTreeSet<FileName> = backend.files().into_iter().map(|(name, _)| name).collect();
    assert!(others.is_subset(&left) && !left.contains(&name));
}
