//! Prune on whole repositories: killed, disturbed, beside writers without locks, on damaged packs, and where nothing may
//! be removed. Every snapshot stays readable at every step, and the end is the same.

mod clock;
mod world;

use std::collections::BTreeSet;

use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::{BlobKind, Id};
use lifeboat_repo::backend::{
    Backend, BackendError, FileKind, FileName, LocalBackend, MemoryBackend,
};
use lifeboat_repo::prune::{Fate, MaxUnused, PruneOptions};
use lifeboat_repo::{FindingKind, Index, PackListing, RepoError, Repository, remove_locks};
use lifeboat_testkit::append_only::AppendOnlyBackend;
use lifeboat_testkit::crash::CrashPoints;
use lifeboat_testkit::faults::{Fault, FaultPlan, FaultyBackend, Operation, Verb};
use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::{self, Note};
use lifeboat_testkit::retrying::{IMPATIENT, retrying_by};

use world::*;

/// Points of a matrix that a normal run tries.
const SAMPLE: usize = 60;

#[test]
fn what_is_needed_stays_and_the_rest_goes_a_day_later() {
    let (backend, needed) = eventful();
    let repository = open(backend.clone()).unwrap();
    assert_readable(&repository);
    assert!(
        findings(&repository)
            .iter()
            .all(|kind| *kind == FindingKind::PackMarked)
    );
    let (look, removed) = prune(&repository, options(), at(30)).unwrap();
    assert!(
        removed.marked > 3 && removed.recovered > 0 && removed.deleted > 0,
        "{removed:?}"
    );
    assert_eq!(look.plan.stats.unindexed.packs, 2);
    assert_sound(&repository);
    // What was indexed again holds some waste, which goes as that of any other pack.
    prune(&repository, options(), at(30)).unwrap();
    // Before the time has come nothing happens.
    let (look, removed) = prune(&repository, options(), at(52)).unwrap();
    assert!(look.changes().all(|(_, fate, _)| fate == Fate::Wait));
    assert_eq!((removed.deleted, removed.index_files_written), (0, 0));
    let (_, removed) = prune(&repository, options(), at(53)).unwrap();
    assert!(removed.deleted > 3);
    assert_end(&repository, &needed, 54);
}

#[test]
fn at_once_if_that_is_wanted() {
    let (backend, needed) = eventful();
    let repository = open(backend).unwrap();
    let wanted = PruneOptions {
        instant_delete: true,
        ..options()
    };
    let (_, removed) = prune(&repository, wanted, at(1)).unwrap();
    assert!(removed.marked == 0 && removed.deleted > 5);
    assert_sound(&repository);
    assert!(state(&repository).2);
    assert_end(&repository, &needed, 2);
}

#[test]
fn a_prune_is_killed_anywhere() {
    let (base, needed) = eventful();
    let seed = replay::seed();
    let _seed = Note::seed(seed);
    for instant_delete in [false, true] {
        let wanted = PruneOptions {
            instant_delete,
            threads: 1,
            ..options()
        };
        CrashPoints::sampled(seed, SAMPLE).run(
            || base.fork(),
            |backend| prune(&open(backend)?, wanted, at(30)).map(|_| ()),
            |left, point, done| {
                assert!(point.is_some() || done.is_ok());
                let repository = open(left.clone()).unwrap();
                remove_locks(&repository, true).unwrap();
                assert_readable(&repository);
                let allowed = |kind: &FindingKind| *kind == FindingKind::PackMarked;
                assert!(findings(&repository).iter().all(allowed));
                assert_end(&repository, &needed, 31);
            },
        );
    }
}

#[test]
fn one_operation_fails_or_lies() {
    let (base, needed) = eventful();
    let seed = replay::seed();
    let _seed = Note::seed(seed);
    let mut random = Random::new(seed);
    let recording = FaultyBackend::recording(base.fork());
    prune(&open(recording.clone()).unwrap(), options(), at(30)).unwrap();
    let operations = recording.log().len() as u64;
    let soak = std::env::var_os("LIFEBOAT_SOAK").is_some();
    let mut failed = 0;
    for number in 0..operations {
        for fault in [
            Fault::FailBefore,
            Fault::FailAfter,
            Fault::Truncate,
            Fault::FlipBit,
            Fault::HideNewest(1),
            Fault::HideNewest(3),
        ] {
            if !soak && !random.chance(8) {
                continue;
            }
            let _note = Note::new(format!("{fault:?} at operation {number}"));
            let backend = FaultyBackend::new(base.fork(), FaultPlan::at(number, fault));
            let done =
                open(backend.clone()).and_then(|repository| prune(&repository, options(), at(30)));
            failed += u64::from(done.is_err());
            let repository = open(backend.inner().clone()).unwrap();
            remove_locks(&repository, true).unwrap();
            assert_readable(&repository);
            assert_end(&repository, &needed, 31);
        }
    }
    assert!(failed > 0, "no fault was noticed");
}

