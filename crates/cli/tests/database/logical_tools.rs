//! Logical captures when a program, a password or a dump is not as it should be, and what a verification says of them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use lifeboat_testkit::postgres::{Cluster, Options};
use lifeboat_testkit::wait::until;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::{Place, summary};
use crate::logical::{capture, captured, fill, sql};
use crate::verify::open;

/// The directory of the real programs.
fn real(cluster: &Cluster) -> PathBuf {
    let program = cluster.program("pg_dump");
    Path::new(program.get_program())
        .parent()
        .unwrap()
        .to_owned()
}

/// A directory with the real programs, but for one that is this script; `$REAL` in it is the real one.
fn tools(place: &Place, cluster: &Cluster, name: &str, script: &str) -> PathBuf {
    let dir = place.path(format!("tools-{name}-{}", script.len()));
    fs::create_dir(&dir).unwrap();
    for entry in fs::read_dir(real(cluster)).unwrap() {
        let entry = entry.unwrap();
        symlink(entry.path(), dir.join(entry.file_name())).unwrap();
    }
    let program = dir.join(name);
    fs::remove_file(&program).unwrap();
    let real = real(cluster).join(name);
    let text = format!("#!/bin/sh\nREAL={}\n{script}\n", real.display());
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// A script that answers what it is asked for its version, and does something else otherwise.
fn pg_dump(place: &Place, cluster: &Cluster, otherwise: &str) -> String {
    let script = format!("case \"$1\" in --version) exec \"$REAL\" \"$@\";; esac\n{otherwise}");
    let dir = tools(place, cluster, "pg_dump", &script);
    dir.to_str().unwrap().to_owned()
}

fn snapshots(place: &Place) -> String {
    let said = place.ours().run(["snapshots", "--json"]).ok();
    said.text().trim().to_owned()
}

#[test]
fn a_dump_that_breaks_off_is_no_capture() {
    let (place, cluster) = (Place::new(), Cluster::start(Options::default()));
    fill(&cluster);
    let refused = |programs: &str| {
        let said = capture(&place, &cluster, &["--programs", programs]);
        assert_eq!(said.code(), 1, "{}{}", said.text(), said.stderr);
        assert_eq!(snapshots(&place), "[]");
        said.stderr
    };
    let killed = "\"$REAL\" \"$@\" | /usr/bin/head -c 3000; kill -9 $$";
    let said = refused(&pg_dump(&place, &cluster, killed));
    assert!(
        said.contains("was killed by signal 9") && said.contains("can't be dumped"),
        "{said}"
    );
    let failed = "\"$REAL\" \"$@\"; echo 'pg_dump: error: something went wrong' >&2; exit 1";
    let said = refused(&pg_dump(&place, &cluster, failed));
    assert!(
        said.contains("exit status 1: pg_dump: error: something went wrong"),
        "{said}"
    );
    let old = "echo 'pg_dump (PostgreSQL) 12.22 (Debian 12.22-1)'";
    let old = tools(&place, &cluster, "pg_dump", old);
    let said = refused(old.to_str().unwrap());
    assert!(
        said.contains("is of version 12.22, and the server is of"),
        "{said}"
    );
    let empty = place.path("empty");
    fs::create_dir(&empty).unwrap();
    let said = refused(empty.to_str().unwrap());
    assert!(said.contains("there is no pg_dump in"), "{said}");
    let said = capture(&place, &cluster, &["--database", "nobody"]);
    assert!(
        said.stderr.contains("it has app, postgres, template0"),
        "{}",
        said.stderr
    );
    let said = capture(&place, &cluster, &["--data", "/x"]);
    assert_eq!(said.code(), 2, "{}", said.stderr);
}

/// What a script says to have some SQL run.
fn psql(cluster: &Cluster, sql: &str) -> String {
    let program = real(cluster).join("psql");
    format!(
        "{} -X -q -v ON_ERROR_STOP=1 -c \"set lock_timeout = '5s'\" -c '{sql}' '{}' || exit 1",
        program.display(),
        cluster.url("postgres")
    )
}

#[test]
fn who_changes_a_table_before_or_after_a_dump_stands_in_nobodys_way() {
    let (place, cluster) = (Place::new(), Cluster::start(Options::default()));
    cluster.sql("create table t as select 1 as i");
    let before = psql(&cluster, "alter table t alter column i set not null");
    let before = pg_dump(
        &place,
        &cluster,
        &format!("/bin/sleep 1; {before}; exec \"$REAL\" \"$@\""),
    );
    captured(&place, &cluster, &["--programs", &before]);
    // What is in the dump is gone when somebody looks at what was in it.
    let (after, dump) = (psql(&cluster, "truncate t"), place.path("dump"));
    let after = format!(
        "\"$REAL\" \"$@\" > {dump}; {after}; exec /bin/cat {dump}",
        dump = dump.display()
    );
    let after = pg_dump(&place, &cluster, &after);
    let taken = captured(&place, &cluster, &["--programs", &after]);
    assert_eq!(taken["flags"].to_string(), "[]");
    assert_eq!(verified(&place, &[], 0)["verdict"], "recoverable");
}

#[test]
fn a_wish_to_stop_ends_the_program_too() {
    let (place, cluster) = (Place::new(), Cluster::start(Options::default()));
    cluster.sql("create table t as select 1 as i");
    let pid_file = place.path("pid");
    let endless = format!("echo $$ > {}; exec /bin/sleep 1000", pid_file.display());
    let programs = pg_dump(&place, &cluster, &endless);
    let url = cluster.url("postgres");
    let words = [
        "capture",
        "--logical",
        "--postgres",
        &url,
        "--programs",
        &programs,
    ];
    let mut child = place.ours().run_in("db", words).start();
    let pid = || {
        fs::read_to_string(&pid_file)
            .ok()?
            .trim()
            .parse::<i32>()
            .ok()
    };
    until("the program runs", || pid().is_some());
    let pid = pid().unwrap();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(snapshots(&place), "[]");
}

#[test]
fn passwords_are_needed_and_not_told() {
    let lines = ["local all tester trust", "local all all scram-sha-256"];
    let (place, cluster) = (
        Place::new(),
        Cluster::start(Options {
            hba: lines.map(str::to_owned).to_vec(),
            ..Options::default()
        }),
    );
    cluster.sql("create role weak login password 'geheim9'");
    cluster.sql("create database mine owner weak");
    cluster.sql("create table of_others as select 1 as i");
    let args = place.path("args");
    let telling = format!("echo \"$@\" >> {}; exec \"$REAL\" \"$@\"", args.display());
    let programs = pg_dump(&place, &cluster, &telling);
    let url = cluster.url("mine").replace("tester@", "weak@");
    let run = |more: &[&str], password: &str, code| {
        let words = [
            "capture",
            "--logical",
            "--postgres",
            &url,
            "--programs",
            &programs,
        ];
        let run = place.ours().run_in("db", [&words, more].concat());
        run.variable("PGPASSWORD", password).ends(code).stderr
    };
    let said = run(&[], "falsch", 1);
    assert!(
        said.contains("password authentication failed") && !said.contains("falsch"),
        "{said}"
    );
    let said = run(&[], "geheim9", 1);
    assert!(
        said.contains("permission denied for table of_others"),
        "{said}"
    );
    assert_eq!(snapshots(&place), "[]");
    let said = run(&["--database", "mine"], "geheim9", 0);
    assert!(
        said.contains("may not read the passwords of roles"),
        "{said}"
    );
    let told = fs::read_to_string(&args).unwrap();
    assert!(
        told.contains("dbname='mine'") && !told.contains("geheim9"),
        "{told}"
    );
    let member = place
        .ours()
        .run([
            "dump",
            "--path",
            "/apps/postgres/cluster",
            "latest",
            "/globals.sql",
        ])
        .ok();
    assert!(!member.text().contains("SCRAM") && member.text().contains("CREATE ROLE weak"));
}

/// A verification, which leaves nothing behind.
fn verified(place: &Place, more: &[&str], code: i32) -> serde_json::Value {
    let scratch = place.path("scratch");
    fs::create_dir_all(&scratch).unwrap();
    // The server of the scratch runs as somebody else, who must get through.
    open(place.path(".").as_path());
    open(&scratch);
    let mut words = vec![
        "verify",
        "--name",
        "app/dumps",
        "--json",
        "--scratch",
        scratch.to_str().unwrap(),
    ];
    words.extend(more);
    let said = place.ours().run_in("db", words).ends(code);
    assert_eq!(
        fs::read_dir(&scratch).unwrap().count(),
        0,
        "{}",
        said.stderr
    );
    summary(&said)
}

#[test]
fn a_dump_that_comes_back_is_seen_to_come_back() {
    let (place, cluster) = (Place::new(), Cluster::start(Options::default()));
    fill(&cluster);
    captured(&place, &cluster, &[]);
    let proof = verified(&place, &[], 0);
    assert_eq!(proof["verdict"], "recoverable", "{proof}");
    let checks = proof["report"]["checks"].as_array().unwrap();
    let names: Vec<&str> = checks
        .iter()
        .map(|check| check["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["restore", "views", "baseline"], "{proof}");
    assert_eq!(checks[2]["found"], "nothing", "{proof}");
    let why = checks[1]["found"]["unknown"].as_str().unwrap();
    assert!(
        why.starts_with("1 materialised view was not filled"),
        "{why}"
    );
    // The live server has not noticed.
    assert_eq!(
        sql(&cluster, "app", "select count(*) from public.t"),
        "20000"
    );
}

#[test]
fn a_database_that_nobody_could_look_into_is_told() {
    let (place, cluster) = (Place::new(), Cluster::start(Options::default()));
    cluster.sql("create role weak login");
    cluster.sql("create database mine owner weak");
    let refuse = "revoke execute on function pg_catalog.pg_database_size(name) from public";
    sql(&cluster, "mine", refuse);
    let url = cluster.url("mine").replace("tester@", "weak@");
    let words = ["capture", "--logical", "--postgres", &url];
    let more = ["--name", "app/dumps", "--database", "mine"];
    let run = place.ours().run_in("db", [&words[..], &more].concat());
    let said = run.ok().stderr;
    assert!(
        said.contains("the database mine could not be counted: ERROR: permission denied"),
        "{said}"
    );
    let proof = verified(&place, &[], 0);
    let skipped = &proof["report"]["skipped"][0];
    assert_eq!(skipped["name"], "mine", "{proof}");
    let why = skipped["why"].as_str().unwrap();
    assert!(why.contains("permission denied"), "{proof}");
}

#[test]
fn what_a_dump_lacks_is_not_recoverable() {
    let (place, cluster) = (Place::new(), Cluster::start(Options::default()));
    sql(
        &cluster,
        "postgres",
        "create table t as select 1 as i; create table u as select 2 as i",
    );
    let without = pg_dump(&place, &cluster, "exec \"$REAL\" --exclude-table=t \"$@\"");
    captured(&place, &cluster, &["--programs", &without]);
    let proof = verified(&place, &[], 20);
    let words = proof["verdict"]["not_recoverable"]["words"]
        .as_str()
        .unwrap();
    assert!(
        words.contains("has 1 tables, and had 2 (and 1 more)"),
        "{proof}"
    );
    // Rows alone are noticed too.
    let without = pg_dump(
        &place,
        &cluster,
        "exec \"$REAL\" --exclude-table-data=t \"$@\"",
    );
    captured(&place, &cluster, &["--programs", &without]);
    let proof = verified(&place, &[], 20);
    let words = proof["verdict"]["not_recoverable"]["words"]
        .as_str()
        .unwrap();
    assert!(
        words.contains("the table public.t of postgres has 0 rows, and had 1"),
        "{proof}"
    );
    // Half a dump that claims to be whole is none.
    let half = pg_dump(&place, &cluster, "\"$REAL\" \"$@\" | /usr/bin/head -c 1500");
    captured(&place, &cluster, &["--programs", &half]);
    let proof = verified(&place, &[], 20);
    let words = proof["verdict"]["not_recoverable"]["words"]
        .as_str()
        .unwrap();
    assert!(words.contains("pg_restore: error"), "{proof}");
}

#[test]
fn what_is_gone_from_the_repository_leaves_no_half_a_database() {
    let (place, cluster) = (Place::new(), Cluster::start(Options::default()));
    fill(&cluster);
    // The roles are stored before, so that the largest pack holds nothing but a dump.
    for database in ["postgres", "app"] {
        captured(&place, &cluster, &["--database", database]);
    }
    let mut packs = Vec::new();
    for folder in fs::read_dir(place.repository().join("data")).unwrap() {
        let folder = fs::read_dir(folder.unwrap().path()).unwrap();
        packs.extend(folder.map(|pack| pack.unwrap().path()));
    }
    // Of all packs the largest, which holds data.
    let largest = packs
        .into_iter()
        .max_by_key(|pack| fs::metadata(pack).unwrap().len());
    let largest = largest.unwrap();
    // Its beginning is good, so that a restore begins.
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 5000].fill(0);
    fs::set_permissions(&largest, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&largest, bytes).unwrap();
    let url = cluster.url("postgres");
    let words = [
        "restore",
        "--name",
        "app/dumps",
        "--into",
        &url,
        "--database",
        "app",
        "--as",
        "x",
    ];
    let said = place.ours().run_in("db", words).ends(1).stderr;
    assert!(said.contains("what there was of it is removed"), "{said}");
    assert_eq!(
        cluster.sql(
            "select string_agg(datname, ' ' order by datname) from pg_database where not datistemplate"
        ),
        "app postgres"
    );
    let proof = verified(&place, &[], 20);
    assert!(
        proof["verdict"]["not_recoverable"]["words"].is_string(),
        "{proof}"
    );
}

#[test]
fn half_a_database_that_can_not_be_removed_is_named() {
    let (place, cluster) = (Place::new(), Cluster::start(Options::default()));
    captured(&place, &cluster, &[]);
    let keep = "update pg_database set datistemplate = true where datname like $$lifeboat_%$$";
    let keep = psql(&cluster, keep);
    let url = cluster.url("postgres");
    let pid_file = place.path("pid");
    let run = |then: &str| {
        let script = format!("{keep}; echo $$ > {}; {then}", pid_file.display());
        let programs = tools(&place, &cluster, "pg_restore", &script);
        let words = ["restore", "--name", "app/dumps", "--into", &url];
        let more = ["--as", "x", "--programs", programs.to_str().unwrap()];
        place.ours().run_in("db", [&words[..], &more].concat())
    };
    let left = || {
        let name = "select datname from pg_database where datname like 'lifeboat_%'";
        let name = cluster.sql(name);
        cluster.sql(&format!("alter database \"{name}\" is_template false"));
        cluster.sql(&format!("drop database \"{name}\""));
        name
    };
    let said = run("echo 'it broke' >&2; exit 1").ends(1).stderr;
    let name = left();
    assert!(
        said.contains(&format!("the database \"{name}\" is not whole"))
            && said.contains("cannot drop a template database")
            && said.contains("it broke")
            && !said.contains("is removed"),
        "{said}"
    );
    fs::remove_file(&pid_file).unwrap();
    let mut run = run("exec /bin/sleep 1000");
    let child = run.start();
    until("the program runs", || pid_file.exists());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains(&left()), "{said}");
}

#[test]
fn what_is_in_the_way_here_says_nothing_of_a_dump() {
    let (place, cluster) = (Place::new(), Cluster::start(Options::default()));
    fill(&cluster);
    captured(&place, &cluster, &["--database", "app"]);
    let proof = verified(&place, &["--programs", "/nowhere"], 22);
    let why = proof["verdict"]["undetermined"]["why"].as_str().unwrap();
    assert!(why.contains("install the server of PostgreSQL"), "{why}");
    // A machine without the extension.
    let share = place.path("share");
    fs::create_dir_all(share.join("extension")).unwrap();
    let script = format!(
        "case \"$1\" in --sharedir) echo {};; *) exec \"$REAL\" \"$@\";; esac",
        share.display()
    );
    let dir = tools(&place, &cluster, "pg_config", &script);
    let proof = verified(&place, &["--programs", dir.to_str().unwrap()], 22);
    let why = proof["verdict"]["undetermined"]["why"].as_str().unwrap();
    assert!(why.contains("the extension pgcrypto"), "{why}");
}
