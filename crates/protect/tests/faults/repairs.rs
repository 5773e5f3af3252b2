//! The commands of the matrix that heal, each with the damage that it is for.

use lifeboat_repo::{IndexPlan, SnapshotsRepair};

use super::commands::{locked, told};
use super::*;

/// A repository whose last index file is gone.
pub(crate) fn without_an_index_file(world: &World) -> MemoryBackend {
    let left = world.backend.fork();
    let mut newest = world.newest.iter().rev();
    let last = newest.find(|name| name.kind == FileKind::Index).unwrap();
    left.remove(*last).unwrap();
    left
}

/// A repository that lost its last pack of data, and whose index says so.
pub(crate) fn without_a_pack(world: &World) -> MemoryBackend {
    let left = world.backend.fork();
    let repository = open(left.clone()).unwrap();
    let (index, _) = repository
        .load_index(PackListing::Skip, &Cancel::new())
        .unwrap();
    let mut holds_trees = BTreeMap::new();
    index.each(|kind, _, place| {
        *holds_trees.entry(place.pack).or_insert(false) |= kind == BlobKind::Tree;
    });
    let mut packs = world
        .newest
        .iter()
        .rev()
        .filter(|name| name.kind == FileKind::Pack);
    let lost = packs.find(|name| !holds_trees[&name.id]).unwrap();
    left.remove(*lost).unwrap();
    let lock = lock(&repository, true).unwrap();
    let plan = index_plan(&repository).unwrap();
    assert_eq!(plan.missing.len(), 1);
    repository
        .repair_index(&plan, Some(&lock), &Cancel::new())
        .unwrap();
    left
}

fn index_plan(repository: &Repository) -> Result<IndexPlan, String> {
    told(repository.plan_index_repair(false, &Counters::default(), &Cancel::new()))
}

pub(crate) fn run_repair_index(_: &World, backend: &Arc<dyn Backend>) -> Done {
    let (repository, lock) = locked(backend, true)?;
    let plan = index_plan(&repository)?;
    told(repository.repair_index(&plan, Some(&lock), &Cancel::new()))?;
    if plan.unreadable.is_empty() && plan.missing.is_empty() {
        return Ok("repaired".into());
    }
    Err(format!(
        "unreadable {:?}, missing {:?}",
        plan.unreadable, plan.missing
    ))
}

pub(crate) fn run_repair_snapshots(_: &World, backend: &Arc<dyn Backend>) -> Done {
    let (repository, lock) = locked(backend, true)?;
    let all = commands::snapshots(&repository)?;
    let (index, report) = told(repository.load_index(PackListing::Compare, &Cancel::new()))?;
    let repair = SnapshotsRepair {
        repository: &repository,
        index: &index,
        report: &report,
        all: &all,
        lock: Some(&lock),
        forget: true,
        dry_run: false,
        cancel: &Cancel::new(),
    };
    told(repair.run(&all, &mut |_| {}))?;
    Ok("repaired".into())
}

/// Nothing serious is wrong any more.
pub(crate) fn check_holds(_: &World, left: &MemoryBackend) {
    let report = check_all(&open(left.clone()).unwrap());
    assert!(!report.is_serious(), "{:?}", report.findings);
}
