//! Copies: equal to those of restic, in both directions, between versions and with one key.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lifeboat_flow::Cancel;
use lifeboat_format::{BlobKind, Id};
use lifeboat_repo::backend::LocalBackend;
use lifeboat_repo::{Identity, LockGuard, LockRequest, LockTiming, PackListing, Repository};
use lifeboat_testkit::heard::Unheard;
use lifeboat_testkit::restic::PASSWORD;

use crate::common::{Place, Program, objects, summary};
use crate::history::{
    assert_sound, clone, copy, history, names, repository, restic_copy, snapshots, with_source,
};

#[test]
fn copies_are_those_of_restic_and_each_knows_the_others() {
    let place = Place::new();
    let source = place.repository();
    history(&place, &source);
    let (ours, theirs) = (
        repository(&place, "ours", 2),
        repository(&place, "theirs", 2),
    );
    let dry = copy(&source, &ours, &["--dry-run", "--json"]);
    assert_eq!(summary(&dry)["copied_snapshots"], 3);
    assert!(names(&ours, "data").is_empty() && names(&ours, "snapshots").is_empty());
    let said = copy(&source, &ours, &["--json"]);
    assert_eq!(said.code(), 0, "{}", said.stderr);
    // What the plan said is what was done.
    let plan = objects(&dry)
        .into_iter()
        .find(|object| object["message_type"] == "plan");
    let plan = plan.unwrap();
    for count in ["data_blobs", "tree_blobs"] {
        assert_eq!(summary(&said)[count], plan[count]);
    }
    restic_copy(&source, &theirs);
    assert_eq!(snapshots(&ours, &[]), snapshots(&theirs, &[]));
    assert_sound(&ours);
    for (from, to) in [(&source, &theirs), (&ours, &theirs), (&theirs, &ours)] {
        let said = copy(from, to, &["--json"]);
        assert_eq!(summary(&said)["skipped_snapshots"], 3, "{}", said.stderr);
        assert_eq!(summary(&said)["copied_snapshots"], 0);
    }
    restic_copy(&source, &ours);
    assert_eq!(names(&ours, "snapshots").len(), 3);
    // A copy of a copy, restored by restic, is the tree itself.
    let again = repository(&place, "again", 2);
    copy(&ours, &again, &["latest"]);
    assert_eq!(names(&again, "snapshots").len(), 1);
    let target = place.path("restored");
    let words = ["restore", "latest", "--target", target.to_str().unwrap()];
    Program::current(&again).run(words).ok();
    let restored = fs::read(target.join("tree/sub/file 1.log")).unwrap();
    assert_eq!(
        restored,
        fs::read(place.path("tree/sub/file 1.log")).unwrap()
    );
}

#[test]
fn filters_choose_and_wrong_names_are_errors() {
    let place = Place::new();
    let source = place.repository();
    history(&place, &source);
    let to = repository(&place, "to", 2);
    for (words, expected) in [
        (&["--tag", "one"][..], 1),
        (&["--tag", "one", "--tag", "two"], 2),
        (&["--host", "nobody"], 2),
        (&["latest", "latest~1"], 3),
    ] {
        assert_eq!(copy(&source, &to, words).code(), 0, "{words:?}");
        assert_eq!(names(&to, "snapshots").len(), expected, "{words:?}");
    }
    let said = copy(&source, &to, &["0123456789"]);
    assert_eq!(said.code(), 1);
    assert!(said.stderr.contains("0123456789"), "{}", said.stderr);
}

#[test]
fn versions_are_crossed_both_ways() {
    let place = Place::new();
    let source = place.repository();
    history(&place, &source);
    let old = repository(&place, "old", 1);
    assert_eq!(copy(&source, &old, &[]).code(), 0);
    assert_sound(&old);
    let size = |path: &Path| -> u64 {
        let packs = names(path, "data");
        let sizes = packs.iter().map(|name| {
            let file = path.join("data").join(&name[..2]).join(name);
            fs::metadata(file).unwrap().len()
        });
        sizes.sum()
    };
    let new = repository(&place, "new", 2);
    assert_eq!(copy(&old, &new, &[]).code(), 0);
    assert_sound(&new);
    assert!(
        size(&old) > size(&new),
        "what comes from version 1 is compressed"
    );
    // With one key too: the config alone tells the versions apart.
    let upgraded = clone(&old, &place.path("upgraded"));
    for folder in ["snapshots", "index"] {
        for name in names(&upgraded, folder) {
            fs::remove_file(upgraded.join(folder).join(name)).unwrap();
        }
    }
    Program::ours(&upgraded)
        .run(["migrate", "upgrade_repo_v2"])
        .ok();
    assert_eq!(copy(&old, &upgraded, &[]).code(), 0);
    assert_eq!(copy(&new, &repository(&place, "last", 1), &[]).code(), 0);
    for path in [upgraded, place.path("last")] {
        assert_sound(&path);
        assert_eq!(snapshots(&path, &[]), snapshots(&old, &[]));
        Program::debian(&path).run(["check", "--read-data"]).ok();
    }
}

#[test]
fn with_one_key_packs_keep_their_names() {
    let place = Place::new();
    let source = place.repository();
    let to = clone(&source, &place.path("to"));
    history(&place, &source);
    copy(&source, &to, &["--tag", "one"]);
    copy(&source, &to, &[]);
    assert!(names(&to, "data").is_subset(&names(&source, "data")));
    assert_sound(&to);
    assert_eq!(names(&to, "snapshots").len(), 3);
}

