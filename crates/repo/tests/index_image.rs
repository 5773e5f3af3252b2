//! The image of an index answers as the index files themselves do, whatever is added, removed, broken or done at once.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat_flow::Cancel;
use lifeboat_format::{
    BlobKind, BlobRef, Id, IndexBlob, IndexFile, IndexPack, MarkedPack, Timestamp,
};
use lifeboat_repo::backend::{Backend, FileKind, FileName, MemoryBackend};
use lifeboat_repo::{Identity, Index, IndexReport, KeyCost, PackListing, Repository};
use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay;

const KINDS: [BlobKind; 2] = [BlobKind::Data, BlobKind::Tree];
/// Few, so that many blobs lie in several packs and many packs in several files.
const BLOBS: u64 = 300;
const PACKS: u64 = 60;
/// Length of an image's header in bytes.
const HEADER_BYTES: usize = 256;

struct World {
    backend: MemoryBackend,
    cache: tempfile::TempDir,
    random: Random,
}

fn new_repository(backend: &MemoryBackend) {
    let backend = Arc::new(backend.clone());
    let who = Identity::default();
    Repository::init(backend, b"test", 2, None, &who, KeyCost::Test).unwrap();
}

fn blob(number: u64) -> Id {
    Id::of(&number.to_le_bytes())
}

fn pack_id(number: u64) -> Id {
    Id::of(format!("pack {number}").as_bytes())
}

impl World {
    fn new(seed: u64) -> Self {
        let backend = MemoryBackend::new();
        new_repository(&backend);
        Self {
            backend,
            cache: tempfile::tempdir().unwrap(),
            random: Random::new(seed),
        }
    }

    fn open(&self) -> Repository {
        Repository::open(Arc::new(self.backend.clone()), b"test", None).unwrap()
    }

    /// With an image in the cache.
    fn cached(&self) -> Repository {
        self.open()
            .with_index_image_from(0)
            .with_index_cache(self.cache.path())
    }

    /// With an image in memory.
    fn in_memory(&self) -> Repository {
        self.open().with_index_image_from(0)
    }

    fn image_path(&self) -> PathBuf {
        let folder = self.open().config().id.clone();
        self.cache.path().join(folder).join("lifeboat-index")
    }

    fn random_pack(&mut self) -> IndexPack {
        let mut offset_bytes = 0;
        let blobs = (0..self.random.below(12)).map(|_| {
            let length_bytes = 32 + self.random.below(100) as u32;
            let place = IndexBlob {
                id: blob(self.random.below(BLOBS)),
                kind: *self.random.pick(&KINDS),
                offset_bytes,
                length_bytes,
                raw_length_bytes: self.random.below(3) as u32 * 50,
            };
            offset_bytes += length_bytes;
            place
        });
        let blobs = blobs.collect();
        IndexPack {
            id: pack_id(self.random.below(PACKS)),
            blobs,
        }
    }

    fn add_file(&mut self) -> Id {
        let packs = (0..self.random.below(6)).map(|_| self.random_pack());
        let packs: Vec<IndexPack> = packs.collect();
        let marked = (0..self.random.below(3)).map(|_| {
            let pack = self.random_pack();
            MarkedPack {
                id: pack.id,
                blobs: pack.blobs,
                time: self.random.chance(50).then_some(Timestamp::ZERO),
                size_bytes: self.random.chance(50).then_some(7),
            }
        });
        let packs_to_delete = marked.collect();
        for pack in &packs {
            // Some are not there, some too short.
            if self.random.chance(80) {
                let bytes = pack.expected_bytes() as usize;
                let bytes = if self.random.chance(80) {
                    bytes
                } else {
                    bytes / 2
                };
                let name = FileName::new(FileKind::Pack, pack.id);
                let _ = self.backend.remove(name);
                self.backend.save(name, &[&vec![0; bytes]]).unwrap();
            }
        }
        let file = IndexFile {
            packs,
            packs_to_delete,
        };
        self.open()
            .save_json(FileKind::Index, &file.to_json())
            .unwrap()
    }

