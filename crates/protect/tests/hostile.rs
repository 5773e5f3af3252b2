//! Snapshots made to do harm, by somebody who could write to the repository: they can't change anything outside the
//! target, each of their tricks is named, and what is sound in them is restored.

mod common;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use common::{Seen, back_up, check_all, init, same, scratch};
use lifeboat_flow::{Cancel, Counters};
use lifeboat_format::{BlobKind, Id, Node, NodeKind, Tree};
use lifeboat_protect::{Overwrite, ProtectError, Restore, RestoreOptions, RestoreOutcome};
use lifeboat_repo::backend::{FileKind, MemoryBackend};
use lifeboat_repo::{Index, Ingest, IngestOptions, PackListing, RepoError, Repository};
use lifeboat_state::{TargetOptions, VolumeTarget};
use lifeboat_testkit::faults::{Fault, FaultPlan, FaultyBackend, Verb};
use rustix::fs::{CWD, Mode, OFlags};

/// Stores blobs as they are, also trees that no sound program would write.
struct Forge {
    backend: MemoryBackend,
    repository: Arc<Repository>,
}

impl Forge {
    fn new() -> Self {
        let backend = MemoryBackend::new();
        Self {
            repository: init(backend.clone()),
            backend,
        }
    }

    fn store(&self, blobs: &[(BlobKind, Vec<u8>)]) -> Vec<Id> {
        let index = RwLock::new(Index::new());
        let options = IngestOptions::default();
        let stored = Ingest::run(&self.repository, &index, None, options, |ingest| {
            let mut sealer = ingest.sealer()?;
            let mut ids = Vec::new();
            for (kind, plain) in blobs {
                let id = Id::of(plain);
                ingest.add(*kind, id, plain, &mut sealer)?;
                ids.push(id);
            }
            Ok::<_, RepoError>(ids)
        });
        stored.unwrap().0
    }

    fn data(&self, content: &[u8]) -> Id {
        self.store(&[(BlobKind::Data, content.to_vec())])[0]
    }

    /// A tree with these nodes in this order, whatever they are.
    fn tree(&self, nodes: &[Node]) -> Id {
        self.store(&[(BlobKind::Tree, tree_json(nodes))])[0]
    }

    fn file(&self, name: &[u8], content: &[u8]) -> Node {
        Node {
            size_bytes: content.len() as u64,
            content: Some(vec![self.data(content)]),
            ..node(name, NodeKind::File)
        }
    }

    fn dir(&self, name: &[u8], nodes: &[Node]) -> Node {
        Node {
            subtree: Some(self.tree(nodes)),
            ..node(name, NodeKind::Dir)
        }
    }

    fn restore<'a>(
        &self,
        tree: Id,
        to: &Path,
        seen: &Seen,
        change: impl FnOnce(&mut RestoreOptions<'a>),
    ) -> Result<RestoreOutcome, ProtectError> {
        let cancel = Cancel::new();
        let (index, _) = self.repository.load_index(PackListing::Skip, &cancel)?;
        let target = VolumeTarget::create(to, &TargetOptions::default())?;
        let mut options = RestoreOptions {
            overwrite: Overwrite::Always,
            delete: false,
            verify: false,
            dry_run: false,
            select: None,
            workers: 2,
            memory_bytes: lifeboat_repo::MEMORY_DEFAULT_BYTES,
        };
        change(&mut options);
        let restore = Restore {
            repository: &self.repository,
            index: &index,
            target: &target,
            options,
            counters: &Counters::default(),
            events: seen,
            cancel: &cancel,
        };
        restore.run(tree)
    }
}

/// Trees joined from trees of one node each: the encoder refuses what is out of order.
fn tree_json(nodes: &[Node]) -> Vec<u8> {
    let mut json = b"{\"nodes\":[".to_vec();
    for (number, node) in nodes.iter().enumerate() {
        let one = Tree {
            nodes: vec![node.clone()],
        };
        let one = one.to_json().unwrap();
        let one = one.strip_prefix(b"{\"nodes\":[").unwrap();
        if number > 0 {
            json.push(b',');
        }
        json.extend_from_slice(one.strip_suffix(b"]}\n").unwrap());
    }
    json.extend_from_slice(b"]}\n");
    json
}

fn node(name: &[u8], kind: NodeKind) -> Node {
    let mut node = Node::bare(name, kind);
    node.mode = lifeboat_format::Mode::new(&node.kind, 0o755);
    if rustix::process::geteuid().is_root() {
        return node;
    }
    node.uid = rustix::process::geteuid().as_raw();
    node.gid = rustix::process::getegid().as_raw();
    node
}

