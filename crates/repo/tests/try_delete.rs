//! Whether a place protects its content is proven by trying, and what the try leaves is harmless.

use std::sync::Arc;

use lifeboat_flow::{Cancel, Counters};
use lifeboat_repo::backend::{Backend, Destroyed, FileKind, MemoryBackend};
use lifeboat_repo::{CheckOptions, FindingKind, Identity, KeyCost, Repository};
use lifeboat_testkit::append_only::AppendOnlyBackend;

fn made() -> MemoryBackend {
    let memory = MemoryBackend::new();
    let who = Identity::default();
    Repository::init(Arc::new(memory.clone()), b"x", 2, None, &who, KeyCost::Test).unwrap();
    memory
}

fn opened(backend: impl Backend + 'static) -> Repository {
    Repository::open(Arc::new(backend), b"x", None).unwrap()
}

#[test]
fn where_everything_may_be_removed_nothing_is_left() {
    let memory = made();
    let before = memory.files();
    assert_eq!(
        opened(memory.clone()).try_delete().unwrap(),
        Destroyed::Gone
    );
    assert_eq!(memory.files(), before);
}

#[test]
fn where_nothing_may_be_removed_the_answer_is_told_and_a_valid_pack_stays() {
    let memory = made();
    let before = memory.files();
    let repository = opened(AppendOnlyBackend::new(memory.clone(), &[FileKind::Lock]));
    let Destroyed::Refused(answer) = repository.try_delete().unwrap() else {
        panic!("it was not refused");
    };
    assert!(
        answer.ends_with("the server answered 403 (Forbidden)"),
        "{answer}"
    );
    let after = memory.files();
    assert_eq!(after.len(), before.len() + 1);
    let packs = repository.packs().unwrap();
    let (id, size) = packs.iter().next().unwrap();
    assert_eq!(repository.pack_header(*id, *size).unwrap().len(), 1);
    let options = CheckOptions {
        read_packs: Some(vec![*id]),
        threads: 1,
        ..Default::default()
    };
    let report = repository
        .check(&options, &Counters::default(), &Cancel::new())
        .unwrap();
    let kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(
        (kinds, report.packs_read),
        (vec![FindingKind::PackUnindexed], 1)
    );
    assert!(!report.is_serious());
}
