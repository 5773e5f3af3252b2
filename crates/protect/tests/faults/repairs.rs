//! The commands of the matrix that heal, each with the damage that it is for.

use std::sync::RwLock;

use lifeboat_format::BlobRef;
use lifeboat_repo::{
    Ingest, IngestOptions, MEMORY_DEFAULT_BYTES, OtherRepository, SnapshotsRepair,
};

use super::commands::{index, locked, told};
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

fn index_plan(repository: &Repository) -> Result<lifeboat_repo::IndexPlan, String> {
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
    // No more is given up than was lost.
    commands::trees(&repository)
}

/// The blobs that the index knows and that can be read.
pub(crate) fn readable(left: &MemoryBackend) -> BTreeSet<(BlobKind, Id)> {
    let repository = open(left.clone()).unwrap();
    let index = index(&repository).unwrap();
    let reader = BlobReader::new(&repository, &index);
    let mut blobs = BTreeSet::new();
    index.each(|kind, id, _| {
        blobs.insert((kind, id));
    });
    let mut plain = Vec::new();
    blobs.retain(|(kind, id)| reader.read(*kind, *id, &mut plain).is_ok());
    blobs
}

/// Nothing serious is wrong any more.
pub(crate) fn check_holds(_: &World, left: &MemoryBackend) {
    let report = check_all(&open(left.clone()).unwrap());
    assert!(!report.is_serious(), "{:?}", report.findings);
}

/// The pack of data that holds most blobs, with these in the order of their places: the first is the one that breaks.
pub(crate) fn fullest_pack(world: &World) -> (Id, Vec<(Id, BlobRef)>) {
    let index = index(&open(world.backend.clone()).unwrap()).unwrap();
    let mut packs: BTreeMap<Id, Vec<(Id, BlobRef)>> = BTreeMap::new();
    index.each(|kind, id, place| {
        if kind == BlobKind::Data {
            packs.entry(place.pack).or_default().push((id, place));
        }
    });
    let fullest = packs.into_iter().max_by_key(|(_, blobs)| blobs.len());
    let (pack, mut blobs) = fullest.unwrap();
    assert!(blobs.len() > 1, "there is nothing to be saved of it");
    blobs.sort_by_key(|(_, place)| place.offset_bytes);
    (pack, blobs)
}

/// Bends one byte of each of these blobs.
fn bend(left: &MemoryBackend, pack: Id, blobs: &[(Id, BlobRef)]) {
    let name = FileName::new(FileKind::Pack, pack);
    let mut content = left.load(name, u64::MAX).unwrap();
    for (_, place) in blobs {
        content[place.offset_bytes as usize + 20] ^= 1;
    }
    left.save(name, &[&content]).unwrap();
}

/// A repository in which a blob of a pack is damaged that lies in another pack too; the others lie only there.
pub(crate) fn with_a_damaged_pack(world: &World) -> MemoryBackend {
    let left = world.backend.fork();
    let repository = open(left.clone()).unwrap();
    let (pack, blobs) = fullest_pack(world);
    let (id, _) = blobs[0];
    let mut plain = Vec::new();
    let known = index(&repository).unwrap();
    BlobReader::new(&repository, &known)
        .read(BlobKind::Data, id, &mut plain)
        .unwrap();
    let nothing = RwLock::new(Index::new());
    let done = Ingest::run(
        &repository,
        &nothing,
        None,
        IngestOptions::default(),
        |to| {
            let mut sealer = to.sealer()?;
            to.add(BlobKind::Data, id, &plain, &mut sealer)?;
            Ok::<(), RepoError>(())
        },
    );
    done.unwrap();
    bend(&left, pack, &blobs[..1]);
    left
}

/// A repository in which half of a pack is damaged, and whose newest pack is gone.
pub(crate) fn with_lost_data(world: &World) -> MemoryBackend {
    let left = world.backend.fork();
    let (pack, blobs) = fullest_pack(world);
    bend(&left, pack, &blobs[..blobs.len() / 2]);
    let newest = world.newest.iter().rev();
    let mut packs = newest.filter(|name| name.kind == FileKind::Pack && name.id != pack);
    left.remove(*packs.next().unwrap()).unwrap();
    left
}

fn repair_packs(
    world: &World,
    backend: &Arc<dyn Backend>,
    source: Option<&Arc<dyn Backend>>,
) -> Done {
    let (repository, lock) = locked(backend, true)?;
    let source = match source {
        Some(source) => Some(locked(source, false)?),
        None => None,
    };
    let known = match &source {
        Some((source, _)) => Some(index(source)?),
        None => None,
    };
    let other = source.as_ref().zip(known.as_ref());
    let other = other.map(|((repository, _), index)| OtherRepository { repository, index });
    let damaged = BTreeSet::from([fullest_pack(world).0]);
    let (counters, cancel) = (Counters::default(), Cancel::new());
    let plan = told(repository.plan_packs_repair(&damaged, other, 2, &counters, &cancel))?;
    let mut kept = 0;
    let mut keep = |_, _: &[u8]| {
        kept += 1;
        Ok(())
    };
    let done = told(repository.repair_packs(
        &plan,
        other,
        MEMORY_DEFAULT_BYTES,
        &mut keep,
        Some(&lock),
        &cancel,
    ))?;
    assert_eq!(
        done.removed, kept,
        "a pack is removed of which nothing was kept"
    );
    match (done.lost.first(), plan.unread.first()) {
        (Some(blob), _) => Err(format!("{blob:?} is lost")),
        (_, Some(id)) if other.is_some() => Err(format!("snapshot {id} can't be read")),
        _ => Ok("repaired".into()),
    }
}

pub(crate) fn run_repair_packs(world: &World, backend: &Arc<dyn Backend>) -> Done {
    repair_packs(world, backend, None)
}

pub(crate) fn run_repair_packs_from(world: &World, backend: &Arc<dyn Backend>) -> Done {
    let source: Arc<dyn Backend> = Arc::new(world.backend.clone());
    repair_packs(world, backend, Some(&source))
}

/// A repair by another repository that fails. What it leaves in the damaged one is looked at here.
pub(crate) fn run_repair_packs_by(world: &World, backend: &Arc<dyn Backend>) -> Done {
    let left = with_lost_data(world);
    let damaged: Arc<dyn Backend> = Arc::new(left.clone());
    let done = repair_packs(world, &damaged, Some(backend));
    if done.is_err() {
        remove_locks(&open(left.clone()).unwrap(), true).unwrap();
        run_repair_packs_from(world, &damaged).unwrap();
    }
    check_holds(world, &left);
    done
}