fn symlink(name: &[u8], to: &Path) -> Node {
    Node {
        link_target: to.as_os_str().as_bytes().to_vec(),
        ..node(name, NodeKind::Symlink)
    }
}

/// A place to restore to, beside what must never change.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = scratch();
        let place = Self { dir };
        for root in [place.outside(), place.before()] {
            fs::create_dir_all(root.join("dir")).unwrap();
            fs::write(root.join("file"), "sentinel").unwrap();
            fs::write(root.join("dir/file"), "sentinel").unwrap();
        }
        // Times of folders too, so that nothing came and went.
        for path in ["", "dir", "file", "dir/file"] {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
            for root in [place.outside(), place.before()] {
                fs::File::open(root.join(path))
                    .unwrap()
                    .set_modified(time)
                    .unwrap();
            }
        }
        place
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    fn before(&self) -> PathBuf {
        self.dir.path().join("before")
    }

    /// Deep enough that `..` several times over stays in the temporary directory.
    fn target(&self) -> PathBuf {
        self.dir.path().join("some/where/target")
    }

    fn assert_untouched(&self) {
        lifeboat_testkit::compare::Comparison::as_user()
            .assert_same(&self.before(), &self.outside());
        let mut found: Vec<_> = names(self.dir.path());
        found.extend(names(&self.dir.path().join("some")));
        found.extend(names(&self.dir.path().join("some/where")));
        assert_eq!(found, ["before", "outside", "some", "where", "target"]);
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn assert_named(problems: &[String], what: &str) {
    assert!(
        problems.iter().any(|problem| problem.contains(what)),
        "{what:?} is not in {problems:?}"
    );
}

#[test]
fn impossible_names_are_refused_and_the_rest_is_restored() {
    let forge = Forge::new();
    let place = Place::new();
    let outside = place.outside().join("file");
    let bad: Vec<Vec<u8>> = [
        b"..".as_slice(),
        b".",
        b"",
        b"a/b",
        b"/",
        b"../escaped",
        b"../../../outside/file",
        b"nul\0byte",
        outside.as_os_str().as_bytes(),
    ]
    .iter()
    .map(|name| name.to_vec())
    .collect();
    let mut nodes = vec![forge.file(b"good", b"good")];
    for name in &bad {
        nodes.push(forge.file(name, b"evil"));
        nodes.push(forge.dir(name, &[forge.file(b"file", b"evil")]));
        nodes.push(Node {
            name: name.clone(),
            ..symlink(b"x", &place.outside())
        });
    }
    let inner = forge.dir(b"inner", &nodes);
    nodes.push(inner);
    nodes.push(forge.file(b"zz", b"last"));
    let tree = forge.tree(&nodes);
    for delete in [false, true] {
        let seen = Seen::default();
        let outcome = forge
            .restore(tree, &place.target(), &seen, |o| o.delete = delete)
            .unwrap();
        assert_eq!(outcome.problems, 2 * 3 * bad.len() as u64);
        // They do not get as far as the target, which would refuse them as well.
        for problem in seen.problems() {
            assert!(problem.contains("was made to do harm"), "{problem}");
        }
        place.assert_untouched();
        assert_eq!(names(&place.target()), ["good", "inner", "zz"]);
        assert_eq!(names(&place.target().join("inner")), ["good"]);
        assert_eq!(fs::read(place.target().join("zz")).unwrap(), b"last");
        for name in &bad {
            assert_named(
                &seen.problems(),
                &format!("{:?}", String::from_utf8_lossy(name)),
            );
        }
    }
}

#[test]
fn of_two_entries_of_one_name_the_second_is_refused() {
    let forge = Forge::new();
    let place = Place::new();
    // First a link that leads outside, then what would be put through it; in order and out of order.
    let nodes = [
        symlink(b"a", &place.outside()),
        forge.dir(b"a", &[forge.file(b"file", b"evil")]),
        forge.file(b"b", b"first"),
        symlink(b"b", &place.outside().join("file")),
        symlink(b"c", &place.outside().join("file")),
        forge.file(b"c", b"evil"),
        forge.dir(b"a", &[forge.file(b"file", b"evil")]),
    ];
    let seen = Seen::default();
    let outcome = forge
        .restore(forge.tree(&nodes), &place.target(), &seen, |_| {})
        .unwrap();
    assert_eq!(outcome.problems, 4, "{:?}", seen.problems());
    place.assert_untouched();
    assert_eq!(
        fs::read_link(place.target().join("a")).unwrap(),
        place.outside()
    );
    assert_eq!(fs::read(place.target().join("b")).unwrap(), b"first");
    assert_eq!(
        fs::read_link(place.target().join("c")).unwrap(),
        place.outside().join("file")
    );
}

#[test]
fn links_of_an_earlier_restore_lead_nowhere() {
    let forge = Forge::new();
    let links = |place: &Place| {
        forge.tree(&[
            symlink(b"dir", &place.outside().join("dir")),
            symlink(b"file", &place.outside().join("file")),
            symlink(b"up", Path::new("../../../outside")),
        ])
    };
    let real = forge.tree(&[
        forge.dir(
            b"dir",
            &[
                forge.file(b"file", b"good"),
                forge.dir(b"deeper", &[forge.file(b"file", b"good")]),
            ],
        ),
        forge.file(b"file", b"good"),
        forge.dir(
            b"up",
            &[forge.file(b"file", b"good"), forge.dir(b"dir", &[])],
        ),
    ]);
    for overwrite in [
        Overwrite::Always,
        Overwrite::IfChanged,
        Overwrite::IfNewer,
        Overwrite::Never,
    ] {
        for delete in [false, true] {
            let place = Place::new();
            let target = place.target();
            forge
                .restore(links(&place), &target, &Seen::default(), |_| {})
                .unwrap();
            place.assert_untouched();
            let seen = Seen::default();
            forge
                .restore(real, &target, &seen, |options| {
                    options.overwrite = overwrite;
                    options.delete = delete;
                    options.verify = true;
                })
                .unwrap();
            place.assert_untouched();
            if matches!(overwrite, Overwrite::Always | Overwrite::IfChanged) {
                assert_eq!(seen.problems(), Vec::<String>::new());
                for path in ["dir/file", "dir/deeper/file", "file", "up/file"] {
                    assert_eq!(fs::read(target.join(path)).unwrap(), b"good", "{path}");
                    assert!(target.join(path).symlink_metadata().unwrap().is_file());
                }
            } else if overwrite == Overwrite::Never {
                assert_named(&seen.problems(), "dir");
            }
            // And back: the links come again where directories are, and those are emptied only if that is asked for.
            let seen = Seen::default();
            forge
                .restore(links(&place), &target, &seen, |o| o.delete = delete)
                .unwrap();
            place.assert_untouched();
            if delete {
                assert!(target.join("dir").symlink_metadata().unwrap().is_symlink());
            }
        }
    }
}

#[test]
fn hard_links_are_made_between_equal_files_of_the_snapshot_alone() {
    let forge = Forge::new();
    let place = Place::new();
    let linked = |name: &[u8], content: &[u8]| Node {
        links: 2,
        inode: 7,
        device_id: 1,
        ..forge.file(name, content)
    };
    let missing = Node {
        content: Some(vec![Id::of(b"nowhere")]),
        size_bytes: 7,
        inode: 9,
        ..linked(b"n1", b"")
    };
    let nodes = [
        linked(b"a1", b"same"),
        linked(b"a2", b"same"),
        linked(b"a3", b"else"),
        // Its first name is a link in the target that leads outside, see below.
        Node {
            inode: 8,
            ..linked(b"d1", b"dddd")
        },
        Node {
            inode: 8,
            ..linked(b"d2", b"dddd")
        },
        missing.clone(),
        Node {
            name: b"n2".to_vec(),
            ..missing
        },
        // The count of links says several, but there is one.
        Node {
            inode: 10,
            links: u64::MAX,
            ..linked(b"z", b"z")
        },
    ];
    let tree = forge.tree(&nodes);
    let target = place.target();
    fs::create_dir_all(&target).unwrap();
    std::os::unix::fs::symlink(place.outside().join("file"), target.join("d1")).unwrap();
    fs::hard_link(place.outside().join("file"), target.join("a2")).unwrap();
    fs::write(target.join("n1"), "an old file").unwrap();
    for _ in 0..2 {
        let seen = Seen::default();
        forge.restore(tree, &target, &seen, |_| {}).unwrap();
        place.assert_untouched();
        let inode = |name: &str| {
            use std::os::unix::fs::MetadataExt;
            target.join(name).symlink_metadata().unwrap().ino()
        };
        assert_eq!(inode("a1"), inode("a2"));
        assert_ne!(inode("a1"), inode("a3"));
        assert_eq!(inode("d1"), inode("d2"));
        for (name, content) in [("a1", "same"), ("a3", "else"), ("d1", "dddd"), ("z", "z")] {
            assert_eq!(fs::read_to_string(target.join(name)).unwrap(), content);
        }
        // What could not be restored is no original: an old file of its name has other content.
        let problems = seen.problems();
        assert_named(&problems, "n1");
        assert_named(&problems, "n2");
        assert!(
            !target.join("n2").exists(),
            "linked to what was there before"
        );
        assert_eq!(
            fs::read_to_string(target.join("n1")).unwrap(),
            "an old file"
        );
    }
}

#[test]
fn sizes_that_lie_are_named() {
    let forge = Forge::new();
    let place = Place::new();
    let huge = |name: &[u8], content: Vec<Id>| Node {
        size_bytes: 1 << 60,
        content: Some(content),
        ..node(name, NodeKind::File)
    };
    let blob = forge.data(b"blob");
    let tree_as_data = forge.tree(&[]);
    let data_as_tree = Node {
        subtree: Some(blob),
        ..node(b"j", NodeKind::Dir)
    };
    let nodes = [
        huge(b"a", Vec::new()),
        huge(b"b", vec![blob]),
        Node {
            size_bytes: 3,
            ..huge(b"c", vec![blob])
        },
        Node {
            size_bytes: 0,
            ..huge(b"d", vec![blob])
        },
        Node {
            size_bytes: u64::MAX,
            ..huge(b"e", vec![blob; 3])
        },
        Node {
            content: None,
            ..huge(b"f", Vec::new())
        },
        Node {
            size_bytes: 13,
            ..huge(b"g", vec![tree_as_data])
        },
        Node {
            size_bytes: 1 << 60,
            ..forge.dir(b"h", &[forge.file(b"good", b"good")])
        },
        node(b"i", NodeKind::Dir),
        data_as_tree,
        node(b"k", NodeKind::Other("irregular".into())),
        node(b"l", NodeKind::Other("\u{0}\n".into())),
        forge.file(b"z", b"good"),
    ];
    let tree = forge.tree(&nodes);
    let target = place.target();
    // Into nothing, and over what is there: a file of the same size and time is taken for the same only if asked for.
    for round in 0..2 {
        let seen = Seen::default();
        let outcome = forge
            .restore(tree, &target, &seen, |o| o.verify = true)
            .unwrap();
        let problems = seen.problems();
        for name in ["a", "b", "c", "d", "e", "f", "g", "i", "j", "k", "l"] {
            assert_named(&problems, &format!("/{name}"));
        }
        assert_eq!(outcome.problems, 11, "each once: {problems:?}");
        assert_eq!(names(&target), ["h", "j", "z"], "round {round}");
        assert_eq!(fs::read(target.join("h/good")).unwrap(), b"good");
        place.assert_untouched();
    }
    // A check says the same of the trees, and does not fall over them either.
    let mut snapshot = common::draft(None);
    snapshot.tree = tree;
    forge.repository.save_snapshot(&snapshot).unwrap();
    let findings = check_all(&forge.repository).findings;
    for name in ["a", "b", "c", "d", "e", "f", "i"] {
        let name = format!("{name:?}");
        assert!(
            findings
                .iter()
                .any(|f| f.serious && f.to_string().contains(&name)),
            "{name}: {findings:?}"
        );
    }
}

#[test]
fn names_of_half_written_files_in_a_snapshot_are_names_as_any() {
    // As after a backup of what an earlier restore left half done.
    let forge = Forge::new();
    let place = Place::new();
    let mut nodes = Vec::new();
    for number in 0..40 {
        let name = format!(".lifeboat-partial-{number}");
        nodes.push(forge.file(name.as_bytes(), name.as_bytes()));
        let name = format!("file {number}");
        nodes.push(forge.file(name.as_bytes(), name.as_bytes()));
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let target = place.target();
    for _ in 0..2 {
        let _ = fs::remove_dir_all(&target);
        let seen = Seen::default();
        let restored = forge.restore(forge.tree(&nodes), &target, &seen, |o| o.verify = true);
        assert_eq!(restored.unwrap().problems, 0, "{:?}", seen.problems());
        let found = names(&target);
        assert_eq!(found.len(), nodes.len(), "{found:?}");
        for name in found {
            assert_eq!(fs::read_to_string(target.join(&name)).unwrap(), name);
        }
    }
    place.assert_untouched();
}

#[test]
fn a_tree_out_of_order_is_restored_and_found() {
    let forge = Forge::new();
    let place = Place::new();
    let tree = forge.tree(&[
        forge.file(b"z", b"z"),
        forge.file(b"a", b"a"),
        forge.dir(b"m", &[forge.file(b"2", b"2"), forge.file(b"1", b"1")]),
    ]);
    let seen = Seen::default();
    forge.restore(tree, &place.target(), &seen, |_| {}).unwrap();
    assert_eq!(seen.problems(), Vec::<String>::new());
    assert_eq!(names(&place.target()), ["a", "m", "z"]);
    assert_eq!(names(&place.target().join("m")), ["1", "2"]);
    let mut snapshot = common::draft(None);
    snapshot.tree = tree;
    forge.repository.save_snapshot(&snapshot).unwrap();
    assert!(check_all(&forge.repository).is_serious());
}

/// Directories in each other, made and removed without any path.
fn dig(root: &Path, levels: usize) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    fs::create_dir_all(root).unwrap();
    let mut fd: OwnedFd = rustix::fs::openat(CWD, root, flags, Mode::empty()).unwrap();
    for _ in 0..levels {
        rustix::fs::mkdirat(&fd, "d", Mode::from_raw_mode(0o755)).unwrap();
        fd = rustix::fs::openat(&fd, "d", flags, Mode::empty()).unwrap();
    }
    let create = OFlags::WRONLY | OFlags::CREATE;
    let file = rustix::fs::openat(&fd, "file", create, Mode::from_raw_mode(0o644)).unwrap();
    rustix::io::write(&file, b"deep").unwrap();
}

fn depth(root: &Path) -> (usize, Vec<u8>) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut fd: OwnedFd = rustix::fs::openat(CWD, root, flags, Mode::empty()).unwrap();
    let mut levels = 0;
    while let Ok(next) = rustix::fs::openat(&fd, "d", flags, Mode::empty()) {
        levels += 1;
        fd = next;
    }
    let file = rustix::fs::openat(&fd, "file", OFlags::RDONLY, Mode::empty()).unwrap();
    let mut content = [0; 10];
    let length = rustix::io::read(&file, &mut content).unwrap();
    (levels, content[..length].to_vec())
}

