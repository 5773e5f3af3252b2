//! `--changed-files`: what is named is looked at, the rest comes from the parent, and the whole is a snapshot like any other.

use std::fs;
use std::path::Path;

use lifeboat_testkit::restic::Said;
use serde_json::Value;

use crate::common::{Place, array, summary};

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "a/one",
        "a/two",
        "b/deep/er/three",
        "b/four",
        "gone/five",
        "gone/in/six",
        "top",
    ] {
        write(&dir.path().join(name), name);
    }
    dir
}

fn count(done: &Value, name: &str) -> u64 {
    done[name].as_u64().unwrap_or_else(|| panic!("{done}"))
}

/// The tree of the newest snapshot.
fn newest(place: &Place) -> Value {
    let snapshots = array(&place.ours().run(["snapshots", "--json"]).ok());
    snapshots.last().unwrap()["tree"].clone()
}

#[test]
fn what_is_named_is_looked_at_and_the_rest_is_taken_over() {
    let (place, dir) = (Place::new(), tree());
    let (ours, root) = (place.ours(), dir.path());
    let target = root.to_str().unwrap();
    summary(&ours.run(["backup", "--json", target]).ok());

    fs::write(root.join("a/one"), "something else").unwrap();
    write(&root.join("b/new/seven"), "seven");
    fs::remove_dir_all(root.join("gone")).unwrap();
    let unnamed = root.join("b/deep/er/three");
    fs::write(&unnamed, "nobody is told of this").unwrap();
    let list = dir.path().with_extension("list");
    let named = ["a/one", "b/new", "gone/five", "gone"].map(|name| root.join(name));
    let named = named.map(|path| path.to_str().unwrap().to_owned());
    fs::write(&list, named.join("\n") + "\n/elsewhere\n").unwrap();
    let list = list.to_str().unwrap();
    let done = summary(
        &ours
            .run(["backup", "--json", "--changed-files", list, target])
            .ok(),
    );
    assert_eq!(
        (count(&done, "files_new"), count(&done, "files_changed")),
        (1, 1),
        "{done}"
    );
    assert_eq!(count(&done, "total_files_processed"), 6, "{done}");
    let bytes = "something else".len() + "a/two".len() + "b/deep/er/three".len() + "b/four".len();
    let bytes = bytes + "seven".len() + "top".len();
    assert_eq!(
        count(&done, "total_bytes_processed"),
        bytes as u64,
        "{done}"
    );

    // What was named is as a whole look finds it; what was not is as it was.
    let partial = newest(&place);
    fs::write(&unnamed, "b/deep/er/three").unwrap();
    let whole = summary(&ours.run(["backup", "--json", "--force", target]).ok());
    assert_eq!(count(&whole, "total_files_processed"), 6);
    assert_eq!(count(&whole, "total_bytes_processed"), bytes as u64);
    assert_eq!(
        count(&whole, "data_blobs"),
        0,
        "all content was there: {whole}"
    );
    assert_ne!(newest(&place), partial, "the time of the unnamed file");
    place.current().run(["check", "--read-data"]).ok();

    // Nothing named, nothing changed; separated by zero bytes as well.
    fs::write(list, format!("{target}/top\0")).unwrap();
    let done = ours
        .run(["backup", "--json", "--changed-files", list, target])
        .ok();
    let done = summary(&done);
    let found = (count(&done, "files_unmodified"), count(&done, "data_blobs"));
    assert_eq!(found, (6, 0), "{done}");
    fs::write(list, "").unwrap();
    let done = ours
        .run(["backup", "--json", "--changed-files", list, target])
        .ok();
    assert_eq!(count(&summary(&done), "total_files_processed"), 6);
}

/// Backs up below a directory, with a list of changed paths.
fn told(place: &Place, within: &Path, names: &str, words: &[&str]) -> Said {
    let list = place.path("changed");
    fs::write(&list, names).unwrap();
    let list = list.to_str().unwrap().to_owned();
    let mut all = vec!["backup", "--json", "--changed-files", &list];
    all.extend(words);
    place.ours().run(all).within(within).any()
}

#[test]
fn paths_are_found_however_they_are_named() {
    let (place, dir) = (Place::new(), tree());
    let root = dir.path();
    let target = root.to_str().unwrap();
    told(&place, root, "", &[target]);
    // Relative to where we are, though the target is absolute.
    fs::write(root.join("a/one"), "1").unwrap();
    let done = summary(&told(&place, root, "a/one\n", &[target]));
    assert_eq!(count(&done, "files_changed"), 1, "{done}");
    // Through a link that the target was not named by.
    let link = place.path("link");
    std::os::unix::fs::symlink(root, &link).unwrap();
    fs::write(root.join("a/one"), "22").unwrap();
    let named = format!("{}/a/one\n", link.to_str().unwrap());
    let done = summary(&told(&place, root, &named, &[target]));
    assert_eq!(count(&done, "files_changed"), 1, "{done}");
    // And what was removed by it.
    fs::remove_file(root.join("a/two")).unwrap();
    let named = format!("{}/a/two\n", link.to_str().unwrap());
    let done = summary(&told(&place, root, &named, &[target]));
    assert_eq!(count(&done, "total_files_processed"), 6, "{done}");
    // A target in another one: what is beside it is a target too.
    let inner = root.join("b/deep");
    let both = [target, inner.to_str().unwrap()];
    told(&place, root, "", &both);
    fs::remove_file(root.join("b/four")).unwrap();
    let done = summary(&told(&place, root, "b/four\n", &both));
    assert_eq!(count(&done, "total_files_processed"), 5, "{done}");
}

