//! What `restic backup --exclude` leaves out and `restic restore --include` brings back, over a tree of odd names.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use lifeboat_plan::{Case, PatternSet, parse_pattern_lines};
use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::{Note, seed};
use lifeboat_testkit::restic::{Restic, Said};
use serde_json::Value;

use crate::repository::Repository;

const RANDOM_SETS: usize = 12;
const RANDOM_SETS_SOAK: usize = 600;

/// Names of directories, on each of three levels, and of files in each of them.
const DIRECTORIES: &[&[u8]] = &[
    b"a",
    b"cache",
    b"Cache",
    b"x y",
    "\u{e4}\u{df}".as_bytes(),
    b"[b]",
    b"\xff\xfe",
];
const FILES: &[&[u8]] = &[
    b"a",
    b"b.txt",
    b"B.TXT",
    b"b.TXT.gz",
    b".hidden",
    b"*",
    b"a\\b",
    b"c]d",
    b"!bang",
    b"#hash",
    b" lead",
    b"$HOME",
    "\u{c9}".as_bytes(),
    "\u{130}".as_bytes(),
    "\u{2603}.md".as_bytes(),
    b"\xe9",
    b"x\xff",
    b"new\nline",
    b"-rf",
    b"...",
    b"~",
];

/// Sets of patterns; `BASE` stands for the tree's path.
const SETS: &[&[&str]] = &[
    &["a"],
    &["*"],
    &["**"],
    &["/"],
    &["*.txt"],
    &["*.TXT"],
    &["b.*"],
    &["?"],
    &["??"],
    &["[!a]"],
    &["[^a]"],
    &["[a-c]"],
    &["\\*"],
    &["a\\\\b"],
    &["c]d"],
    &["\\[b\\]"],
    &["[[]b[\\]]"],
    &["[[]b]"],
    &["cache/*"],
    &["cache/"],
    &["cache/a"],
    &["cache/**/a"],
    &["cache/**"],
    &["/**/cache/**"],
    &["**/cache/**"],
    &["BASE/a"],
    &["BASE/*/a"],
    &["BASE/**/a"],
    &["BASE/a/../cache"],
    &["BASE"],
    &["BASE/*", "!BASE/cache"],
    &["*", "!*.txt"],
    &["*.txt", "!b.txt", "cache"],
    &["!a", "a"],
    &["!!bang"],
    &["\\!bang"],
    &["#hash"],
    &[" lead"],
    &["$HOME"],
    &["\u{c9}"],
    &["\u{e9}"],
    &["\u{e4}?"],
    &["[\u{e0}-\u{ef}]*"],
    &["\u{2603}*"],
    &["i"],
    &["x?"],
    &["[\u{fffd}]"],
    &["new\nline"],
    &["..."],
    &["", "a"],
    &["a/"],
    &["./a"],
    &["a//a"],
    &["-rf"],
    &["~"],
];

#[test]
fn backups_leave_out_what_restic_leaves_out() {
    let tree = Tree::create();
    tree.for_each_set(|patterns, case| {
        let flag = if case == Case::Sensitive {
            "--exclude"
        } else {
            "--iexclude"
        };
        let mut arguments: Vec<OsString> = ["backup", "--dry-run", "--json", "--verbose=2"]
            .map(OsString::from)
            .to_vec();
        for pattern in patterns {
            arguments.extend([OsString::from(flag), OsString::from_vec(pattern.clone())]);
        }
        arguments.push(tree.base.clone().into_os_string());
        let theirs = reported(&tree.restic.run(&arguments), "new");
        let set = PatternSet::parse(patterns, case).unwrap();
        let mut ours = BTreeSet::new();
        walk(Path::new("/"), &tree.base, &mut |path, is_dir| {
            let keep = tree.is_asked_for(path) || !set.decide(path.as_os_str().as_bytes()).matched;
            if keep {
                ours.insert(as_reported(path, is_dir));
            }
            keep
        });
        (ours, theirs)
    });
}

#[test]
fn restores_bring_back_what_restic_brings_back() {
    let tree = Tree::create();
    tree.restic.run(&[
        OsStr::new("backup"),
        OsStr::new("--quiet"),
        tree.base.as_os_str(),
    ]);
    tree.for_each_set(|patterns, case| {
        let flag = if case == Case::Sensitive {
            "--include"
        } else {
            "--iinclude"
        };
        let mut arguments: Vec<OsString> =
            ["restore", "latest", "--dry-run", "--json", "--verbose=2"]
                .map(OsString::from)
                .to_vec();
        arguments.extend([
            OsString::from("--target"),
            tree.base.join("../nowhere").into_os_string(),
        ]);
        for pattern in patterns {
            arguments.extend([OsString::from(flag), OsString::from_vec(pattern.clone())]);
        }
        let theirs: BTreeSet<String> = reported(&tree.restic.run(&arguments), "restored");
        let set = PatternSet::parse(patterns, case).unwrap();
        let mut ours = BTreeSet::new();
        walk(Path::new("/"), &tree.base, &mut |path, is_dir| {
            let answer = set.decide(path.as_os_str().as_bytes());
            if answer.matched && !is_dir {
                ours.insert(as_reported(path, is_dir));
            }
            answer.child_may_match
        });
        // Directories are also made for what is in them, and are not compared.
        (
            ours,
            theirs
                .into_iter()
                .filter(|path| !tree.directories.contains(path))
                .collect(),
        )
    });
}

