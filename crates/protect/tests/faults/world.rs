//! A small repository with a history, the directory it comes from, and what must hold of it whatever goes wrong.

use lifeboat_testkit::bare::foreign_lock;

use super::*;

pub(crate) const NEW_PASSWORD: &[u8] = b"another";

/// A repository with two snapshots and the lock of somebody who is gone.
pub(crate) struct World {
    pub(crate) backend: MemoryBackend,
    /// Another repository, without snapshots.
    pub(crate) empty: MemoryBackend,
    /// The directory that is backed up, changed since the second snapshot.
    pub(crate) tree: PathBuf,
    /// Its trees by snapshot, with a copy of what they hold.
    pub(crate) states: [(Id, PathBuf); 2],
    /// What the directory holds now.
    pub(crate) now: PathBuf,
    /// What was saved last, oldest first: what a listing may not show yet.
    pub(crate) newest: Vec<FileName>,
    pub(crate) scratch: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let scratch = common::scratch();
        let tree = scratch.path().join("tree");
        tiny_tree(&tree);
        let backend = FaultyBackend::recording(MemoryBackend::new());
        let repository = init(backend.clone());
        let state = |name: &str| {
            let kept = scratch.path().join(name);
            let outcome = back_up(&repository, &tree, &Seen::default()).unwrap();
            copy(&tree, &kept);
            let snapshot = repository.snapshot(outcome.snapshot.unwrap()).unwrap();
            (snapshot.tree, kept)
        };
        let first = state("first");
        std::fs::remove_file(tree.join("a/file 1")).unwrap();
        std::fs::write(tree.join("b/new"), Random::new(2).bytes(9_000)).unwrap();
        let second = state("second");
        std::fs::write(tree.join("a/file 0"), Random::new(3).bytes(300_000)).unwrap();
        std::fs::create_dir(tree.join("d")).unwrap();
        std::fs::write(tree.join("d/newer"), Random::new(4).bytes(5_000)).unwrap();
        let now = scratch.path().join("now");
        copy(&tree, &now);
        let newest = backend
            .log()
            .iter()
            .filter(|operation| operation.verb == Verb::Save)
            .filter_map(|operation| operation.name)
            .filter(|name| name.kind != FileKind::Lock)
            .collect();
        let empty = MemoryBackend::new();
        init(empty.clone());
        let world = Self {
            backend: backend.inner().clone(),
            empty,
            tree,
            states: [first, second],
            now,
            newest,
            scratch,
        };
        world.leave_a_stale_lock();
        world
    }

    fn leave_a_stale_lock(&self) {
        let mut time = lifeboat_repo::now();
        time.seconds -= 2 * 60 * 60;
        let lock = Lock {
            time,
            ..foreign_lock()
        };
        let repository = open(self.backend.clone()).unwrap();
        repository
            .save_json(FileKind::Lock, &lock.to_json())
            .unwrap();
    }

    /// A directory of its own for a restore.
    pub(crate) fn place(&self) -> tempfile::TempDir {
        tempfile::tempdir_in(self.scratch.path()).unwrap()
    }

    /// Restores the top of a tree and compares it with what it should be.
    pub(crate) fn restored_equals(
        &self,
        repository: &Arc<Repository>,
        tree: Id,
        expected: &Path,
    ) -> Result<(), String> {
        let all = repository.snapshots().map_err(|error| chain(&error))?.all;
        let found = all.iter().find(|(_, snapshot)| snapshot.tree == tree);
        let (id, _) = found.ok_or_else(|| format!("no snapshot has the tree {}", tree.short()))?;
        let to = self.place();
        let seen = Seen::default();
        let done = restore(repository, *id, &self.tree, to.path(), |_| {}, &seen);
        let done = done.map_err(|error| chain(&error))?;
        if done.problems > 0 {
            return Err(format!("problems: {:?}", seen.problems()));
        }
        same().assert_same(expected, to.path());
        Ok(())
    }

    /// Looks at what a command left, as the next process does: nothing serious is wrong, these trees are there, and
    /// one that is chosen comes back.
    pub(crate) fn assert_valid(&self, left: &MemoryBackend, trees: &[(Id, &Path)], chosen: u64) {
        let repository = open_any(left);
        let report = check_all(&repository);
        assert!(!report.is_serious(), "{:?}", report.findings);
        let snapshots = repository.snapshots().unwrap();
        assert!(snapshots.damaged.is_empty());
        for (tree, _) in trees {
            assert!(
                snapshots
                    .all
                    .iter()
                    .any(|(_, snapshot)| snapshot.tree == *tree),
                "the snapshot of tree {} is lost",
                tree.short()
            );
        }
        // What has its tree and all its blobs, by the check, is equal; some are restored to prove it.
        if chosen.is_multiple_of(RESTORE_EVERY)
            && let Some((tree, expected)) =
                trees.get(usize::try_from(chosen / RESTORE_EVERY).unwrap() % trees.len().max(1))
        {
            self.restored_equals(&repository, *tree, expected).unwrap();
        }
    }
}

/// Opens it with the old password or the new one.
pub(crate) fn open_any(left: &MemoryBackend) -> Arc<Repository> {
    open(left.clone()).unwrap_or_else(|_| {
        Arc::new(Repository::open(Arc::new(left.clone()), NEW_PASSWORD, None).unwrap())
    })
}

/// Every how manyth case a snapshot is restored too.
const RESTORE_EVERY: u64 = 6;

/// A few of everything, in several packs.
fn tiny_tree(root: &Path) {
    let mut random = Random::new(1);
    for dir in ["a", "a/deep", "b"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
        for number in 0..2 {
            let content = random.bytes(3_000 + 1_000 * number);
            std::fs::write(root.join(dir).join(format!("file {number}")), content).unwrap();
        }
    }
    // More than one chunk.
    std::fs::write(root.join("b/large"), random.bytes(700_000)).unwrap();
    std::fs::write(root.join("empty"), b"").unwrap();
    std::fs::hard_link(root.join("b/file 0"), root.join("a/hard link")).unwrap();
    std::os::unix::fs::symlink("file 0", root.join("a/link")).unwrap();
}