    fn remove_file(&mut self) {
        let ids = self.open().ids(FileKind::Index).unwrap();
        if !ids.is_empty() {
            let id = *self.random.pick(&ids);
            self.backend
                .remove(FileName::new(FileKind::Index, id))
                .unwrap();
        }
    }

    /// Both ways of looking at packs, by all ways of loading.
    fn compare(&self) {
        for listing in [PackListing::Skip, PackListing::Compare] {
            let load =
                |repository: Repository| repository.load_index(listing, &Cancel::new()).unwrap();
            let expected = load(self.open());
            for way in [self.cached(), self.in_memory(), self.cached()] {
                assert_same(&expected, &load(way));
            }
        }
    }
}

type Loaded = (Index, IndexReport);

fn sorted<T: Ord>(all: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = all.into_iter().collect();
    all.sort();
    all
}

fn rows(index: &Index) -> Vec<(BlobKind, Id, BlobRef)> {
    let mut rows = Vec::new();
    index.each(|kind, id, place| rows.push((kind, id, place)));
    sorted(rows)
}

/// Of several places as good as each other any may be found.
fn assert_same((expected, told): &Loaded, (got, got_told): &Loaded) {
    assert_eq!(rows(expected), rows(got));
    assert_eq!(sorted(expected.packs()), sorted(got.packs()));
    assert_eq!(told.missing_packs, got_told.missing_packs);
    assert_eq!(
        sorted(told.marked_packs.clone()),
        sorted(got_told.marked_packs.clone())
    );
    assert_eq!(told.listed_packs, got_told.listed_packs);
    let damaged = |report: &IndexReport| sorted(report.damaged.iter().map(|(id, _)| *id));
    assert_eq!(damaged(told), damaged(got_told));
    for kind in KINDS {
        assert_eq!(expected.len(kind), got.len(kind));
        for number in 0..got.len(kind) as u32 {
            let (id, place) = got.entry(kind, number).unwrap();
            assert!(got.numbers(kind, &id).any(|other| other == number));
            assert!(got.find_all(kind, &id).contains(&place));
        }
        assert!(got.entry(kind, got.len(kind) as u32).is_none());
        for id in (0..BLOBS + 20).map(blob) {
            assert_eq!(expected.find_all(kind, &id), got.find_all(kind, &id));
            assert_eq!(expected.has(kind, &id), got.has(kind, &id));
            assert_eq!(expected.can_read(kind, &id), got.can_read(kind, &id));
            assert_eq!(
                expected.numbers(kind, &id).count(),
                got.numbers(kind, &id).count()
            );
            let found = got.find(kind, &id);
            assert_eq!(expected.find(kind, &id).is_some(), found.is_some());
            assert!(found.is_none_or(|place| expected.find_all(kind, &id).contains(&place)));
            let marked = |index: &Index| index.find_marked(kind, &id).is_some();
            assert_eq!(marked(expected), marked(got));
            let relied = got.rely(kind, &id).is_some();
            assert_eq!(expected.rely(kind, &id).is_some(), relied);
            assert_eq!(relied, got.has(kind, &id));
        }
    }
    let there: BTreeSet<Id> = got
        .packs()
        .filter(|pack| pack.1)
        .map(|pack| pack.0)
        .collect();
    assert!(got.relied_packs().iter().all(|pack| there.contains(pack)));
}

#[test]
fn index_files_come_and_go_and_the_image_says_the_same() {
    let seed = replay::seed();
    let _note = replay::Note::seed(seed);
    let mut world = World::new(seed);
    world.compare();
    for _ in 0..40 {
        match world.random.below(4) {
            0 => world.remove_file(),
            _ => drop(world.add_file()),
        }
        world.compare();
    }
    assert!(world.image_path().exists());
}

