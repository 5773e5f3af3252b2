//! The contract of a backend as tests, one suite for all of them.
//! It must never know which backend it has: what differs between them is no part of the contract.

mod log;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_format::Id;
use lifeboat_repo::backend::{Backend, BackendError, FileKind, FileName};

pub use log::{log_listing, log_name};

use crate::random::Random;
use crate::replay::{Note, seed};

const MEBIBYTE: usize = 1 << 20;
/// Longer than any file that a restic of today writes by default, in bytes.
const LARGE_BYTES: usize = 20 * MEBIBYTE;
const NO_LIMIT: u64 = u64::MAX;
const THREADS: u8 = 8;

/// One part of the contract.
type Check = fn(Traits, &dyn Backend, &mut Random);

/// What a place can show at all. Everything else is the same for every backend.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// Whether a repository has folders of its own, so that a place without one is told from an empty repository. An
    /// object store has none: where nothing was saved, nothing is listed, and what makes a repository is its config.
    pub has_folders: bool,
    /// Whether a file may be saved again with other content, which only the config's name allows. rest-server refuses.
    pub replaces: bool,
    /// Whether a file appears when it is whole, and not while it is written. rclone writes in place where the remote is
    /// a directory; to an object store it does not.
    pub appears_whole: bool,
}

impl Default for Traits {
    /// Those of a directory.
    fn default() -> Self {
        Self {
            has_folders: true,
            replaces: true,
            appears_whole: true,
        }
    }
}

const CHECKS: &[(&str, Check)] = &[
    ("an empty repository lists nothing", empty_repository),
    ("a missing file is missing", missing_file),
    ("every kind keeps its files", every_kind),
    ("there is one config", one_config),
    ("a file may be empty", empty_file),
    ("pieces are joined", pieces),
    ("ranges are exact", ranges),
    ("what a file begins with says nothing", any_beginning),
    ("a file that is too long is refused", limits),
    ("a large file comes back", large_file),
    ("saving again replaces", replacing),
    ("removing removes", removing),
    ("names are all 256 first bytes", all_first_bytes),
    ("many threads save many files", many_files_at_once),
    ("creating again is harmless", creating_again),
];

/// Those of places where a file appears when it is whole.
const CHECKS_OF_WHOLE: &[(&str, Check)] = &[
    ("many threads save one file", one_file_at_once),
    ("a listing shows only whole files", listing_while_saving),
];

/// Checks a backend with folders against the contract of [`Backend`]. `make` gives a new one each time, at a place of
/// its own where no repository is.
///
/// # Panics
/// If it breaks the contract; the part and the seed are named.
pub fn check_backend(make: &dyn Fn() -> Box<dyn Backend>) {
    check_backend_with(Traits::default(), make);
}

/// As [`check_backend`], of a backend with these traits.
///
/// # Panics
/// If it breaks the contract; the part and the seed are named.
pub fn check_backend_with(traits: Traits, make: &dyn Fn() -> Box<dyn Backend>) {
    let seed = seed();
    let _seed = Note::seed(seed);
    {
        let _part = Note::new("in the part: where no repository is");
        let check = match traits.has_folders {
            true => missing_repository,
            false => nothing_saved_yet,
        };
        check(traits, &*make(), &mut Random::new(seed));
    }
    let of_whole: &[(&str, Check)] = match traits.appears_whole {
        true => CHECKS_OF_WHOLE,
        false => &[],
    };
    for (part, check) in CHECKS.iter().chain(log::CHECKS).chain(of_whole) {
        let _part = Note::new(format!("in the part: {part}"));
        let backend = make();
        backend.create().unwrap();
        check(traits, &*backend, &mut Random::new(seed));
    }
}

/// All files of a kind with their sizes.
///
/// # Panics
/// If a file is listed twice.
///
/// # Errors
/// Those of the backend.
pub fn listing(backend: &dyn Backend, kind: FileKind) -> Result<BTreeMap<Id, u64>, BackendError> {
    let mut found = BTreeMap::new();
    backend.list(kind, &mut |id, size_bytes| {
        assert_eq!(found.insert(id, size_bytes), None, "{id} is listed twice");
    })?;
    Ok(found)
}

