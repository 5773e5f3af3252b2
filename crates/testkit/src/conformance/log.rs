//! The part of a backend's contract that is about the log: objects that are created once and never change.
//! It must never use a content twice, but where it means to: who was first shows in the content alone.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lifeboat_repo::backend::{Backend, BackendError, Creation, FileKind, FileName, LogName};

use super::{Check, LARGE_BYTES, MEBIBYTE, NO_LIMIT, THREADS, Traits, listing};
use crate::random::Random;

/// How often many threads try to create one name.
const RACES: usize = 6;

pub(super) const CHECKS: &[(&str, Check)] = &[
    ("an empty log", empty_log),
    ("the log keeps its objects", objects),
    ("an object is created once", once),
    ("names that are alike", alike),
    ("an object that is too long is refused", limits),
    ("removing from the log", removing),
    ("a large object comes back", large_object),
    ("the log lies beside restic's files", beside),
    ("many threads create many objects", many_at_once),
    ("many threads create one object", one_at_once),
    (
        "a listing of the log shows only whole objects",
        listing_while_creating,
    ),
];

/// All objects below a name with their sizes.
///
/// # Panics
/// If an object is listed twice.
///
/// # Errors
/// Those of the backend.
pub fn log_listing(
    backend: &dyn Backend,
    below: Option<&LogName>,
) -> Result<BTreeMap<LogName, u64>, BackendError> {
    let mut found = BTreeMap::new();
    backend.log_list(below, &mut |name, size_bytes| {
        let twice = found.insert(name.clone(), size_bytes);
        assert_eq!(twice, None, "{name} is listed twice");
    })?;
    Ok(found)
}

/// A name that is legal.
///
/// # Panics
/// If it is not.
#[must_use]
pub fn log_name(text: &str) -> LogName {
    text.parse().unwrap()
}

/// Where no repository is, no log is made in passing.
pub(super) fn missing_repository(backend: &dyn Backend) {
    let name = log_name("wal/1/2");
    let errors = [
        backend.log_create(&name, &[b"x"]).unwrap_err(),
        backend.log_load(&name, NO_LIMIT).unwrap_err(),
        log_listing(backend, None).unwrap_err(),
        log_listing(backend, Some(&name)).unwrap_err(),
        backend.log_remove(&name).unwrap_err(),
    ];
    for error in errors {
        assert!(
            matches!(error, BackendError::NoRepository { .. }),
            "{error:?}"
        );
    }
}

fn with_config(backend: &dyn Backend) {
    backend.save(FileName::CONFIG, &[b"config"]).unwrap();
}

fn create(backend: &dyn Backend, name: &LogName, content: &[u8]) {
    let created = backend.log_create(name, &[content]).unwrap();
    assert_eq!(created, Creation::Created, "{name}");
}

fn assert_missing(backend: &dyn Backend, name: &LogName) {
    let error = backend.log_load(name, NO_LIMIT).unwrap_err();
    let is_of_name = matches!(&error, BackendError::NoObject { name: of, .. } if of == name);
    assert!(is_of_name && error.is_missing(), "{name}: {error:?}");
}

fn empty_log(_: Traits, backend: &dyn Backend, _: &mut Random) {
    with_config(backend);
    let name = log_name("wal/1/2");
    assert!(log_listing(backend, None).unwrap().is_empty());
    assert!(log_listing(backend, Some(&name)).unwrap().is_empty());
    assert_missing(backend, &name);
    assert_missing(backend, &log_name("wal"));
    backend.log_remove(&name).unwrap();
}