#[test]
fn a_few_new_files_are_read_beside_the_image() {
    let mut world = World::new(1);
    for _ in 0..64 {
        world.add_file();
    }
    world.compare();
    let modified = || {
        fs::metadata(world.image_path())
            .unwrap()
            .modified()
            .unwrap()
    };
    let before = modified();
    let load = || {
        world
            .cached()
            .load_index(PackListing::Compare, &Cancel::new())
    };
    load().unwrap();
    assert_eq!(modified(), before);
    let backend = world.backend.clone();
    let pack = IndexPack {
        id: pack_id(PACKS),
        blobs: Vec::new(),
    };
    let file = IndexFile {
        packs: vec![pack],
        packs_to_delete: Vec::new(),
    };
    let new = world
        .open()
        .save_json(FileKind::Index, &file.to_json())
        .unwrap();
    world.compare();
    assert_eq!(modified(), before);
    // One that is gone is not believed any longer.
    let old = world.open().ids(FileKind::Index).unwrap();
    let old = old.into_iter().find(|id| *id != new).unwrap();
    backend.remove(FileName::new(FileKind::Index, old)).unwrap();
    world.compare();
    assert_ne!(modified(), before);
}

#[test]
fn a_damaged_index_file_is_told_each_time() {
    let mut world = World::new(2);
    let ids: Vec<Id> = (0..20).map(|_| world.add_file()).collect();
    let name = FileName::new(FileKind::Index, ids[3]);
    let mut content = world.backend.load(name, u64::MAX).unwrap();
    content[20] ^= 1;
    world.backend.remove(name).unwrap();
    world.backend.save(name, &[&content]).unwrap();
    for _ in 0..3 {
        world.compare();
        let (_, report) = world
            .cached()
            .load_index(PackListing::Skip, &Cancel::new())
            .unwrap();
        assert_eq!(report.damaged.len(), 1);
    }
}

/// Puts something in the place of the image, and looks whether it is believed.
fn with_image(world: &World, expected: &Loaded, put: impl FnOnce(&Path)) {
    let path = world.image_path();
    put(&path);
    let load = || {
        let repository = world.cached();
        repository
            .load_index(PackListing::Compare, &Cancel::new())
            .unwrap()
    };
    let got = load();
    assert_eq!(rows(&expected.0), rows(&got.0));
    assert_eq!(sorted(expected.0.packs()), sorted(got.0.packs()));
}

#[test]
fn no_byte_of_an_image_can_be_changed_without_being_seen() {
    let mut world = World::new(3);
    for _ in 0..3 {
        world.add_file();
    }
    world.compare();
    let expected = world
        .open()
        .load_index(PackListing::Compare, &Cancel::new())
        .unwrap();
    let good = fs::read(world.image_path()).unwrap();
    assert!(good.len() > 1000);
    // The whole header, and then some byte of everything.
    for at in (0..HEADER_BYTES).chain((HEADER_BYTES..good.len()).step_by(13)) {
        with_image(&world, &expected, |path| {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(path, bad).unwrap();
        });
        // It was made anew, whole.
        assert_eq!(fs::read(world.image_path()).unwrap().len(), good.len());
    }
    for length in (0..good.len()).step_by(97) {
        with_image(&world, &expected, |path| {
            fs::write(path, &good[..length]).unwrap()
        });
    }
    let longer = [good.as_slice(), &[0; 48]].concat();
    with_image(&world, &expected, |path| fs::write(path, longer).unwrap());
    with_image(&world, &expected, |path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    });
}

#[test]
fn the_image_of_another_repository_or_key_is_not_believed() {
    let mut world = World::new(4);
    let mut other = World::new(5);
    for _ in 0..5 {
        world.add_file();
        other.add_file();
    }
    world.compare();
    other.compare();
    let expected = world
        .open()
        .load_index(PackListing::Compare, &Cancel::new())
        .unwrap();
    let foreign = fs::read(other.image_path()).unwrap();
    with_image(&world, &expected, |path| fs::write(path, &foreign).unwrap());
    // Also not where it says that it is of this one.
    let own = fs::read(world.image_path()).unwrap();
    let mut forged = foreign.clone();
    forged[..48].copy_from_slice(&own[..48]);
    with_image(&world, &expected, |path| fs::write(path, forged).unwrap());
}

