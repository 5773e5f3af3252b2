//! What is due is captured, copied and tied together; what fails fails alone.

use std::fs;

use serde_json::Value;

use crate::common::objects;
use crate::yard::{Yard, told};

const MEMOS: &str = r#"apps:
  memos:
    volumes:
      assets: { path: assets, exclude: [cache/, /two] }
      thumbs: { path: thumbs, exempt: made again }
    commands: { config.xml: "printf '<x/>'" }
"#;

fn snapshots(yard: &Yard, repository: &str) -> usize {
    let said = yard.restic(repository).run(["snapshots", "--json"]).ok();
    let found: Value = serde_json::from_slice(&said.stdout).unwrap();
    found.as_array().unwrap().len()
}

#[test]
fn members_are_captured_tied_and_copied() {
    let yard = Yard::new(MEMOS);
    fs::create_dir(yard.path("assets/cache")).unwrap();
    fs::write(yard.path("assets/cache/x"), "x").unwrap();
    let steps = yard.steps(&[], 0);
    assert_eq!(
        told(&steps),
        [
            "memos/assets near captured",
            "memos/config.xml near captured",
            "memos/assets far copied",
            "memos/config.xml far copied",
        ]
    );
    for repository in ["near", "far"] {
        let one = yard.dump(repository, "/apps/memos/assets", "/data/one");
        assert_eq!(one, vec![7; 100_000]);
        let xml = yard.dump(repository, "/apps/memos/config.xml", "/data/config.xml");
        assert_eq!(xml, b"<x/>");
        let listed = [
            "ls",
            "latest",
            "--host",
            "home",
            "--path",
            "/apps/memos/assets",
        ];
        let listed = yard.restic(repository).run(listed).ok().text();
        assert!(
            listed.contains("/data/one") && !listed.contains("/data/two"),
            "{listed}"
        );
        assert!(!listed.contains("/data/cache/x"), "{listed}");
        let point = yard.point(repository, "memos");
        assert_eq!(point["members"]["assets"]["state"], "captured");
        assert_eq!(point["members"]["config.xml"]["engine"], "command");
        assert!(point["members"].get("thumbs").is_none(), "{point}");
        let file = yard.dump(repository, "/apps/memos", "/lifeboat.yaml");
        assert_eq!(file, fs::read(yard.path("lifeboat.yaml")).unwrap());
        assert_eq!(snapshots(&yard, repository), 3);
    }
    let record = yard.dump("near", "/apps/memos/assets", "/member.json");
    let record: Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(
        (&record["files"], &record["bytes"]),
        (&1.into(), &100_000.into())
    );
    yard.ends("status", &[], 0);
    // Asked for, all of it is done again, and nothing is stored twice.
    let again = yard.steps(&["memos"], 0);
    assert_eq!(told(&again), told(&steps));
    assert_eq!(again[0]["stored_bytes"], 0, "{again:?}");
    let point = yard.point("far", "memos");
    assert_eq!(point["members"]["assets"]["tree"], tree_of(&yard, "near"));
}

fn tree_of(yard: &Yard, repository: &str) -> Value {
    let words = [
        "snapshots",
        "--json",
        "--latest",
        "1",
        "--path",
        "/apps/memos/assets",
    ];
    let said = yard.restic(repository).run(words).ok();
    let found: Value = serde_json::from_slice(&said.stdout).unwrap();
    found[0]["tree"].clone()
}

