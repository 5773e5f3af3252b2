//! A repository to damage and repair: two snapshots with their states beside it, and the repairs as the commands run them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::{BlobKind, Id};
use lifeboat_repo::backend::{Backend, FileKind, FileName, MemoryBackend};
use lifeboat_repo::{
    BlobReader, IndexPlan, Loss, MEMORY_DEFAULT_BYTES, OtherRepository, PackListing, PacksPlan,
    PacksRepaired, RepairedSnapshot, RepoError, Repository, SnapshotsRepair,
};
use lifeboat_testkit::random::Random;

use crate::common::{self, Seen, back_up, copy, init, lock, open, restore, same, small_tree};

/// A repository with two snapshots, whose states are kept beside it.
pub struct Fixture {
    pub backend: MemoryBackend,
    pub tree: PathBuf,
    pub snapshots: Vec<(Id, PathBuf)>,
    /// The packs that the first snapshot needs, and the second too.
    shared: BTreeSet<Id>,
    scratch: tempfile::TempDir,
}

/// The packs that a damaged one was copied to before it was removed.
pub type Kept = BTreeMap<Id, Vec<u8>>;

impl Fixture {
    pub fn new(seed: u64) -> Self {
        let scratch = common::scratch();
        let tree = scratch.path().join("tree");
        small_tree(&tree, seed);
        let backend = MemoryBackend::new();
        let repository = init(backend.clone());
        let mut snapshots = Vec::new();
        let mut shared = BTreeSet::new();
        for state in ["first", "second"] {
            if state == "second" {
                shared.extend(repository.packs().unwrap().into_keys());
                let mut random = Random::new(seed ^ 1);
                std::fs::create_dir(tree.join("new")).unwrap();
                for number in 0..3 {
                    let file = tree.join(format!("new/{number}"));
                    std::fs::write(file, random.bytes(90_000)).unwrap();
                }
            }
            let kept = scratch.path().join(state);
            let made = back_up(&repository, &tree, &Seen::default()).unwrap();
            copy(&tree, &kept);
            snapshots.push((made.snapshot.unwrap(), kept));
        }
        Self {
            backend,
            tree,
            snapshots,
            shared,
            scratch,
        }
    }

    pub fn names(&self, kind: FileKind) -> Vec<FileName> {
        let files = self.backend.files();
        let names = files.into_iter().map(|(name, _)| name);
        names.filter(|name| name.kind == kind).collect()
    }

    /// The packs that hold blobs of a kind.
    pub fn packs(&self, kind: BlobKind) -> Vec<FileName> {
        let repository = open(self.backend.clone()).unwrap();
        let (index, _) = repository
            .load_index(PackListing::Skip, &Cancel::new())
            .unwrap();
        let mut packs = BTreeSet::new();
        index.each(|found, _, place| {
            if found == kind {
                packs.insert(place.pack);
            }
        });
        packs
            .into_iter()
            .map(|id| FileName::new(FileKind::Pack, id))
            .collect()
    }

    /// A pack of data that both snapshots need: which name is the first of all differs from run to run.
    pub fn shared_pack(&self) -> FileName {
        let packs = self.packs(BlobKind::Data);
        let shared = |name: &&FileName| self.shared.contains(&name.id);
        *packs.iter().find(shared).unwrap()
    }

    /// A copy of the repository in which a file is changed, or gone.
    pub fn with(&self, name: FileName, change: impl FnOnce(&mut Vec<u8>)) -> MemoryBackend {
        let backend = self.backend.fork();
        let mut content = backend.load(name, u64::MAX).unwrap();
        change(&mut content);
        backend.save(name, &[&content]).unwrap();
        backend
    }

    pub fn without(&self, names: &[FileName]) -> MemoryBackend {
        let backend = self.backend.fork();
        for name in names {
            backend.remove(*name).unwrap();
        }
        backend
    }