#[test]
fn a_list_that_may_be_cut_off_or_was_read_already_is_refused() {
    let (place, dir) = (Place::new(), tree());
    let root = dir.path();
    let target = root.to_str().unwrap();
    told(&place, root, "", &[target]);
    let cut = told(&place, root, "a/one\0a/tw", &[target]);
    assert!(!cut.status.success());
    assert!(cut.stderr.contains("may be cut off"), "{}", cut.stderr);
    let words = ["backup", "--changed-files", "-", "--files-from", "-"];
    let twice = place.ours().run(words).input(target.as_bytes()).ends(1);
    assert!(twice.stderr.contains("one list only"), "{}", twice.stderr);
    let words = [
        "backup",
        "--exclude-file",
        "/dev/stdin",
        "--files-from",
        "-",
    ];
    let twice = place.ours().run(words).input(target.as_bytes()).ends(1);
    assert!(twice.stderr.contains("one list only"), "{}", twice.stderr);
    let words = ["backup", "--changed-files", "/not/there", target];
    let missing = place.ours().run(words).ends(1);
    assert!(missing.stderr.contains("/not/there"), "{}", missing.stderr);
    let snapshots = array(&place.ours().run(["snapshots", "--json"]).ok());
    assert_eq!(snapshots.len(), 1, "nothing was made of them");
}

#[test]
fn only_a_whole_snapshot_of_the_same_is_taken_over_from() {
    let (place, dir) = (Place::new(), tree());
    let root = dir.path();
    let target = root.to_str().unwrap();
    let looked_at_all = |said: &Said| {
        assert!(
            said.stderr.contains("everything is looked at"),
            "{}",
            said.stderr
        );
    };
    let part = root.join("b/deep");
    told(&place, root, "", &[part.to_str().unwrap()]);
    let first = array(&place.ours().run(["snapshots", "--json"]).ok());
    let first = first[0]["id"].as_str().unwrap().to_owned();
    looked_at_all(&told(&place, root, "", &["--parent", &first, target]));
    let usual = told(&place, root, "", &[target]);
    assert!(!usual.stderr.contains("looked at"), "{}", usual.stderr);
    looked_at_all(&told(&place, root, "", &["-x", target]));
    looked_at_all(&told(&place, root, "", &["--with-atime", target]));
    looked_at_all(&told(&place, root, "", &["--iexclude", "x", target]));
    let patterns = place.path("patterns");
    fs::write(&patterns, "four\n").unwrap();
    let excluding = ["--exclude-file", patterns.to_str().unwrap(), target];
    looked_at_all(&told(&place, root, "", &excluding));
    assert!(!told(&place, root, "", &excluding).stderr.contains("looked"));
    fs::write(&patterns, "five\n").unwrap();
    looked_at_all(&told(&place, root, "", &excluding));
    // What is left out may come through a pipe, which can be read once.
    let through_pipe = |pattern: &str| {
        let list = place.path("changed");
        let words = [
            "backup",
            "--json",
            "--exclude-file",
            "/dev/stdin",
            "--changed-files",
        ];
        let words = words
            .iter()
            .copied()
            .chain([list.to_str().unwrap(), target]);
        place.ours().run(words).input(pattern.as_bytes()).any()
    };
    looked_at_all(&through_pipe("six\n"));
    assert!(!through_pipe("six\n").stderr.contains("looked"));
    looked_at_all(&through_pipe("seven\n"));
    // What restic changed is not known to be whole.
    told(&place, root, "", &[target]);
    place.current().run(["tag", "--add", "x", "latest"]).ok();
    looked_at_all(&told(&place, root, "", &[target]));
    // What could not be saved is tried again. A target that is gone is enough for that.
    let gone = root.join("not there");
    let both = [target, gone.to_str().unwrap()];
    told(&place, root, "", &both);
    looked_at_all(&told(&place, root, "", &both));
}

#[test]
fn everything_is_looked_at_where_the_rest_can_not_be_relied_on() {
    let (place, dir) = (Place::new(), tree());
    let (ours, root) = (place.ours(), dir.path());
    let (target, list) = (root.to_str().unwrap(), dir.path().with_extension("list"));
    fs::write(&list, "").unwrap();
    let list = list.to_str().unwrap();
    let backup = |more: &[&str]| {
        let mut words = vec!["backup", "--json", "--changed-files", list];
        words.extend(more);
        words.push(target);
        ours.run(words).ok()
    };
    let said = |run: &Said, text: &str| {
        assert!(run.stderr.contains(text), "{}", run.stderr);
    };
    let first = backup(&[]);
    said(&first, "there is no snapshot to take the rest from");
    assert_eq!(count(&summary(&first), "files_new"), 7);
    let other = backup(&["--exclude", "four"]);
    said(&other, "with other options");
    assert_eq!(count(&summary(&other), "total_files_processed"), 6);
    // All packs are lost; what they held is here still.
    for pack in walk(&place.repository().join("data")) {
        fs::remove_file(pack).unwrap();
    }
    let healed = backup(&["--exclude", "four"]);
    said(&healed, "something of the repository is missing");
    place.ours().run(["repair", "index"]).ok();
    let restored = place.path("restored");
    let restored = restored.to_str().unwrap();
    place
        .current()
        .run(["restore", "latest", "--target", restored])
        .ok();
    let of_ours = Path::new(restored).join(target.trim_start_matches('/'));
    assert_eq!(
        fs::read(of_ours.join("gone/in/six")).unwrap(),
        b"gone/in/six"
    );
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => walk(&path),
            false => vec![path],
        })
        .collect()
}
