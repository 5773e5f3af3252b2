//! A cache saves requests, is laid out as restic's, and is never believed: what is bad in it is fetched again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lifeboat_format::Id;
use lifeboat_repo::backend::{
    Backend, CACHE_MAX_AGE, CachedBackend, FileKind, FileName, MemoryBackend, remove_old_caches,
};
use lifeboat_testkit::faults::{FaultyBackend, Verb};
use lifeboat_testkit::heard::Notes;

type Recorded = FaultyBackend<MemoryBackend>;

/// A repository with a cache, and processes that use it one after the other.
struct World {
    dir: tempfile::TempDir,
    inner: Recorded,
    seen: Arc<Notes>,
}

impl World {
    fn new() -> Self {
        let inner = FaultyBackend::recording(MemoryBackend::new());
        inner.create().unwrap();
        Self {
            dir: tempfile::tempdir().unwrap(),
            inner,
            seen: Arc::default(),
        }
    }

    fn base(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn id() -> String {
        "5a".repeat(32)
    }

    fn folder(&self) -> PathBuf {
        self.base().join(Self::id())
    }

    fn file(&self, name: FileName) -> PathBuf {
        let hex = name.id.to_string();
        self.folder()
            .join(name.kind.folder())
            .join(&hex[..2])
            .join(hex)
    }

    /// A process with an empty memory of its own.
    fn process(&self) -> Arc<dyn Backend> {
        let inner = Arc::new(self.inner.clone());
        CachedBackend::wrap(inner, &self.base(), &Self::id(), self.seen.clone())
    }

    fn save(&self, kind: FileKind, content: &[u8]) -> FileName {
        let name = FileName::new(kind, Id::of(content));
        self.inner.save(name, &[content]).unwrap();
        name
    }

    fn notes(&self) -> Vec<String> {
        self.seen.0.lock().unwrap().clone()
    }

    fn loads(&self) -> usize {
        self.inner.count(Verb::Load, None) + self.inner.count(Verb::LoadAt, None)
    }
}

fn range(backend: &dyn Backend, name: FileName, from: u64, length: usize) -> Vec<u8> {
    let mut buf = vec![0; length];
    backend.load_tree_at(name, from, &mut buf).unwrap();
    buf
}

fn permissions(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn small_files_and_packs_of_trees_are_fetched_once() {
    let world = World::new();
    let kept = [
        world.save(FileKind::Snapshot, b"snapshot"),
        world.save(FileKind::Index, b"index"),
    ];
    let pack = world.save(FileKind::Pack, b"0123456789");
    for run in 0..3 {
        let process = world.process();
        for name in kept {
            let content = process.load(name, 100).unwrap();
            assert_eq!(Id::of(&content), name.id);
        }
        assert_eq!(range(&*process, pack, 2, 3), b"234");
        assert_eq!(range(&*process, pack, 0, 10), b"0123456789");
        assert_eq!(world.loads(), 3, "run {run}");
    }
    // Data is not kept, and a check sees what the backend has.
    let mut buf = [0; 4];
    world.process().load_at(pack, 0, &mut buf).unwrap();
    assert_eq!(world.inner.count(Verb::LoadAt, None), 1);
    assert_eq!(world.notes(), Vec::<String>::new());
}

#[test]
fn keys_locks_and_config_are_never_kept() {
    let world = World::new();
    let names = [FileKind::Key, FileKind::Lock].map(|kind| world.save(kind, b"x"));
    let process = world.process();
    for name in names.into_iter().chain(names) {
        process.load(name, 100).unwrap();
    }
    assert_eq!(world.loads(), 4);
    let saved = FileName::new(FileKind::Lock, Id::of(b"y"));
    process.save(saved, &[b"y"]).unwrap();
    let mut kept: Vec<_> = fs::read_dir(world.folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    kept.sort();
    assert_eq!(kept, ["data", "index", "snapshots", "version"]);
}

#[test]
fn the_layout_is_that_of_restic() {
    let world = World::new();
    let process = world.process();
    let content: &[u8] = b"index file";
    let name = FileName::new(FileKind::Index, Id::of(content));
    process.save(name, &[&content[..3], &content[3..]]).unwrap();
    let tag = fs::read_to_string(world.base().join("CACHEDIR.TAG")).unwrap();
    assert_eq!(tag, "Signature: 8a477f597d28d172789f06886806bc55\n");
    assert_eq!(
        fs::read_to_string(world.folder().join("version")).unwrap(),
        "1"
    );
    assert_eq!(fs::read(world.file(name)).unwrap(), content);
    for folder in [world.base(), world.folder(), world.folder().join("index")] {
        assert_eq!(permissions(&folder), 0o700);
    }
    assert_eq!(permissions(&world.file(name)), 0o600);
    // What was saved need not be fetched.
    assert_eq!(world.process().load(name, 100).unwrap(), content);
    assert_eq!(world.loads(), 0);
}

#[test]
fn what_is_bad_in_the_cache_is_fetched_again() {
    type Spoil = fn(&Path);
    let spoils: [Spoil; 4] = [
        |file| fs::write(file, b"something else").unwrap(),
        |file| fs::write(file, b"").unwrap(),
        |file| fs::remove_file(file).unwrap(),
        |file| {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        },
    ];
    for (number, spoil) in spoils.into_iter().enumerate() {
        let world = World::new();
        let index = world.save(FileKind::Index, b"index");
        let pack = world.save(FileKind::Pack, b"0123456789");
        let read = |process: &dyn Backend| {
            assert_eq!(process.load(index, 100).unwrap(), b"index", "{number}");
            assert_eq!(range(process, pack, 4, 2), b"45", "{number}");
        };
        read(&*world.process());
        spoil(&world.file(index));
        spoil(&world.file(pack));
        read(&*world.process());
        assert_eq!(world.loads(), 4, "{number}");
        if number < 3 {
            // And kept again.
            read(&*world.process());
            assert_eq!(world.loads(), 4, "{number}");
        }
    }
}

#[test]
fn a_pack_that_vanishes_from_the_cache_in_the_middle_is_read_from_the_backend() {
    let world = World::new();
    let pack = world.save(FileKind::Pack, b"0123456789");
    let process = world.process();
    assert_eq!(range(&*process, pack, 0, 1), b"0");
    fs::remove_dir_all(world.folder()).unwrap();
    for _ in 0..2 {
        assert_eq!(range(&*process, pack, 3, 3), b"345");
    }
    let missing = FileName::new(FileKind::Pack, Id([9; 32]));
    let error = process.load_tree_at(missing, 0, &mut [0]).unwrap_err();
    assert!(error.is_missing());
}

#[test]
fn what_the_backend_has_damaged_is_given_but_never_kept() {
    let world = World::new();
    let id = Id::of(b"0123456789");
    let (index, pack) = (
        FileName::new(FileKind::Index, id),
        FileName::new(FileKind::Pack, id),
    );
    world.inner.save(index, &[b"damaged"]).unwrap();
    world.inner.save(pack, &[b"damaged"]).unwrap();
    let process = world.process();
    assert_eq!(process.load(index, 100).unwrap(), b"damaged");
    // Its undamaged parts can still be read, and it is fetched whole only once.
    assert_eq!(range(&*process, pack, 1, 3), b"ama");
    assert_eq!(range(&*process, pack, 0, 2), b"da");
    assert_eq!(world.inner.count(Verb::Load, Some(FileKind::Pack)), 1);
    assert!(!world.file(index).exists() && !world.file(pack).exists());
}

#[test]
fn what_the_repository_no_longer_has_leaves_the_cache() {
    let world = World::new();
    let contents: [&[u8]; 3] = [b"first", b"second", b"third"];
    let [stays, forgotten, removed] = contents.map(|text| world.save(FileKind::Snapshot, text));
    let process = world.process();
    for name in [stays, forgotten, removed] {
        process.load(name, 100).unwrap();
    }
    process.remove(removed).unwrap();
    assert!(!world.file(removed).exists());
    // Somebody else forgets.
    world.inner.remove(forgotten).unwrap();
    let mut listed = Vec::new();
    process
        .list(FileKind::Snapshot, &mut |id, _| listed.push(id))
        .unwrap();
    assert_eq!(listed, [stays.id]);
    assert!(world.file(stays).exists() && !world.file(forgotten).exists());
    assert!(process.load(forgotten, 100).unwrap_err().is_missing());
}

#[test]
fn a_listing_comes_from_the_backend() {
    let world = World::new();
    let pack = world.save(FileKind::Pack, b"0123456789");
    let process = world.process();
    range(&*process, pack, 0, 1);
    world.inner.remove(pack).unwrap();
    let mut found = 0;
    process
        .list(FileKind::Pack, &mut |_, _| found += 1)
        .unwrap();
    assert_eq!(found, 0);
    assert!(process.size(pack).unwrap_err().is_missing());
    assert!(!world.file(pack).exists());
    assert!(
        process
            .load_tree_at(pack, 0, &mut [0])
            .unwrap_err()
            .is_missing()
    );
}

#[test]
fn several_threads_fetch_a_pack_once() {
    let world = World::new();
    let pack = world.save(FileKind::Pack, &[5; 100_000]);
    let process = world.process();
    std::thread::scope(|scope| {
        for at in 0..8 {
            let process = &process;
            scope.spawn(move || assert_eq!(range(&**process, pack, at * 100, 100), [5; 100]));
        }
    });
    assert_eq!(world.loads(), 1);
}

#[test]
fn without_a_cache_all_goes_on_after_one_note() {
    // A file where the folder should be; root's rights do not help.
    let world = World::new();
    fs::write(world.base(), b"in the way").unwrap();
    let index = world.save(FileKind::Index, b"index");
    let process = world.process();
    for _ in 0..2 {
        process.load(index, 100).unwrap();
    }
    let notes = world.notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].starts_with("working without a cache: "),
        "{notes:?}"
    );
    // A cache that can no longer be written.
    let world = World::new();
    let index = world.save(FileKind::Index, b"index");
    let pack = world.save(FileKind::Pack, b"0123456789");
    let process = world.process();
    for kind in ["index", "data"] {
        fs::remove_dir(world.folder().join(kind)).unwrap();
        fs::write(world.folder().join(kind), b"in the way").unwrap();
    }
    for _ in 0..2 {
        process.load(index, 100).unwrap();
        assert_eq!(range(&*process, pack, 9, 1), b"9");
        process.save(index, &[b"index"]).unwrap();
    }
    let notes = world.notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].starts_with("going on without the cache: "),
        "{notes:?}"
    );
}

