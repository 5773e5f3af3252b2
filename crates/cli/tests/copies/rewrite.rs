//! Rewritten snapshots are those of `restic rewrite` with the same arguments, in a clone.

use std::fs;

use crate::common::{Place, Program, summary};
use crate::history::{assert_sound, clone, history, names, snapshots};

#[test]
fn trees_and_snapshots_are_those_of_restic() {
    let place = Place::new();
    history(&place, &place.repository());
    let patterns = place.path("patterns");
    fs::write(&patterns, "# comment\nfile 2.log\n/tree/later\n").unwrap();
    let patterns = patterns.to_str().unwrap();
    let all: [&[&str]; 13] = [
        &["--exclude", "*.tmp"],
        &["--iexclude", "*.tmp", "--forget"],
        &["--exclude", "sub/deep"],
        &["--exclude", "*"],
        &["--exclude", "nothing has this name"],
        &[
            "--exclude",
            "*.log",
            "--exclude",
            "!file 3.log",
            "--tag",
            "one",
        ],
        &["--exclude-file", patterns, "--forget", "--tag", "two"],
        &["--include", "*.log"],
        &["--include", "/tree/sub/deep", "--forget"],
        &["--iinclude", "nothing"],
        &["--new-host", "other", "--new-time", "2020-02-03 04:05:06"],
        &["--snapshot-summary"],
        &[
            "--exclude",
            "big",
            "--new-host",
            "other",
            "--host",
            "web",
            "--forget",
            "latest",
        ],
    ];
    for (number, words) in all.iter().enumerate() {
        let ours = clone(&place.repository(), &place.path(format!("ours {number}")));
        let theirs = clone(&place.repository(), &place.path(format!("theirs {number}")));
        let arguments = [&["rewrite"], *words].concat();
        let before = names(&ours, "snapshots");
        let dry = [&arguments, &["--dry-run", "--json"][..]].concat();
        let planned = summary(&Program::ours(&ours).run(dry).ok());
        assert_eq!(names(&ours, "snapshots"), before);
        assert_eq!(names(&ours, "data").len(), names(&theirs, "data").len());
        let done = [&arguments, &["--json"][..]].concat();
        let done = summary(&Program::ours(&ours).run(done).ok());
        assert_eq!(done["changed_snapshots"], planned["changed_snapshots"]);
        Program::current(&theirs).run(&arguments).ok();
        assert_eq!(snapshots(&ours, &[]), snapshots(&theirs, &[]), "{words:?}");
        // Reading all of it takes the most time, and what is written differs little.
        if number % 4 == 0 {
            assert_sound(&ours);
        }
    }
}

#[test]
fn restic_and_we_rewrite_what_the_other_rewrote() {
    let place = Place::new();
    history(&place, &place.repository());
    let ours = clone(&place.repository(), &place.path("ours"));
    let theirs = clone(&place.repository(), &place.path("theirs"));
    let words = |pattern| ["rewrite", "--forget", "--exclude", pattern];
    Program::ours(&ours).run(words("*.tmp")).ok();
    Program::current(&theirs).run(words("*.tmp")).ok();
    Program::current(&ours).run(words("big")).ok();
    Program::ours(&theirs).run(words("big")).ok();
    assert_eq!(
        snapshots(&ours, &["original"]),
        snapshots(&theirs, &["original"])
    );
}

#[test]
fn what_makes_no_sense_or_can_not_be_read_is_refused() {
    let place = Place::new();
    history(&place, &place.repository());
    let ours = place.ours();
    let said = ours.run(["rewrite"]).ends(1);
    assert!(
        said.stderr.contains("nothing says what to change"),
        "{}",
        said.stderr
    );
    let said = ours.run(["rewrite", "-e", "a", "-i", "b"]).ends(1);
    assert!(said.stderr.contains("together"), "{}", said.stderr);
    let said = ours.run(["rewrite", "--new-time", "soon"]).ends(1);
    assert!(said.stderr.contains("--new-time"), "{}", said.stderr);
    let said = ours.run(["rewrite", "-e", "a", "--no-lock"]).ends(1);
    assert!(said.stderr.contains("--no-lock"), "{}", said.stderr);
    // Without its index file the trees of the last snapshot are not to be found.
    let dir = place.repository().join("index");
    let newest = names(&place.repository(), "index")
        .into_iter()
        .max_by_key(|name| fs::metadata(dir.join(name)).unwrap().modified().unwrap());
    fs::remove_file(dir.join(newest.unwrap())).unwrap();
    let before = names(&place.repository(), "snapshots");
    let said = ours
        .run(["rewrite", "--forget", "--exclude", "big"])
        .ends(1);
    assert!(
        said.stderr.contains("1 snapshot can't be rewritten"),
        "{}",
        said.stderr
    );
    assert!(
        said.stderr.contains("is in no index file"),
        "{}",
        said.stderr
    );
    let after = names(&place.repository(), "snapshots");
    assert_eq!(after.len(), 3);
    assert_eq!(before.intersection(&after).count(), 1);
}
