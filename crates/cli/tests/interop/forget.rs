//! `forget --dry-run --json` of ours says the same as that of restic 0.19, word for word, on a generated history.

use std::fs;
use std::process::Command;

use lifeboat_format::{Id, Snapshot, Timestamp};
use lifeboat_repo::Repository;
use lifeboat_repo::backend::LocalBackend;
use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::{self, Note};
use lifeboat_testkit::restic::PASSWORD;
use serde_json::Value;

use crate::common::{Place, Program};

const SNAPSHOTS: usize = 60;
const POLICIES: [&[&str]; 10] = [
    &["--keep-last", "3"],
    &[
        "--keep-daily",
        "7",
        "--keep-weekly",
        "4",
        "--keep-monthly",
        "12",
    ],
    &["--keep-hourly", "24", "--keep-yearly", "unlimited"],
    &["--keep-within", "1y2m", "--group-by", ""],
    &[
        "--keep-within-daily",
        "3m",
        "--keep-within-weekly",
        "1y",
        "--group-by",
        "host",
    ],
    &["--keep-tag", "a,b", "--keep-tag", "c", "--keep-last", "1"],
    &["--keep-last", "2", "--group-by", "host,tags"],
    &["--keep-last", "2", "--host", "web", "--path", "/srv"],
    &["--keep-daily", "2", "--tag", "a", "--tag", "b,c"],
    &["--keep-last", "unlimited", "--group-by", "tags"],
];

/// A history of a few hosts over some years.
fn history(place: &Place, random: &mut Random) {
    let backend = std::sync::Arc::new(LocalBackend::new(place.repository()));
    let repository = Repository::open(backend, PASSWORD.as_bytes(), None).unwrap();
    let mut seconds = 1_700_000_000;
    for _ in 0..SNAPSHOTS {
        seconds -= i64::try_from(random.below(2_000_000)).unwrap();
        let mut tags: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
        tags.retain(|_| random.chance(30));
        let paths = random.pick::<&[&str]>(&[&["/srv"], &["/srv", "/etc"], &["/etc", "/srv"]]);
        let snapshot = Snapshot {
            time: Timestamp {
                seconds,
                nanoseconds: u32::try_from(random.below(1_000_000_000)).unwrap(),
                offset_seconds: *random.pick(&[0, 3600, 20_700]),
            },
            parent: None,
            tree: Id::of(b"nobody looks into it"),
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            hostname: (*random.pick(&["web", "db"])).to_owned(),
            username: "me".to_owned(),
            uid: 0,
            gid: 0,
            excludes: Vec::new(),
            tags,
            original: None,
            whole: None,
            program_version: "a program".to_owned(),
            summary: None,
        };
        repository.save_snapshot(&snapshot).unwrap();
    }
}

/// The groups in one order; paths of snapshots sorted, as restic does in its list.
fn plan(program: &Program, words: &[&str]) -> Vec<Value> {
    let first = ["forget", "--dry-run", "--json"];
    let said = program.run([&first, words].concat()).ok();
    let mut groups: Vec<Value> = serde_json::from_slice(&said.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", said.text()));
    groups.iter_mut().for_each(sort_paths);
    groups.sort_by_key(|group| format!("{} {} {}", group["host"], group["paths"], group["tags"]));
    groups
}

fn sort_paths(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if let ("paths", Value::Array(paths)) = (name.as_str(), &mut *field) {
                    paths.sort_by_key(ToString::to_string);
                }
                sort_paths(field);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(sort_paths),
        _ => {}
    }
}

#[test]
fn decisions_and_their_json_are_restics() {
    let seed = replay::seed();
    let _note = Note::seed(seed);
    let place = Place::new();
    history(&place, &mut Random::new(seed));
    let (ours, theirs) = (place.ours(), place.current());
    for words in POLICIES {
        let (our, their) = (plan(&ours, words), plan(&theirs, words));
        assert_eq!(our.len(), their.len(), "{words:?}");
        for (our, their) in our.iter().zip(&their) {
            let names = our
                .as_object()
                .unwrap()
                .keys()
                .chain(their.as_object().unwrap().keys());
            for name in names {
                assert_eq!(our[name], their[name], "{words:?}: {name}");
            }
        }
    }
    // And what is really removed: the same in two copies.
    let copy = place.path("copy");
    let copied = Command::new("cp")
        .arg("-a")
        .args([&place.repository(), &copy])
        .status();
    assert!(copied.unwrap().success());
    let words = ["forget", "--keep-last", "2", "--keep-monthly", "3"];
    ours.run(words).ok();
    Program::current(&copy).run(words).ok();
    let left = |dir: std::path::PathBuf| {
        let files = fs::read_dir(dir.join("snapshots")).unwrap();
        let mut names: Vec<_> = files.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(left(place.repository()), left(copy));
}
