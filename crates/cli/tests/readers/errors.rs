//! Wrong names and hostile content: each ends in a message that says what to do, and none in a lie.

use std::fs;
use std::sync::{Arc, RwLock};

use lifeboat_flow::Cancel;
use lifeboat_format::{BlobKind, Id, Node, NodeKind, Snapshot, Timestamp};
use lifeboat_repo::backend::LocalBackend;
use lifeboat_repo::{Ingest, IngestOptions, PackListing, RepoError, Repository};
use lifeboat_testkit::restic::PASSWORD;

use crate::common::Place;
use crate::fixture::Fixture;

fn snapshot(tree: Id, number: i64) -> Snapshot {
    let json = format!(
        "{{\"time\":\"{}\",\"tree\":\"{tree}\",\"paths\":[\"/x\"],\"hostname\":\"h\"}}",
        Timestamp::utc(1_700_000_000 + number, 0)
    );
    Snapshot::from_json(json.as_bytes()).unwrap()
}

/// A repository with these trees, of which the last is the root of so many snapshots.
fn repository_of(place: &Place, trees: &[Vec<u8>], snapshots: i64) {
    let backend = Arc::new(LocalBackend::new(place.repository()));
    let repository = Repository::open(backend, PASSWORD.as_bytes(), None).unwrap();
    let (index, _) = repository
        .load_index(PackListing::Compare, &Cancel::new())
        .unwrap();
    let index = RwLock::new(index);
    Ingest::run(
        &repository,
        &index,
        None,
        IngestOptions::default(),
        |ingest| {
            let mut sealer = ingest.sealer()?;
            for tree in trees {
                ingest.add(BlobKind::Tree, Id::of(tree), tree, &mut sealer)?;
            }
            Ok::<_, RepoError>(())
        },
    )
    .unwrap();
    for number in 0..snapshots {
        repository
            .save_snapshot(&snapshot(Id::of(trees.last().unwrap()), number))
            .unwrap();
    }
}

fn json_of(nodes: Vec<Node>) -> Vec<u8> {
    let mut json = b"{\"nodes\":[".to_vec();
    for (at, node) in nodes.iter().enumerate() {
        if at > 0 {
            json.push(b',');
        }
        node.encode(&mut json);
    }
    json.extend_from_slice(b"]}\n");
    json
}

#[test]
fn wrong_names_say_what_is_wrong() {
    let fixture = Fixture::shared();
    for (arguments, words) in [
        (&["ls", "00000000"][..], "00000000"),
        (&["ls", "lates"], "lates"),
        (&["ls", "latest:/nowhere"], "/nowhere"),
        (&["ls", "latest", "/nowhere"], "/nowhere"),
        (&["ls", "latest", "tree"], "slash"),
        (&["ls", "latest", "--host", "nobody"], "asked for"),
        (
            &["dump", "latest", "/tree/nowhere"],
            "dump /tree/nowhere: it is not in the snapshot",
        ),
        (&["dump", "latest", "/tree/planted/large/x"], "no directory"),
        (&["diff", "latest", "00000000"], "00000000"),
        (&["diff", "latest", "latest:/nowhere"], "/nowhere"),
        (&["stats", "00000000"], "00000000"),
        (&["find", ""], "empty pattern"),
        (&["find", "[a"], "[a"),
        (&["find", "x", "--oldest", "yesterday"], "--oldest"),
        (
            &[
                "find",
                "x",
                "--oldest",
                "2024-01-02",
                "--newest",
                "2024-01-01",
            ],
            "later",
        ),
        (&["find", "--blob", "xyz"], "no ID"),
        (&["find", "--pack", "00000000"], "no pack"),
        (&["cat", "blob", "00000000"], "no blob"),
        (&["cat", "pack", "00000000"], "no pack"),
        (&["cat", "index", "xyz"], "xyz"),
        (&["cat", "tree", "latest:/nowhere"], "/nowhere"),
    ] {
        let arguments = [arguments, &["--no-lock"]].concat();
        let said = fixture.ours.run(&arguments).ends(1);
        assert!(
            said.stderr.contains(words),
            "{arguments:?}: {}",
            said.stderr
        );
    }
    for usage in [
        &["cat", "blob"][..],
        &["cat", "nothing"],
        &["find"],
        &["find", "--blob", "--tree", "a"],
        &["ls"],
        &["stats", "--mode", "x"],
        &["dump", "latest", "/", "--archive", "zip"],
    ] {
        fixture.ours.run(usage).ends(2);
    }
}

