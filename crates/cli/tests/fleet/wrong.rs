//! What is wrong in a repository, or with a clock, is told, and makes nothing green.

use std::fs;

use serde_json::Value;

use crate::common::objects;
use crate::yard::{Yard, told};

const ONE: &str =
    "apps:\n  memos:\n    repositories: [near]\n    volumes: { assets: { path: assets } }\n";

fn with_rare_turns(apps: &str) -> Yard {
    let yard = Yard::new(apps);
    let file = fs::read_to_string(yard.path("lifeboat.yaml")).unwrap();
    fs::write(
        yard.path("lifeboat.yaml"),
        file.replace("hourly, jitter", "monthly, jitter"),
    )
    .unwrap();
    yard
}

fn snapshots(yard: &Yard, repository: &str) -> Vec<Value> {
    let said = yard.restic(repository).run(["snapshots", "--json"]).ok();
    serde_json::from_slice(&said.stdout).unwrap()
}

fn states(yard: &Yard, code: i32) -> Vec<String> {
    let said = yard.ends("status", &["--json"], code);
    let copies = objects(&said)
        .into_iter()
        .filter(|object| object["message_type"] == "copy");
    copies
        .map(|copy| copy["state"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_capture_of_the_future_counts_for_nothing() {
    let yard = with_rare_turns(ONE);
    yard.steps(&[], 0);
    assert_eq!(states(&yard, 0), ["fresh"]);
    let words = ["rewrite", "--new-time", "2999-01-01 00:00:00", "--forget"];
    yard.restic("near").run(words).ok();
    assert_eq!(states(&yard, 21), ["never run"]);
    let said = yard.ends("status", &[], 21);
    assert!(said.stderr.contains("has not come yet"), "{}", said.stderr);
    assert_eq!(told(&yard.steps(&[], 0)), ["memos/assets near captured"]);
    assert_eq!(states(&yard, 0), ["fresh"]);
}

#[test]
fn a_capture_that_no_point_names_is_made_again() {
    let yard = with_rare_turns(ONE);
    yard.steps(&[], 0);
    let words = [
        "forget",
        "--tag",
        "recovery-point",
        "--unsafe-allow-remove-all",
    ];
    yard.restic("near").run(words).ok();
    assert_eq!(snapshots(&yard, "near").len(), 1);
    assert_eq!(told(&yard.steps(&[], 0)), ["memos/assets near captured"]);
    assert_eq!(
        yard.point("near", "memos")["members"]["assets"]["state"],
        "captured"
    );
    assert!(
        yard.ends("backup", &[], 0)
            .text()
            .contains("nothing is due")
    );
}

#[test]
fn a_damaged_snapshot_is_told_and_sets_off_nothing() {
    let apps = "apps:\n  memos:\n    volumes: { assets: { path: assets } }\n";
    let yard = with_rare_turns(apps);
    yard.steps(&[], 0);
    let stray = yard.path("near/snapshots").join("0".repeat(64));
    fs::write(&stray, "no snapshot").unwrap();
    assert_eq!(states(&yard, 22), ["unknown", "fresh"]);
    // What can be read is new enough.
    assert!(
        yard.ends("backup", &[], 0)
            .text()
            .contains("nothing is due")
    );
    let steps = told(&yard.steps(&["memos"], 1));
    assert_eq!(
        steps,
        ["memos/assets near captured", "memos/assets far failed"]
    );
    fs::remove_file(stray).unwrap();
    assert_eq!(told(&yard.steps(&[], 0)), ["memos/assets far copied"]);
}

#[test]
fn a_loss_is_still_told_when_nobody_watches_any_more() {
    let yard = with_rare_turns(ONE);
    yard.steps(&[], 0);
    fs::remove_file(yard.path("assets/one")).unwrap();
    fs::remove_file(yard.path("assets/two")).unwrap();
    yard.steps(&["memos"], 0);
    let said = yard.ends("status", &[], 0).text();
    assert!(said.contains("fresh, but the source is emptied"), "{said}");
}

#[test]
fn members_with_copies_of_their_own_have_points_that_name_what_is_there() {
    let apps = r#"apps:
  memos:
    volumes:
      assets: { path: assets }
      both: { path: assets, policy: apart }
      memos: { path: assets, policy: near-only }
"#;
    let yard = Yard::new(apps);
    let file = fs::read_to_string(yard.path("lifeboat.yaml")).unwrap();
    let policy = "policies:\n  near-only: { copies: [{ to: near, schedule: hourly, keep: { hourly: 24 } }] }\n";
    fs::write(
        yard.path("lifeboat.yaml"),
        file.replace("policies:\n", policy),
    )
    .unwrap();
    yard.steps(&[], 0);
    yard.steps(&["memos"], 0);
    let [near, far] = ["near", "far"].map(|repository| yard.point(repository, "memos"));
    assert_eq!(near["fleet"], far["fleet"]);
    let names = |point: &Value| -> Vec<String> {
        point["members"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect()
    };
    assert_eq!(names(&near), ["assets", "both", "memos"]);
    assert_eq!(names(&far), ["assets", "both"]);
    let trees: Vec<Value> = snapshots(&yard, "far")
        .iter()
        .map(|one| one["tree"].clone())
        .collect();
    for member in far["members"].as_object().unwrap().values() {
        assert!(trees.contains(&member["tree"]), "{far}");
    }
}