#[test]
fn nothing_is_done_where_nothing_is_due_or_only_shown() {
    let yard = Yard::new(MEMOS);
    let shown = yard.ends("backup", &["--dry-run"], 0).text();
    assert!(shown.contains("now, the first"), "{shown}");
    assert_eq!(shown, yard.ends("plan", &[], 0).text());
    assert_eq!(snapshots(&yard, "near"), 0);
    let said = yard.ends("status", &["--json"], 21);
    assert!(
        objects(&said)
            .iter()
            .any(|object| object["state"] == "never run")
    );
    // A schedule that never comes within this test.
    let file = fs::read_to_string(yard.path("lifeboat.yaml")).unwrap();
    let file = file.replace("schedule: hourly", "schedule: monthly");
    fs::write(yard.path("lifeboat.yaml"), file).unwrap();
    yard.steps(&[], 0);
    let said = yard.ends("backup", &[], 0).text();
    assert!(said.contains("nothing is due; next is memos/"), "{said}");
    assert_eq!(snapshots(&yard, "near"), 3);
}

#[test]
fn a_repository_that_is_away_fails_alone() {
    let apps = "apps:\n  memos:\n    policy: apart\n    volumes: { assets: { path: assets } }\n";
    let yard = Yard::new(apps);
    fs::rename(yard.path("far"), yard.path("away")).unwrap();
    let steps = yard.steps(&[], 1);
    assert_eq!(
        told(&steps),
        ["memos/assets far failed", "memos/assets near captured"]
    );
    let why = steps[0]["error"].as_str().unwrap();
    assert!(
        why.contains("no repository") && why.contains("--init"),
        "{why}"
    );
    yard.ends("status", &[], 22);
    fs::rename(yard.path("away"), yard.path("far")).unwrap();
    yard.ends("status", &[], 21);
    // Only what is missing is made up for; unless the hour has just turned, the other one is not due.
    let caught_up = told(&yard.steps(&[], 0));
    assert!(
        caught_up.contains(&"memos/assets far captured".to_owned()),
        "{caught_up:?}"
    );
    yard.ends("status", &[], 0);
}

#[test]
fn a_copy_that_lags_is_caught_up() {
    let yard = Yard::new("apps:\n  memos:\n    volumes: { assets: { path: assets } }\n");
    fs::rename(yard.path("far"), yard.path("away")).unwrap();
    let steps = yard.steps(&[], 1);
    assert_eq!(
        told(&steps),
        ["memos/assets near captured", "memos/assets far failed"]
    );
    fs::rename(yard.path("away"), yard.path("far")).unwrap();
    let caught_up = told(&yard.steps(&[], 0));
    assert!(
        caught_up.contains(&"memos/assets far copied".to_owned()),
        "{caught_up:?}"
    );
    assert_eq!(snapshots(&yard, "far"), snapshots(&yard, "near"));
}

#[test]
fn a_member_that_fails_is_in_the_point_and_keeps_no_other_back() {
    let apps = r#"apps:
  memos:
    volumes:
      assets: { path: assets }
      gone: { path: gone }
    commands: { broken: "echo half; exit 3" }
"#;
    let yard = Yard::new(apps);
    let steps = yard.steps(&[], 1);
    assert_eq!(
        told(&steps),
        [
            "memos/assets near captured",
            "memos/gone near failed",
            "memos/broken near failed",
            "memos/assets far copied",
            "memos/gone far failed",
            "memos/broken far failed",
        ]
    );
    assert!(
        steps[2]["error"]
            .as_str()
            .unwrap()
            .contains("`echo half; exit 3`")
    );
    let point = yard.point("near", "memos");
    assert_eq!(point["members"]["gone"]["state"], "failed");
    assert!(point["members"]["broken"]["error"].is_string(), "{point}");
    assert!(point["instant"].is_null(), "{point}");
    // When nothing at all was captured, the point before says what comes back.
    let before = snapshots(&yard, "near");
    fs::rename(yard.path("assets"), yard.path("assets.away")).unwrap();
    yard.steps(&["memos"], 1);
    assert_eq!(snapshots(&yard, "near"), before);
}

