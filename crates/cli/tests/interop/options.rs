//! Options of a backup: given the same arguments, restic 0.19 and we store the same trees and the same snapshots.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use lifeboat_testkit::random::Random;

use crate::common::{Program, array};
use crate::pair::{Above, Pair};

const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55";

/// A tree with something for each option.
fn tree(pair: &Pair) -> PathBuf {
    let root = pair.path("outer/tree");
    let files = [
        ("a/keep.txt", "keep"),
        ("a/skip.o", "object"),
        ("a/deep/er/file.txt", "deep"),
        ("a/deep/er/skip.o", "object"),
        ("B/Upper.TXT", "upper"),
        ("B/lower.txt", "lower"),
        ("cache/CACHEDIR.TAG", TAG),
        ("cache/x", "cached"),
        ("no/.nobackup", "not me"),
        ("no/x", "left out"),
        ("sp ace", "space"),
        ("new\nline", "line"),
        ("[brackets]", "brackets"),
        ("*", "star"),
        ("#hash", "hash"),
        ("!mark", "mark"),
        ("$HOME", "dollar"),
        (".hidden", "hidden"),
        ("--help", "dashes"),
        ("ünï", "unicode"),
        ("empty", ""),
    ];
    for (name, content) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
    }
    fs::write(root.join("a/large"), Random::new(5).bytes(1_300_000)).unwrap();
    symlink("a", root.join("link")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    root
}

#[test]
fn paths_lie_where_restic_puts_them() {
    let pair = Pair::new();
    let root = tree(&pair);
    let whole = root.to_str().unwrap();
    let in_a = format!("{whole}/a");
    let cases: [(&str, Above, &[&str]); 17] = [
        ("", Above::Left, &["."]),
        // Again, unchanged.
        ("", Above::Left, &["."]),
        ("", Above::Left, &["a"]),
        ("", Above::Left, &["a", "B", "empty"]),
        ("", Above::Left, &["./a/../B", "a/deep/"]),
        ("", Above::Left, &["a/keep.txt", "."]),
        ("", Above::Left, &["a", "a/deep", "a/deep/er/file.txt"]),
        ("", Above::Left, &["a", "a"]),
        ("", Above::Left, &["link", "dangling"]),
        ("", Above::Left, &["--", "--help"]),
        ("a", Above::Left, &[".."]),
        ("a", Above::Left, &["../B", "../a/deep"]),
        ("a/deep", Above::Left, &["er", "../../empty"]),
        ("", Above::Stored, &[whole]),
        ("", Above::Stored, &[&in_a, whole]),
        ("", Above::Stored, &[whole, "B"]),
        // One is missing, and all are.
        ("", Above::Left, &["a", "missing"]),
    ];
    for (dir, above, words) in cases {
        pair.backup(&root.join(dir), above, words, None);
    }
    pair.backup(&root, Above::Left, &["missing"], None);
    pair.backup(&root, Above::Left, &[], None);
    pair.backup(&root, Above::Left, &[""], None);
    pair.finish();
}

#[test]
fn exclusions_leave_out_what_restic_leaves_out() {
    let pair = Pair::new();
    let root = tree(&pair);
    let absolute = root.join("a/deep");
    let absolute = absolute.to_str().unwrap();
    let list = pair.path("list");
    fs::write(
        &list,
        "# a comment\n\n  *.o  \n/nowhere\n!skip.o\n$NOT_SET_ANYWHERE/x\n$$HOME\nünï\n",
    )
    .unwrap();
    let list = list.to_str().unwrap();
    let cases: [&[&str]; 21] = [
        &["--exclude", "*.o"],
        &["-e", absolute],
        &["-e", "a/**/file.txt"],
        &["-e", "/a"],
        &["-e", "deep/*", "-e", "!deep/er"],
        &["-e", "[[]brackets]", "-e", "\\*"],
        &["-e", "?pace", "-e", "sp ace"],
        &["--iexclude", "*.txt"],
        &["--iexclude", "B/UPPER.*", "--exclude", "b"],
        &["--exclude-file", list],
        &["--iexclude-file", list],
        &["--exclude-file", list, "--exclude", "B"],
        &["--exclude-caches"],
        &["--exclude-if-present", ".nobackup"],
        &["--exclude-if-present", ".nobackup:not"],
        &["--exclude-if-present", ".nobackup:other"],
        &["--exclude-larger-than", "1M"],
        &["--exclude-larger-than", "1300000"],
        &["--exclude-larger-than", "1299999"],
        // Mistakes.
        &["--exclude", "[a"],
        &["--exclude-larger-than", "much"],
    ];
    for words in cases {
        pair.backup(&root, Above::Left, &[words, &["."]].concat(), None);
    }
    // Named directly, and still excluded or not.
    for words in [
        &["--exclude", "a", "a"][..],
        &["--exclude", "*.txt", "a/keep.txt", "a"],
        &["--exclude-caches", "cache"],
        &["--exclude-file", "/nowhere/at/all", "."],
        // Nothing would be left.
        &["-e", "*", "-e", "!*.txt", "."],
    ] {
        pair.backup(&root, Above::Left, words, None);
    }
    pair.finish();
}

