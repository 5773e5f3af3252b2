//! The repairs on each kind of damage: the check names it and advises the right one, which brings back what can be brought
//! back and names the rest; stopped at any operation, a repair leaves nothing worse and is completed by the next.

#[path = "../common/mod.rs"]
mod common;
mod crash;
mod fixture;
mod gone;
mod trees;

use std::collections::{BTreeMap, BTreeSet};

use common::{Seen, back_up, check_all, open};
use fixture::*;
use lifeboat_format::{BlobKind, Id};
use lifeboat_repo::backend::{Backend, FileKind, FileName, MemoryBackend};
use lifeboat_repo::{
    FindingKind, LossKind, MEMORY_DEFAULT_BYTES, Repair, RepoError, SnapshotVerdict,
};
use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::{self, Note};

/// What a check advises.
fn advice(backend: &MemoryBackend) -> Vec<Repair> {
    check_all(&open(backend.clone()).unwrap()).repairs
}

const INDEX: Repair = Repair::Index {
    read_all_packs: false,
};

#[test]
fn lost_and_damaged_index_files_are_made_anew_from_the_packs() {
    let fixture = Fixture::new(1);
    let files = fixture.names(FileKind::Index);
    assert!(files.len() >= 2, "several index files");
    let half = |content: &mut Vec<u8>| content.truncate(content.len() / 2);
    for (what, damaged, is_left) in [
        ("one lost", fixture.without(&files[..1]), false),
        ("all lost", fixture.without(&files), false),
        ("cut short", fixture.with(files[0], half), true),
        ("bit flipped", fixture.with(files[1], |c| c[40] ^= 1), true),
        ("emptied", fixture.with(files[0], Vec::clear), true),
    ] {
        let _note = Note::new(what);
        assert_eq!(advice(&damaged)[0], INDEX);
        let early = repair_snapshots(damaged.clone(), true);
        assert!(
            matches!(early, Err(RepoError::IndexFirst(_))),
            "what is only not indexed is not given up: {early:?}"
        );
        let plan = repair_index(damaged.clone(), false).unwrap();
        assert_eq!(plan.damaged_files.len(), usize::from(is_left));
        assert!(!plan.add.is_empty() && plan.unreadable.is_empty() && plan.missing.is_empty());
        fixture.assert_whole(&damaged);
        let again = repair_index(damaged.clone(), true).unwrap();
        assert!(again.is_empty(), "{again:?}");
    }
}

#[test]
fn a_sound_repository_needs_no_repair() {
    let fixture = Fixture::new(2);
    let backend = fixture.backend.fork();
    assert_eq!(advice(&backend), []);
    let before = backend.files();
    assert!(repair_index(backend.clone(), true).unwrap().is_empty());
    let done = repair_snapshots(backend.clone(), true).unwrap();
    assert!(
        done.iter()
            .all(|one| one.plan.verdict == SnapshotVerdict::Whole)
    );
    let (plan, _) = repair_packs(
        backend.clone(),
        &[],
        Some(&fixture.backend),
        &mut Kept::new(),
    )
    .unwrap();
    assert!(plan.is_empty());
    assert_eq!(backend.files(), before, "nothing was written or removed");
}

#[test]
fn a_place_without_any_pack_is_not_taken_for_damage() {
    let fixture = Fixture::new(3);
    let packs = fixture.names(FileKind::Pack);
    let damaged = fixture.without(&packs);
    let no_index = fixture.without(&[packs, fixture.names(FileKind::Index)].concat());
    let before = (damaged.files(), no_index.files());
    assert!(matches!(
        repair_index(damaged.clone(), false),
        Err(RepoError::NoPacks { .. })
    ));
    for forget in [false, true] {
        for damaged in [&damaged, &no_index] {
            assert!(matches!(
                repair_snapshots(damaged.clone(), forget),
                Err(RepoError::NoPacks { .. })
            ));
        }
    }
    assert_eq!((damaged.files(), no_index.files()), before);
}

