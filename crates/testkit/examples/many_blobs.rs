//! Makes a repository of as many blobs as is asked for, to measure what grows with the index: index files of restic's size,
//! sparse packs of the right length without content, and one snapshot whose trees are real.
//! It must never be taken for a backup: no data blob of it can be read.

use std::fs::{self, File};
use std::io::{Write, stdout};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, RwLock};

use lifeboat_format::{BlobKind, Id, IndexBlob, IndexFile, IndexPack, Node, NodeKind, Tree};
use lifeboat_repo::backend::{FileKind, LocalBackend};
use lifeboat_repo::{Identity, Index, Ingest, IngestOptions, KeyCost, RepoError, Repository};
use lifeboat_testkit::bare;

/// What restic puts into one index file.
const BLOBS_OF_A_FILE: u32 = 50_000;
/// 16 MiB packs of blobs of some 160 KiB each.
const BLOBS_OF_A_PACK: u32 = 100;
/// Of so many packs one is used by nothing, so that a prune has something to do.
const UNUSED_PACK_EVERY: u32 = 10;
/// Packs whose blobs one directory uses, as one file each.
const PACKS_OF_A_DIRECTORY: u32 = 100;
/// Lengths of blobs lie between this …
const BLOB_MIN_BYTES: u32 = 1_000;
/// … and so much more, in bytes.
const BLOB_SPREAD_BYTES: u32 = 320_000;

const USAGE: &str = "usage: many_blobs DIRECTORY BLOBS [trees]
makes a repository with the password \"password\" in DIRECTORY; with `trees` its snapshot uses nine tenths of the blobs";

fn id_of(kind: &str, number: u32) -> Id {
    Id::of(format!("{kind} {number}").as_bytes())
}

fn blob(number: u32) -> (Id, u32) {
    let id = id_of("blob", number);
    let spread = u32::from_le_bytes([id.0[28], id.0[29], id.0[30], id.0[31]]);
    (id, BLOB_MIN_BYTES + spread % BLOB_SPREAD_BYTES)
}

fn pack(number: u32) -> IndexPack {
    let mut offset_bytes = 0;
    let blobs = (0..BLOBS_OF_A_PACK).map(|at| {
        let (id, length_bytes) = blob(number * BLOBS_OF_A_PACK + at);
        let place = IndexBlob {
            id,
            kind: BlobKind::Data,
            offset_bytes,
            length_bytes,
            raw_length_bytes: plain_bytes(length_bytes),
        };
        offset_bytes += length_bytes;
        place
    });
    IndexPack {
        id: id_of("pack", number),
        blobs: blobs.collect(),
    }
}

/// As if it had been compressed to two thirds.
fn plain_bytes(length_bytes: u32) -> u32 {
    length_bytes / 2 * 3
}

/// An index file with its packs.
fn write_file(repository: &Repository, root: &Path, packs: std::ops::Range<u32>) {
    let file = IndexFile {
        packs: packs.map(pack).collect(),
        packs_to_delete: Vec::new(),
    };
    for pack in &file.packs {
        let hex = pack.id.to_string();
        let path = root.join("data").join(&hex[..2]).join(hex);
        let sparse = File::create(path).expect("a pack");
        sparse.set_len(pack.expected_bytes()).expect("its length");
    }
    repository
        .save_json(FileKind::Index, &file.to_json())
        .expect("an index file");
}

/// A tree of directories whose files use all packs but some, and its ID.
fn write_trees(repository: &Repository, packs: u32) -> Id {
    let index = RwLock::new(Index::new());
    let mut root = Tree { nodes: Vec::new() };
    Ingest::run(
        repository,
        &index,
        None,
        IngestOptions::default(),
        |ingest| {
            let mut sealer = ingest.sealer()?;
            let mut add = |tree: &Tree| {
                let json = tree.to_json().expect("a tree");
                let id = Id::of(&json);
                ingest.add(BlobKind::Tree, id, &json, &mut sealer)?;
                Ok::<_, RepoError>(id)
            };
            for first in (0..packs).step_by(PACKS_OF_A_DIRECTORY as usize) {
                let last = packs.min(first + PACKS_OF_A_DIRECTORY);
                let used = (first..last).filter(|pack| pack % UNUSED_PACK_EVERY != 0);
                let nodes = used.map(|pack| {
                    let blobs = pack * BLOBS_OF_A_PACK..(pack + 1) * BLOBS_OF_A_PACK;
                    let blobs: Vec<(Id, u32)> = blobs.map(blob).collect();
                    let mut file = Node::bare(format!("{pack:08}").as_bytes(), NodeKind::File);
                    let sizes = blobs
                        .iter()
                        .map(|(_, bytes)| u64::from(plain_bytes(*bytes)));
                    file.size_bytes = sizes.sum();
                    file.content = Some(blobs.iter().map(|(id, _)| *id).collect());
                    file
                });
                let tree = Tree {
                    nodes: nodes.collect(),
                };
                let mut directory = Node::bare(format!("{first:08}").as_bytes(), NodeKind::Dir);
                directory.subtree = Some(add(&tree)?);
                root.nodes.push(directory);
            }
            add(&root)
        },
    )
    .expect("trees")
    .0
}

fn make(root: &Path, blobs: u32, trees: bool) {
    let backend = Arc::new(LocalBackend::new(root));
    let who = Identity::default();
    let repository = Repository::init(backend, b"password", 2, None, &who, KeyCost::Test);
    let repository = repository.expect("a new repository");
    for first in 0..=u8::MAX {
        fs::create_dir_all(root.join(format!("data/{first:02x}"))).expect("a folder");
    }
    let packs = blobs / BLOBS_OF_A_PACK;
    let of_a_file = BLOBS_OF_A_FILE / BLOBS_OF_A_PACK;
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let first = next.fetch_add(of_a_file, Ordering::Relaxed);
                    if first >= packs {
                        return;
                    }
                    write_file(&repository, root, first..packs.min(first + of_a_file));
                }
            });
        }
    });
    let tree = write_trees(&repository, if trees { packs } else { packs.min(10) });
    repository
        .save_snapshot(&bare::snapshot(tree))
        .expect("a snapshot");
}

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let parts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (directory, blobs, trees) = match parts.as_slice() {
        [directory, blobs] => (directory, blobs.parse(), false),
        [directory, blobs, "trees"] => (directory, blobs.parse(), true),
        _ => return writeln!(stdout(), "{USAGE}"),
    };
    match blobs {
        Ok(blobs) => make(Path::new(directory), blobs, trees),
        Err(_) => return writeln!(stdout(), "{USAGE}"),
    }
    writeln!(stdout(), "{}", blob(0).0)
}
