//! A repository of version 1 becomes one of version 2, which restic goes on with.

use std::fs;

use crate::common::{Place, Program};
use crate::history::{assert_sound, copy, history, names, repository, snapshots};

#[test]
fn version_1_becomes_version_2() {
    let place = Place::new();
    history(&place, &place.repository());
    let old = repository(&place, "old", 1);
    copy(&place.repository(), &old, &[]);
    let before = (snapshots(&old, &[]), names(&old, "data"));
    let ours = Program::ours(&old);
    let restic = Program::current(&old);
    let said = ours.run(["migrate"]).ok();
    assert!(
        said.text().starts_with("upgrade_repo_v2"),
        "{}",
        said.text()
    );
    let config = fs::read(old.join("config")).unwrap();
    ours.run(["migrate", "--dry-run", "upgrade_repo_v2"]).ok();
    assert_eq!(fs::read(old.join("config")).unwrap(), config);
    let said = ours.run(["migrate", "no_such"]).ends(1);
    assert!(said.stderr.contains("upgrade_repo_v2"), "{}", said.stderr);
    ours.run(["migrate", "upgrade_repo_v2"]).ok();
    assert!(
        restic
            .run(["cat", "config"])
            .ok()
            .text()
            .contains("\"version\": 2")
    );
    assert_eq!((snapshots(&old, &[]), names(&old, "data")), before);
    assert_sound(&old);
    let said = restic.run(["migrate"]).ok();
    assert!(
        said.text().contains("no migrations found"),
        "{}",
        said.text()
    );
    for words in [
        &["migrate", "upgrade_repo_v2"][..],
        &["migrate", "--force", "upgrade_repo_v2"],
    ] {
        let said = ours.run(words).ends(1);
        assert!(
            said.stderr.contains("has version 2 already"),
            "{}",
            said.stderr
        );
    }
    let said = ours.run(["migrate"]).ok();
    assert!(
        said.text().contains("nothing to migrate"),
        "{}",
        said.text()
    );
    // Both go on with it, and compress.
    restic.run(["backup", "tree"]).within(&place.path("")).ok();
    ours.run(["backup", "tree"]).within(&place.path("")).ok();
    assert_sound(&old);
}

#[test]
fn a_damaged_repository_is_left_alone() {
    let place = Place::new();
    history(&place, &place.repository());
    let old = repository(&place, "old", 1);
    copy(&place.repository(), &old, &[]);
    let pack = names(&old, "data").into_iter().next().unwrap();
    fs::remove_file(old.join("data").join(&pack[..2]).join(&pack)).unwrap();
    let config = fs::read(old.join("config")).unwrap();
    let said = Program::ours(&old)
        .run(["migrate", "upgrade_repo_v2"])
        .ends(1);
    assert!(
        said.stderr.contains("nothing was changed"),
        "{}",
        said.stderr
    );
    assert!(said.stderr.contains(&pack), "{}", said.stderr);
    assert_eq!(fs::read(old.join("config")).unwrap(), config);
}
