//! A new repository goes where none is: an init that broke off is finished by who knows its password, and nothing that
//! belongs to somebody else is ever replaced.

use std::sync::Arc;

use lifeboat_format::{Id, NONCE_BYTES};
use lifeboat_repo::backend::{Backend, FileKind, FileName, MemoryBackend};
use lifeboat_repo::{Identity, KeyCost, RepoError, Repository};
use lifeboat_testkit::append_only::AppendOnlyBackend;

fn init(backend: impl Backend + 'static, password: &[u8]) -> Result<Repository, RepoError> {
    let who = Identity::default();
    Repository::init(Arc::new(backend), password, 2, None, &who, KeyCost::Test)
}

fn config(memory: &MemoryBackend) -> Vec<u8> {
    memory.load(FileName::CONFIG, u64::MAX).unwrap()
}

/// A repository whose config broke off after so many bytes.
fn broken_off(after: usize) -> (MemoryBackend, Id) {
    let memory = MemoryBackend::new();
    let made = init(memory.clone(), b"x").unwrap();
    let left = config(&memory);
    memory.save(FileName::CONFIG, &[&left[..after]]).unwrap();
    (memory, made.key_id())
}

fn whole_bytes() -> usize {
    let memory = MemoryBackend::new();
    init(memory.clone(), b"x").unwrap();
    config(&memory).len()
}

#[test]
fn a_config_that_broke_off_is_finished_by_its_own_password() {
    for after in [0, 1, 15, 16, 40, whole_bytes() - 1] {
        let (memory, key) = broken_off(after);
        let made = init(memory.clone(), b"x").unwrap();
        assert_eq!(made.key_id(), key, "the key is used again");
        let opened = Repository::open(Arc::new(memory.clone()), b"x", None).unwrap();
        assert_eq!(opened.config(), made.config());
        assert!(matches!(init(memory, b"x"), Err(RepoError::Exists { .. })));
    }
}

#[test]
fn a_config_of_somebody_else_stays() {
    let stays = |memory: &MemoryBackend, password: &[u8]| {
        let before = memory.files();
        let error = init(memory.clone(), password).map(drop).unwrap_err();
        assert_eq!(memory.files(), before, "{error:?}");
        error
    };
    let (memory, key) = broken_off(40);
    let error = stays(&memory, b"another");
    assert!(
        matches!(&error, RepoError::Refused(why) if why.contains("a config that ends after 40 bytes")),
        "{error:?}"
    );
    // Nobody knows whose it is without a key.
    memory.remove(FileName::new(FileKind::Key, key)).unwrap();
    assert!(matches!(stays(&memory, b"x"), RepoError::Refused(_)));
    // Where anything is kept, it is a repository that was damaged later.
    for kind in [FileKind::Snapshot, FileKind::Index, FileKind::Pack] {
        let (memory, _) = broken_off(40);
        let name = FileName::new(kind, Id::of(b"kept"));
        memory.save(name, &[b"kept"]).unwrap();
        let error = stays(&memory, b"x");
        assert!(
            matches!(&error, RepoError::Refused(why) if why.contains(kind.folder())),
            "{error:?}"
        );
    }
    // A config of full length did not break off, whatever is wrong with it.
    let (memory, _) = broken_off(whole_bytes());
    let mut flipped = config(&memory);
    flipped[50] ^= 1;
    memory.save(FileName::CONFIG, &[&flipped]).unwrap();
    assert!(matches!(stays(&memory, b"x"), RepoError::Exists { .. }));
    // And one that can be opened is whole, however short.
    let memory = MemoryBackend::new();
    let made = init(memory.clone(), b"x").unwrap();
    let mut short = vec![0; NONCE_BYTES];
    short.extend_from_slice(b"{}");
    made.master().seal(&[7; NONCE_BYTES], &mut short).unwrap();
    memory.save(FileName::CONFIG, &[&short]).unwrap();
    assert!(matches!(stays(&memory, b"x"), RepoError::Exists { .. }));
}

#[test]
fn what_can_not_be_removed_is_said_to_be_in_the_way() {
    let (memory, _) = broken_off(40);
    let before = memory.files();
    let error = init(AppendOnlyBackend::new(memory.clone(), &[]), b"x").map(drop);
    assert!(
        matches!(error, Err(RepoError::ConfigInTheWay { size_bytes: 40, .. })),
        "{error:?}"
    );
    assert_eq!(memory.files(), before);
}