#[test]
fn a_prefix_of_several_snapshots_is_refused() {
    let place = Place::new();
    repository_of(&place, &[json_of(Vec::new())], 17);
    let listed = place.current().run(["list", "snapshots"]).ok().lines();
    let is_shared = |digit: &char| listed.iter().filter(|id| id.starts_with(*digit)).count() > 1;
    // There are more snapshots than digits.
    let digit = "0123456789abcdef"
        .chars()
        .find(is_shared)
        .unwrap()
        .to_string();
    for arguments in [
        &["ls", &digit][..],
        &["dump", &digit, "/"],
        &["stats", &digit],
        &["cat", "snapshot", &digit],
    ] {
        let said = place.ours().run(arguments).ends(1);
        assert!(said.stderr.contains("could be any of"), "{}", said.stderr);
        assert!(said.stdout.is_empty());
    }
}

#[test]
fn a_hostile_snapshot_puts_no_path_into_an_archive() {
    let place = Place::new();
    let empty = json_of(Vec::new());
    let dir = |name: &[u8]| Node {
        subtree: Some(Id::of(&empty)),
        ..Node::bare(name, NodeKind::Dir)
    };
    let link = Node {
        link_target: b"/etc".to_vec(),
        ..Node::bare(b"twice", NodeKind::Symlink)
    };
    let file = |name: &[u8]| Node {
        content: Some(Vec::new()),
        ..Node::bare(name, NodeKind::File)
    };
    let root = json_of(vec![
        dir(b".."),
        dir(b"a/b"),
        file(b"/etc/passwd"),
        file(b"good"),
        link,
        dir(b"twice"),
        file(b""),
    ]);
    repository_of(&place, &[empty, root], 1);
    let said = place.ours().run(["dump", "latest", "/"]).ends(1);
    for name in ["/..", "/a/b", "//etc/passwd", "/twice"] {
        assert!(
            said.stderr.contains(&format!("{name} is left out")),
            "{name}: {}",
            said.stderr
        );
    }
    let mut names = Vec::new();
    for entry in tar::Archive::new(said.stdout.as_slice()).entries().unwrap() {
        names.push(String::from_utf8(entry.unwrap().path_bytes().into_owned()).unwrap());
    }
    assert_eq!(names, ["good", "twice"]);
}

#[test]
fn a_tree_that_can_not_be_read_is_named_and_the_rest_is_shown() {
    let place = Place::new();
    let lost = Node {
        subtree: Some(Id::of(b"nowhere")),
        ..Node::bare(b"lost", NodeKind::Dir)
    };
    let file = Node {
        content: Some(Vec::new()),
        ..Node::bare(b"z", NodeKind::File)
    };
    repository_of(&place, &[json_of(vec![lost, file])], 2);
    for (arguments, shown) in [
        (&["ls", "latest"][..], "/z\n"),
        (&["find", "z"], "/z\n"),
        (&["diff", "latest~1", "latest"], "Files:"),
    ] {
        let said = place.ours().run(arguments).ends(1);
        assert!(said.stderr.contains("/lost"), "{}", said.stderr);
        assert!(said.text().contains(shown), "{}", said.text());
    }
    for arguments in [
        &["stats"][..],
        &["stats", "--mode", "raw-data"],
        &["dump", "latest", "/"],
    ] {
        let said = place.ours().run(arguments).ends(1);
        assert!(
            said.stderr.contains(&Id::of(b"nowhere").to_string()),
            "{}",
            said.stderr
        );
    }
}

#[test]
fn a_damaged_pack_is_shown_and_named() {
    let fixture = Fixture::new();
    let pack = fixture.theirs.run(["list", "packs"]).ok().lines()[0].clone();
    let path = fixture
        .place
        .repository()
        .join("data")
        .join(&pack[..2])
        .join(&pack);
    let mut content = fs::read(&path).unwrap();
    content[7] ^= 1;
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(&path, &content).unwrap();
    let said = fixture.ours.run(["cat", "pack", &pack]).ends(1);
    assert!(said.stdout == content);
    assert!(said.stderr.contains("damaged"), "{}", said.stderr);
}
