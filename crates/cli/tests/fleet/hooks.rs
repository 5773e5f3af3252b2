//! What is run around captures, and what becomes of them when it fails.

use std::fs;

use crate::yard::{Yard, told};

fn yard(hooks: &str) -> Yard {
    Yard::new(&format!(
        "apps:\n  memos:\n    repositories: [near]\n    volumes: {{ assets: {{ path: assets }} }}\n    hooks: {hooks}\n"
    ))
}

#[test]
fn hooks_run_before_and_after_in_the_directory_of_the_file() {
    let yard =
        yard("{ before: [\"echo made > assets/by-hook\"], after: [\"echo after > after\"] }");
    yard.steps(&[], 0);
    let content = yard.dump("near", "/apps/memos/assets", "/data/by-hook");
    assert_eq!(content, b"made\n");
    assert_eq!(fs::read(yard.path("after")).unwrap(), b"after\n");
}

#[test]
fn a_hook_that_fails_keeps_the_capture_back_unless_it_need_not() {
    let stops = yard("{ before: [\"exit 7\"], after: [\"echo after > after\"] }");
    let steps = stops.steps(&[], 1);
    assert_eq!(told(&steps), ["memos/assets near failed"]);
    assert!(
        steps[0]["error"].as_str().unwrap().contains("`exit 7`"),
        "{steps:?}"
    );
    // What was stopped before must start again.
    assert!(stops.path("after").exists());
    let goes_on = yard("{ before: [{ run: \"exit 7\", on_failure: continue }] }");
    let said = goes_on.ends("backup", &[], 0);
    assert!(said.stderr.contains("exit 7"), "{}", said.stderr);
    let afterwards = yard("{ after: [\"exit 7\"] }");
    let said = afterwards.ends("backup", &[], 1);
    assert!(said.stderr.contains("`exit 7`"), "{}", said.stderr);
}

#[test]
fn a_hook_that_hangs_ends_with_all_that_it_started() {
    let yard = yard("{ before: [{ run: \"sleep 1000 & echo $! > pid; wait\", timeout: 1s }] }");
    let steps = yard.steps(&[], 1);
    assert!(
        steps[0]["error"]
            .as_str()
            .unwrap()
            .contains("took more than 1 s"),
        "{steps:?}"
    );
    let pid = fs::read_to_string(yard.path("pid")).unwrap();
    lifeboat_testkit::wait::until("what the hook started has ended", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        // Whoever adopted it may not have asked for its end yet.
        stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))
    });
}