fn missing_repository(_: Traits, backend: &dyn Backend, _: &mut Random) {
    for kind in FileKind::NAMED {
        let error = listing(backend, kind).expect_err("a repository that is not there was listed");
        assert!(
            matches!(error, BackendError::NoRepository { .. }),
            "{error:?}"
        );
        let name = FileName::new(kind, Id([1; 32]));
        let errors = [
            backend.size(name).unwrap_err(),
            backend.load(name, NO_LIMIT).unwrap_err(),
            backend.load_at(name, 0, &mut [0; 1]).unwrap_err(),
            backend.save(name, &[b"x"]).unwrap_err(),
            backend.remove(name).unwrap_err(),
        ];
        for error in errors {
            assert!(
                matches!(error, BackendError::NoRepository { .. }),
                "{error:?}"
            );
        }
    }
    assert!(backend.size(FileName::CONFIG).is_err());
    assert!(
        backend.save(FileName::CONFIG, &[b"x"]).is_err(),
        "no repository is made in passing"
    );
    log::missing_repository(backend);
}

/// Without folders a listing that succeeds may be empty, but no file may seem to be there, and above all no config.
fn nothing_saved_yet(_: Traits, backend: &dyn Backend, _: &mut Random) {
    let is_nothing = |error: &BackendError| {
        error.is_missing() || matches!(error, BackendError::NoRepository { .. })
    };
    for kind in FileKind::NAMED.into_iter().chain([FileKind::Config]) {
        match listing(backend, kind) {
            Ok(found) => assert!(found.is_empty(), "{kind:?}: {found:?}"),
            Err(error) => assert!(is_nothing(&error), "{error:?}"),
        }
        let name = match kind {
            FileKind::Config => FileName::CONFIG,
            kind => FileName::new(kind, Id([1; 32])),
        };
        let errors = [
            backend.size(name).unwrap_err(),
            backend.load(name, NO_LIMIT).unwrap_err(),
            backend.load_at(name, 0, &mut [0; 1]).unwrap_err(),
        ];
        for error in errors {
            assert!(is_nothing(&error), "{error:?}");
        }
    }
    match log_listing(backend, None) {
        Ok(found) => assert!(found.is_empty(), "{found:?}"),
        Err(error) => assert!(is_nothing(&error), "{error:?}"),
    }
    let error = backend.log_load(&log_name("wal/1"), NO_LIMIT).unwrap_err();
    assert!(is_nothing(&error), "{error:?}");
}

/// Servers guess the type of a file from how it begins, and encrypted ones begin with anything.
fn any_beginning(_: Traits, backend: &dyn Backend, random: &mut Random) {
    let beginnings: [&[u8]; 9] = [
        b"<B> ",
        b" \n<a ",
        b"<!-->",
        b"%PDF-",
        b"\x1f\x8b\x08",
        b"GIF89a",
        b"PK\x03\x04",
        b"\xef\xbb\xbf<p>",
        b"\x28\xb5\x2f\xfd",
    ];
    for beginning in beginnings {
        for kind in [FileKind::Pack, FileKind::Snapshot] {
            let mut content = beginning.to_vec();
            content.extend(random.bytes(600));
            let name = FileName::new(kind, Id::of(&content));
            backend.save(name, &[&content]).unwrap();
            assert_eq!(backend.size(name).unwrap(), content.len() as u64);
            assert_eq!(
                backend.load(name, NO_LIMIT).unwrap(),
                content,
                "{beginning:?}"
            );
            for from in [0, 2, 100] {
                let mut part = [0; 50];
                backend.load_at(name, from, &mut part).unwrap();
                let from = usize::try_from(from).unwrap();
                assert_eq!(part, content[from..from + 50], "{beginning:?}");
            }
        }
    }
}