fn objects(_: Traits, backend: &dyn Backend, random: &mut Random) {
    with_config(backend);
    let mut created = BTreeMap::new();
    for (text, length) in [
        ("wal/7/1/000000010000000000000001", 70_000),
        ("wal/7/1/000000010000000000000002", 1),
        ("wal/7/1/000000010000000000000002.00000028.backup", 300),
        ("wal/7/2/00000002.history", 40),
        ("wal/8/1/000000010000000000000001", 0),
        ("fleet", 100),
        ("a/b/c/d/e/f/g/h", 8),
    ] {
        let (name, content) = (log_name(text), random.bytes(length));
        let (first, second) = content.split_at(random.index(length + 1));
        let made = backend.log_create(&name, &[first, b"", second]).unwrap();
        assert_eq!(made, Creation::Created, "{name}");
        created.insert(name, content);
    }
    for (name, content) in &created {
        assert_eq!(
            &backend.log_load(name, NO_LIMIT).unwrap(),
            content,
            "{name}"
        );
    }
    for below in [
        None,
        Some("wal"),
        Some("wal/7"),
        Some("wal/7/1"),
        Some("a/b"),
        Some("nobody"),
    ] {
        let below = below.map(log_name);
        let of_all = created
            .iter()
            .filter(|(name, _)| name.is_below(below.as_ref()));
        let expected: BTreeMap<LogName, u64> = of_all
            .map(|(name, content)| (name.clone(), content.len() as u64))
            .collect();
        assert_eq!(
            log_listing(backend, below.as_ref()).unwrap(),
            expected,
            "{below:?}"
        );
    }
    assert_missing(backend, &log_name("wal/7/1/000000010000000000000003"));
    assert_missing(backend, &log_name("wal/9/1/000000010000000000000003"));
    // Nothing lies below an object.
    let below_object = log_listing(backend, Some(&log_name("fleet")));
    assert!(below_object.unwrap().is_empty());
}

fn once(_: Traits, backend: &dyn Backend, random: &mut Random) {
    with_config(backend);
    let name = log_name("wal/1/000000010000000000000001");
    let content = random.bytes(5000);
    create(backend, &name, &content);
    let mut bent = content.clone();
    bent[4999] ^= 1;
    let others = [
        random.bytes(5000),
        bent,
        content[..4999].to_vec(),
        [&content[..], b"x"].concat(),
        Vec::new(),
    ];
    for other in &others {
        // Whose answer was lost may ask again and again.
        create(backend, &name, &content);
        let made = backend.log_create(&name, &[other]).unwrap();
        assert_eq!(made, Creation::Exists);
        assert_eq!(backend.log_load(&name, NO_LIMIT).unwrap(), content);
        let expected = BTreeMap::from([(name.clone(), 5000)]);
        assert_eq!(log_listing(backend, None).unwrap(), expected);
    }
}

fn alike(_: Traits, backend: &dyn Backend, _: &mut Random) {
    with_config(backend);
    let names = [
        "wal/1/a",
        "wal/12/a",
        "wal/1.x/a",
        "wal/1-x/a",
        "wall/1/a",
        "wal/1/a.b",
        "wal/1/a-tmp-00",
    ];
    for text in names {
        create(backend, &log_name(text), text.as_bytes());
    }
    for text in names {
        let content = backend.log_load(&log_name(text), NO_LIMIT).unwrap();
        assert_eq!(content, text.as_bytes());
    }
    let below = log_listing(backend, Some(&log_name("wal/1"))).unwrap();
    let below: Vec<&str> = below.keys().map(LogName::as_str).collect();
    assert_eq!(below, ["wal/1/a", "wal/1/a-tmp-00", "wal/1/a.b"]);
    // The same content under another name is another object.
    let (first, second) = (log_name("same/1"), log_name("same/2"));
    create(backend, &first, b"content");
    create(backend, &second, b"content");
    backend.log_remove(&first).unwrap();
    assert_missing(backend, &first);
    assert_eq!(backend.log_load(&second, 7).unwrap(), b"content");
}

fn limits(_: Traits, backend: &dyn Backend, random: &mut Random) {
    with_config(backend);
    let (name, content) = (log_name("fleet/1"), random.bytes(1000));
    create(backend, &name, &content);
    assert_eq!(backend.log_load(&name, 1000).unwrap(), content);
    let error = backend.log_load(&name, 999).unwrap_err();
    let is_told = matches!(
        &error,
        BackendError::ObjectTooLong { name: of, size_bytes: 1000, limit_bytes: 999, .. } if *of == name
    );
    assert!(is_told, "{error:?}");
}

fn removing(_: Traits, backend: &dyn Backend, random: &mut Random) {
    with_config(backend);
    let (name, other) = (log_name("wal/1/a"), log_name("wal/1/b"));
    create(backend, &other, &random.bytes(100));
    for _ in 0..3 {
        let content = random.bytes(100);
        create(backend, &name, &content);
        assert_eq!(backend.log_load(&name, NO_LIMIT).unwrap(), content);
        backend.log_remove(&name).unwrap();
        backend.log_remove(&name).unwrap();
        assert_missing(backend, &name);
        let expected = BTreeMap::from([(other.clone(), 100)]);
        assert_eq!(log_listing(backend, None).unwrap(), expected);
    }
}