#[test]
fn histories_with_a_writer_that_takes_no_locks() {
    let seed = replay::seed();
    let _seed = Note::seed(seed);
    for (number, on_disk) in [false, false, true].into_iter().enumerate() {
        let mut random = Random::new(seed + number as u64);
        let dir = tempfile::tempdir().unwrap();
        let repository = if on_disk {
            init(LocalBackend::new(dir.path().join("r")))
        } else {
            init(MemoryBackend::new())
        };
        let mut kept: Vec<(Id, BTreeSet<u64>)> = Vec::new();
        let mut hour = 0;
        for _ in 0..25 {
            let chosen = blobs((0..30).filter(|_| random.chance(40)));
            match random.below(4) {
                0 => kept.push((back_up(&repository, &chosen), chosen)),
                1 if !kept.is_empty() => {
                    let (id, _) = kept.swap_remove(random.index(kept.len()));
                    repository.remove_snapshot(id).unwrap();
                }
                2 => {
                    // It loads the index, others forget and prune, then it writes: less than 23 hours later.
                    let known = index(&repository, PackListing::Compare).unwrap();
                    if !kept.is_empty() && random.chance(70) {
                        let (id, _) = kept.swap_remove(random.index(kept.len()));
                        repository.remove_snapshot(id).unwrap();
                    }
                    for _ in 0..random.below(3) {
                        hour += i64::try_from(random.below(10)).unwrap();
                        prune(&repository, options(), at(hour)).unwrap();
                    }
                    kept.push((write(&repository, known, &chosen).unwrap(), chosen));
                    // Its snapshot is there; a prune before the marks are due finds it.
                    assert_readable(&repository);
                    prune(&repository, options(), at(hour)).unwrap();
                    assert_sound(&repository);
                }
                _ => {
                    hour += i64::try_from(random.below(40)).unwrap();
                    let wanted = PruneOptions {
                        max_unused: *random.pick(&[
                            MaxUnused::Bytes(0),
                            MaxUnused::Percent(30.0),
                            MaxUnused::Unlimited,
                        ]),
                        max_repack_bytes: *random.pick(&[u64::MAX, 100_000]),
                        ..options()
                    };
                    prune(&repository, wanted, at(hour)).unwrap();
                    assert_sound(&repository);
                }
            }
            assert_readable(&repository);
        }
        let needed = kept.into_iter().flat_map(|(_, blobs)| blobs).collect();
        assert_end(&repository, &needed, hour + 1);
    }
}

/// Here without the backend that lets each file through once, so that the second guard is seen too.
#[test]
fn a_listing_that_names_everything_twice_removes_nothing_that_is_needed() {
    let (base, needed) = eventful();
    let backend = FaultyBackend::new(base, FaultPlan::from(0, Fault::ListTwice));
    let repository = open(backend.clone()).unwrap();
    let snapshots = repository.snapshots().unwrap().all;
    let ids: BTreeSet<Id> = snapshots.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids.len(), snapshots.len());
    for kind in FileKind::NAMED {
        let once: Vec<Id> = repository.ids(kind).unwrap();
        assert!(once.is_sorted_by(|a, b| a < b), "{kind:?}");
    }
    for hour in [30, 60, 90] {
        let plan = repository.plan_index_repair(false, &Counters::default(), &Cancel::new());
        assert!(plan.unwrap().repeated.is_empty());
        prune(&repository, options(), at(hour)).unwrap();
        assert_readable(&repository);
        assert_eq!(findings(&repository), []);
    }
    assert_end(&open(backend.inner().clone()).unwrap(), &needed, 120);
}

