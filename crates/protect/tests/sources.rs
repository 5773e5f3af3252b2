//! What a source may say of its content is kept: how it is cut, that it is gone, that it is damaged, and when it was settled.

mod common;

use std::io::{Cursor, Read};
use std::path::Path;

use common::{Seen, back_up_with, init, options};
use lifeboat_flow::{
    Cancel, ChunkRule, Content, Entry, EntryKind, EntryPath, Listing, Source, SourceError,
};
use lifeboat_format::{BlobKind, Id, Timestamp, Tree};
use lifeboat_protect::{BackupOptions, ChangeRule, Parent};
use lifeboat_repo::backend::MemoryBackend;
use lifeboat_repo::{BlobReader, PackListing};
use lifeboat_state::{VolumeOptions, VolumeSource};
use lifeboat_testkit::random::Random;

/// Four files, each with something of its own.
struct Odd {
    content: Vec<u8>,
}

struct OddContent {
    bytes: Cursor<Vec<u8>>,
    rule: ChunkRule,
    faults: Vec<String>,
}

impl Read for OddContent {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        // As a pipe does: never as much as is asked for.
        let length = buf.len().min(10_007);
        self.bytes.read(&mut buf[..length])
    }
}

impl Content for OddContent {
    fn finish(&mut self) -> Result<Option<Entry>, SourceError> {
        Ok(None)
    }

    fn chunk_rule(&self) -> ChunkRule {
        self.rule
    }

    fn faults(&mut self) -> Vec<String> {
        std::mem::take(&mut self.faults)
    }
}

impl Source for Odd {
    fn list(&self, _: &EntryPath) -> Result<Listing, SourceError> {
        let names = [&b"aligned"[..], b"damaged", b"gone", b"small"];
        let file = |name| Entry::bare(name, EntryKind::File);
        Ok(Listing {
            entries: names.map(file).to_vec(),
            problems: Vec::new(),
        })
    }

    fn open(&self, path: &EntryPath) -> Result<Box<dyn Content>, SourceError> {
        let rule = match path.name() {
            b"aligned" => ChunkRule::Aligned { bytes: 16_384 },
            b"small" => ChunkRule::Small,
            b"gone" => {
                return Err(SourceError::Gone {
                    path: path.display(),
                });
            }
            _ => ChunkRule::Restic,
        };
        let is_damaged = path.name() == b"damaged";
        Ok(Box::new(OddContent {
            bytes: Cursor::new(self.content.clone()),
            rule,
            faults: is_damaged
                .then(|| "block 7".to_owned())
                .into_iter()
                .collect(),
        }))
    }
}

#[test]
fn content_is_cut_as_its_source_says_and_what_is_wrong_with_it_is_kept() {
    let content = Random::new(11).bytes(1_000_000);
    let source = Odd {
        content: content.clone(),
    };
    let (repository, seen) = (init(MemoryBackend::new()), Seen::default());
    let outcome = back_up_with(&repository, &source, options(None), &seen).unwrap();
    assert_eq!(outcome.problems, 1);
    let problems = seen.problems();
    assert!(
        problems.len() == 1 && problems[0].contains("block 7"),
        "{problems:?}"
    );
    let (index, _) = repository
        .load_index(PackListing::Skip, &Cancel::new())
        .unwrap();
    let reader = BlobReader::new(&repository, &index);
    let tree: Tree = reader.tree(outcome.tree).unwrap();
    let names: Vec<&[u8]> = tree.nodes.iter().map(|node| node.name.as_slice()).collect();
    assert_eq!(names, [&b"aligned"[..], b"damaged", b"small"]);
    let pages: Vec<Id> = content.chunks(16_384).map(Id::of).collect();
    assert_eq!(
        tree.find(b"aligned").unwrap().content.as_ref(),
        Some(&pages)
    );
    let damaged = tree.find(b"damaged").unwrap();
    assert_eq!(damaged.error, "block 7");
    // What is not aligned comes back whole too, in pieces of the right size.
    let (mut all, mut blob) = (Vec::new(), Vec::new());
    let small = tree.find(b"small").unwrap().content.clone().unwrap();
    for (number, id) in small.iter().enumerate() {
        reader.read(BlobKind::Data, *id, &mut blob).unwrap();
        let is_last = number + 1 == small.len();
        assert!(
            is_last || (16 << 10..=256 << 10).contains(&blob.len()),
            "{}",
            blob.len()
        );
        all.extend_from_slice(&blob);
    }
    assert!(small.len() >= 4 && all == content, "{}", small.len());
}

#[test]
fn a_file_that_was_touched_as_the_last_one_began_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "before").unwrap();
    let time = std::fs::metadata(&file).unwrap().modified().unwrap();
    let repository = init(MemoryBackend::new());
    let source = |path: &Path| {
        VolumeSource::new(vec![path.to_path_buf()], VolumeOptions::default()).unwrap()
    };
    let seen = Seen::default();
    let first = back_up_with(&repository, &source(dir.path()), options(None), &seen).unwrap();
    // Written again within one tick of the clock: nothing of it shows.
    std::fs::write(&file, "behind").unwrap();
    let opened = std::fs::File::options().write(true).open(&file).unwrap();
    opened.set_modified(time).unwrap();
    let with = |settled_before| BackupOptions {
        change_rule: ChangeRule {
            ignore_ctime: true,
            settled_before,
            ..ChangeRule::default()
        },
        ..options(Some(Parent {
            id: first.snapshot.unwrap(),
            tree: first.tree,
            holds: None,
        }))
    };
    let taken_over = back_up_with(&repository, &source(dir.path()), with(None), &seen).unwrap();
    assert_eq!(taken_over.summary.files_unmodified, 1);
    let hour_ago = |time: Timestamp| Timestamp {
        seconds: time.seconds - 3600,
        ..time
    };
    let now = lifeboat_repo::now();
    let read = back_up_with(
        &repository,
        &source(dir.path()),
        with(Some(hour_ago(now))),
        &seen,
    )
    .unwrap();
    assert_eq!(read.summary.files_changed, 1);
    assert_ne!(read.tree, taken_over.tree);
    let in_an_hour = Timestamp {
        seconds: now.seconds + 3600,
        ..now
    };
    let settled = back_up_with(
        &repository,
        &source(dir.path()),
        with(Some(in_an_hour)),
        &seen,
    )
    .unwrap();
    assert_eq!(settled.summary.files_unmodified, 1);
    assert_eq!(seen.problems(), Vec::<String>::new());
}