fn large_object(_: Traits, backend: &dyn Backend, random: &mut Random) {
    with_config(backend);
    let (name, content) = (log_name("wal/1/a"), random.bytes(LARGE_BYTES));
    let pieces: Vec<&[u8]> = content.chunks(MEBIBYTE).collect();
    let made = backend.log_create(&name, &pieces).unwrap();
    assert_eq!(made, Creation::Created);
    assert!(
        backend.log_load(&name, NO_LIMIT).unwrap() == content,
        "20 MiB came back otherwise"
    );
}

fn beside(_: Traits, backend: &dyn Backend, random: &mut Random) {
    with_config(backend);
    let (name, content) = (log_name("wal/1/a"), random.bytes(1000));
    create(backend, &name, &content);
    for kind in FileKind::NAMED {
        assert!(listing(backend, kind).unwrap().is_empty(), "{kind:?}");
    }
    assert_eq!(listing(backend, FileKind::Config).unwrap().len(), 1);
    backend.remove_unfinished(Duration::ZERO).unwrap();
    assert_eq!(backend.log_load(&name, NO_LIMIT).unwrap(), content);
}

fn many_at_once(_: Traits, backend: &dyn Backend, random: &mut Random) {
    with_config(backend);
    let seed = random.number();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let mut random = Random::new(seed ^ u64::from(thread));
                for number in 0..8 {
                    let name = log_name(&format!("wal/{}/{thread}-{number}", number % 3));
                    let length = 8 + random.index(50_000);
                    let content = random.bytes(length);
                    create(backend, &name, &content);
                    assert!(backend.log_load(&name, NO_LIMIT).unwrap() == content);
                    if random.chance(30) {
                        backend.log_remove(&name).unwrap();
                        assert_missing(backend, &name);
                    }
                }
            });
        }
    });
}

fn one_at_once(_: Traits, backend: &dyn Backend, random: &mut Random) {
    with_config(backend);
    for race in 0..RACES {
        let name = log_name(&format!("wal/1/{race}"));
        let contents: Vec<Vec<u8>> = (0..THREADS).map(|_| random.bytes(30_000)).collect();
        let start = Barrier::new(contents.len());
        let made: Vec<Creation> = std::thread::scope(|scope| {
            let (name, start) = (&name, &start);
            let threads: Vec<_> = contents
                .iter()
                .map(|content| {
                    scope.spawn(move || {
                        start.wait();
                        backend.log_create(name, &[&content[..7], &content[7..]])
                    })
                })
                .collect();
            let ends = threads.into_iter().map(|thread| thread.join().unwrap());
            ends.map(Result::unwrap).collect()
        });
        let kept = backend.log_load(&name, NO_LIMIT).unwrap();
        let winner = contents.iter().position(|content| *content == kept);
        let winner = winner.expect("what is kept is what one of them wrote");
        assert_eq!(made[winner], Creation::Created, "who is kept is told so");
        let created = made.iter().filter(|made| **made == Creation::Created);
        assert_eq!(created.count(), 1, "{made:?}");
        let again = backend.log_create(&name, &[&contents[winner]]).unwrap();
        assert_eq!(again, Creation::Created);
        for (number, other) in contents.iter().enumerate().filter(|(n, _)| *n != winner) {
            let again = backend.log_create(&name, &[other]).unwrap();
            assert_eq!(again, Creation::Exists, "{number}");
        }
        assert!(backend.log_load(&name, NO_LIMIT).unwrap() == kept);
    }
    assert_eq!(log_listing(backend, None).unwrap().len(), RACES);
}

fn listing_while_creating(_: Traits, backend: &dyn Backend, random: &mut Random) {
    const LENGTH: u64 = 100_000;
    with_config(backend);
    let seed = random.number();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let mut random = Random::new(seed ^ u64::from(thread));
                    for number in 0..5 {
                        let name = log_name(&format!("wal/{}/{thread}-{number}", number % 2));
                        let content = random.bytes(100_000);
                        let pieces: Vec<&[u8]> = content.chunks(10_000).collect();
                        backend.log_create(&name, &pieces).unwrap();
                        let found = log_listing(backend, None).unwrap();
                        assert!(found.contains_key(&name), "what was created is listed");
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                for (name, size_bytes) in log_listing(backend, None).unwrap() {
                    assert_eq!(size_bytes, LENGTH, "{name} was listed before it was whole");
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
    let found = log_listing(backend, None).unwrap();
    assert_eq!(found.len(), 5 * usize::from(THREADS));
}