/// Flips a bit within the first blob of each pack of a kind.
fn damage(backend: &MemoryBackend, repository: &Repository, chosen: impl Fn(usize) -> bool) {
    for (number, (id, _)) in repository.packs().unwrap().into_iter().enumerate() {
        if chosen(number) {
            let name = FileName::new(FileKind::Pack, id);
            let mut bytes = backend.load(name, 1 << 30).unwrap();
            bytes[20] ^= 1;
            backend.save(name, &[&bytes]).unwrap();
        }
    }
}

#[test]
fn of_two_copies_the_good_one_stays() {
    let backend = MemoryBackend::new();
    let repository = init(backend.clone());
    let all = blobs(0..30);
    // Two writers at once store everything twice.
    let known = index(&repository, PackListing::Compare).unwrap();
    write(&repository, known, &all).unwrap();
    write(&repository, Index::new(), &all).unwrap();
    let packs = repository.packs().unwrap().len();
    for broken in 0..packs {
        let copy = backend.fork();
        let repository = open(copy.clone()).unwrap();
        damage(&copy, &repository, |number| number == broken);
        prune(&repository, options(), at(0)).unwrap();
        prune(&repository, options(), at(30)).unwrap();
        prune(&repository, options(), at(60)).unwrap();
        assert_readable(&repository);
    }
}

#[test]
fn what_is_damaged_is_kept_and_told() {
    let backend = MemoryBackend::new();
    let repository = init(backend.clone());
    let first = back_up(&repository, &blobs(0..30));
    back_up(
        &repository,
        &blobs((0..30).filter(|number| number % 2 == 0)),
    );
    repository.remove_snapshot(first).unwrap();
    let data: BTreeSet<Id> = {
        let index = index(&repository, PackListing::Skip).unwrap();
        let needed = blobs((0..30).filter(|number| number % 2 == 0));
        let places = needed.iter().filter_map(|number| {
            let place = index.find(BlobKind::Data, &Id::of(&content(*number)))?;
            (place.offset_bytes == 0).then_some(place.pack)
        });
        places.collect()
    };
    assert!(!data.is_empty());
    let packs: Vec<Id> = repository.packs().unwrap().into_keys().collect();
    damage(&backend, &repository, |number| {
        data.contains(&packs[number])
    });
    for hour in [0, 30, 60] {
        let (look, removed) = prune(&repository, options(), at(hour)).unwrap();
        assert!(removed.undeleted.is_empty());
        let changed: BTreeSet<Id> = look.changes().map(|(id, ..)| id).collect();
        assert!(changed.is_disjoint(&data), "a damaged pack goes");
    }
    let left: BTreeSet<Id> = repository.packs().unwrap().into_keys().collect();
    assert!(data.is_subset(&left));
}

#[test]
fn nothing_is_removed_when_anything_is_unknown() {
    let (base, _) = eventful();
    let names: Vec<FileName> = base.files().into_iter().map(|(name, _)| name).collect();
    let trees: BTreeSet<Id> = {
        let repository = open(base.clone()).unwrap();
        let index = index(&repository, PackListing::Skip).unwrap();
        let roots = repository.snapshots().unwrap().all.into_iter();
        let places = roots.filter_map(|(_, snapshot)| index.find(BlobKind::Tree, &snapshot.tree));
        places.map(|place| place.pack).collect()
    };
    let mut tried = BTreeSet::new();
    for name in names {
        let is_tree = name.kind == FileKind::Pack && trees.contains(&name.id);
        if !is_tree && !matches!(name.kind, FileKind::Snapshot | FileKind::Index) {
            continue;
        }
        tried.insert(name.kind);
        let backend = base.fork();
        let mut bytes = backend.load(name, 1 << 30).unwrap();
        // In the middle of a tree's pack its header begins soon; the first blob is what is hurt there.
        bytes[20] ^= 1;
        backend.save(name, &[&bytes]).unwrap();
        let before = backend.files();
        let repository = open(backend.clone()).unwrap();
        let error = prune(&repository, options(), at(30)).map(drop).unwrap_err();
        assert!(
            matches!(error, RepoError::NeedsUnknown { .. }),
            "{name}: {error:?}"
        );
        let files = backend.files().into_iter();
        let after: Vec<_> = files
            .filter(|(name, _)| name.kind != FileKind::Lock)
            .collect();
        assert!(after == before, "{name}");
    }
    assert_eq!(tried.len(), 3);
    // A pack that is needed is missing: so for one that is cut short.
    for length in [None, Some(100)] {
        let backend = base.fork();
        let repository = open(backend.clone()).unwrap();
        let index = index(&repository, PackListing::Skip).unwrap();
        let place = index.find(BlobKind::Data, &Id::of(&content(1))).unwrap();
        let name = FileName::new(FileKind::Pack, place.pack);
        let bytes = backend.load(name, 1 << 30).unwrap();
        backend.remove(name).unwrap();
        if let Some(length) = length {
            backend.save(name, &[&bytes[..length]]).unwrap();
        }
        let error = prune(&repository, options(), at(30)).map(drop).unwrap_err();
        assert!(
            error.to_string().contains(&place.pack.to_string()),
            "{error}"
        );
    }
}

