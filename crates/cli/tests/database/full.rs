//! Disks that are full: under the repository, under a restore and under the scratch. They are real: small file systems in memory.
//! What was acknowledged must stay, and what was not must never look as if it were there.

use std::process::Command;

use lifeboat_testkit::postgres::Cluster;
use lifeboat_testkit::restic::{PASSWORD, Said};

use crate::capture::{capture, with_checksums};
use crate::common::Place;

/// Runs a shell script in a place with `full`, a file system that is mounted for it alone: `$lifeboat` is the program.
fn with_small_disk(place: &Place, options: &str, script: &str) -> Said {
    let full = place.path("full");
    std::fs::create_dir_all(&full).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    let script = format!("mount -t tmpfs -o {options} tmpfs full || exit 99\n{script}");
    let output = Command::new("unshare")
        .arg(if is_root { "-m" } else { "-rm" })
        .args(["sh", "-c", &script])
        .current_dir(place.path("."))
        .env("lifeboat", env!("CARGO_BIN_EXE_lifeboat"))
        .env("RESTIC_REPOSITORY", place.repository())
        .env("RESTIC_PASSWORD", PASSWORD)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let said = Said {
        status: output.status,
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    assert_ne!(said.code(), 99, "no file system in memory: {}", said.stderr);
    said
}

/// The lines of a script are these, and it ended with this status.
#[track_caller]
fn tells(said: &Said, code: i32, lines: &[&str]) {
    let shown = format!("{}{}", said.text(), said.stderr);
    assert_eq!(said.code(), code, "{shown}");
    for line in lines {
        assert!(
            said.text().lines().any(|told| told == *line),
            "{line}: {shown}"
        );
    }
}

#[test]
fn a_full_repository_takes_no_capture() {
    let (place, cluster) = (Place::new(), Cluster::start(with_checksums()));
    // What nothing makes smaller than half.
    cluster.sql("create table noise as select md5(random()::text) from generate_series(1, 300000)");
    let script = format!(
        "cp -r repository full/; export RESTIC_REPOSITORY=$PWD/full/repository
        capture() {{ $lifeboat db capture --quiet --postgres '{}' --name app/db; }}
        capture; code=$?
        echo snapshots after that: $(ls full/repository/snapshots | wc -l)
        mount -o remount,size=200m full
        $lifeboat repo --quiet check && echo still valid
        capture && echo captured
        $lifeboat repo --quiet check --read-data && echo whole
        exit $code",
        cluster.url("postgres")
    );
    let said = with_small_disk(&place, "size=3m", &script);
    let lines = [
        "snapshots after that: 0",
        "still valid",
        "captured",
        "whole",
    ];
    tells(&said, 1, &lines);
    assert!(said.stderr.contains("disk is full"), "{}", said.stderr);
    let left = "select (select count(*) from pg_replication_slots) \
        + (select count(*) from pg_stat_activity where application_name = 'lifeboat')";
    assert_eq!(cluster.sql(left), "0");
}

#[test]
fn a_full_repository_takes_no_segment() {
    let (place, cluster) = (Place::new(), Cluster::start(with_checksums()));
    let segment = cluster.sql("select pg_walfile_name(pg_switch_wal())");
    let script = format!(
        "cp -r repository full/; export RESTIC_REPOSITORY=$PWD/full/repository
        head -c 64m /dev/zero > full/filler 2>/dev/null
        cp {data}/pg_wal/{segment} before
        push() {{ $lifeboat wal push {data}/pg_wal/{segment} --data {data}; }}
        push; code=$?
        cmp before {data}/pg_wal/{segment} && echo kept
        echo archived: $(find full -name '*{segment}*' -size +0 | wc -l)
        rm full/filler; mount -o remount,size=64m full
        push && echo pushed
        push && echo again
        # In a directory without a server, which has nothing of its own.
        mkdir -p bare/global; cp {data}/global/pg_control bare/global/
        $lifeboat wal fetch {segment} out --data bare && cmp before out && echo back
        exit $code",
        data = cluster.data().display()
    );
    let said = with_small_disk(&place, "size=1m", &script);
    tells(
        &said,
        1,
        &["kept", "archived: 0", "pushed", "again", "back"],
    );
    assert!(said.stderr.contains("disk is full"), "{}", said.stderr);
    assert!(said.text().contains("archived already"), "{}", said.text());
}

#[test]
fn a_full_target_is_no_cluster_and_a_full_scratch_no_verdict() {
    let (place, cluster) = (Place::new(), Cluster::start(with_checksums()));
    assert_eq!(capture(&place, &cluster, &[]).code(), 0);
    let said = with_small_disk(
        &place,
        "size=8m",
        "$lifeboat db restore --quiet --name app/db --target full/data; code=$?
        ls full/data/global/pg_control 2>/dev/null || echo no control file
        exit $code",
    );
    tells(&said, 1, &["no control file"]);
    assert!(
        said.stderr.contains("the target's disk is full"),
        "{}",
        said.stderr
    );
    assert!(said.stderr.contains("empty the target"), "{}", said.stderr);
    // As a machine sees it that has too little from the beginning, and one that runs out of it on the way.
    for options in ["size=64m", "size=2g,nr_inodes=300"] {
        let said = with_small_disk(
            &place,
            options,
            "$lifeboat db verify --name app/db --scratch full; code=$?
            echo left: $(ls full | wc -l)
            exit $code",
        );
        tells(&said, 22, &["left: 0"]);
        let why = said.text();
        assert!(why.contains("could not be determined"), "{why}");
    }
}