fn empty_repository(_: Traits, backend: &dyn Backend, _: &mut Random) {
    for kind in FileKind::NAMED.into_iter().chain([FileKind::Config]) {
        assert!(listing(backend, kind).unwrap().is_empty(), "{kind:?}");
    }
}

fn missing_file(_: Traits, backend: &dyn Backend, random: &mut Random) {
    for kind in FileKind::NAMED {
        let there = file(random, kind, 10);
        backend.save(there.0, &[&there.1]).unwrap();
        assert_missing(backend, FileName::new(kind, Id::of(b"nobody")));
    }
    assert_missing(backend, FileName::CONFIG);
}

fn every_kind(_: Traits, backend: &dyn Backend, random: &mut Random) {
    let mut saved = BTreeMap::new();
    for kind in FileKind::NAMED {
        for length in [1, 100, 70_000] {
            let (name, content) = file(random, kind, length);
            backend.save(name, &[&content]).unwrap();
            saved.insert(name, content);
        }
    }
    for (name, content) in &saved {
        assert_eq!(&backend.load(*name, NO_LIMIT).unwrap(), content, "{name}");
        assert_eq!(backend.size(*name).unwrap(), content.len() as u64, "{name}");
    }
    for kind in FileKind::NAMED {
        let of_kind = saved.iter().filter(|(name, _)| name.kind == kind);
        let expected: BTreeMap<Id, u64> = of_kind
            .map(|(name, content)| (name.id, content.len() as u64))
            .collect();
        assert_eq!(listing(backend, kind).unwrap(), expected, "{kind:?}");
    }
}

fn one_config(_: Traits, backend: &dyn Backend, _: &mut Random) {
    backend.save(FileName::CONFIG, &[b"config"]).unwrap();
    let by_id = FileName::new(FileKind::Config, Id([9; 32]));
    assert_eq!(backend.load(by_id, 6).unwrap(), b"config");
    assert_eq!(
        listing(backend, FileKind::Config).unwrap(),
        BTreeMap::from([(FileName::CONFIG.id, 6)])
    );
    backend.remove(by_id).unwrap();
    assert_missing(backend, FileName::CONFIG);
}

fn empty_file(_: Traits, backend: &dyn Backend, random: &mut Random) {
    for data in [&[][..], &[&b""[..], b""]] {
        let (name, _) = file(random, FileKind::Lock, 0);
        backend.save(name, data).unwrap();
        assert_eq!(backend.size(name).unwrap(), 0);
        assert_eq!(backend.load(name, 0).unwrap(), b"");
        backend.load_at(name, 0, &mut []).unwrap();
        assert_eq!(
            listing(backend, FileKind::Lock).unwrap().get(&name.id),
            Some(&0)
        );
    }
}

fn pieces(_: Traits, backend: &dyn Backend, random: &mut Random) {
    let (name, content) = file(random, FileKind::Pack, 300_000);
    let (first, rest) = content.split_at(random.index(content.len()));
    let (second, third) = rest.split_at(random.index(rest.len()));
    backend
        .save(name, &[first, b"", second, third, b""])
        .unwrap();
    assert_eq!(backend.load(name, NO_LIMIT).unwrap(), content);
}

fn ranges(_: Traits, backend: &dyn Backend, random: &mut Random) {
    let (name, content) = file(random, FileKind::Pack, 100_000);
    let size_bytes = content.len();
    backend.save(name, &[&content]).unwrap();
    let mut wanted = vec![
        (0, 0),
        (0, 1),
        (0, size_bytes),
        (size_bytes - 1, 1),
        (size_bytes, 0),
    ];
    for _ in 0..50 {
        let from = random.index(size_bytes);
        wanted.push((from, random.index(size_bytes - from)));
    }
    for (from, length) in wanted {
        let mut buf = vec![0xee; length];
        backend.load_at(name, from as u64, &mut buf).unwrap();
        assert!(buf == content[from..from + length], "{length} from {from}");
    }
    let end = size_bytes as u64;
    for (from, length) in [
        (end, 1),
        (end + 1, 0),
        (end - 1, 2),
        (0, size_bytes + 1),
        (u64::MAX, 1),
    ] {
        let error = backend
            .load_at(name, from, &mut vec![0; length])
            .unwrap_err();
        let wanted_end = from.saturating_add(length as u64);
        let as_expected = matches!(
            error,
            BackendError::Short { name: of, size_bytes, wanted_bytes, .. }
                if of == name && size_bytes == end && wanted_bytes == wanted_end
        );
        assert!(as_expected, "{length} from {from}: {error:?}");
    }
}

