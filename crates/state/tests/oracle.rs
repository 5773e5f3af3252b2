//! What restic 0.19 stores of a directory, field by field, against what our source reads of it.
//! It must never be skipped: without the oracle there is no telling whether a chain of backups goes on or starts anew.

mod common;

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::odd_tree;
use lifeboat_flow::{Entry, EntryKind, EntryPath, Source};
use lifeboat_state::{DirTag, StreamSource, VolumeOptions, VolumeSource};
use serde_json::Value;

/// restic's repository of one test.
struct Oracle {
    dir: tempfile::TempDir,
}

impl Oracle {
    fn new() -> Self {
        let oracle = Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
        };
        oracle.run(Path::new("/"), &["init"]);
        oracle
    }

    fn command(&self, working_dir: &Path) -> Command {
        let is_set = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let cache =
            is_set("XDG_CACHE_HOME").or_else(|| is_set("HOME").map(|home| home.join(".cache")));
        let tools =
            is_set("LIFEBOAT_TOOLS").unwrap_or_else(|| cache.expect("HOME").join("lifeboat/tools"));
        let mut command = Command::new(tools.join("bin/restic-0.19"));
        command
            .arg("-r")
            .arg(self.dir.path().join("repo"))
            .arg("--no-cache")
            .current_dir(working_dir);
        command.env("RESTIC_PASSWORD", "oracle");
        command
    }

    fn run(&self, working_dir: &Path, arguments: &[&str]) -> Vec<u8> {
        let output = self
            .command(working_dir)
            .args(arguments)
            .stdin(Stdio::null())
            .output();
        let output = output.expect("restic 0.19; `make test` installs it");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            matches!(output.status.code(), Some(0 | 3)),
            "{arguments:?}: {said}"
        );
        output.stdout
    }

    /// The tree of the newest snapshot: entries with their nodes as restic wrote them.
    fn tree(&self) -> Vec<(EntryPath, Value)> {
        let snapshots = self.run(Path::new("/"), &["snapshots", "--json", "--latest", "1"]);
        let snapshots: Value = serde_json::from_slice(&snapshots).expect("JSON");
        let newest = snapshots
            .as_array()
            .expect("a list")
            .iter()
            .max_by_key(|snapshot| snapshot["time"].to_string());
        let top = newest.expect("a snapshot")["tree"]
            .as_str()
            .expect("an ID")
            .to_owned();
        let mut nodes = Vec::new();
        let mut pending = vec![(EntryPath::top(), top)];
        while let Some((dir, id)) = pending.pop() {
            let blob = self.run(Path::new("/"), &["cat", "blob", &id]);
            let tree: Value = serde_json::from_slice(&blob).expect("JSON");
            for node in tree["nodes"].as_array().expect("nodes") {
                let path = dir.join(&unquoted(node["name"].as_str().expect("a name")));
                if let Some(subtree) = node["subtree"].as_str() {
                    pending.push((path.clone(), subtree.to_owned()));
                }
                nodes.push((path, node.clone()));
            }
        }
        nodes.sort_by(|(a, _), (b, _)| a.cmp(b));
        nodes
    }
}

/// Undoes Go's `strconv.Quote` as far as names need it.
fn unquoted(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let escaped = if *first == b'\\' { rest.first() } else { None };
        match escaped {
            None => bytes.push(*first),
            Some(b'x') => {
                let digits = std::str::from_utf8(&rest[1..3]).expect("hexadecimal");
                bytes.push(u8::from_str_radix(digits, 16).expect("hexadecimal"));
                rest = &rest[3..];
            }
            Some(letter) => {
                bytes.push(match letter {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'r' => b'\r',
                    b'"' | b'\\' => *letter,
                    other => panic!("\\{} in {text:?}", *other as char),
                });
                rest = &rest[1..];
            }
        }
    }
    bytes
}

