//! The log of a repository never overwrites, tells damage from absence, and is nothing that restic minds or touches.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lifeboat_repo::backend::{Backend, Creation, FileKind, LocalBackend, LogName, MemoryBackend};
use lifeboat_repo::{
    Appended, Identity, KeyCost, LOG_CONTENT_MAX_BYTES, LogEntry, LogError, Repository, chain,
};
use lifeboat_testkit::append_only::AppendOnlyBackend;
use lifeboat_testkit::conformance::log_name;
use lifeboat_testkit::faults::{Fault, FaultPlan, FaultyBackend, Verb};
use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::{Note, seed};
use lifeboat_testkit::restic::{PASSWORD, Restic};
use lifeboat_testkit::retrying::retrying;

const SEGMENT_BYTES: usize = 16 << 20;

fn made(backend: impl Backend + 'static) -> Repository {
    let who = Identity::default();
    Repository::init(Arc::new(backend), b"x", 2, None, &who, KeyCost::Test).unwrap()
}

fn opened(backend: impl Backend + 'static) -> Repository {
    Repository::open(Arc::new(backend), b"x", None).unwrap()
}

/// A memory with a repository, and that.
fn memory() -> (MemoryBackend, Repository) {
    let memory = MemoryBackend::new();
    let repository = made(memory.clone());
    (memory, repository)
}

fn sealed(backend: &dyn Backend, name: &LogName) -> Vec<u8> {
    backend.log_load(name, u64::MAX).unwrap()
}

/// Puts something else under a name, as a damaged or hostile place does.
fn plant(backend: &dyn Backend, name: &LogName, sealed: &[u8]) {
    backend.log_remove(name).unwrap();
    let planted = backend.log_create(name, &[sealed]).unwrap();
    assert_eq!(planted, Creation::Created);
}

#[test]
fn what_is_appended_comes_back_and_nothing_is_overwritten() {
    let (memory, repository) = memory();
    let log = repository.log();
    let mut random = Random::new(1);
    let mut segment = random.bytes(SEGMENT_BYTES / 4);
    segment.resize(SEGMENT_BYTES, 0);
    let name = log_name("wal/7/1/000000010000000000000001");
    assert_eq!(log.append(&name, &segment).unwrap(), Appended::New);
    assert_eq!(log.append(&name, &segment).unwrap(), Appended::Same);
    assert!(log.read(&name).unwrap() == segment);
    assert!(
        sealed(&memory, &name).len() < SEGMENT_BYTES / 3,
        "it is compressed"
    );
    let before = sealed(&memory, &name);
    segment[SEGMENT_BYTES - 1] = 1;
    let error = log.append(&name, &segment).unwrap_err();
    assert!(matches!(&error, LogError::Different { name: of, .. } if *of == name));
    assert_eq!(
        error.to_string(),
        "lifeboat/wal/7/1/000000010000000000000001 in memory is there with other content, which is left alone"
    );
    assert!(sealed(&memory, &name) == before);
    // Who opens it later sees the same.
    assert!(opened(memory.clone()).log().read(&name).is_ok());

    let other = log_name("wal/7/1/00000002.history");
    log.append(&other, b"").unwrap();
    assert_eq!(log.read(&other).unwrap(), b"");
    let listed = log.list(Some(&log_name("wal/7"))).unwrap();
    let expected = [&name, &other].map(|name| LogEntry {
        name: name.clone(),
        stored_bytes: sealed(&memory, name).len() as u64,
    });
    assert_eq!(listed, expected);
    log.remove(&name).unwrap();
    log.remove(&name).unwrap();
    assert!(log.read(&name).unwrap_err().is_missing());
    assert_eq!(log.list(None).unwrap(), expected[1..]);
    assert_eq!(log.append(&name, &segment).unwrap(), Appended::New);
}

#[test]
fn names_and_contents_can_not_be_read_without_the_key() {
    let (memory, repository) = memory();
    let name = log_name("wal/7/1/000000010000000000000001");
    let content = b"plaintext that nobody may see".repeat(10);
    repository.log().append(&name, &content).unwrap();
    let stored = sealed(&memory, &name);
    for part in [&content[..16], &name.as_str().as_bytes()[..16], b"LBLG"] {
        assert!(!stored.windows(part.len()).any(|window| window == part));
    }
    let stranger = made(MemoryBackend::new());
    let their = stranger.backend();
    their.log_create(&name, &[&stored]).unwrap();
    let error = stranger.log().read(&name).unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error:?}");
    // The same content is never sealed twice in the same way.
    repository.log().remove(&name).unwrap();
    repository.log().append(&name, &content).unwrap();
    assert_ne!(sealed(&memory, &name), stored);
}