#[test]
fn a_database_in_a_volume_is_captured_while_it_is_open() {
    let yard = Yard::new(
        "apps:\n  vault:\n    repositories: [near]\n    volumes: { data: { path: assets } }\n",
    );
    let open = rusqlite::Connection::open(yard.path("assets/vault")).unwrap();
    open.execute_batch("pragma journal_mode = wal; create table t (n integer); begin")
        .unwrap();
    for number in 0..500 {
        open.execute("insert into t values (?1)", [number]).unwrap();
    }
    // The rows stand beside the database, where a copy of the file alone has none of them.
    open.execute_batch("commit").unwrap();
    assert!(yard.path("assets/vault-wal").exists());
    assert_eq!(yard.steps(&[], 0)[0]["faults"], 0);
    let restored = yard.path("restored");
    fs::write(
        &restored,
        yard.dump("near", "/apps/vault/data", "/data/vault"),
    )
    .unwrap();
    let read = rusqlite::Connection::open(&restored).unwrap();
    let sum: i64 = read
        .query_row("select sum(n) from t", [], |row| row.get(0))
        .unwrap();
    assert_eq!(sum, 499 * 500 / 2);
    let words = [
        "ls",
        "latest",
        "--host",
        "home",
        "--path",
        "/apps/vault/data",
    ];
    let listed = yard.restic("near").run(words).ok().text();
    assert!(
        !listed.contains("-wal") && listed.contains("/data/one"),
        "{listed}"
    );
    // What was not written since is not read again, and what was is.
    let again = yard.steps(&["vault"], 0);
    assert_eq!(again[0]["stored_bytes"], 0, "{again:?}");
    open.execute("insert into t values (1000000)", []).unwrap();
    yard.steps(&["vault"], 0);
    fs::write(
        &restored,
        yard.dump("near", "/apps/vault/data", "/data/vault"),
    )
    .unwrap();
    let read = rusqlite::Connection::open(&restored).unwrap();
    let most: i64 = read
        .query_row("select max(n) from t", [], |row| row.get(0))
        .unwrap();
    assert_eq!(most, 1_000_000);
}

#[test]
fn a_fault_is_of_the_member_that_has_it() {
    let apps =
        "apps:\n  memos:\n    volumes: { assets: { path: assets }, sound: { path: sound } }\n";
    let yard = Yard::new(apps);
    fs::create_dir(yard.path("sound")).unwrap();
    fs::write(yard.path("sound/one"), "one").unwrap();
    // It begins as a database of SQLite does, and is none.
    let broken = [b"SQLite format 3\0".as_slice(), &[9; 5000]].concat();
    fs::write(yard.path("assets/broken.db"), broken).unwrap();
    let steps = yard.steps(&[], 3);
    let faults: Vec<_> = steps.iter().map(|step| step["faults"].as_u64()).collect();
    assert_eq!(faults, [Some(1), Some(0), None, None], "{steps:?}");
    let record = yard.dump("near", "/apps/memos/sound", "/member.json");
    let record: Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["faults_count"], 0, "{record}");
    // What could not be read as it should is there as it is.
    assert_eq!(
        yard.dump("near", "/apps/memos/assets", "/data/broken.db")
            .len(),
        5016
    );
}

#[test]
fn a_source_that_was_lost_is_flagged_beside_the_last_sound_capture() {
    let yard = Yard::new("apps:\n  memos:\n    volumes: { assets: { path: assets } }\n");
    yard.steps(&[], 0);
    fs::remove_file(yard.path("assets/one")).unwrap();
    fs::remove_file(yard.path("assets/two")).unwrap();
    // Also the second time: the capture that was flagged is no measure.
    for _ in 0..2 {
        let steps = yard.steps(&["memos"], 0);
        assert_eq!(steps[0]["flag"], "emptied", "{steps:?}");
    }
    let said = yard.ends("backup", &["memos"], 0);
    assert!(
        said.stderr.contains("the source is emptied"),
        "{}",
        said.stderr
    );
    fs::write(yard.path("assets/one"), vec![7; 90_000]).unwrap();
    fs::write(yard.path("assets/two"), "two").unwrap();
    assert!(yard.steps(&["memos"], 0)[0]["flag"].is_null());
}