/// The fields of a node that an entry tells, as restic writes them; what restic leaves out is absent.
fn as_node(entry: &Entry) -> Value {
    let (kind, type_bits) = match entry.kind {
        EntryKind::File => ("file", 0),
        EntryKind::Dir => ("dir", 1_u32 << 31),
        EntryKind::Symlink => ("symlink", 1 << 27),
        EntryKind::BlockDevice => ("dev", 1 << 26),
        EntryKind::CharDevice => ("chardev", 1 << 26 | 1 << 21),
        EntryKind::Fifo => ("fifo", 1 << 25),
        EntryKind::Socket => ("socket", 1 << 24),
    };
    // Go's `os.FileMode`: set-user-ID, set-group-ID and sticky have bits of their own.
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let special: u32 = special
        .iter()
        .filter(|(bit, _)| entry.permissions & bit != 0)
        .map(|(_, go)| go)
        .sum();
    let mut node = serde_json::json!({
        "type": kind,
        "mtime": entry.modified.to_string(),
        "atime": entry.accessed.to_string(),
        "ctime": entry.changed.to_string(),
        "uid": entry.uid,
        "gid": entry.gid,
    });
    let mode = type_bits | special | entry.permissions & 0o777;
    let fields: [(&str, Value, bool); 10] = [
        ("mode", mode.into(), mode != 0),
        ("user", entry.user.clone().into(), !entry.user.is_empty()),
        ("group", entry.group.clone().into(), !entry.group.is_empty()),
        ("inode", entry.inode.into(), entry.inode != 0),
        ("device_id", entry.device_id.into(), entry.device_id != 0),
        ("size", entry.size_bytes.into(), entry.size_bytes != 0),
        ("links", entry.links.into(), entry.links != 0),
        ("device", entry.device.into(), entry.device != 0),
        (
            "linktarget",
            String::from_utf8_lossy(&entry.link_target).into(),
            !entry.link_target.is_empty(),
        ),
        (
            "extended_attributes",
            entry
                .xattrs
                .iter()
                .map(|xattr| xattr.name.clone())
                .collect(),
            !entry.xattrs.is_empty(),
        ),
    ];
    for (name, value, is_there) in fields {
        if is_there {
            node[name] = value;
        }
    }
    node
}

/// A node of restic without what an entry does not tell: name, content and subtree; of attributes their names.
fn comparable(node: &Value) -> Value {
    let mut node = node.clone();
    let fields = node.as_object_mut().expect("an object");
    for name in ["name", "content", "subtree", "linktarget_raw"] {
        fields.remove(name);
    }
    if let Some(xattrs) = fields.get_mut("extended_attributes") {
        *xattrs = xattrs
            .as_array()
            .expect("a list")
            .iter()
            .map(|xattr| xattr["name"].clone())
            .collect();
    }
    node
}

/// Fails unless our source and restic's newest snapshot have the same entries with the same fields.
fn assert_same_nodes(oracle: &Oracle, source: &dyn Source) {
    let walked = common::walk(source, &EntryPath::top()).whole();
    let ours: Vec<_> = walked
        .iter()
        .map(|(path, (entry, _))| (EntryPath(path.clone()), as_node(entry)))
        .collect();
    let theirs: Vec<_> = oracle
        .tree()
        .iter()
        .map(|(path, node)| (path.clone(), comparable(node)))
        .collect();
    let paths = |tree: &[(EntryPath, Value)]| {
        tree.iter()
            .map(|(path, _)| path.display())
            .collect::<Vec<_>>()
    };
    assert_eq!(paths(&ours), paths(&theirs));
    for ((path, our), (_, their)) in ours.iter().zip(&theirs) {
        assert_eq!(our, their, "{}", path.display());
    }
}

/// Tests take turns: relative targets need the process's working directory.
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn take_turn(working_dir: &Path) -> std::sync::MutexGuard<'static, ()> {
    let turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    std::env::set_current_dir(working_dir).expect("a directory");
    turn
}

