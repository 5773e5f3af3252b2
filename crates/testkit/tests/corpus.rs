//! Proves for every parser that what fuzzing found stays mended: each corpus is replayed, with thousands of seeded
//! mutations, in a process that may not take much memory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use lifeboat_testkit::parsers::TARGETS;
use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::{Note, seed};

/// Says that this process is the limited one.
const LIMITED: &str = "LIFEBOAT_CORPUS_IS_LIMITED";
/// Address space for the whole replay, in bytes: threads' stacks and the allocator's arenas are in it.
const MEMORY_MAX_BYTES: u64 = 768 * 1024 * 1024;
/// Mutations of each file of a corpus.
const MUTATIONS: usize = 1500;
/// The same where each is a connection to a server.
const CONNECTIONS: usize = 150;
/// One input may take so long, also in a slow build on a busy machine.
const INPUT_MAX: Duration = Duration::from_secs(20);

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus")
}

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = corpora().join(target);
    let files =
        std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|file| (file.clone(), std::fs::read(file).unwrap()))
        .collect()
}

#[test]
fn every_parser_has_a_corpus_and_a_fuzz_target() {
    let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let names = |dir: PathBuf| -> BTreeSet<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        entries
            .map(|entry| {
                entry
                    .unwrap()
                    .path()
                    .file_stem()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    };
    assert_eq!(names(corpora()), known);
    assert_eq!(names(corpora().join("../fuzz_targets")), known);
    let manifest = std::fs::read_to_string(corpora().join("../Cargo.toml")).unwrap();
    for name in &known {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        assert!(!corpus(name).is_empty(), "{name}");
    }
}

#[test]
fn what_was_found_and_what_is_like_it_is_survived_in_little_memory() {
    if std::env::var_os(LIMITED).is_some() {
        return replay();
    }
    let seed = seed();
    let _note = Note::seed(seed);
    let limited = Command::new("prlimit")
        .arg(format!("--as={MEMORY_MAX_BYTES}"))
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "what_was_found_and_what_is_like_it_is_survived_in_little_memory",
        ])
        .env(LIMITED, "1")
        .env("LIFEBOAT_SEED", seed.to_string())
        .output()
        .expect("prlimit of util-linux");
    assert!(
        limited.status.success(),
        "{}\n{}{}",
        limited.status,
        String::from_utf8_lossy(&limited.stdout),
        String::from_utf8_lossy(&limited.stderr)
    );
}

fn replay() {
    let mut random = Random::new(seed());
    for (name, target) in TARGETS {
        let corpus = corpus(name);
        for (file, input) in &corpus {
            let _note = Note::new(format!("the input is {}", file.display()));
            timed(*target, input);
        }
        for (file, input) in &corpus {
            let mutations = match *name {
                "server" => CONNECTIONS,
                _ => MUTATIONS,
            };
            for _ in 0..mutations {
                let other = &random.pick(&corpus).1;
                let mutated = mutate(input, other, &mut random);
                let _note = Note::new(format!(
                    "the input is like {}: {:?}",
                    file.display(),
                    mutated.escape_ascii().to_string()
                ));
                timed(*target, &mutated);
            }
        }
    }
}

fn timed(target: fn(&[u8]), input: &[u8]) {
    let began = Instant::now();
    target(input);
    assert!(began.elapsed() < INPUT_MAX, "it took {:?}", began.elapsed());
}

/// One to four small changes.
fn mutate(input: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.index(bytes.len() + 1);
        match random.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.number() as u8,
            2 => bytes.truncate(at),
            3 => bytes.insert(at, *random.pick(b"\"\\{}[],:0-9.eE\x00\xff\n\x80")),
            4 => {
                let end = (at + random.index(16)).min(bytes.len());
                bytes.drain(at..end);
            }
            5 => {
                let from = random.index(other.len() + 1);
                let end = (from + random.index(64)).min(other.len());
                bytes.splice(at..at, other[from..end].iter().copied());
            }
            6 => {
                let end = (at + random.index(32)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let number = random.pick(&[
                    "-1",
                    "0",
                    "1e999",
                    "4294967295",
                    "4294967296",
                    "18446744073709551615",
                    "18446744073709551616",
                    "null",
                    "\"\"",
                    "[]",
                    "{}",
                ]);
                let digits = bytes
                    .iter()
                    .skip(at)
                    .take_while(|byte| byte.is_ascii_digit())
                    .count();
                bytes.splice(at..at + digits, number.bytes());
            }
        }
    }
    bytes
}