#[test]
fn pattern_files_are_read_as_by_restic() {
    let tree = Tree::create();
    let restic = tree
        .repository
        .restic()
        .with_variable("LIFEBOAT_TEST_NAME", "cache")
        .with_variable("LIFEBOAT_TEST_STAR", "*.txt");
    let file = tree.repository.beside("patterns");
    let variables = |name: &[u8]| match name {
        b"LIFEBOAT_TEST_NAME" => Some(b"cache".to_vec()),
        b"LIFEBOAT_TEST_STAR" => Some(b"*.txt".to_vec()),
        _ => None,
    };
    let texts: &[&[u8]] = &[
        b"a\n# comment\n  *.txt  \n\n",
        b"$LIFEBOAT_TEST_NAME\n",
        b"${LIFEBOAT_TEST_NAME}/a\n",
        b"\t${LIFEBOAT_TEST_STAR}\r\n!b.txt\r\n",
        b"$$HOME",
        b"$LIFEBOAT_TEST_NAMES\n$LIFEBOAT_TEST_UNSET/a\n",
        b"${LIFEBOAT_TEST_NAME\n",
        b"${}a",
        b"\xef\xbb\xbfa\n",
        b"\xff\xfea\0\n\0.\0h\0*\0",
        b"\xfe\xff\0a\0\n\0.\0h\0*",
        b"\xff\xff\n\xe9\n",
        "\u{a0}a\u{2003}\n".as_bytes(),
        b"x\xff",
        b"",
        b"#a",
        b"!a\n*\n!cache",
    ];
    for text in texts {
        fs::write(&file, text).unwrap();
        let arguments = [
            "backup",
            "--dry-run",
            "--json",
            "--verbose=2",
            "--exclude-file",
        ]
        .map(OsStr::new);
        let arguments = [&arguments[..], &[file.as_os_str(), tree.base.as_os_str()]].concat();
        let theirs = reported(&restic.run(&arguments), "new");
        let set = PatternSet::new(
            parse_pattern_lines(text, "patterns", Case::Sensitive, &variables).unwrap(),
        );
        let mut ours = BTreeSet::new();
        walk(Path::new("/"), &tree.base, &mut |path, is_dir| {
            let keep = tree.is_asked_for(path) || !set.decide(path.as_os_str().as_bytes()).matched;
            if keep {
                ours.insert(as_reported(path, is_dir));
            }
            keep
        });
        assert_eq!(ours, theirs, "{:?}", String::from_utf8_lossy(text));
    }
}

#[test]
fn broken_patterns_are_refused_where_restic_refuses_them() {
    let tree = Tree::create();
    for pattern in [
        "[", "a[", "[]", "[^]", "[a-]", "[-a]", "a\\", "a/b[/c", "[a/b]", "!x[", "a]", "[a]",
        "a\\\\", "[\\]]", "*[", "[[]b[]]", "{a",
    ] {
        let said = tree.restic.try_run(&[
            "backup",
            "--dry-run",
            "--exclude",
            pattern,
            tree.base.to_str().unwrap(),
        ]);
        let ours = PatternSet::parse([pattern], Case::Sensitive);
        assert_eq!(
            ours.is_ok(),
            said.status.success(),
            "{pattern}: {}",
            said.stderr
        );
    }
}

struct Tree {
    repository: Repository,
    restic: Restic,
    base: PathBuf,
    /// The directories above, in and below the base, as restic reports them on a restore.
    directories: BTreeSet<String>,
}

impl Tree {
    fn create() -> Self {
        let repository = Repository::create();
        let base = repository.beside("tree").canonicalize_parent();
        for first in DIRECTORIES {
            for second in DIRECTORIES.iter().step_by(3) {
                let dir = base
                    .join(OsStr::from_bytes(first))
                    .join(OsStr::from_bytes(second));
                fs::create_dir_all(&dir).unwrap();
                for place in [&base, dir.parent().unwrap(), &dir] {
                    for file in FILES {
                        let path = place.join(OsStr::from_bytes(file));
                        if !path.exists() {
                            fs::write(path, b"").unwrap();
                        }
                    }
                }
            }
        }
        let restic = repository.restic();
        let mut directories = BTreeSet::new();
        walk(Path::new("/"), &base, &mut |path, is_dir| {
            if is_dir {
                directories.insert(as_reported(path, false));
            }
            true
        });
        Self {
            repository,
            restic,
            base,
            directories,
        }
    }