fn limits(_: Traits, backend: &dyn Backend, random: &mut Random) {
    let (name, content) = file(random, FileKind::Index, 1000);
    backend.save(name, &[&content]).unwrap();
    assert_eq!(backend.load(name, 1000).unwrap(), content);
    let error = backend.load(name, 999).unwrap_err();
    assert!(
        matches!(
            error,
            BackendError::TooLong {
                size_bytes: 1000,
                limit_bytes: 999,
                ..
            }
        ),
        "{error:?}"
    );
}

fn large_file(_: Traits, backend: &dyn Backend, random: &mut Random) {
    let (name, content) = file(random, FileKind::Pack, LARGE_BYTES);
    backend
        .save(name, &content.chunks(MEBIBYTE).collect::<Vec<_>>())
        .unwrap();
    assert!(
        backend.load(name, NO_LIMIT).unwrap() == content,
        "20 MiB came back otherwise"
    );
    let mut tail = vec![0; 1000];
    backend
        .load_at(name, (LARGE_BYTES - 1000) as u64, &mut tail)
        .unwrap();
    assert!(tail == content[LARGE_BYTES - 1000..]);
}

fn replacing(traits: Traits, backend: &dyn Backend, random: &mut Random) {
    // The config is the one file whose name is not its hash, so that its content may really change.
    let mut kept = None;
    for length in [10, 5000, 10, 0, 70] {
        let content = random.bytes(length);
        match backend.save(FileName::CONFIG, &[&content]) {
            Err(error) if !traits.replaces && kept.is_some() => {
                assert!(error.is_refusal(), "{error:?}");
            }
            done => {
                done.unwrap();
                kept = Some(content);
            }
        }
        let config = backend.load(FileName::CONFIG, NO_LIMIT).unwrap();
        assert_eq!(Some(&config), kept.as_ref());
        backend.save(FileName::CONFIG, &[&config]).unwrap();
    }
    let (name, content) = file(random, FileKind::Pack, 1000);
    for _ in 0..3 {
        backend.save(name, &[&content]).unwrap();
        assert_eq!(listing(backend, FileKind::Pack).unwrap().len(), 1);
    }
}

fn removing(_: Traits, backend: &dyn Backend, random: &mut Random) {
    for kind in FileKind::NAMED {
        let (name, content) = file(random, kind, 100);
        let (other, another) = file(random, kind, 100);
        backend.save(name, &[&content]).unwrap();
        backend.save(other, &[&another]).unwrap();
        backend.remove(name).unwrap();
        backend.remove(name).unwrap();
        assert_missing(backend, name);
        assert_eq!(
            listing(backend, kind).unwrap(),
            BTreeMap::from([(other.id, 100)])
        );
        backend.save(name, &[&content]).unwrap();
        assert_eq!(backend.load(name, NO_LIMIT).unwrap(), content);
    }
    backend.remove(FileName::CONFIG).unwrap();
}

fn all_first_bytes(_: Traits, backend: &dyn Backend, random: &mut Random) {
    let mut expected = BTreeMap::new();
    for first in 0..=u8::MAX {
        // Tried until the hash begins so: servers refuse content that does not have the hash that it is named by.
        let (name, content) = loop {
            let (name, content) = file(random, FileKind::Pack, 8 + usize::from(first));
            if name.id.0[0] == first {
                break (name, content);
            }
        };
        backend.save(name, &[&content]).unwrap();
        expected.insert(name.id, content.len() as u64);
    }
    assert_eq!(listing(backend, FileKind::Pack).unwrap(), expected);
}

