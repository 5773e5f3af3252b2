//! Files and archives that come out of a repository, held against what went in.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;

use lifeboat_testkit::compare::Comparison;

use crate::fixture::Fixture;

/// Unpacks an archive, with owners and all attributes if root does it: GNU tar gives attributes to files that it may not
/// write any more, which only root can.
fn unpack(archive: &Path, into: &Path) -> Comparison {
    fs::create_dir_all(into).unwrap();
    let mut tar = Command::new("tar");
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        tar.args([
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
            "--acls",
        ]);
    }
    let output = tar
        .arg("-xpf")
        .arg(archive)
        .arg("-C")
        .arg(into)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let comparison = Comparison::as_user().ignoring_sockets();
    if is_root {
        comparison
    } else {
        comparison.ignoring_attributes()
    }
}

#[test]
fn an_archive_unpacks_to_what_was_backed_up() {
    let fixture = Fixture::shared();
    let archive = fixture.place.path("all.tar");
    fixture
        .ours
        .run(["dump", "latest", "/", "--target", archive.to_str().unwrap()])
        .ok();
    let into = fixture.place.path("unpacked");
    let comparison = unpack(&archive, &into);
    comparison.assert_same(&fixture.tree(), &into.join("tree"));
    // The same to standard output, and from a directory whose own path is left out.
    let said = fixture.ours.run(["dump", "latest", "/"]).ok();
    assert!(said.stdout == fs::read(&archive).unwrap());
    let part = fixture.place.path("part.tar");
    fs::write(
        &part,
        fixture
            .ours
            .run(["dump", "latest:/tree/planted", "/"])
            .ok()
            .stdout,
    )
    .unwrap();
    let into = fixture.place.path("part");
    let comparison = unpack(&part, &into);
    comparison
        .ignoring_root()
        .assert_same(&fixture.tree().join("planted"), &into);
}

#[test]
fn an_archive_of_a_directory_keeps_its_path() {
    let fixture = Fixture::shared();
    let archive = fixture.place.path("planted.tar");
    fs::write(
        &archive,
        fixture
            .ours
            .run(["dump", "latest", "/tree/planted"])
            .ok()
            .stdout,
    )
    .unwrap();
    let listed = Command::new("tar")
        .arg("-tf")
        .arg(&archive)
        .output()
        .unwrap();
    let names = String::from_utf8(listed.stdout).unwrap();
    let expected = [
        "tree/planted/changed",
        "tree/planted/deep/",
        "tree/planted/deep/once.CONF",
        "tree/planted/large",
        "tree/planted/link",
    ];
    assert_eq!(names.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_file_comes_out_as_it_went_in() {
    let fixture = Fixture::shared();
    let large = fs::read(fixture.tree().join("planted/large")).unwrap();
    assert!(
        fixture
            .ours
            .run(["dump", "latest", "/tree/planted/large"])
            .ok()
            .stdout
            == large
    );
    assert!(
        fixture
            .ours
            .run(["dump", "latest:/tree", "planted//./large"])
            .ok()
            .stdout
            == large
    );
    let target = fixture.place.path("out");
    fs::write(&target, "what was there").unwrap();
    fixture
        .ours
        .run([
            "dump",
            "latest",
            "/tree/planted/large",
            "--target",
            target.to_str().unwrap(),
        ])
        .ok();
    assert!(fs::read(&target).unwrap() == large);
}

#[test]
fn damage_ends_a_dump_with_an_error_and_leaves_the_target_alone() {
    let fixture = Fixture::new();
    // The data packs are the large ones; one byte of each is enough.
    for pack in fixture.theirs.run(["list", "packs"]).ok().lines() {
        let path = fixture
            .place
            .repository()
            .join("data")
            .join(&pack[..2])
            .join(&pack);
        let mut content = fs::read(&path).unwrap();
        if content.len() > 1 << 20 {
            for at in (0..content.len()).step_by(100_000) {
                content[at] ^= 1;
            }
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
                .unwrap();
            fs::write(&path, content).unwrap();
        }
    }
    let target = fixture.place.path("out");
    fs::write(&target, "what was there").unwrap();
    let said = fixture
        .ours
        .run([
            "dump",
            "latest",
            "/tree/planted/large",
            "--target",
            target.to_str().unwrap(),
        ])
        .ends(1);
    assert!(
        said.stderr.contains("dump /tree/planted/large: data blob"),
        "{}",
        said.stderr
    );
    assert_eq!(fs::read_to_string(&target).unwrap(), "what was there");
    let said = fixture.ours.run(["dump", "latest", "/"]).ends(1);
    assert!(
        said.stderr.contains("data blob") && said.stderr.contains("hint:"),
        "{}",
        said.stderr
    );
    // Listing needs no data.
    fixture.ours.run(["ls", "latest"]).ok();
}

#[test]
fn a_reader_that_goes_away_ends_the_command_and_its_lock() {
    let fixture = Fixture::new();
    let mut child = fixture.ours.run(["dump", "latest", "/"]).start();
    let mut byte = [0];
    child.stdout.take().unwrap().read_exact(&mut byte).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let locks = fs::read_dir(fixture.place.repository().join("locks")).unwrap();
    assert_eq!(locks.count(), 0);
}
