//! A repository made by hand, with a key so cheap that restic answers at once, and with any history in no time.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;

use lifeboat_format::{
    Config, Id, KeyFile, KeyMaking, KeyParams, MasterKey, Nonce, Snapshot, Timestamp,
};
use lifeboat_plan::SnapshotFacts;
use lifeboat_testkit::random::Random;
use lifeboat_testkit::restic::{PASSWORD, Restic};
use tempfile::TempDir;

/// Costs that no real key should have; restic takes what the key file says.
const CHEAP: KeyParams = KeyParams { n: 2, r: 1, p: 1 };

const NONCE_BYTES: usize = size_of::<Nonce>();

pub(crate) struct Repository {
    dir: TempDir,
    key: MasterKey,
    nonces: Cell<u128>,
}

impl Repository {
    pub(crate) fn create() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["data", "index", "keys", "locks", "snapshots"] {
            fs::create_dir_all(dir.path().join("repository").join(folder)).unwrap();
        }
        let key = MasterKey::from_bytes(&[0x5a; MasterKey::BYTES]);
        let repository = Self {
            dir,
            key,
            nonces: Cell::new(1),
        };
        let made = KeyMaking {
            created: "2024-01-01T00:00:00Z".parse().unwrap(),
            username: "me",
            hostname: "here",
        };
        let file = KeyFile::protect(
            &repository.key,
            PASSWORD.as_bytes(),
            CHEAP,
            [7; 64],
            &repository.nonce(),
            made,
        );
        let file = file.unwrap().to_json();
        fs::write(
            repository
                .path()
                .join("keys")
                .join(Id::of(&file).to_string()),
            file,
        )
        .unwrap();
        let config = Config {
            version: 2,
            id: Id::of(b"by hand").to_string(),
            // That of restic's design document.
            chunker_polynomial: serde_json::from_str("\"25b468838dcb75\"").unwrap(),
        };
        fs::write(
            repository.path().join("config"),
            repository.sealed(&config.to_json()),
        )
        .unwrap();
        repository
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("repository")
    }

    /// A place beside the repository.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn restic(&self) -> Restic {
        Restic::current(&self.path())
    }

    /// Stores a snapshot with these facts and gives it its ID.
    pub(crate) fn store(&self, mut facts: SnapshotFacts) -> SnapshotFacts {
        let snapshot = Snapshot {
            time: facts.time,
            parent: None,
            tree: Id::of(b"no tree that anybody reads"),
            paths: facts.paths.clone(),
            hostname: facts.hostname.clone(),
            username: String::new(),
            uid: 0,
            gid: 0,
            excludes: Vec::new(),
            tags: facts.tags.clone(),
            original: None,
            whole: None,
            program_version: String::new(),
            summary: None,
        };
        let sealed = self.sealed(&snapshot.to_json());
        facts.id = Id::of(&sealed);
        fs::write(
            self.path().join("snapshots").join(facts.id.to_string()),
            sealed,
        )
        .unwrap();
        facts
    }

    fn sealed(&self, plain: &[u8]) -> Vec<u8> {
        let mut out = vec![0; NONCE_BYTES];
        out.extend_from_slice(plain);
        self.key.seal(&self.nonce(), &mut out).unwrap();
        out
    }

    fn nonce(&self) -> Nonce {
        let next = self.nonces.get();
        self.nonces.set(next + 1);
        next.to_be_bytes()
    }
}

/// Facts of a snapshot that is yet to be stored.
pub(crate) fn facts(
    time: Timestamp,
    hostname: &str,
    paths: &[&str],
    tags: &[&str],
) -> SnapshotFacts {
    let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    SnapshotFacts {
        id: Id::default(),
        time,
        hostname: hostname.to_owned(),
        paths: strings(paths),
        tags: strings(tags),
    }
}

/// Some of these words, each at most once.
pub(crate) fn some<'a>(random: &mut Random, words: &[&'a str], percent: u64) -> Vec<&'a str> {
    words
        .iter()
        .copied()
        .filter(|_| random.chance(percent))
        .collect()
}
