//! What is wrong with a fleet file, or with what is asked of it, is told at its place, and nothing is done.

use std::fs;

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
    fs::write(yard.path("secret"), "another\n").unwrap();
    let said = yard.ends("status", &[], 22);
    assert!(said.text().contains("password"), "{}", said.text());
    let said = yard.ends("backup", &[], 1);
    for text in [said.text(), said.stderr] {
        assert!(!text.contains("another\n"), "{text}");
    }
}

#[test]
fn apps_of_other_machines_are_left_to_them() {
    let yard =
        Yard::new("apps:\n  memos:\n    host: other\n    volumes: { assets: { path: assets } }\n");
    let said = yard.ends("plan", &[], 0).text();
    assert!(said.contains("memos, on other"), "{said}");
    assert!(yard.steps(&[], 0).is_empty());
}