fn many_files_at_once(_: Traits, backend: &dyn Backend, random: &mut Random) {
    let seed = random.number();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let mut random = Random::new(seed ^ u64::from(thread));
                for _ in 0..20 {
                    let kind = *random.pick(&FileKind::NAMED);
                    let (name, content) = sized_file(&mut random, kind, 50_000);
                    backend.save(name, &[&content]).unwrap();
                    assert_eq!(backend.load(name, NO_LIMIT).unwrap(), content);
                    if random.chance(30) {
                        backend.remove(name).unwrap();
                        assert_missing(backend, name);
                    }
                }
            });
        }
    });
}

fn one_file_at_once(_: Traits, backend: &dyn Backend, random: &mut Random) {
    let (name, content) = file(random, FileKind::Pack, 200_000);
    let content = &content;
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(move || {
                for _ in 0..5 {
                    backend.save(name, &[content]).unwrap();
                    assert!(&backend.load(name, NO_LIMIT).unwrap() == content);
                }
            });
        }
    });
    let expected = BTreeMap::from([(name.id, content.len() as u64)]);
    assert_eq!(listing(backend, FileKind::Pack).unwrap(), expected);
}

fn listing_while_saving(_: Traits, backend: &dyn Backend, random: &mut Random) {
    const LENGTH: u64 = 100_000;
    let seed = random.number();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let mut random = Random::new(seed ^ u64::from(thread));
                    for _ in 0..10 {
                        let (name, content) = file(&mut random, FileKind::Pack, 100_000);
                        let pieces: Vec<&[u8]> = content.chunks(10_000).collect();
                        backend.save(name, &pieces).unwrap();
                        let found = listing(backend, FileKind::Pack).unwrap();
                        assert!(found.contains_key(&name.id), "what was saved is listed");
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                for (id, size_bytes) in listing(backend, FileKind::Pack).unwrap() {
                    assert_eq!(size_bytes, LENGTH, "{id} was listed before it was whole");
                }
            }
        });
        let ends: Vec<_> = writers
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        is_done.store(true, Ordering::Relaxed);
        assert!(ends.iter().all(Result::is_ok), "a writer failed");
    });
    let found = listing(backend, FileKind::Pack).unwrap();
    assert_eq!(found.len(), 10 * usize::from(THREADS));
    for id in found.into_keys() {
        let content = backend
            .load(FileName::new(FileKind::Pack, id), LENGTH)
            .unwrap();
        assert_eq!(Id::of(&content), id, "content under another name");
    }
}

fn creating_again(_: Traits, backend: &dyn Backend, random: &mut Random) {
    let (name, content) = file(random, FileKind::Key, 100);
    backend.save(name, &[&content]).unwrap();
    backend.create().unwrap();
    assert_eq!(backend.load(name, NO_LIMIT).unwrap(), content);
}

/// A file of this length, whose name is its hash as in a repository.
fn file(random: &mut Random, kind: FileKind, length: usize) -> (FileName, Vec<u8>) {
    let content = random.bytes(length);
    (FileName::new(kind, Id::of(&content)), content)
}

fn sized_file(random: &mut Random, kind: FileKind, below: usize) -> (FileName, Vec<u8>) {
    let length = 8 + random.index(below);
    file(random, kind, length)
}

fn assert_missing(backend: &dyn Backend, name: FileName) {
    let errors = [
        backend.size(name).unwrap_err(),
        backend.load(name, NO_LIMIT).unwrap_err(),
        backend.load_at(name, 0, &mut [0; 3]).unwrap_err(),
        backend.load_at(name, 0, &mut []).unwrap_err(),
    ];
    for error in errors {
        assert!(
            matches!(error, BackendError::Missing { name: of, .. } if of == name),
            "{name}: {error:?}"
        );
    }
}
