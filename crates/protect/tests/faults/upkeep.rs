//! The commands of the matrix that copy, move and remove what snapshots need.

use std::collections::HashSet;
use std::sync::RwLock;

use lifeboat_repo::prune::{MaxUnused, Prune, PruneOptions};
use lifeboat_repo::{
    Copier, CopyOptions, Ingest, IngestOptions, Migration, RewriteChange, RewriteSelect, Rewriter,
    recovered_tree,
};

use super::commands::{index, locked, snapshots, told, trees};
use super::*;

/// The file that a rewrite leaves out.
const LEFT_OUT: &[u8] = b"file 0";

fn small_packs() -> IngestOptions {
    common::options(None).ingest
}

/// A repository whose first snapshot was forgotten.
pub(crate) fn with_waste(world: &World) -> MemoryBackend {
    let left = world.backend.fork();
    let repository = open(left.clone()).unwrap();
    for (id, snapshot) in repository.snapshots().unwrap().all {
        if snapshot.tree == world.states[0].0 {
            repository.remove_snapshot(id).unwrap();
        }
    }
    left
}

fn prune(backend: &Arc<dyn Backend>, instant_delete: bool) -> Done {
    let (repository, lock) = locked(backend, false)?;
    let (counters, cancel, events) = (Counters::default(), Cancel::new(), Seen::default());
    let prune = Prune {
        repository: &repository,
        options: PruneOptions {
            max_unused: MaxUnused::Bytes(0),
            instant_delete,
            ingest: small_packs(),
            ..PruneOptions::default()
        },
        forgotten: BTreeSet::new(),
        counters: &counters,
        events: &events,
        cancel: &cancel,
    };
    let first = told(prune.look(lifeboat_repo::now()))?;
    let repacked = told(prune.repack(&first, &lock))?;
    if !repacked.damaged_packs.is_empty() {
        return Err("packs are damaged".into());
    }
    drop(lock);
    let lock = told(common::lock(&repository, true))?;
    let last = told(prune.look_again(&first, repacked, lifeboat_repo::now()))?;
    told(prune.remove(&last, &lock))?;
    Ok("pruned".into())
}

pub(crate) fn run_prune(_: &World, backend: &Arc<dyn Backend>) -> Done {
    prune(backend, false)
}

pub(crate) fn run_prune_at_once(_: &World, backend: &Arc<dyn Backend>) -> Done {
    prune(backend, true)
}

/// No blob is in the index that no snapshot needs.
pub(crate) fn prune_holds(_: &World, left: &MemoryBackend) {
    let report = check_all(&open(left.clone()).unwrap());
    assert!(!report.is_serious(), "{:?}", report.findings);
    assert_eq!(report.unused_blobs, 0);
}

fn copy_between(from: &Arc<dyn Backend>, to: &Arc<dyn Backend>) -> Done {
    let (from, _read) = locked(from, false)?;
    let (to, lock) = locked(to, false)?;
    let from_index = index(&from)?;
    let cancel = Cancel::new();
    let (to_index, report) = told(to.load_index(PackListing::Compare, &cancel))?;
    let marked: HashSet<Id> = report.marked_packs.iter().copied().collect();
    let to_index = RwLock::new(to_index);
    let copier = Copier {
        from: &from,
        from_index: &from_index,
        to: &to,
        to_index: &to_index,
        to_marked: &marked,
        options: CopyOptions {
            readers: 2,
            ingest: small_packs(),
        },
        cancel: &cancel,
    };
    let there = snapshots(&to)?;
    let plan = told(copier.plan(snapshots(&from)?, &there))?;
    let planned = plan.refused.len();
    let outcome = told(copier.run(plan, Some(&lock), &Counters::default()))?;
    if planned + outcome.refused.len() > 0 {
        return Err(format!("refused: {:?}", outcome.refused));
    }
    Ok("copied".into())
}

pub(crate) fn run_copy(world: &World, backend: &Arc<dyn Backend>) -> Done {
    copy_between(&(Arc::new(world.backend.clone()) as _), backend)
}

pub(crate) fn copy_holds(world: &World, left: &MemoryBackend) {
    let repository = open(left.clone()).unwrap();
    for (tree, state) in &world.states {
        world.restored_equals(&repository, *tree, state).unwrap();
    }
}

/// A copy out of the repository that fails. What it leaves in the other one is looked at here.
pub(crate) fn run_copy_from(world: &World, backend: &Arc<dyn Backend>) -> Done {
    let to = world.empty.fork();
    let done = copy_between(backend, &(Arc::new(to.clone()) as _));
    world.assert_valid(&to, &[], 1);
    if done.is_ok() {
        told(open(to.clone())).and_then(|repository| trees(&repository))?;
    }
    done
}