#[test]
fn a_repository_cannot_choose_where_its_cache_is() {
    let world = World::new();
    for id in ["../../outside", "", "/tmp/x", &"5A".repeat(31)] {
        let inner = Arc::new(world.inner.clone());
        let process = CachedBackend::wrap(inner, &world.base(), id, world.seen.clone());
        let index = world.save(FileKind::Index, b"index");
        process.load(index, 100).unwrap();
    }
    assert_eq!(world.notes().len(), 4);
    assert!(!world.base().exists());
}

#[test]
fn a_cache_of_a_newer_program_is_left_alone() {
    let world = World::new();
    drop(world.process());
    fs::write(world.folder().join("version"), "2").unwrap();
    let index = world.save(FileKind::Index, b"index");
    world.process().load(index, 100).unwrap();
    assert!(!world.file(index).exists());
    assert!(world.notes()[0].contains("newer"), "{:?}", world.notes());
}

#[test]
fn caches_that_nobody_used_for_long_are_removed() {
    let world = World::new();
    let base = world.base();
    drop(world.process());
    let old = base.join("ab".repeat(32));
    let check = base.join("restic-check-cache-123");
    let foreign = base.join("tools");
    for folder in [&old, &check, &foreign] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("file"), b"x").unwrap();
        let then = SystemTime::now() - CACHE_MAX_AGE - Duration::from_secs(60);
        fs::File::open(folder).unwrap().set_modified(then).unwrap();
    }
    let now = SystemTime::now();
    assert_eq!(remove_old_caches(&base, now, CACHE_MAX_AGE).unwrap(), 2);
    assert!(!old.exists() && !check.exists() && foreign.exists());
    // Whoever opens a cache uses it.
    let before = SystemTime::now() - CACHE_MAX_AGE * 2;
    let folder = fs::File::open(world.folder()).unwrap();
    folder.set_modified(before).unwrap();
    drop(world.process());
    assert_eq!(remove_old_caches(&base, now, CACHE_MAX_AGE).unwrap(), 0);
    assert!(world.folder().exists());
    let nowhere = base.join("nowhere");
    assert_eq!(remove_old_caches(&nowhere, now, CACHE_MAX_AGE).unwrap(), 0);
}
