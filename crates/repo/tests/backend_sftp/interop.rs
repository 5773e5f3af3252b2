//! restic and the SFTP backend see the same repository, whichever of them wrote it.

use std::path::Path;

use lifeboat_repo::backend::{Backend, FileKind, FileName, LocalBackend, SftpBackend};
use lifeboat_testkit::conformance::listing;
use lifeboat_testkit::fixtures::{Generator, Shape};
use lifeboat_testkit::restic::Restic;

use crate::Place;

/// Copies every file of a repository, the config last.
fn copy(from: &dyn Backend, to: &dyn Backend) -> usize {
    to.create().unwrap();
    let mut copied = 0;
    for kind in FileKind::NAMED.into_iter().chain([FileKind::Config]) {
        for (id, size_bytes) in listing(from, kind).unwrap() {
            let name = FileName::new(kind, id);
            let content = from.load(name, size_bytes).unwrap();
            assert_eq!(content.len() as u64, size_bytes);
            to.save(name, &[&content]).unwrap();
            copied += 1;
        }
    }
    copied
}

#[test]
fn restic_reads_what_we_wrote_over_sftp_and_we_read_what_it_wrote() {
    let place = Place::new();
    let shape = Shape {
        entries: 40,
        depth: 2,
        largest_bytes: 1 << 20,
    };
    let (_temporary, tree) = Generator::with_shape(1, shape).temporary_tree();
    let arguments = format!("sftp.args={}", place.sshd.arguments());
    let over_sftp = |name: &str| {
        let location = place.sshd.location(&place.path(name));
        (Restic::current(Path::new(&location)), place.backend(name))
    };
    // restic writes through its own SFTP client, we read that through ours.
    let (restic, theirs): (Restic, SftpBackend) = over_sftp("theirs");
    restic.run(&["-o", &arguments, "init"]);
    restic.run(&["-o", &arguments, "backup", tree.to_str().unwrap()]);
    let kept = LocalBackend::new(place.path("kept"));
    assert!(
        copy(&theirs, &kept) >= 5,
        "config, key, snapshot, index file, pack"
    );
    Restic::current(&place.path("kept")).run(&["check", "--read-data"]);

    // We write through our SFTP client, restic reads that through its own.
    let (restic, ours) = over_sftp("ours");
    copy(&kept, &ours);
    restic.run(&["-o", &arguments, "check", "--read-data"]);
    Restic::debian(&place.path("ours")).run(&["check", "--read-data"]);
    let snapshots = || {
        restic
            .run(&["-o", &arguments, "list", "snapshots"])
            .lines()
            .len()
    };
    assert_eq!(snapshots(), 1);

    // What restic removes is missing to us, and what we remove is missing to restic.
    let (snapshot, _) = listing(&ours, FileKind::Snapshot)
        .unwrap()
        .pop_first()
        .unwrap();
    let snapshot = FileName::new(FileKind::Snapshot, snapshot);
    let content = ours.load(snapshot, u64::MAX).unwrap();
    ours.remove(snapshot).unwrap();
    assert_eq!(snapshots(), 0);
    ours.save(snapshot, &[&content]).unwrap();
    restic.run(&["-o", &arguments, "forget", &snapshot.id.to_string()]);
    assert!(ours.size(snapshot).unwrap_err().is_missing());
}