struct LeaveOut;

impl RewriteSelect for LeaveOut {
    fn keeps(&self, _: &[u8], node: &Node) -> bool {
        node.name != LEFT_OUT
    }

    fn keeps_empty(&self, _: &[u8]) -> bool {
        true
    }
}

pub(crate) fn run_rewrite(_: &World, backend: &Arc<dyn Backend>) -> Done {
    let (repository, lock) = locked(backend, true)?;
    let cancel = Cancel::new();
    let (index, _) = told(repository.load_index(PackListing::Compare, &cancel))?;
    let all = snapshots(&repository)?;
    let rewriter = Rewriter {
        repository: &repository,
        all: &all,
        index: &RwLock::new(index),
        lock: Some(&lock),
        select: Some(&LeaveOut),
        change: RewriteChange {
            forget: true,
            ..RewriteChange::default()
        },
        ingest: small_packs(),
        events: &Seen::default(),
        cancel: &cancel,
    };
    let outcome = told(rewriter.run(all.clone()))?;
    match outcome.refused.first() {
        Some((_, why)) => Err(why.clone()),
        None => Ok("rewritten".into()),
    }
}

pub(crate) fn rewrite_holds(_: &World, left: &MemoryBackend) {
    let repository = open(left.clone()).unwrap();
    let index = index(&repository).unwrap();
    let reader = BlobReader::new(&repository, &index);
    let all = repository.snapshots().unwrap().all;
    // Whose old one could not be removed is not rewritten once more.
    assert_eq!(all.len(), 2);
    for (_, snapshot) in all {
        commands::walk(&reader, snapshot.tree, "", &mut |path, node| {
            assert!(node.name != LEFT_OUT, "{path} is still there");
        })
        .unwrap();
    }
}

pub(crate) fn run_recover(_: &World, backend: &Arc<dyn Backend>) -> Done {
    let (repository, lock) = locked(backend, true)?;
    let cancel = Cancel::new();
    let all = snapshots(&repository)?;
    let (index, report) = told(repository.load_index(PackListing::Compare, &cancel))?;
    if let Some((_, error)) = report.damaged.first() {
        return Err(chain(error));
    }
    let counters = Counters::default();
    let found = told(repository.find_lost_roots(&index, &all, 2, &counters, &cancel))?;
    if let Some((_, why)) = found.unreadable.first() {
        return Err(why.clone());
    }
    if found.roots.is_empty() {
        return Ok("recovered".into());
    }
    let tree = recovered_tree(&found.roots, lifeboat_repo::now());
    let json = tree.to_json().map_err(|error| chain(&error))?;
    let id = Id::of(&json);
    for root in &found.roots {
        let _ = index.rely(BlobKind::Tree, root);
    }
    let index = RwLock::new(index);
    told(
        Ingest::run(&repository, &index, Some(&lock), small_packs(), |ingest| {
            let mut sealer = ingest.sealer()?;
            ingest.add(BlobKind::Tree, id, &json, &mut sealer)?;
            Ok::<(), RepoError>(())
        })
        .map(drop),
    )?;
    told(repository.confirm_relied(&index))?;
    told(lock.ensure())?;
    let mut snapshot = common::draft(None);
    snapshot.tree = id;
    told(repository.save_snapshot(&snapshot))?;
    Ok("recovered".into())
}

/// Every tree belongs to a snapshot again.
pub(crate) fn recover_holds(_: &World, left: &MemoryBackend) {
    let repository = open(left.clone()).unwrap();
    let all = repository.snapshots().unwrap().all;
    let (counters, cancel) = (Counters::default(), Cancel::new());
    let index = index(&repository).unwrap();
    let found = repository.find_lost_roots(&index, &all, 2, &counters, &cancel);
    assert_eq!(found.unwrap().roots, []);
}

/// A repository of version 1 with a snapshot.
pub(crate) fn of_version_1(world: &World) -> MemoryBackend {
    let left = MemoryBackend::new();
    let who = Identity::default();
    let made = Repository::init(
        Arc::new(left.clone()),
        PASSWORD,
        1,
        None,
        &who,
        KeyCost::Test,
    );
    back_up(&Arc::new(made.unwrap()), &world.tree, &Seen::default()).unwrap();
    left
}

pub(crate) fn run_migrate(_: &World, backend: &Arc<dyn Backend>) -> Done {
    let (repository, lock) = locked(backend, true)?;
    if repository.config().version == 1 {
        told(repository.migrate(Migration::UpgradeRepoV2, &lock))?;
    }
    Ok("version 2".into())
}

pub(crate) fn migrate_holds(_: &World, left: &MemoryBackend) {
    assert_eq!(open(left.clone()).unwrap().config().version, 2);
}