#[test]
fn damage_is_named_and_never_shown() {
    let seed = seed();
    let _seed = Note::seed(seed);
    let mut random = Random::new(seed);
    let (memory, repository) = memory();
    let log = repository.log();
    let (name, other) = (log_name("wal/1/a"), log_name("wal/1/b"));
    for content in [random.bytes(500), vec![0; 5000], Vec::new()] {
        log.append(&name, &content).unwrap();
        log.append(&other, &content).unwrap();
        let whole = sealed(&memory, &name);
        let mut damaged = vec![
            Vec::new(),
            [&whole[..], b"x"].concat(),
            sealed(&memory, &other),
        ];
        for _ in 0..40 {
            let mut bent = whole.clone();
            let at = random.index(bent.len());
            bent[at] ^= 1 << random.below(8);
            damaged.push(bent);
            damaged.push(whole[..random.index(whole.len())].to_vec());
        }
        for bytes in damaged {
            plant(&memory, &name, &bytes);
            let error = log.read(&name).unwrap_err();
            let is_named = matches!(&error, LogError::Damaged { name: of, .. } if *of == name);
            assert!(is_named && !error.is_missing(), "{error:?}");
            let said = chain(&error);
            assert!(
                said.starts_with("lifeboat/wal/1/a in memory is damaged: "),
                "{said}"
            );
            // Nobody knows whether it is the same, and nothing is overwritten.
            let error = log.append(&name, &content).unwrap_err();
            assert!(matches!(error, LogError::Damaged { .. }), "{error:?}");
            assert_eq!(sealed(&memory, &name), bytes);
        }
        plant(&memory, &name, &whole);
        assert_eq!(log.read(&name).unwrap(), content);
        log.remove(&name).unwrap();
        log.remove(&other).unwrap();
    }
}

#[test]
fn two_objects_that_change_places_are_both_refused() {
    let (memory, repository) = memory();
    let log = repository.log();
    let names = ["wal/1/a", "wal/1/b"].map(log_name);
    for name in &names {
        log.append(name, name.as_str().as_bytes()).unwrap();
    }
    let contents = names.clone().map(|name| sealed(&memory, &name));
    plant(&memory, &names[0], &contents[1]);
    plant(&memory, &names[1], &contents[0]);
    for (name, other) in [(&names[0], &names[1]), (&names[1], &names[0])] {
        let said = chain(&log.read(name).unwrap_err());
        assert_eq!(
            said,
            format!(
                "lifeboat/{name} in memory is damaged: object of the log: it was stored as \"{other}\""
            )
        );
    }
}

#[test]
fn what_restic_sealed_is_no_object_of_the_log() {
    let (memory, repository) = memory();
    let id = repository
        .save_json(FileKind::Snapshot, br#"{"time":"2024-01-01T00:00:00Z"}"#)
        .unwrap();
    let snapshot = lifeboat_repo::backend::FileName::new(FileKind::Snapshot, id);
    let name = log_name("fleet/a");
    let stolen = memory.load(snapshot, u64::MAX).unwrap();
    memory.log_create(&name, &[&stolen]).unwrap();
    let said = chain(&repository.log().read(&name).unwrap_err());
    assert!(
        said.ends_with("it is something else of this repository"),
        "{said}"
    );
}

#[test]
fn what_is_garbled_on_the_way_is_fetched_again() {
    let (memory, repository) = memory();
    let name = log_name("wal/1/a");
    repository.log().append(&name, b"content").unwrap();
    for fault in [Fault::FlipBit, Fault::Truncate, Fault::WrongLength] {
        let reads = AtomicUsize::new(0);
        let once = FaultPlan::new(move |operation| {
            let is_first =
                operation.verb == Verb::LogLoad && reads.fetch_add(1, Ordering::SeqCst) == 0;
            is_first.then_some(fault)
        });
        let faulty = FaultyBackend::new(memory.clone(), once);
        let repository = opened(faulty.clone());
        assert_eq!(repository.log().read(&name).unwrap(), b"content");
        assert_eq!(faulty.count(Verb::LogLoad, None), 2, "{fault:?}");
        let always =
            FaultPlan::new(move |operation| (operation.verb == Verb::LogLoad).then_some(fault));
        let repository = opened(FaultyBackend::new(memory.clone(), always));
        let error = repository.log().read(&name).unwrap_err();
        assert!(matches!(error, LogError::Damaged { .. }), "{error:?}");
    }
}

/// Whatever goes wrong on the way, who is told of success finds the content, and who appends again is told so too.
#[test]
fn lost_answers_harm_nothing() {
    let seed = seed();
    let _seed = Note::seed(seed);
    let faults = [
        Fault::FailBefore,
        Fault::FailAfter,
        Fault::TimeoutBefore,
        Fault::TimeoutAfter,
        Fault::Duplicate,
        Fault::Busy,
        Fault::ListTwice,
    ];
    for round in 0..20 {
        let (memory, _) = memory();
        let plan = FaultPlan::random(seed.wrapping_add(round), 40, &faults);
        let faulty = FaultyBackend::new(memory.clone(), plan);
        let repository = opened(retrying(faulty.clone()));
        let log = repository.log();
        let mut random = Random::new(seed.wrapping_add(round));
        let mut kept = BTreeMap::new();
        for number in 0..20 {
            let name = log_name(&format!("wal/1/{number}"));
            let content = random.bytes(300);
            assert_eq!(
                log.append(&name, &content).unwrap(),
                Appended::New,
                "its own object is no other's"
            );
            assert_eq!(log.append(&name, &content).unwrap(), Appended::Same);
            let error = log.append(&name, b"other").unwrap_err();
            assert!(matches!(error, LogError::Different { .. }), "{error:?}");
            if random.chance(20) {
                log.remove(&name).unwrap();
                assert!(log.read(&name).unwrap_err().is_missing());
            } else {
                kept.insert(name, content);
            }
        }
        let listed: Vec<LogName> = log
            .list(None)
            .unwrap()
            .into_iter()
            .map(|e| e.name)
            .collect();
        assert!(listed.iter().eq(kept.keys()));
        for (name, content) in &kept {
            assert_eq!(&log.read(name).unwrap(), content);
        }
        assert!(faulty.faults() > 20);
    }
}

/// Killed before or after anything: the next one finishes what was begun.
#[test]
fn a_kill_at_any_moment_leaves_the_whole_or_nothing() {
    let name = log_name("wal/1/a");
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        let (memory, _) = memory();
        let plan =
            FaultPlan::new(move |operation| (operation.verb == Verb::LogCreate).then_some(fault));
        let killed = opened(FaultyBackend::new(memory.clone(), plan));
        assert!(killed.log().append(&name, b"content").is_err());
        let next = opened(memory);
        let expected = match fault {
            Fault::CrashBefore => Appended::New,
            _ => Appended::Same,
        };
        assert_eq!(next.log().append(&name, b"content").unwrap(), expected);
        assert_eq!(next.log().read(&name).unwrap(), b"content");
    }
}