    /// What a snapshot holds is what it was, but for these paths; they are of the snapshot, so they begin with the tree's.
    pub fn assert_restores_but(
        &self,
        repository: &Arc<Repository>,
        snapshot: Id,
        state: &Path,
        lost: &BTreeSet<Vec<u8>>,
    ) {
        let top = self.tree.to_string_lossy().into_owned().into_bytes();
        // A directory above the tree may be what is lost: then there is nothing to compare.
        if lost
            .iter()
            .any(|path| top.starts_with(path) && path.len() <= top.len())
        {
            return;
        }
        let to = tempfile::tempdir_in(self.scratch.path()).unwrap();
        let expected = tempfile::tempdir_in(self.scratch.path()).unwrap();
        let expected = expected.path().join("state");
        copy(state, &expected);
        let seen = Seen::default();
        let done = restore(repository, snapshot, &self.tree, to.path(), |_| {}, &seen);
        assert_eq!(done.unwrap().problems, 0, "{:?}", seen.problems());
        let mut times = BTreeSet::new();
        for path in lost {
            let path = std::str::from_utf8(&path[top.len()..]).unwrap();
            let path = path.trim_start_matches('/');
            for root in [to.path(), &expected] {
                let lost = root.join(path);
                // Hard links share what is lost.
                match lost.is_dir() {
                    true => std::fs::remove_dir_all(&lost).unwrap(),
                    false => std::fs::remove_file(&lost).unwrap(),
                }
            }
            times.insert(Path::new(path).parent().unwrap().to_path_buf());
        }
        // Their directories were touched by this, in both places.
        for dir in times {
            for root in [to.path(), &expected] {
                let at = std::fs::File::open(root.join(&dir)).unwrap();
                at.set_modified(std::time::UNIX_EPOCH).unwrap();
            }
        }
        same().assert_same(&expected, to.path());
    }

    /// Every snapshot is there and whole.
    pub fn assert_whole(&self, backend: &MemoryBackend) {
        let repository = open(backend.clone()).unwrap();
        assert_clean(&repository);
        for (id, state) in &self.snapshots {
            self.assert_restores_but(&repository, *id, state, &BTreeSet::new());
        }
    }
}

/// A check that reads everything finds nothing that matters.
pub fn assert_clean(repository: &Repository) {
    let report = common::check_all(repository);
    assert!(!report.is_serious(), "{:#?}", report.findings);
    assert_eq!(report.repairs, []);
}

/// As `repair index` does.
pub fn repair_index(backend: impl Backend + 'static, all: bool) -> Result<IndexPlan, RepoError> {
    let repository = open(backend)?;
    let lock = lock(&repository, true)?;
    let cancel = Cancel::new();
    let plan = repository.plan_index_repair(all, &Counters::default(), &cancel)?;
    repository.repair_index(&plan, Some(&lock), &cancel)?;
    Ok(plan)
}

/// As `repair packs` does.
pub fn repair_packs(
    backend: impl Backend + 'static,
    packs: &[Id],
    other: Option<&MemoryBackend>,
    kept: &mut Kept,
) -> Result<(PacksPlan, PacksRepaired), RepoError> {
    let repository = open(backend)?;
    let lock = lock(&repository, true)?;
    let cancel = Cancel::new();
    let from = other.map(|other| open(other.clone()).unwrap());
    let index = from
        .as_ref()
        .map(|from| from.load_index(PackListing::Skip, &cancel).unwrap().0);
    let other = from.as_ref().zip(index.as_ref());
    let other = other.map(|(repository, index)| OtherRepository { repository, index });
    let packs = packs.iter().copied().collect();
    let plan = repository.plan_packs_repair(&packs, other, 2, &Counters::default(), &cancel)?;
    let mut keep = |id, content: &[u8]| {
        kept.insert(id, content.to_vec());
        Ok(())
    };
    let done = repository.repair_packs(
        &plan,
        other,
        MEMORY_DEFAULT_BYTES,
        &mut keep,
        Some(&lock),
        &cancel,
    )?;
    Ok((plan, done))
}

/// As `repair snapshots` does.
pub fn repair_snapshots(
    backend: impl Backend + 'static,
    forget: bool,
) -> Result<Vec<RepairedSnapshot>, RepoError> {
    let repository = open(backend)?;
    let lock = lock(&repository, true)?;
    let cancel = Cancel::new();
    let known = repository.snapshots()?;
    let (index, report) = repository.load_index(PackListing::Compare, &cancel)?;
    let repair = SnapshotsRepair {
        repository: &repository,
        index: &index,
        report: &report,
        all: &known.all,
        lock: Some(&lock),
        forget,
        dry_run: false,
        cancel: &cancel,
    };
    let mut done = Vec::new();
    repair.run(&known.all, &mut |one| done.push(one))?;
    Ok(done)
}

/// What is lost of a snapshot.
pub fn losses(done: &RepairedSnapshot) -> Vec<Loss> {
    let mut all = Vec::new();
    done.plan.losses.each(|loss| all.push(loss));
    all
}

/// Every blob that can be read through the index.
pub fn readable(backend: &MemoryBackend) -> BTreeSet<(BlobKind, Id)> {
    let repository = open(backend.clone()).unwrap();
    let (index, _) = repository
        .load_index(PackListing::Skip, &Cancel::new())
        .unwrap();
    let reader = BlobReader::new(&repository, &index);
    let mut all = BTreeSet::new();
    index.each(|kind, id, _| {
        all.insert((kind, id));
    });
    let mut out = Vec::new();
    all.retain(|(kind, id)| reader.read(*kind, *id, &mut out).is_ok());
    all
}