/// An object store may list what it then can't find. That is no snapshot that was forgotten meanwhile.
#[test]
fn a_snapshot_that_is_listed_and_said_to_be_missing_is_damaged() {
    let (base, _) = eventful();
    let repository = open(base.clone()).unwrap();
    let gone = repository.snapshots().unwrap().all[0].0;
    let backend = FaultyBackend::recording(base);
    let repository = open(backend.clone()).unwrap();
    let name = FileName::new(FileKind::Snapshot, gone);
    let is_it = move |operation: &Operation| operation.name == Some(name);
    backend.follow(FaultPlan::new(move |operation| {
        is_it(operation).then_some(Fault::Missing)
    }));
    let damaged = repository.snapshots().unwrap().damaged;
    assert_eq!(damaged.len(), 1);
    assert_eq!(damaged[0].0, gone);
    assert!(findings(&repository).contains(&FindingKind::Snapshot));
    let error = prune(&repository, options(), at(30)).map(drop).unwrap_err();
    assert!(matches!(error, RepoError::NeedsUnknown { .. }), "{error:?}");
    // What only one try missed is there.
    let next = backend.log().len() as u64;
    backend.follow(FaultPlan::at(next, Fault::Missing));
    let found = repository.snapshots_of(&[gone]).unwrap();
    assert_eq!((found.all.len(), found.damaged.len()), (1, 0));
    // One that is in no listing any more was forgotten.
    backend.follow(FaultPlan::none());
    repository.remove_snapshot(gone).unwrap();
    let found = repository.snapshots_of(&[gone]).unwrap();
    assert_eq!((found.all.len(), found.damaged.len()), (0, 0));
}

/// What lies there but for locks.
fn without_locks(backend: &MemoryBackend) -> Vec<(FileName, u64)> {
    let files = backend.files().into_iter();
    files
        .filter(|(name, _)| name.kind != FileKind::Lock)
        .map(|(name, bytes)| (name, bytes.len() as u64))
        .collect()
}

/// The place is gone for one request and there again for the next, so that whoever takes the failure for damage goes on.
#[test]
fn a_place_that_goes_away_is_not_taken_for_damage() {
    let (base, needed) = eventful();
    let instant = PruneOptions {
        instant_delete: true,
        ..options()
    };
    let run = |faulty: &FaultyBackend<MemoryBackend>| {
        let repository = open(retrying_by(IMPATIENT, faulty.clone()))?;
        prune(&repository, instant, at(30)).map(drop)
    };
    let recording = FaultyBackend::recording(base.fork());
    run(&recording).unwrap();
    let (mut ended, before) = (BTreeSet::new(), without_locks(&base));
    for number in 0..recording.log().len() as u64 {
        let plan = FaultPlan::at(number, Fault::Unreachable);
        let faulty = FaultyBackend::new(base.fork(), plan);
        let _note = Note::new(format!("operation {number}"));
        let done = run(&faulty);
        let log = faulty.log();
        let Some(gone) = log.get(number as usize) else {
            continue;
        };
        let repository = open(faulty.inner().clone()).unwrap();
        assert_readable(&repository);
        // Nobody fails because a lock could not be given back.
        if gone.kind == Some(FileKind::Lock) {
            continue;
        }
        let error = done.expect_err(&format!("{gone:?}"));
        assert!(error.ends_all(), "{gone:?}: {error:?}");
        // Only what was to go before the place went may be missing.
        let is_removal = |operation: &Operation| {
            operation.verb == Verb::Remove && operation.kind != Some(FileKind::Lock)
        };
        let removals = log.iter().filter(|operation| is_removal(operation));
        if removals.into_iter().all(|one| one.number > number) {
            let left = without_locks(faulty.inner());
            assert!(before.iter().all(|file| left.contains(file)), "{gone:?}");
        }
        remove_locks(&repository, true).unwrap();
        ended.insert(gone.verb);
        if number % 8 == 0 {
            assert_end(&repository, &needed, 60);
        }
    }
    let all = [
        Verb::List,
        Verb::Load,
        Verb::LoadAt,
        Verb::Save,
        Verb::Remove,
    ];
    assert!(all.iter().all(|verb| ended.contains(verb)), "{ended:?}");
}