/// The pack that holds a data blob, and where in it.
fn pack_of(repository: &Path, blob: Id) -> (Id, usize) {
    let backend = Arc::new(LocalBackend::new(repository));
    let repository = Repository::open(backend, PASSWORD.as_bytes(), None).unwrap();
    let (index, _) = repository
        .load_index(PackListing::Skip, &Cancel::new())
        .unwrap();
    let place = index.find(BlobKind::Data, &blob).unwrap();
    (place.pack, place.offset_bytes as usize)
}

#[test]
fn damage_in_the_source_is_named_and_the_rest_is_copied() {
    let place = Place::new();
    let source = place.repository();
    history(&place, &source);
    let whole = clone(&source, &place.path("whole"));
    // What the second snapshot and the third need.
    let content = fs::read(place.path("tree/sub/file 1.log")).unwrap();
    let (pack, offset) = pack_of(&source, Id::of(&content));
    let name = pack.to_string();
    let file = source.join("data").join(&name[..2]).join(&name);
    let mut bytes = fs::read(&file).unwrap();
    bytes[offset + 40] ^= 1;
    let mut permissions = fs::metadata(&file).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    fs::set_permissions(&file, permissions).unwrap();
    fs::write(&file, bytes).unwrap();
    let to = repository(&place, "to", 2);
    let said = copy(&source, &to, &[]);
    assert_eq!(said.code(), 1);
    assert!(
        said.stderr.contains("2 snapshots could not be copied"),
        "{}",
        said.stderr
    );
    assert!(said.stderr.contains(&name), "{}", said.stderr);
    assert_eq!(names(&to, "snapshots").len(), 1);
    assert_sound(&to);
    assert_eq!(copy(&whole, &to, &[]).code(), 0);
    assert_eq!(snapshots(&to, &["original"]).len(), 3);
    assert_sound(&to);
    // A snapshot that can't be read is not passed over.
    let broken = names(&whole, "snapshots").into_iter().next().unwrap();
    let file = whole.join("snapshots").join(broken);
    fs::remove_file(&file).unwrap();
    fs::write(&file, b"damaged").unwrap();
    let said = copy(&whole, &to, &[]);
    assert_eq!(said.code(), 1);
    assert!(said.stderr.contains("can't be read"), "{}", said.stderr);
}

#[test]
fn what_is_wrong_with_the_source_is_told() {
    let place = Place::new();
    let source = place.repository();
    let to = repository(&place, "to", 2);
    let ours = Program::ours(&to);
    let said = ours.run(["copy"]).ends(1);
    assert!(said.stderr.contains("--from-repo"), "{}", said.stderr);
    let wrong = with_source(ours.run(["copy"]), &source).variable("RESTIC_FROM_PASSWORD", "wrong");
    let said = wrong.ends(12);
    assert!(
        said.stderr
            .contains("open the repository to read from: wrong password"),
        "{}",
        said.stderr
    );
    assert!(
        said.stderr.contains("--from-password-file"),
        "{}",
        said.stderr
    );
    let said = with_source(ours.run(["copy"]), &place.path("nothing")).ends(10);
    assert!(said.stderr.contains("--from-repo"), "{}", said.stderr);
    // An exclusive lock keeps readers out, unless they ask for no lock.
    let backend = Arc::new(LocalBackend::new(&source));
    let repository = Repository::open(backend, PASSWORD.as_bytes(), None).unwrap();
    let (who, request) = (
        Identity::of_this_process(),
        LockRequest {
            exclusive: true,
            retry_for: Duration::ZERO,
            timing: LockTiming::default(),
            early: false,
            reads: false,
        },
    );
    let cancel = Cancel::new();
    let events = Unheard;
    let held = LockGuard::take(&Arc::new(repository), &who, request, &events, &cancel).unwrap();
    let said = with_source(ours.run(["copy"]), &source).ends(11);
    assert!(
        said.stderr.contains("open the repository to read from"),
        "{}",
        said.stderr
    );
    let said = with_source(ours.run(["copy", "--no-lock"]), &source).ok();
    assert!(
        said.text().contains("copied 0 snapshots"),
        "{}",
        said.text()
    );
    drop(held);
    assert!(names(&to, "locks").is_empty() && names(&source, "locks").is_empty());
}

#[test]
fn init_takes_the_chunker_over() {
    let place = Place::new();
    let source = place.repository();
    let polynomial = |path: &Path| {
        let said = Program::current(path)
            .run(["--no-lock", "cat", "config"])
            .ok();
        let config: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
        config["chunker_polynomial"].as_str().unwrap().to_owned()
    };
    let to = place.path("to");
    let ours = Program::ours(&to);
    let said = with_source(ours.run(["init"]), &source).ends(1);
    assert!(
        said.stderr.contains("--copy-chunker-params"),
        "{}",
        said.stderr
    );
    assert!(!to.exists());
    let said = ours.run(["init", "--copy-chunker-params"]).ends(1);
    assert!(said.stderr.contains("--from-repo"), "{}", said.stderr);
    assert!(!to.exists());
    let file = place.path("password");
    fs::write(&file, PASSWORD).unwrap();
    let words = [
        "init",
        "--copy-chunker-params",
        "--from-repo",
        source.to_str().unwrap(),
        "--from-password-file",
        file.to_str().unwrap(),
    ];
    ours.run(words).ok();
    assert_eq!(polynomial(&to), polynomial(&source));
    let other = repository(&place, "other", 2);
    assert_ne!(polynomial(&other), polynomial(&source));
    let said = copy(&source, &other, &[]);
    assert!(
        said.stderr.contains("cut files differently"),
        "{}",
        said.stderr
    );
}
