//! A place that is gone for one request, at each request of a repair: nothing counts as lost because of it, nothing is
//! removed or left out, and the repair ends with the reason.

use std::collections::BTreeSet;

use lifeboat_format::{BlobKind, Id};
use lifeboat_repo::backend::{FileKind, MemoryBackend};
use lifeboat_repo::{RepoError, remove_locks};
use lifeboat_testkit::faults::{Fault, FaultPlan, FaultyBackend};
use lifeboat_testkit::replay::Note;
use lifeboat_testkit::retrying::{IMPATIENT, RetryingBackend, retrying_by};

use crate::common::open;
use crate::fixture::*;

/// Runs a repair with each of its requests failing, and looks at what it leaves.
fn each_request(
    damaged: &MemoryBackend,
    repair: impl Fn(RetryingBackend) -> Result<(), RepoError>,
    look: impl Fn(&MemoryBackend),
) {
    let run =
        |faulty: &FaultyBackend<MemoryBackend>| repair(retrying_by(IMPATIENT, faulty.clone()));
    let recording = FaultyBackend::recording(damaged.fork());
    run(&recording).unwrap();
    let mut ended = 0;
    for number in 0..recording.log().len() as u64 {
        let _note = Note::new(format!("request {number}"));
        let plan = FaultPlan::at(number, Fault::Unreachable);
        let faulty = FaultyBackend::new(damaged.fork(), plan);
        let done = run(&faulty);
        let Some(gone) = faulty.log().get(number as usize).copied() else {
            continue;
        };
        let left = faulty.inner();
        remove_locks(&open(left.clone()).unwrap(), true).unwrap();
        look(left);
        // Nobody fails because a lock could not be given back.
        if gone.kind == Some(FileKind::Lock) {
            continue;
        }
        let error = done.expect_err(&format!("{gone:?}"));
        assert!(error.ends_all(), "{gone:?}: {error:?}");
        ended += 1;
    }
    assert!(ended > 5, "{ended} requests");
}

#[test]
fn a_repair_of_the_index_loses_its_place() {
    let fixture = Fixture::new(31);
    let files = fixture.names(FileKind::Index);
    let damaged = fixture.with(files[1], |content| content.truncate(40));
    let before = readable(&damaged);
    each_request(
        &damaged,
        |backend| repair_index(backend, true).map(drop),
        |left| {
            assert!(before.is_subset(&readable(left)));
            repair_index(left.clone(), false).unwrap();
            fixture.assert_whole(left);
        },
    );
}

#[test]
fn a_repair_of_packs_loses_its_place() {
    let fixture = Fixture::new(32);
    let pack = fixture.packs(BlobKind::Data)[0];
    let damaged = fixture.with(pack, |content| content[60] ^= 1);
    let (before, ids) = (readable(&damaged), [pack.id]);
    for other in [None, Some(&fixture.backend)] {
        each_request(
            &damaged,
            |backend| repair_packs(backend, &ids, other, &mut Kept::new()).map(drop),
            |left| assert!(before.is_subset(&readable(left))),
        );
    }
}

#[test]
fn a_repair_of_snapshots_loses_its_place() {
    let fixture = Fixture::new(33);
    let pack = fixture.packs(BlobKind::Data)[0];
    let damaged = fixture.without(&[pack]);
    for forget in [false, true] {
        let trees = |backend: &MemoryBackend| -> BTreeSet<Id> {
            let all = open(backend.clone()).unwrap().snapshots().unwrap().all;
            all.iter().map(|(_, snapshot)| snapshot.tree).collect()
        };
        let healthy = damaged.fork();
        repair_snapshots(healthy.clone(), forget).unwrap();
        // The broken ones and those that stand for them: no other may come to be.
        let known = &trees(&damaged) | &trees(&healthy);
        each_request(
            &damaged,
            |backend| repair_snapshots(backend, forget).map(drop),
            |left| {
                assert!(trees(left).is_subset(&known));
                repair_snapshots(left.clone(), forget).unwrap();
                assert_eq!(trees(left), trees(&healthy));
            },
        );
    }
}