/// The ways in which a pack is damaged; `None` is a pack that is gone.
type Way = (&'static str, Option<fn(&mut Vec<u8>)>);
const WAYS: [Way; 5] = [
    ("a bit of a blob flipped", Some(|c| c[60] ^= 4)),
    (
        "a bit of the header flipped",
        Some(|c| {
            let at = c.len() - 20;
            c[at] ^= 1;
        }),
    ),
    ("cut short", Some(|c| c.truncate(c.len() * 2 / 3))),
    ("without its last byte", Some(|c| c.truncate(c.len() - 1))),
    ("gone", None),
];

fn damage(fixture: &Fixture, name: FileName, way: Way) -> MemoryBackend {
    match way.1 {
        Some(change) => fixture.with(name, change),
        None => fixture.without(&[name]),
    }
}

#[test]
fn what_a_damaged_pack_lost_comes_back_from_another_repository() {
    let fixture = Fixture::new(4);
    // Not a copy: the same files went there under other keys, and not into the same packs.
    let other = MemoryBackend::new();
    init_like(&fixture.backend, &other);
    for (_, state) in &fixture.snapshots {
        back_up_as(&other, state, &fixture.tree);
    }
    for name in [
        fixture.packs(BlobKind::Data)[0],
        fixture.packs(BlobKind::Tree)[0],
    ] {
        for way in WAYS {
            let _note = Note::new(format!("pack {}, {}", name.id, way.0));
            for source in [&fixture.backend, &other] {
                // Another run has other times in its trees, so that only a copy has the trees.
                let is_tree = fixture.packs(BlobKind::Tree).contains(&name);
                if is_tree && std::ptr::eq(source, &other) {
                    continue;
                }
                let damaged = damage(&fixture, name, way);
                let found = check_all(&open(damaged.clone()).unwrap()).damaged_packs;
                assert_eq!(found.is_empty(), way.1.is_none(), "{found:?}");
                let mut kept = Kept::new();
                let (_, done) =
                    repair_packs(damaged.clone(), &found, Some(source), &mut kept).unwrap();
                assert_eq!(done.lost, []);
                let is_header = way.0.contains("header") || way.0.contains("last byte");
                assert!(done.fetched > 0 || is_header, "{done:?}");
                assert_eq!(kept.len(), found.len());
                fixture.assert_whole(&damaged);
                let left = damaged.files();
                let (again, _) =
                    repair_packs(damaged.clone(), &[], Some(source), &mut kept).unwrap();
                assert!(again.is_empty(), "{again:?}");
                assert_eq!(damaged.files().len(), left.len());
            }
        }
    }
}

/// A repository with the same polynomial, so that it cuts alike.
fn init_like(like: &MemoryBackend, to: &MemoryBackend) {
    use lifeboat_repo::{Identity, KeyCost, Repository};
    let polynomial = open(like.clone()).unwrap().config().chunker_polynomial;
    let who = Identity::of_this_process();
    let to = std::sync::Arc::new(to.clone());
    Repository::init(
        to,
        common::PASSWORD,
        2,
        Some(polynomial),
        &who,
        KeyCost::Test,
    )
    .unwrap();
}

fn back_up_as(backend: &MemoryBackend, state: &std::path::Path, tree: &std::path::Path) {
    let aside = tree.with_extension("aside");
    std::fs::rename(tree, &aside).unwrap();
    common::copy(state, tree);
    back_up(&open(backend.clone()).unwrap(), tree, &Seen::default()).unwrap();
    std::fs::remove_dir_all(tree).unwrap();
    std::fs::rename(&aside, tree).unwrap();
}

#[test]
fn without_another_repository_all_is_saved_that_the_damage_did_not_touch() {
    let fixture = Fixture::new(5);
    let sound = readable(&fixture.backend);
    for kind in [BlobKind::Data, BlobKind::Tree] {
        for name in fixture.packs(kind).into_iter().take(2) {
            for way in WAYS {
                let _note = Note::new(format!("{} pack {}, {}", kind.word(), name.id, way.0));
                let damaged = damage(&fixture, name, way);
                let saveable = readable(&damaged);
                let mut kept = Kept::new();
                let named = repair_as_advised(&damaged, &mut kept);
                assert!(
                    saveable.is_subset(&readable(&damaged)),
                    "no blob was lost by the repair"
                );
                if way.1.is_some() {
                    assert!(kept.contains_key(&name.id));
                }
                let lost = sound.difference(&saveable).count();
                assert_eq!(
                    lost > 0,
                    !way.0.contains("header") && !way.0.contains("last byte")
                );
                assert_repaired(&fixture, &damaged, &named);
            }
        }
    }
}

/// The paths that are named as lost, by the broken snapshot.
type Lost = BTreeMap<Id, BTreeSet<Vec<u8>>>;

/// Does what the check advises, until it advises nothing.
fn repair_as_advised(damaged: &MemoryBackend, kept: &mut Kept) -> Lost {
    let mut lost = Lost::new();
    for _ in 0..4 {
        match advice(damaged).first() {
            None => return lost,
            Some(Repair::Index { read_all_packs }) => {
                repair_index(damaged.clone(), *read_all_packs).unwrap();
            }
            Some(Repair::Packs(packs)) => {
                repair_packs(damaged.clone(), packs, None, kept).unwrap();
            }
            Some(Repair::Prune) => panic!("nothing is marked"),
            Some(Repair::Snapshots { .. }) => {
                for one in repair_snapshots(damaged.clone(), true).unwrap() {
                    let paths = losses(&one).into_iter().map(|loss| loss.path);
                    lost.entry(one.plan.id).or_default().extend(paths);
                }
            }
        }
    }
    panic!("still advised: {:?}", advice(damaged));
}

/// The repository is clean, and each snapshot is there, or one that was made from it without what is named.
fn assert_repaired(fixture: &Fixture, backend: &MemoryBackend, named: &Lost) {
    let repository = open(backend.clone()).unwrap();
    assert_clean(&repository);
    let all = repository.snapshots().unwrap().all;
    for (id, state) in &fixture.snapshots {
        let same = all.iter().find(|(found, _)| found == id);
        let made = all.iter().find(|(_, made)| made.original == Some(*id));
        match (same, made) {
            (Some(_), None) => {
                fixture.assert_restores_but(&repository, *id, state, &BTreeSet::new());
            }
            (None, Some((new, snapshot))) => {
                assert!(snapshot.tags.is_empty());
                assert!(!named[id].is_empty());
                fixture.assert_restores_but(&repository, *new, state, &named[id]);
            }
            // Nothing can be saved of a snapshot whose root is lost.
            (None, None) => assert!(root_is_lost(fixture, *id, backend)),
            other => panic!("{other:?}"),
        }
    }
}

fn root_is_lost(fixture: &Fixture, id: Id, backend: &MemoryBackend) -> bool {
    let tree = open(fixture.backend.clone())
        .unwrap()
        .snapshot(id)
        .unwrap()
        .tree;
    !readable(backend).contains(&(BlobKind::Tree, tree))
}

#[test]
fn a_blob_with_another_copy_is_not_lost() {
    let fixture = Fixture::new(6);
    let backend = fixture.backend.fork();
    let repository = open(backend.clone()).unwrap();
    // A writer that knows of nothing stores all of it again.
    let nothing = std::sync::RwLock::new(lifeboat_repo::Index::new());
    common::back_up_with_index(&repository, &fixture.tree, nothing, &Seen::default()).unwrap();
    let name = fixture.packs(BlobKind::Data)[0];
    let mut content = backend.load(name, u64::MAX).unwrap();
    content[60] ^= 1;
    backend.save(name, &[&content]).unwrap();
    let (plan, done) = repair_packs(backend.clone(), &[name.id], None, &mut Kept::new()).unwrap();
    assert!(
        plan.packs[0].elsewhere > 0 && plan.packs[0].save.is_empty(),
        "{plan:?}"
    );
    assert_eq!((done.saved, done.removed), (0, 1));
    assert_eq!(done.lost, []);
    fixture.assert_whole(&backend);
}

#[test]
fn nothing_is_removed_when_no_copy_can_be_kept() {
    let fixture = Fixture::new(7);
    let name = fixture.packs(BlobKind::Data)[0];
    let damaged = fixture.with(name, |content| content[60] ^= 1);
    let before = damaged.files();
    let repository = open(damaged.clone()).unwrap();
    let cancel = lifeboat_flow::Cancel::new();
    let counters = lifeboat_flow::Counters::default();
    let plan = repository
        .plan_packs_repair(&[name.id].into(), None, 1, &counters, &cancel)
        .unwrap();
    let refuse = &mut |_, _: &[u8]| Err(RepoError::Refused("the disk is full".into()));
    let done = repository.repair_packs(&plan, None, MEMORY_DEFAULT_BYTES, refuse, None, &cancel);
    assert!(matches!(done, Err(RepoError::Refused(_))));
    assert_eq!(damaged.files(), before);
}

#[test]
fn a_file_that_is_no_pack_is_named_and_goes_only_when_it_is_named_back() {
    let fixture = Fixture::new(8);
    let backend = fixture.backend.fork();
    let stray = FileName::new(FileKind::Pack, Id::of(b"stray"));
    backend.save(stray, &[b"no pack at all"]).unwrap();
    let report = check_all(&open(backend.clone()).unwrap());
    let kinds: BTreeSet<FindingKind> = report.findings.iter().map(|f| f.kind).collect();
    assert_eq!(
        kinds,
        [FindingKind::PackDamaged, FindingKind::PackUnindexed].into()
    );
    assert_eq!(report.damaged_packs, [stray.id]);
    let plan = repair_index(backend.clone(), false).unwrap();
    assert_eq!(plan.unreadable.len(), 1);
    assert!(plan.is_empty() && backend.size(stray).is_ok());
    let mut kept = Kept::new();
    repair_packs(backend.clone(), &[stray.id], None, &mut kept).unwrap();
    assert_eq!(kept[&stray.id], b"no pack at all");
    fixture.assert_whole(&backend);
}

#[test]
fn repaired_snapshots_stand_beside_the_broken_ones_until_these_are_forgotten() {
    let fixture = Fixture::new(9);
    let name = fixture.shared_pack();
    let damaged = fixture.without(&[name]);
    repair_index(damaged.clone(), false).unwrap();
    let done = repair_snapshots(damaged.clone(), false).unwrap();
    assert!(done.iter().all(|one| one.new.is_some() && !one.removed));
    for one in &done {
        assert!(losses(one).iter().all(|loss| matches!(
            loss.kind,
            LossKind::Content { size_before_bytes, size_bytes, .. } if size_bytes < size_before_bytes
        )));
        let top = fixture.tree.to_string_lossy().into_owned();
        assert!(
            losses(one)
                .iter()
                .all(|loss| loss.path.starts_with(top.as_bytes()))
        );
    }
    let repository = open(damaged.clone()).unwrap();
    let all = repository.snapshots().unwrap().all;
    assert_eq!(all.len(), 4);
    assert_eq!(
        all.iter().filter(|(_, s)| s.tags == ["repaired"]).count(),
        2
    );
    // Once more writes nothing new.
    let again = repair_snapshots(damaged.clone(), false).unwrap();
    let news = |done: &[lifeboat_repo::RepairedSnapshot]| -> Vec<Option<Id>> {
        done.iter().map(|one| one.new).collect()
    };
    let first: BTreeSet<_> = news(&done).into_iter().collect();
    assert!(
        news(&again)
            .iter()
            .flatten()
            .all(|new| first.contains(&Some(*new)))
    );
    assert_eq!(repository.snapshots().unwrap().all.len(), 4);
    // What stands there already is not made again.
    repair_snapshots(damaged.clone(), true).unwrap();
    assert_clean(&repository);
    let left = repository.snapshots().unwrap().all;
    let left: BTreeSet<Id> = left.iter().map(|(id, _)| *id).collect();
    assert_eq!(left, first.iter().flatten().copied().collect());
}

#[test]
fn what_is_only_out_of_reach_is_not_given_up() {
    use lifeboat_testkit::faults::{Fault, FaultPlan, FaultyBackend, Verb};
    let fixture = Fixture::new(10);
    let files = fixture.backend.files();
    let lost = FaultPlan::new(|operation| {
        let is_read = matches!(operation.verb, Verb::Load | Verb::LoadAt);
        let is_content = matches!(operation.kind, Some(FileKind::Pack | FileKind::Index));
        (is_read && is_content).then_some(Fault::FailBefore)
    });
    let faulty = FaultyBackend::new(fixture.backend.fork(), lost);
    assert!(repair_index(faulty.clone(), true).is_err());
    assert!(repair_snapshots(faulty.clone(), true).is_err());
    let pack = fixture.packs(BlobKind::Data)[0].id;
    let other = Some(&fixture.backend);
    assert!(repair_packs(faulty.clone(), &[pack], other, &mut Kept::new()).is_err());
    let left: Vec<_> = faulty
        .inner()
        .files()
        .into_iter()
        .filter(|(name, _)| name.kind != FileKind::Lock)
        .collect();
    assert_eq!(left, files);
}

#[test]
fn what_is_read_wrongly_once_is_read_again() {
    use lifeboat_testkit::faults::{Fault, FaultPlan, FaultyBackend, Verb};
    let fixture = Fixture::new(11);
    let work = |backend: FaultyBackend<MemoryBackend>| {
        // It may fail, as when a lock or key is read wrongly, but must not give anything up.
        let _ = repair_index(backend.clone(), true);
        let _ = repair_snapshots(backend, true);
    };
    let recording = FaultyBackend::recording(fixture.backend.fork());
    work(recording.clone());
    let reads: Vec<u64> = recording
        .log()
        .iter()
        .filter(|operation| matches!(operation.verb, Verb::Load | Verb::LoadAt))
        .map(|operation| operation.number)
        .collect();
    let seed = replay::seed();
    let _note = Note::seed(seed);
    let mut random = Random::new(seed);
    for _ in 0..12 {
        let number = *random.pick(&reads);
        for fault in [Fault::FlipBit, Fault::Truncate] {
            let _note = Note::new(format!("{fault:?} at operation {number}"));
            let backend = FaultyBackend::new(fixture.backend.fork(), FaultPlan::at(number, fault));
            work(backend.clone());
            let left = backend.inner();
            lifeboat_repo::remove_locks(&open(left.clone()).unwrap(), true).unwrap();
            assert_eq!(left.files(), fixture.backend.files());
        }
    }
}
