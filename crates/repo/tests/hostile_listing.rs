//! Listings that lie about sizes, or name files that are no packs: what they say is a finding, and never memory that is
//! reserved for it.

use std::collections::BTreeSet;
use std::sync::{Arc, RwLock};

use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::{BlobKind, Id};
use lifeboat_repo::backend::{Backend, FileKind, FileName, LocalBackend};
use lifeboat_repo::prune::{Prune, PruneOptions};
use lifeboat_repo::{
    CheckOptions, CheckReport, FindingKind, Identity, Index, Ingest, IngestOptions, KeyCost,
    RepoError, Repository,
};
use lifeboat_testkit::faults::{Fault, FaultPlan, FaultyBackend, Operation, Verb};
use lifeboat_testkit::heard::Unheard;

/// More than this no read may ask for here: all packs are small.
const READ_MAX_BYTES: u64 = 1 << 20;

type Faulty = FaultyBackend<Arc<LocalBackend>>;

/// A repository on a disk with some packs.
fn world(dir: &tempfile::TempDir, plan: FaultPlan) -> (Faulty, Repository) {
    let local = Arc::new(LocalBackend::new(dir.path().join("r")));
    let who = Identity::default();
    let made = Repository::init(local.clone(), b"x", 2, None, &who, KeyCost::Test).unwrap();
    let options = IngestOptions {
        pack_size_bytes: 1000,
        ..IngestOptions::default()
    };
    let index = RwLock::new(Index::new());
    Ingest::run(&made, &index, None, options, |ingest| {
        let mut sealer = ingest.sealer()?;
        for number in 0..40u32 {
            let plain = Id::of(&number.to_le_bytes()).0;
            ingest.add(BlobKind::Data, Id::of(&plain), &plain, &mut sealer)?;
        }
        Ok::<(), RepoError>(())
    })
    .unwrap();
    let backend = FaultyBackend::new(local, plan);
    let opened = Repository::open(Arc::new(backend.clone()), b"x", None).unwrap();
    (backend, opened)
}

fn check(repository: &Repository) -> CheckReport {
    let options = CheckOptions {
        read_packs: Some(repository.packs().unwrap().into_keys().collect()),
        threads: 2,
        ..Default::default()
    };
    let report = repository.check(&options, &Counters::default(), &Cancel::new());
    report.unwrap()
}

fn assert_reads_are_small(backend: &Faulty) {
    let log = backend.log();
    let is_large =
        |operation: &&Operation| operation.verb == Verb::LoadAt && operation.bytes > READ_MAX_BYTES;
    assert_eq!(log.iter().find(is_large), None);
}

#[test]
fn sizes_that_no_pack_can_have_are_findings() {
    let dir = tempfile::tempdir().unwrap();
    let lies = FaultPlan::from(0, Fault::ListHuge);
    let is_pack = |operation: &Operation| operation.kind == Some(FileKind::Pack);
    let (backend, repository) = world(&dir, lies.only(is_pack));
    let packs: BTreeSet<Id> = repository.packs().unwrap().into_keys().collect();
    assert!(packs.len() > 2);
    let report = check(&repository);
    assert!(report.is_serious());
    let named = |kind| {
        let of_kind = report.findings.iter().filter(|found| found.kind == kind);
        of_kind.count()
    };
    assert_eq!(named(FindingKind::PackMissing), packs.len());
    assert_eq!(named(FindingKind::PackDamaged), packs.len());
    assert_eq!(report.damaged_packs, packs.into_iter().collect::<Vec<_>>());
    // Nor is there a sum that has no room for them.
    let (counters, cancel) = (Counters::default(), Cancel::new());
    let prune = Prune {
        repository: &repository,
        options: PruneOptions {
            instant_delete: true,
            ..PruneOptions::default()
        },
        forgotten: BTreeSet::new(),
        counters: &counters,
        events: &Unheard,
        cancel: &cancel,
    };
    let look = prune.look(lifeboat_repo::now()).unwrap();
    assert!(look.changes().count() > 2);
    let plan = repository.plan_index_repair(false, &counters, &cancel);
    assert!(plan.unwrap().add.is_empty());
    assert_reads_are_small(&backend);
}

#[test]
fn a_sparse_file_is_no_pack_and_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let (backend, repository) = world(&dir, FaultPlan::none());
    let sizes = [3u64 << 30, 1 << 40];
    for size in sizes {
        let id = Id::of(&size.to_le_bytes());
        let hex = id.to_string();
        let folder = dir.path().join("r/data").join(&hex[..2]);
        std::fs::create_dir_all(&folder).unwrap();
        let file = std::fs::File::create(folder.join(&hex)).unwrap();
        file.set_len(size).unwrap();
        assert_eq!(
            backend.size(FileName::new(FileKind::Pack, id)).unwrap(),
            size
        );
    }
    let report = check(&repository);
    let damaged: Vec<_> = report
        .findings
        .iter()
        .filter(|found| found.kind == FindingKind::PackDamaged)
        .collect();
    assert_eq!(damaged.len(), sizes.len(), "{damaged:?}");
    assert_eq!(report.damaged_packs.len(), sizes.len());
    assert_reads_are_small(&backend);
}