    /// Whether it is the tree itself, which restic never leaves out when it is named, or lies above it.
    fn is_asked_for(&self, path: &Path) -> bool {
        self.base.starts_with(path)
    }

    /// Calls `compare` with each set of patterns in both cases, and wants the two sets of paths it gives to be equal.
    fn for_each_set(
        &self,
        mut compare: impl FnMut(&[Vec<u8>], Case) -> (BTreeSet<String>, BTreeSet<String>),
    ) {
        let seed = seed();
        let _note = Note::seed(seed);
        let mut random = Random::new(seed);
        let base = self.base.to_str().unwrap();
        let written = SETS.iter().map(|set| {
            set.iter()
                .map(|pattern| pattern.replace("BASE", base).into_bytes())
                .collect()
        });
        let mut sets: Vec<Vec<Vec<u8>>> = written.collect();
        sets.push(vec![b"\xff*".to_vec()]);
        sets.push(vec![b"x\xff".to_vec()]);
        sets.push(vec![b"\xe9".to_vec()]);
        let soak = std::env::var_os("LIFEBOAT_SOAK").is_some();
        let random_sets = if soak { RANDOM_SETS_SOAK } else { RANDOM_SETS };
        sets.extend((0..random_sets).map(|_| random_set(&mut random, base)));
        let mut something = 0;
        for (number, set) in sets.iter().enumerate() {
            let case = if number % 3 == 2 {
                Case::Insensitive
            } else {
                Case::Sensitive
            };
            let (ours, theirs) = compare(set, case);
            let texts: Vec<_> = set
                .iter()
                .map(|pattern| String::from_utf8_lossy(pattern))
                .collect();
            let differences: Vec<_> = ours.symmetric_difference(&theirs).take(10).collect();
            assert!(
                differences.is_empty(),
                "{case:?} {texts:?}: {differences:?}"
            );
            something += usize::from(!ours.is_empty());
        }
        assert!(
            something * 2 > sets.len(),
            "only {something} sets found anything"
        );
    }
}

/// Patterns that are made of the tree's own names, so that they match something.
fn random_set(random: &mut Random, base: &str) -> Vec<Vec<u8>> {
    let mut set = Vec::new();
    while set.is_empty() || random.chance(50) {
        let mut pattern = Vec::new();
        if random.chance(20) {
            pattern.push(b'!');
        }
        match random.below(4) {
            0 => pattern.extend_from_slice(format!("{base}/").as_bytes()),
            1 => pattern.extend_from_slice(b"/**/"),
            _ => {}
        }
        for part in 0..1 + random.below(3) {
            if part > 0 {
                pattern.push(b'/');
            }
            match random.below(5) {
                0 => pattern.extend_from_slice(b"**"),
                1 => pattern.push(b'*'),
                2 => pattern.extend_from_slice(
                    random
                        .pick(&["?*", "[a-c]*", "*.*", "[^a]*", "*a*"])
                        .as_bytes(),
                ),
                _ => {
                    let names = if random.chance(50) {
                        DIRECTORIES
                    } else {
                        FILES
                    };
                    for byte in *random.pick(names) {
                        if b"\\[]*?!".contains(byte) {
                            pattern.push(b'\\');
                        }
                        pattern.push(*byte);
                    }
                }
            }
        }
        set.push(pattern);
    }
    set
}

/// Goes from `at` down the way to `base` and through all below it; `visit` says whether to go below a directory.
fn walk(at: &Path, base: &Path, visit: &mut dyn FnMut(&Path, bool) -> bool) {
    let mut paths: Vec<PathBuf> = if at.starts_with(base) {
        fs::read_dir(at)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    } else {
        base.ancestors()
            .filter(|above| above.parent() == Some(at))
            .map(Path::to_path_buf)
            .collect()
    };
    paths.sort();
    for path in paths {
        let is_dir = path.is_dir();
        if visit(&path, is_dir) && is_dir {
            walk(&path, base, visit);
        }
    }
}

/// The paths that restic reports with an action.
fn reported(said: &Said, action: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for line in said.lines() {
        let message: Value = serde_json::from_str(&line).unwrap();
        if message["action"] == action {
            paths.insert(message["item"].as_str().unwrap().to_owned());
        }
    }
    paths
}

/// A path as restic reports it: in JSON there is no place for what is no UTF-8.
fn as_reported(path: &Path, is_dir: bool) -> String {
    let mut out = String::new();
    // Go replaces each byte on its own.
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    if is_dir {
        out.push('/');
    }
    out
}

trait CanonicalParent {
    fn canonicalize_parent(self) -> PathBuf;
}

impl CanonicalParent for PathBuf {
    /// The same name in the real path of its directory: restic walks the path that it is given.
    fn canonicalize_parent(self) -> PathBuf {
        let parent = self.parent().unwrap().canonicalize().unwrap();
        parent.join(self.file_name().unwrap())
    }
}