#[test]
fn a_place_that_keeps_everything_stays_valid() {
    for kind in [FileKind::Index, FileKind::Pack] {
        let (base, needed) = eventful();
        // What was not there before may go, so that the try before the prune tells nothing.
        let kept: BTreeSet<_> = base.files().into_iter().map(|(name, _)| name).collect();
        let backend = FaultyBackend::new(
            base.fork(),
            FaultPlan::new(move |operation| {
                let is_kept = operation.name.is_some_and(|name| kept.contains(&name));
                let refused = operation.verb == Verb::Remove && operation.kind == Some(kind);
                (refused && is_kept).then_some(Fault::FailBefore)
            }),
        );
        let repository = open(backend.clone()).unwrap();
        for hour in [30, 60] {
            match prune(&repository, options(), at(hour)) {
                Ok((_, removed)) => {
                    assert!(!removed.undeleted.is_empty() && kind == FileKind::Pack)
                }
                Err(error) => {
                    assert!(
                        matches!(
                            error,
                            RepoError::Backend(
                                BackendError::Io { .. } | BackendError::Remote { .. }
                            )
                        ),
                        "{error:?}"
                    );
                    assert_eq!(kind, FileKind::Index);
                }
            }
            assert_sound(&repository);
        }
        assert_end(&open(backend.inner().clone()).unwrap(), &needed, 90);
    }
}

#[test]
fn an_append_only_place_is_left_as_it_was_but_for_one_tiny_pack() {
    let (base, needed) = eventful();
    let before = without_locks(&base);
    let wrong_before = findings(&open(base.fork()).unwrap());
    for removable in [&[][..], &[FileKind::Lock]] {
        let left = base.fork();
        let refusing = AppendOnlyBackend::new(left.clone(), removable);
        for hour in [30, 60, 90] {
            let repository = open(refusing.clone()).unwrap();
            let error = prune(&repository, options(), at(hour)).map(drop);
            assert!(
                matches!(&error, Err(RepoError::Backend(cause)) if cause.is_refusal()),
                "{error:?}"
            );
            // Without locks of its own, whose holder is this process.
            remove_locks(&open(left.clone()).unwrap(), true).unwrap();
            let mut more = without_locks(&left);
            more.retain(|file| !before.contains(file));
            assert!(
                matches!(more.as_slice(), [(name, 0..300)] if name.kind == FileKind::Pack),
                "{more:?}"
            );
            assert_eq!(findings(&repository), wrong_before);
        }
        // Whoever may remove takes it away too.
        assert_end(&open(left).unwrap(), &needed, 120);
    }
}

#[test]
fn a_living_lock_keeps_everything() {
    let (backend, _) = eventful();
    let repository = open(backend.clone()).unwrap();
    let holder = lock(&repository, false).unwrap();
    let packs = repository.packs().unwrap();
    let error = prune(&repository, options(), at(30)).map(drop).unwrap_err();
    assert!(matches!(error, RepoError::Locked { .. }), "{error:?}");
    let left = repository.packs().unwrap();
    assert!(
        packs.keys().all(|id| left.contains_key(id)),
        "a pack was deleted"
    );
    drop(holder);
    // What was repacked then is not repacked again.
    let (look, _) = prune(&repository, options(), at(31)).unwrap();
    assert_eq!(look.plan.stats.repack.packs, 0);
    let more = repository.packs().unwrap();
    assert!(
        more.keys().all(|id| left.contains_key(id)),
        "a pack was stored"
    );
}
