//! A repository to damage: what is in it, the ways to damage a file of it, and what must hold afterwards.

use super::*;

pub(crate) const SECOND_PASSWORD: &[u8] = b"second";

/// A repository with two snapshots, whose states are kept beside it.
pub(crate) struct Fixture {
    pub(crate) backend: MemoryBackend,
    pub(crate) tree: PathBuf,
    pub(crate) first: (Id, PathBuf),
    pub(crate) second: (Id, PathBuf),
    pub(crate) scratch: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn new(seed: u64) -> Self {
        let scratch = common::scratch();
        let tree = scratch.path().join("tree");
        small_tree(&tree, seed);
        let backend = MemoryBackend::new();
        let repository = init(backend.clone());
        let snapshot = |state: &str| {
            let kept = scratch.path().join(state);
            let outcome = back_up(&repository, &tree, &Seen::default()).unwrap();
            copy(&tree, &kept);
            (outcome.snapshot.unwrap(), kept)
        };
        let first = snapshot("first state");
        std::fs::remove_file(tree.join("a/file 1")).unwrap();
        let mut random = Random::new(seed ^ 1);
        std::fs::create_dir(tree.join("new")).unwrap();
        for number in 0..4 {
            let content = random.bytes(90_000 + number);
            std::fs::write(tree.join(format!("new/file {number}")), content).unwrap();
        }
        let second = snapshot("second state");
        Self {
            backend,
            tree,
            first,
            second,
            scratch,
        }
    }

    pub(crate) fn snapshots(&self) -> [&(Id, PathBuf); 2] {
        [&self.first, &self.second]
    }

    pub(crate) fn names(&self, kind: FileKind) -> Vec<FileName> {
        let files = self.backend.files();
        let names = files.into_iter().map(|(name, _)| name);
        names.filter(|name| name.kind == kind).collect()
    }

    pub(crate) fn content(&self, name: FileName) -> Vec<u8> {
        self.backend.load(name, u64::MAX).unwrap()
    }
}

/// What happens to some files: new content, or none.
pub(crate) struct Damage {
    pub(crate) what: String,
    pub(crate) changes: Vec<(FileName, Option<Vec<u8>>)>,
}

impl Damage {
    pub(crate) fn apply(&self, to: &MemoryBackend) -> MemoryBackend {
        let damaged = to.fork();
        for (name, content) in &self.changes {
            match content {
                Some(content) => damaged.save(*name, &[content]).unwrap(),
                None => damaged.remove(*name).unwrap(),
            }
        }
        damaged
    }

    pub(crate) fn files(&self) -> BTreeSet<FileName> {
        self.changes.iter().map(|(name, _)| *name).collect()
    }

    /// Whether a file is gone, or so short that its size alone betrays it.
    pub(crate) fn is_gone(&self) -> bool {
        self.what == "missing" || self.what == "empty"
    }
}

/// All damages of one file; bits are flipped at these offsets.
pub(crate) fn damages(
    name: FileName,
    content: &[u8],
    other: Option<(FileName, Vec<u8>)>,
    offsets: &[(String, usize)],
) -> Vec<Damage> {
    let one = |what: &str, content: Option<Vec<u8>>| Damage {
        what: what.to_owned(),
        changes: vec![(name, content)],
    };
    let mut all = vec![
        one("missing", None),
        one("empty", Some(Vec::new())),
        one("half", Some(content[..content.len() / 2].to_vec())),
        one(
            "without its last byte",
            Some(content[..content.len() - 1].to_vec()),
        ),
    ];
    for (what, at) in offsets {
        for bit in [0, 7] {
            let mut flipped = content.to_vec();
            flipped[*at] ^= 1 << bit;
            all.push(one(
                &format!("bit {bit} of {what} at {at} flipped"),
                Some(flipped),
            ));
        }
    }
    if let Some((other, its_content)) = other {
        all.push(Damage {
            what: "swapped with another".to_owned(),
            changes: vec![(name, Some(its_content)), (other, Some(content.to_vec()))],
        });
    }
    all
}

/// Offsets in a file that is one ciphertext: nonce, body, tag.
pub(crate) fn offsets_of_sealed(length: usize) -> Vec<(String, usize)> {
    vec![
        ("nonce".into(), 3),
        ("body".into(), 16 + (length - 32) / 2),
        ("tag".into(), length - 2),
    ]
}

pub(crate) fn findings_of(
    repository: &Repository,
    kinds: &[FindingKind],
) -> BTreeMap<FindingKind, BTreeSet<String>> {
    let mut found: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for finding in check_all(repository).findings {
        assert!(
            kinds.contains(&finding.kind),
            "unexpected finding: {finding:?}"
        );
        assert_eq!(finding.serious, finding.kind != FindingKind::PackUnindexed);
        found.entry(finding.kind).or_default().insert(finding.what);
    }
    found
}

/// Both snapshots come back whole.
pub(crate) fn assert_all_restores(
    repository: &Arc<Repository>,
    fixture: &Fixture,
    but: Option<Id>,
) {
    for (snapshot, kept) in fixture.snapshots() {
        if Some(*snapshot) == but {
            continue;
        }
        let to = tempfile::tempdir_in(fixture.scratch.path()).unwrap();
        let seen = Seen::default();
        restore(
            repository,
            *snapshot,
            &fixture.tree,
            to.path(),
            |_| {},
            &seen,
        )
        .unwrap();
        assert_eq!(seen.problems(), Vec::<String>::new());
        same().assert_same(kept, to.path());
    }
}

/// A new backup works, and its snapshot comes back.
pub(crate) fn assert_next_backup(backend: &MemoryBackend, fixture: &Fixture) {
    let repository = open(backend.clone()).unwrap();
    let seen = Seen::default();
    let outcome = back_up(&repository, &fixture.tree, &seen).unwrap();
    assert_eq!(seen.problems(), Vec::<String>::new());
    let to = tempfile::tempdir_in(fixture.scratch.path()).unwrap();
    let snapshot = outcome.snapshot.unwrap();
    let seen = Seen::default();
    let restored = restore(
        &repository,
        snapshot,
        &fixture.tree,
        to.path(),
        |o| o.verify = true,
        &seen,
    );
    assert_eq!(restored.unwrap().problems, 0, "{:?}", seen.problems());
    same().assert_same(&fixture.second.1, to.path());
}