/// Paths and kinds that restic stores for these targets, and those that our source does.
fn compare(
    oracle: &Oracle,
    working_dir: &Path,
    targets: &[&str],
    flags: &[&str],
    options: VolumeOptions,
) {
    let _turn = take_turn(working_dir);
    let oracle_dir = oracle.dir.path().to_str().expect("UTF-8");
    let arguments = [&["backup", "--quiet"], flags, &["--"], targets].concat();
    oracle.run(working_dir, &arguments);
    // Other programs work in the directories above ours.
    let line = |path: &str, node: &Value| {
        let is_ours = !oracle_dir.starts_with(path);
        let time = if is_ours {
            node["mtime"].as_str().expect("a time")
        } else {
            ""
        };
        format!("{path} {} {time}", node["type"])
    };
    let listed = oracle.run(working_dir, &["ls", "--json", "latest"]);
    let listed = listed
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .skip(1);
    let mut theirs: Vec<String> = listed
        .map(|line| serde_json::from_slice::<Value>(line).expect("JSON"))
        .map(|node| line(node["path"].as_str().expect("a path"), &node))
        .collect();
    let source =
        VolumeSource::new(targets.iter().map(PathBuf::from).collect(), options).expect("a volume");
    let walked = common::walk(&source, &EntryPath::top()).whole();
    let nodes = walked
        .iter()
        .map(|(path, (entry, _))| (EntryPath(path.clone()).display(), as_node(entry)));
    let mut ours: Vec<String> = nodes.map(|(path, node)| line(&path, &node)).collect();
    theirs.sort();
    ours.sort();
    assert_eq!(ours, theirs, "{targets:?} {flags:?}");
}

#[test]
fn entries_have_the_fields_of_restics_nodes() {
    // In a zone with half hours and summer time, so that every time shows whose offset it has.
    const ZONE: &str = "America/St_Johns";
    if std::env::var("TZ").as_deref() != Ok(ZONE) {
        let test = [
            "entries_have_the_fields_of_restics_nodes",
            "--exact",
            "--nocapture",
        ];
        let program = std::env::current_exe().expect("our own program");
        let status = Command::new(program)
            .args(test)
            .env("TZ", ZONE)
            .status()
            .expect("started again");
        assert!(status.success(), "in another time zone");
        return;
    }
    let oracle = Oracle::new();
    let root = oracle.dir.path().join("root");
    fs::create_dir(&root).expect("a directory");
    odd_tree::make(&root);
    let _listener = std::os::unix::net::UnixListener::bind(root.join("socket")).expect("a socket");
    let _turn = take_turn(&root);
    oracle.run(&root, &["backup", "--quiet", "."]);
    let source = VolumeSource::new(vec![".".into()], VolumeOptions::default()).expect("a volume");
    assert_same_nodes(&oracle, &source);
}

#[test]
fn targets_lie_where_restic_puts_them() {
    let oracle = Oracle::new();
    let root = oracle.dir.path().join("root");
    for name in [
        "a/b/c",
        "a/b/d/e",
        "a/file",
        "other/b",
        "other/a",
        "with/a/deep/one",
    ] {
        fs::create_dir_all(root.join(name).parent().expect("below the root")).expect("directories");
        fs::write(root.join(name), name).expect("a file");
    }
    symlink("a", root.join("link")).expect("a link");
    symlink("nowhere", root.join("dangling")).expect("a link");
    let (a, in_a) = (root.join("a"), root.join("a/b"));
    let (a, in_a) = (a.to_str().expect("UTF-8"), in_a.to_str().expect("UTF-8"));
    let cases: [&[&str]; 12] = [
        &["."],
        &[".."],
        &["a"],
        &["./a/b/../file"],
        &["../a"],
        &["../a/b", "../other"],
        &["a/b/d", "a"],
        &["a/b/d/e", ".", "a/b"],
        &["link/", "dangling"],
        &["link/b", "link"],
        &[a, "a", "other/a", "../with/a"],
        &[in_a, a],
    ];
    for targets in cases {
        let from = if targets[0].starts_with("..") {
            root.join("other")
        } else {
            root.clone()
        };
        compare(&oracle, &from, targets, &[], VolumeOptions::default());
    }
}

