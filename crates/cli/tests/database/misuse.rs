//! What people get wrong: two clusters in one place, a copy that runs beside its original, rights and programs that lack.
//! Each must be told in words that say what it is, and nothing that was archived may change by it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use lifeboat_testkit::postgres::{Cluster, Options};
use lifeboat_testkit::wait::until;

use crate::capture::{capture, with_checksums};
use crate::common::{Place, objects, summary};
use crate::scene::{Scene, copy_dir};

fn names(cluster: &Cluster) -> String {
    cluster.sql("select string_agg(name, ' ' order by name) from rows")
}

#[test]
fn two_clusters_in_one_repository_keep_apart() {
    let first = Scene::new();
    let mut second = Scene::of(Cluster::make(with_checksums()), first.repository.clone());
    second.name = "other/db";
    for (scene, name) in [(&first, "first"), (&second, "second")] {
        scene.cluster.sql("create table rows (name text)");
        scene.capture();
        scene
            .cluster
            .sql(&format!("insert into rows values ('{name}')"));
    }
    for scene in [&first, &second] {
        scene.switch();
    }
    for (scene, name) in [(&first, "first"), (&second, "second")] {
        assert_eq!(names(&scene.recovered(&["--to-end"])), name);
    }
    let status = objects(&first.run("wal", &["status", "--json"]).ok());
    let mut systems: Vec<_> = status
        .iter()
        .map(|archive| archive["system_id"].as_str().unwrap())
        .collect();
    systems.sort_unstable();
    systems.dedup();
    assert_eq!(systems.len(), 2, "{status:?}");
}

#[test]
fn a_copy_that_archives_beside_its_original_is_told() {
    let mut scene = Scene::new();
    scene.cluster.sql("create table rows (name text)");
    scene.capture();
    scene.cluster.stop();
    // On the same timeline, with the same identity, as of a virtual machine that was cloned.
    let push = scene.words("push") + " %p";
    let mut copy = Cluster::place(
        Options::default()
            .set("archive_mode", "on")
            .set("archive_command", &push),
    );
    copy_dir(&scene.cluster.data(), &copy.data());
    scene.cluster.start_again();
    copy.start_again();
    scene.cluster.sql("insert into rows values ('original')");
    copy.sql("insert into rows values ('copy')");
    let segment = scene.switch();
    let archived = fs::read(scene.archived(&segment)).unwrap();
    let of_copy = copy.sql("select pg_walfile_name(pg_switch_wal())");
    assert_eq!(of_copy, segment);
    let refusal = format!("{segment} of the cluster");
    until("the copy was refused", || copy.said().contains(&refusal));
    let why = "is archived with other content: another server archives here as well";
    assert!(copy.said().contains(why), "{}", copy.said());
    assert_eq!(fs::read(scene.archived(&segment)).unwrap(), archived);
    let ready = format!("pg_wal/archive_status/{segment}.ready");
    assert!(copy.data().join(ready).exists(), "the copy keeps its own");
    assert_eq!(names(&scene.recovered(&["--to-end"])), "original");
    let status = scene.run("wal", &["status"]).ok().text();
    assert!(status.contains(&segment), "{status}");
}

#[test]
fn each_role_is_told_what_it_lacks() {
    let (place, cluster) = (Place::new(), Cluster::start(with_checksums()));
    let start = "grant execute on function pg_backup_start(text, boolean)";
    let stop = "grant execute on function pg_backup_stop(boolean)";
    cluster.sql("create role no_login; create role no_slot login; create role no_settings login replication; \
        create role no_backup login replication; create role enough login replication");
    for role in ["no_slot", "no_settings", "enough"] {
        cluster.sql(&format!("{start} to {role}; {stop} to {role}"));
    }
    for role in ["no_slot", "no_backup", "enough"] {
        cluster.sql(&format!("grant pg_read_all_settings to {role}"));
    }
    let run = |role: &str, more: &[&str], code: i32| {
        let url = cluster
            .url("postgres")
            .replace("tester@", &format!("{role}@"));
        let words = ["capture", "--postgres", &url, "--name", "app/db"];
        let words = [&words[..], more].concat();
        place.ours().run_in("db", words).ends(code).stderr
    };
    let data = cluster.data();
    let data = ["--data", data.to_str().unwrap()];
    let said = run("no_login", &[], 1);
    assert!(
        said.contains("is not permitted to log in") && said.contains("LOGIN"),
        "{said}"
    );
    let said = run("no_settings", &[], 1);
    assert!(said.contains("pg_read_all_settings"), "{said}");
    let said = run("no_backup", &[], 1);
    assert!(
        said.contains("permission denied") && said.contains("pg_backup_start"),
        "{said}"
    );
    assert!(run("nobody_at_all", &[], 1).contains("does not exist"));
    // These go well, and who lacks a slot is told what that means.
    let said = run("no_slot", &[], 0);
    assert!(said.contains("keeps no log for this capture"), "{said}");
    run("no_settings", &data, 0);
    let said = run("enough", &[], 0);
    assert!(!said.contains("keeps no log"), "{said}");
    let sessions = "select count(*) from pg_stat_activity where application_name = 'lifeboat'";
    until("no session is left", || cluster.sql(sessions) == "0");
    let words = ["capture", "--postgres", "postgresql://x@127.0.0.1:1/x"];
    let said = place.ours().run_in("db", words).ends(1).stderr;
    assert!(
        said.contains("check that the server runs and listens there"),
        "{said}"
    );
    let both = ["capture", "--logical", "--remote", "--postgres", "x"];
    let said = place.ours().run_in("db", both).ends(2).stderr;
    assert!(said.contains("--remote"), "{said}");
}

#[test]
fn programs_of_another_version_say_nothing_of_a_capture() {
    let (place, cluster) = (Place::new(), Cluster::start(with_checksums()));
    assert_eq!(capture(&place, &cluster, &[]).code(), 0);
    let programs = place.path("programs");
    fs::create_dir(&programs).unwrap();
    for name in ["postgres", "pg_amcheck", "pg_checksums"] {
        let program = programs.join(name);
        let script = format!("#!/bin/sh\necho '{name} (PostgreSQL) 14.9'\n");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let words = ["verify", "--name", "app/db", "--json", "--programs"];
    let words = [&words[..], &[programs.to_str().unwrap()]].concat();
    let proof = summary(&place.ours().run_in("db", words).ends(22));
    let why = proof["verdict"]["undetermined"]["why"].as_str().unwrap();
    assert!(why.contains("14.9") && why.contains("15"), "{why}");
}