/// `rm` goes down without recursion, which the standard library does not.
fn remove(root: &Path) {
    assert!(
        std::process::Command::new("rm")
            .arg("-rf")
            .arg(root)
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn depth_is_no_limit() {
    const LEVELS: usize = 5_000;
    let place = Place::new();
    let (from, to) = (place.dir.path().join("from"), place.target());
    dig(&from, LEVELS);
    let forge = Forge::new();
    let seen = Seen::default();
    // A backup that fails on its way up must not fall over its own depth either.
    let plan = FaultPlan::new(|operation| {
        let is_pack = operation.kind == Some(FileKind::Pack) && operation.verb == Verb::Save;
        is_pack.then_some(Fault::FailBefore)
    });
    let broken = common::open(FaultyBackend::new(forge.backend.clone(), plan)).unwrap();
    back_up(&broken, &from, &seen).unwrap_err();
    let outcome = back_up(&forge.repository, &from, &seen).unwrap();
    assert_eq!(seen.problems(), Vec::<String>::new());
    let seen = Seen::default();
    let restored = common::restore(
        &forge.repository,
        outcome.snapshot.unwrap(),
        &from,
        &to,
        |o| o.verify = true,
        &seen,
    );
    assert_eq!(restored.unwrap().problems, 0, "{:?}", seen.problems());
    assert_eq!(depth(&to), (LEVELS, b"deep".to_vec()));
    assert!(!check_all(&forge.repository).is_serious());
    remove(&from);
    remove(&to);
}

#[test]
fn a_deep_backup_or_restore_that_fails_ends_as_any_other() {
    const LEVELS: usize = 16_000;
    let forge = Forge::new();
    // The innermost directory has no tree: all others are open when that is found.
    let mut blobs = Vec::new();
    let mut subtree = Id::of(b"nowhere");
    for _ in 0..LEVELS {
        let json = tree_json(&[Node {
            subtree: Some(subtree),
            ..node(b"d", NodeKind::Dir)
        }]);
        subtree = Id::of(&json);
        blobs.push((BlobKind::Tree, json));
    }
    forge.store(&blobs);
    let to = scratch();
    let seen = Seen::default();
    let select = |_: &lifeboat_flow::EntryPath, _| lifeboat_protect::Selected {
        restore: false,
        descend: true,
    };
    // Nothing is restored, so that it is quick; yet all is walked.
    let outcome = forge
        .restore(subtree, to.path(), &seen, |o| o.select = Some(&select))
        .unwrap();
    assert_eq!(outcome.problems, 1);
    assert_named(&seen.problems(), "d/d/d");
}

#[test]
fn what_only_looks_sound_is_compared_whole() {
    // The comparison itself must see what these tests rely on.
    let place = Place::new();
    fs::write(place.outside().join("file"), "changed!").unwrap();
    assert!(
        !same()
            .differences(&place.before(), &place.outside())
            .unwrap()
            .is_empty()
    );
}