#[test]
#[allow(
    clippy::print_stderr,
    reason = "who may not mount is told what was not asked"
)]
fn other_file_systems_are_left_out_on_request() {
    let pair = Pair::new();
    let root = tree(&pair);
    let mounted = root.join("mounted");
    fs::create_dir(&mounted).unwrap();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
        .arg(&mounted)
        .output();
    // Who may not mount can't ask this; nothing else is a reason not to.
    match mount {
        Ok(output) if output.status.success() => {}
        other => return eprintln!("no mount was permitted: {other:?}"),
    }
    let _unmount = Unmount(mounted.clone());
    fs::write(mounted.join("file"), "elsewhere").unwrap();
    for words in [
        &["--one-file-system", "."][..],
        &["-x", "mounted", "a"],
        &["-x", "mounted/file", "a"],
        &["mounted/file", "a"],
    ] {
        pair.backup(&root, Above::Left, words, None);
    }
    pair.finish();
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn lists_of_paths_are_read_as_by_restic() {
    let pair = Pair::new();
    let root = tree(&pair);
    let list = |name: &str, content: &[u8]| -> String {
        let path = pair.path(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let wildcards = list(
        "wildcards",
        "# comment\n\n  a/*.txt \nB\n[[]brackets]\n\\*\nsp ace\r\n".as_bytes(),
    );
    let verbatim = list("verbatim", b"*\n#hash\n[brackets]\n\nsp ace\n$HOME");
    let raw = list("raw", b"new\nline\0*\0a/deep\0");
    let unended = list("unended", b"a\0B");
    let nothing = list("nothing", b"# only this\n");
    let dead = list("dead", b"nothing*matches\na\n");
    let cases: [&[&str]; 11] = [
        &["--files-from", &wildcards],
        &["--files-from-verbatim", &verbatim],
        &["--files-from-raw", &raw],
        &[
            "--files-from",
            &wildcards,
            "--files-from-raw",
            &raw,
            "empty",
        ],
        &["--files-from", &wildcards, "--files-from", &wildcards],
        &["--files-from-raw", &unended],
        &["--files-from", &nothing],
        &["--files-from", &nothing, "a"],
        &["--files-from-verbatim", &nothing, "a"],
        &["--files-from", &dead],
        &["--files-from", "/nowhere/at/all"],
    ];
    for words in cases {
        pair.backup(&root, Above::Left, words, None);
    }
    let lines = "a\n./B\n".as_bytes();
    pair.backup(&root, Above::Left, &["--files-from", "-"], Some(lines));
    pair.backup(
        &root,
        Above::Left,
        &["--files-from-verbatim", "-"],
        Some(lines),
    );
    pair.backup(
        &root,
        Above::Left,
        &["--files-from-raw", "-"],
        Some(b"a\0B\0"),
    );
    pair.finish();
}

#[test]
fn parents_and_snapshots_are_chosen_as_by_restic() {
    let pair = Pair::new();
    let root = tree(&pair);
    let backup = |words: &[&str]| pair.backup(&root, Above::Left, words, None);
    let touch = |name: &str, mode: u32| {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    backup(&["--tag", "a,b", "--tag", "c,a", "--host", "elsewhere", "."]);
    // Another host is another chain.
    backup(&["."]);
    backup(&["--host", "elsewhere", "--time", "2020-01-02 03:04:05", "."]);
    backup(&["--time", "2021-06-30 23:59:59", "--tag", "", "."]);
    backup(&["--skip-if-unchanged", "."]);
    backup(&["--force", "--skip-if-unchanged", "."]);
    backup(&["--force", "."]);
    backup(&["--parent", "latest", "a"]);
    backup(&["--parent", "missing", "a"]);
    backup(&["--group-by", "", "--skip-if-unchanged", "."]);
    backup(&["--group-by", "host", "B"]);
    backup(&["--group-by", "tags", "--tag", "a", "B"]);
    backup(&["--group-by", "colour", "B"]);
    // The time of the inode is another now, and the inode itself.
    touch("a/keep.txt", 0o600);
    backup(&["--skip-if-unchanged", "."]);
    touch("a/keep.txt", 0o640);
    backup(&["--ignore-ctime", "."]);
    let renewed = [root.join("a/large"), root.join("renewed")];
    let copied = Command::new("cp").arg("-a").args(&renewed).status();
    assert!(copied.unwrap().success());
    fs::rename(&renewed[1], &renewed[0]).unwrap();
    backup(&["--ignore-inode", "."]);
    fs::write(root.join("a/keep.txt"), "changed").unwrap();
    fs::remove_file(root.join("B/lower.txt")).unwrap();
    fs::write(root.join("fresh"), "fresh").unwrap();
    backup(&["--skip-if-unchanged", "."]);
    backup(&["--with-atime", "."]);
    backup(&["--time", "when I say so", "."]);
    backup(&["--compression", "strong", "."]);
    pair.finish();
}

#[test]
fn a_dry_run_leaves_every_byte_as_it_is() {
    let pair = Pair::new();
    let root = tree(&pair);
    pair.backup(&root, Above::Left, &["a"], None);
    let before = bytes_of(&pair.place.repository());
    pair.backup(&root, Above::Left, &["--dry-run", "."], None);
    pair.backup(&root, Above::Left, &["-n", "--force", "a"], None);
    pair.backup(
        &root,
        Above::Left,
        // The time is in the tree, whose length would depend on the moment.
        &["--dry-run", "--stdin", "--time", "2026-01-02 03:04:05"],
        Some(b"fresh"),
    );
    assert_eq!(before, bytes_of(&pair.place.repository()));
    pair.finish();
}

/// All files of a directory with their content, for telling whether anything changed.
fn bytes_of(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                found.push((path.clone(), fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn compression_and_pack_size_are_what_was_asked_for() {
    let pair = Pair::new();
    let root = pair.path("tree");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("noise"), Random::new(6).bytes(21 << 20)).unwrap();
    fs::write(root.join("text"), "the same line again\n".repeat(100_000)).unwrap();
    let mut sizes = Vec::new();
    for (mode, host) in [
        ("off", "a"),
        ("fastest", "b"),
        ("auto", "c"),
        ("better", "d"),
        ("max", "e"),
    ] {
        let pair = Pair::new();
        pair.backup(
            &root,
            Above::Left,
            &["--compression", mode, "--host", host, "text"],
            None,
        );
        sizes.push(
            bytes_of(&pair.place.repository().join("data"))
                .iter()
                .map(|(_, bytes)| bytes.len())
                .sum::<usize>(),
        );
        Program::current(&pair.place.repository())
            .run(["check", "--read-data"])
            .ok();
    }
    assert!(sizes[0] > 2_000_000, "{sizes:?}");
    assert!(sizes[1..].iter().all(|size| *size < 100_000), "{sizes:?}");
    pair.backup(&root, Above::Left, &["--pack-size", "4", "noise"], None);
    let packs = bytes_of(&pair.place.repository().join("data"));
    // Packs are closed when they have reached their size, and two of them are open at a time.
    let large = packs
        .iter()
        .filter(|(_, bytes)| bytes.len() >= 4 << 20)
        .count();
    assert!(
        (3..=5).contains(&large) && packs.len() <= 8,
        "{large} of {}",
        packs.len()
    );
    pair.backup(&root, Above::Left, &["--pack-size", "3", "noise"], None);
    pair.backup(&root, Above::Left, &["--pack-size", "129", "noise"], None);
    pair.place.debian().run(["check", "--read-data"]).ok();
    let snapshots = array(&pair.ours.run(["snapshots", "--json"]).ok());
    assert_eq!(snapshots.len(), 1);
    pair.finish();
}