#[test]
fn several_who_append_one_name_agree_on_its_content() {
    let (memory, _) = memory();
    let name = log_name("wal/1/a");
    let ends: Vec<(usize, Result<Appended, LogError>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let (memory, name) = (memory.clone(), &name);
                scope.spawn(move || {
                    let content = format!("content {}", thread % 2).repeat(1000);
                    (
                        thread % 2,
                        opened(memory).log().append(name, content.as_bytes()),
                    )
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let kept = opened(memory).log().read(&name).unwrap();
    let new = ends
        .iter()
        .filter(|(_, end)| matches!(end, Ok(Appended::New)));
    assert_eq!(new.count(), 1);
    for (content, end) in &ends {
        let is_kept = kept.starts_with(format!("content {content}").as_bytes());
        assert_eq!(end.is_ok(), is_kept, "{end:?}");
        assert!(
            is_kept || matches!(end, Err(LogError::Different { .. })),
            "{end:?}"
        );
    }
}

#[test]
fn a_content_that_is_too_long_is_refused_before_anything_is_stored() {
    let (memory, repository) = memory();
    let name = log_name("wal/1/a");
    let length = usize::try_from(LOG_CONTENT_MAX_BYTES).unwrap() + 1;
    // Never touched, so that it takes no memory.
    let error = repository
        .log()
        .append(&name, &vec![0; length])
        .unwrap_err();
    assert!(matches!(error, LogError::TooLong { .. }), "{error:?}");
    assert!(memory.log_load(&name, 1).unwrap_err().is_missing());
}

#[test]
fn where_nothing_may_be_removed_the_log_still_grows() {
    let (memory, _) = memory();
    let repository = opened(AppendOnlyBackend::new(memory, &[FileKind::Lock]));
    let (log, name) = (repository.log(), log_name("wal/1/a"));
    assert_eq!(log.append(&name, b"content").unwrap(), Appended::New);
    assert_eq!(log.append(&name, b"content").unwrap(), Appended::Same);
    let LogError::Backend(error) = log.remove(&name).unwrap_err() else {
        panic!("it was removed");
    };
    assert!(error.is_refusal());
}

/// All files below a folder with their contents.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => left.push(path),
                false => drop(found.insert(path.clone(), fs::read(path).unwrap())),
            }
        }
    }
    found
}

#[test]
fn restic_neither_minds_nor_touches_it() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path().join("repository");
    let source = temporary.path().join("source");
    fs::create_dir(&source).unwrap();
    for restic in Restic::both(&root) {
        if !root.exists() {
            restic.run(&["init"]);
        }
        let backend = Arc::new(LocalBackend::new(&root));
        let repository = Repository::open(backend, PASSWORD.as_bytes(), None).unwrap();
        let mut random = Random::new(7);
        for number in 0..3 {
            let name = log_name(&format!("wal/7/1/{number:024X}"));
            let mut segment = Random::new(number).bytes(100_000);
            segment.resize(SEGMENT_BYTES, 0);
            repository.log().append(&name, &segment).unwrap();
        }
        let before = files(&root.join("lifeboat"));
        assert_eq!(before.len(), 3);
        for _ in 0..2 {
            fs::write(source.join("file"), random.bytes(500_000)).unwrap();
            restic.run(&["backup", source.to_str().unwrap()]);
        }
        restic.run(&["forget", "--keep-last", "1", "--prune"]);
        let said = restic.run(&["check", "--read-data"]);
        assert!(!said.text().contains("lifeboat"), "{}", said.text());
        restic.run(&["prune", "--max-unused", "0"]);
        assert_eq!(files(&root.join("lifeboat")), before);
        assert_eq!(repository.log().list(None).unwrap().len(), 3);
    }
}