#[test]
fn exclusions_leave_out_what_restic_leaves_out() {
    let oracle = Oracle::new();
    let root = oracle.dir.path().join("root");
    let all = [
        "top",
        "cache/CACHEDIR.TAG",
        "cache/x",
        "cache/d/y",
        "no/.skip",
        "no/x",
        "both/.skip",
        "both/CACHEDIR.TAG",
        "both/x",
        "large",
    ];
    for name in all {
        fs::create_dir_all(root.join(name).parent().expect("below the root")).expect("directories");
        fs::write(
            root.join(name),
            "Signature: 8a477f597d28d172789f06886806bc55 and more",
        )
        .expect("a file");
    }
    symlink("x".repeat(2_000), root.join("long-link")).expect("a link");
    fs::write(root.join("large"), [0; 1025]).expect("a file");
    fs::write(root.join("fits"), [0; 1024]).expect("a file");
    let skip = DirTag {
        name: b".skip".to_vec(),
        header: Vec::new(),
    };
    let strict = DirTag {
        name: b".skip".to_vec(),
        header: b"Signature: 8a4".to_vec(),
    };
    let none = VolumeOptions::default();
    let caches = VolumeOptions {
        exclude_caches: true,
        ..none.clone()
    };
    let tags = VolumeOptions {
        exclude_if_present: vec![skip.clone()],
        ..none.clone()
    };
    let both = VolumeOptions {
        exclude_caches: true,
        exclude_if_present: vec![strict],
        ..none.clone()
    };
    let size = VolumeOptions {
        exclude_larger_than_bytes: Some(1024),
        ..none
    };
    for (targets, flags, options) in [
        (&["."] as &[&str], &["--exclude-caches"] as &[&str], &caches),
        (&["cache"], &["--exclude-caches"], &caches),
        (&["cache/x", "cache"], &["--exclude-caches"], &caches),
        (&["no/x", "."], &["--exclude-if-present", ".skip"], &tags),
        (
            &["."],
            &[
                "--exclude-caches",
                "--exclude-if-present",
                ".skip:Signature: 8a4",
            ],
            &both,
        ),
        (&[".", "large"], &["--exclude-larger-than", "1k"], &size),
        (&["large", "."], &["--exclude-larger-than", "1k"], &size),
    ] {
        compare(&oracle, &root, targets, flags, options.clone());
    }
}

#[test]
fn a_stream_has_the_fields_of_restics_node() {
    let oracle = Oracle::new();
    let _turn = take_turn(Path::new("/"));
    let mut command = oracle.command(Path::new("/"));
    command.args([
        "backup",
        "--quiet",
        "--stdin",
        "--stdin-filename",
        "db/./x/../dump.sql",
        "--time",
        "2024-07-01 12:30:00",
    ]);
    let mut child = command
        .stdin(Stdio::piped())
        .spawn()
        .expect("restic 0.19; `make test` installs it");
    std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), b"select 1")
        .expect("written");
    assert!(child.wait().expect("ended").success());
    let theirs = oracle.tree();
    let time = theirs[0].1["mtime"]
        .as_str()
        .expect("a time")
        .parse()
        .expect("a time");
    let source =
        StreamSource::new(b"db/./x/../dump.sql", time, Box::new(&b"select 1"[..])).expect("a name");
    let dir = source
        .list(&EntryPath::top())
        .expect("listed")
        .entries
        .remove(0);
    let path = EntryPath(b"db/dump.sql".to_vec());
    let mut content = source.open(&path).expect("opened");
    content.read_to_end(&mut Vec::new()).expect("read");
    let file = content.finish().expect("finished").expect("an entry");
    let paths: Vec<_> = theirs.iter().map(|(path, _)| path.display()).collect();
    assert_eq!(paths, ["/db", "/db/dump.sql"]);
    assert_eq!(as_node(&dir), comparable(&theirs[0].1));
    assert_eq!(as_node(&file), comparable(&theirs[1].1));
}
