//! Runs that somebody stops, and two at once.

use std::fs;

use lifeboat_testkit::wait::until;
use rustix::process::{Pid, Signal, kill_process};

use crate::yard::{Yard, told};

/// A volume, a command that lasts, and hooks around both.
const APPS: &str = r#"apps:
  memos:
    repositories: [near]
    volumes: { assets: { path: assets } }
    commands: { slow: "echo $$ > pid; sleep 1000; echo done" }
    hooks: { before: ["echo stopped >> log"], after: ["sleep 0.2; echo started >> log"] }
"#;

fn is_gone(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    // Whoever adopted it may not have asked for its end yet.
    stat.map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn what_was_stopped_starts_again_and_what_was_captured_is_named() {
    let yard = Yard::new(APPS);
    let mut run = yard.start("backup", &[]);
    until("the command runs", || {
        fs::read_to_string(yard.path("pid")).is_ok_and(|pid| pid.ends_with('\n'))
    });
    // Another one is kept out, and looking is not.
    let said = yard.ends("backup", &[], 11);
    assert!(said.stderr.contains("another run"), "{}", said.stderr);
    yard.ends("plan", &[], 0);
    kill_process(Pid::from_child(&run), Signal::INT).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130));
    let log = fs::read_to_string(yard.path("log")).unwrap();
    assert_eq!(log, "stopped\nstarted\n");
    let pid = fs::read_to_string(yard.path("pid")).unwrap();
    until("the command has ended", || is_gone(&pid));
    let point = yard.point("near", "memos");
    assert_eq!(point["members"]["assets"]["state"], "captured", "{point}");
    // The next one does what is missing.
    let file = fs::read_to_string(yard.path("lifeboat.yaml")).unwrap();
    let file = file
        .replace("sleep 1000; ", "")
        .replace("hourly", "monthly");
    fs::write(yard.path("lifeboat.yaml"), file).unwrap();
    let steps = told(&yard.steps(&[], 0));
    assert_eq!(steps, ["memos/slow near captured"]);
}

#[test]
fn nothing_stands_still_for_a_repository_that_is_away() {
    let yard = Yard::new(APPS);
    fs::rename(yard.path("near"), yard.path("away")).unwrap();
    let steps = told(&yard.steps(&[], 1));
    assert_eq!(
        steps,
        ["memos/assets near failed", "memos/slow near failed"]
    );
    assert!(!yard.path("log").exists());
}