#[test]
fn what_a_kill_leaves_is_in_nobodys_way_and_goes_after_a_day() {
    let mut world = World::new(6);
    world.add_file();
    world.compare();
    let folder = world.image_path().parent().unwrap().to_owned();
    let (young, old) = (
        folder.join("lifeboat-index-tmp-0000000000000001"),
        folder.join("lifeboat-index-tmp-0000000000000002"),
    );
    for path in [&young, &old] {
        fs::write(path, b"lifeboat-index").unwrap();
    }
    let two_days_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(48 * 3600);
    let file = fs::File::options().write(true).open(&old).unwrap();
    file.set_modified(two_days_ago).unwrap();
    world.add_file();
    world.compare();
    assert!(young.exists() && !old.exists());
    fs::remove_file(young).unwrap();
    let left = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let left = sorted(left.map(|name| name.into_string().unwrap()));
    assert_eq!(
        left,
        ["data", "index", "lifeboat-index", "snapshots", "version"]
    );
    let mode = fs::metadata(world.image_path())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn many_at_once_agree_while_files_come() {
    let mut world = World::new(7);
    for round in 0..5 {
        for _ in 0..4 {
            world.add_file();
        }
        if round == 3 {
            world.remove_file();
        }
        let expected = world
            .open()
            .load_index(PackListing::Compare, &Cancel::new())
            .unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let repository = world.cached();
                    let got = repository.load_index(PackListing::Compare, &Cancel::new());
                    assert_eq!(rows(&expected.0), rows(&got.unwrap().0));
                });
            }
        });
        world.compare();
    }
}

#[test]
fn where_no_cache_can_be_the_index_is_loaded_all_the_same() {
    let mut world = World::new(8);
    world.add_file();
    let expected = world
        .open()
        .load_index(PackListing::Compare, &Cancel::new())
        .unwrap();
    for base in ["/dev/null/cache", "/proc/cache"] {
        let repository = world.open().with_index_image_from(0);
        let repository = repository.with_index_cache(Path::new(base));
        let got = repository.load_index(PackListing::Compare, &Cancel::new());
        assert_same(&expected, &got.unwrap());
    }
    // What is asked afresh believes and keeps nothing.
    fs::create_dir_all(world.image_path().parent().unwrap()).unwrap();
    fs::write(world.image_path(), b"not an image").unwrap();
    let repository = world.open().with_index_image_from(0);
    let repository = repository.with_fresh_index(world.cache.path());
    let got = repository.load_index(PackListing::Compare, &Cancel::new());
    assert_same(&expected, &got.unwrap());
    assert_eq!(fs::read(world.image_path()).unwrap(), b"not an image");
    fs::remove_dir_all(world.image_path().parent().unwrap()).unwrap();
    fs::remove_file(world.cache.path().join("CACHEDIR.TAG")).unwrap();
    // A small index is not worth an image.
    let repository = world.open().with_index_cache(world.cache.path());
    repository
        .load_index(PackListing::Compare, &Cancel::new())
        .unwrap();
    assert!(fs::read_dir(world.cache.path()).unwrap().next().is_none());
}

#[test]
fn what_is_stored_later_is_found_beside_the_image() {
    let mut world = World::new(9);
    for _ in 0..5 {
        world.add_file();
    }
    for repository in [world.cached(), world.in_memory(), world.cached()] {
        let (mut index, _) = repository
            .load_index(PackListing::Compare, &Cancel::new())
            .unwrap();
        let count = index.len(BlobKind::Data);
        let id = blob(BLOBS + 1);
        assert_eq!(index.rely(BlobKind::Data, &id), None);
        let stored = IndexPack {
            id: pack_id(PACKS + 1),
            blobs: vec![IndexBlob {
                id,
                kind: BlobKind::Data,
                offset_bytes: 0,
                length_bytes: 40,
                raw_length_bytes: 0,
            }],
        };
        index.insert_stored(&stored);
        assert_eq!(index.len(BlobKind::Data), count + 1);
        assert_eq!(index.rely(BlobKind::Data, &id), Some(8));
        assert_eq!(index.relied_packs(), [stored.id]);
        let number = index.numbers(BlobKind::Data, &id).next().unwrap();
        assert_eq!(number as usize, count);
        assert_eq!(
            index.entry(BlobKind::Data, number).unwrap().1.pack,
            stored.id
        );
    }
}
