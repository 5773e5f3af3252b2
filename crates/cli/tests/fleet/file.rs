//! What is wrong with a fleet file, or with what is asked of it, is told at its place, and nothing is done.

use std::fs;
use std::path::Path;

use crate::common::Program;
use crate::yard::Yard;

const APP: &str = "apps:\n  memos:\n    volumes: { assets: { path: assets } }\n";

#[test]
fn a_fault_is_told_with_its_place() {
    let yard = Yard::new("apps:\n  memos:\n    volumes: { assets: { pth: assets } }\n");
    for command in ["plan", "backup", "status"] {
        let said = yard.ends(command, &[], 2);
        assert!(said.stderr.contains("lifeboat.yaml:16:"), "{}", said.stderr);
        assert!(said.stderr.contains("path"), "{}", said.stderr);
    }
    fs::remove_file(yard.path("lifeboat.yaml")).unwrap();
    let said = yard.ends("plan", &[], 1);
    assert!(said.stderr.contains("LIFEBOAT_FLEET"), "{}", said.stderr);
}

#[test]
fn an_app_that_is_none_is_refused() {
    let yard = Yard::new(APP);
    let said = yard.ends("backup", &["memo"], 2);
    assert!(
        said.stderr.contains("no app memo in lifeboat.yaml"),
        "{}",
        said.stderr
    );
    assert!(
        said.stderr.contains("its apps are memos"),
        "{}",
        said.stderr
    );
}

#[test]
fn a_wrong_password_is_said_and_never_shown() {
    let yard = Yard::new(APP);
    fs::write(yard.path("secret"), "un-guess-able\n").unwrap();
    let status = yard.ends("status", &[], 22);
    assert!(status.text().contains("password"), "{}", status.text());
    let backup = yard.ends("backup", &["-vv"], 1);
    for said in [status, backup] {
        let all = said.text() + &said.stderr;
        assert!(!all.contains("un-guess-able"), "{all}");
    }
}

#[test]
fn apps_of_other_machines_are_left_to_them() {
    let yard =
        Yard::new("apps:\n  memos:\n    host: other\n    volumes: { assets: { path: assets } }\n");
    let said = yard.ends("plan", &[], 0).text();
    assert!(said.contains("memos, on other"), "{said}");
    assert!(!said.contains("now,"), "{said}");
    assert!(yard.steps(&[], 0).is_empty());
    let said = yard.ends("backup", &["memos"], 1);
    assert!(
        said.stderr.contains("memos lives on other"),
        "{}",
        said.stderr
    );
}

#[test]
fn all_begins_at_the_file_wherever_one_stands() {
    let apps = "apps:\n  memos:\n    volumes: { assets: { path: assets } }\n    commands: { two: cat assets/two }\n";
    let yard = Yard::new(apps);
    let file = yard.path("lifeboat.yaml");
    let program = Program::ours(&yard.path("elsewhere"));
    let words = ["--file", file.to_str().unwrap()];
    program.run_in("backup", words).within(Path::new("/")).ok();
    assert_eq!(yard.dump("far", "/apps/memos/two", "/data/two"), b"two");
}
