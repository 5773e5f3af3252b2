//! A check of a repository with hundreds of thousands of blobs takes no more memory for them than the index itself and a few
//! bytes each, counted by what is allocated for them.

use std::sync::Arc;

use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::{
    BlobKind, CompressionMode, Id, IndexBlob, IndexFile, IndexPack, Node, NodeKind, Tree,
};
use lifeboat_repo::backend::{FileKind, MemoryBackend};
use lifeboat_repo::{
    CheckOptions, FindingKind, Identity, Index, Ingest, IngestOptions, KeyCost, Repair, RepoError,
    Repository,
};
use lifeboat_testkit::bare;

const BLOBS: u32 = 300_000;
const BLOBS_OF_A_PACK: u32 = 50;
const PACKS_OF_A_FILE: u32 = 1_000;

fn id(kind: &str, number: u32) -> Id {
    Id::of(format!("{kind} {number}").as_bytes())
}

/// Index files that name packs which are not there.
fn write_index(repository: &Repository) {
    let pack = |number: u32| IndexPack {
        id: id("pack", number),
        blobs: (0..BLOBS_OF_A_PACK)
            .map(|at| IndexBlob {
                id: id("blob", number * BLOBS_OF_A_PACK + at),
                kind: BlobKind::Data,
                offset_bytes: at * 1000,
                length_bytes: 1000,
                raw_length_bytes: 0,
            })
            .collect(),
    };
    let packs: Vec<u32> = (0..BLOBS / BLOBS_OF_A_PACK).collect();
    for numbers in packs.chunks(PACKS_OF_A_FILE as usize) {
        let file = IndexFile {
            packs: numbers.iter().map(|number| pack(*number)).collect(),
            packs_to_delete: Vec::new(),
        };
        repository
            .save_json(FileKind::Index, &file.to_json())
            .unwrap();
    }
}

/// A snapshot of one file that needs every second blob.
fn write_snapshot(repository: &Repository) {
    let content: Vec<Id> = (0..BLOBS)
        .step_by(2)
        .map(|number| id("blob", number))
        .collect();
    let mut file = Node::bare(b"file", NodeKind::File);
    file.size_bytes = content.len() as u64 * (1000 - 32);
    file.content = Some(content);
    let json = Tree { nodes: vec![file] }.to_json().unwrap();
    let tree = Id::of(&json);
    let index = std::sync::RwLock::new(Index::new());
    let options = IngestOptions {
        compression: CompressionMode::Auto,
        ..IngestOptions::default()
    };
    Ingest::run(repository, &index, None, options, |ingest| {
        ingest.add(BlobKind::Tree, tree, &json, &mut ingest.sealer()?)?;
        Ok::<_, RepoError>(())
    })
    .unwrap();
    repository.save_snapshot(&bare::snapshot(tree)).unwrap();
}

#[test]
fn a_check_takes_little_more_memory_than_the_index() {
    let backend = Arc::new(MemoryBackend::new());
    let who = Identity::default();
    let repository = Repository::init(backend, b"password", 2, None, &who, KeyCost::Test).unwrap();
    write_index(&repository);
    write_snapshot(&repository);
    let options = CheckOptions {
        read_packs: None,
        threads: 2,
        ..Default::default()
    };
    let report = repository
        .check(&options, &Counters::default(), &Cancel::new())
        .unwrap();
    let each = report.index_memory_bytes as f64 / f64::from(BLOBS);
    assert!(each > 48.0, "an entry alone takes 48 bytes, not {each}");
    assert!(each <= 64.0, "{each} bytes for each blob");
    // What was counted was also looked at.
    assert_eq!(report.unused_blobs, u64::from(BLOBS / 2));
    let missing = report
        .findings
        .iter()
        .filter(|finding| finding.kind == FindingKind::PackMissing);
    assert_eq!(missing.count(), (BLOBS / BLOBS_OF_A_PACK) as usize);
    assert_eq!(report.findings.len(), (BLOBS / BLOBS_OF_A_PACK) as usize);
    let advised = [
        Repair::Index {
            read_all_packs: false,
        },
        Repair::Snapshots { data: true },
    ];
    assert_eq!(report.repairs, advised);
}
