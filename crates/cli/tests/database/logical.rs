//! Logical captures: databases of any name are dumped, come back elsewhere, and never into one that is there.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use lifeboat_testkit::postgres::{Cluster, Options, USER, give_away};
use lifeboat_testkit::restic::Said;
use serde_json::Value;

use crate::common::{Place, summary};

/// Names that mean something else to a shell, to libpq, to a file system or to SQL.
const ODD: [&str; 4] = ["-x", "a/b=c", "it's \"odd\" ä", "host=nowhere port=1"];

/// One of the programs, told of a database by a text that can be nothing else than its name.
pub fn on(cluster: &Cluster, program: &str, database: &str) -> Command {
    let name = database.replace('\\', r"\\").replace('\'', r"\'");
    let home = cluster.home().display();
    let mut command = cluster.program(program);
    command.arg(format!(
        "--dbname=host='{home}' user={USER} dbname='{name}'"
    ));
    command
}

/// What some SQL gives in a database.
pub fn sql(cluster: &Cluster, database: &str, sql: &str) -> String {
    let mut psql = on(cluster, "psql", database);
    psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]);
    let output = psql.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{database}: {sql}: {said}");
    String::from_utf8(output.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}

/// All of a database as SQL, without what differs each time.
fn text(cluster: &Cluster, database: &str, program: &str, words: &[&str]) -> String {
    let output = on(cluster, program, database).args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('\\') || !line.contains("restrict"));
    lines.collect::<Vec<_>>().join("\n")
}

pub fn capture(place: &Place, cluster: &Cluster, more: &[&str]) -> Said {
    let url = cluster.url("postgres");
    let mut words = vec![
        "capture",
        "--logical",
        "--postgres",
        &url,
        "--name",
        "app/dumps",
        "--json",
    ];
    words.extend(more);
    place.ours().run_in("db", words).any()
}

pub fn captured(place: &Place, cluster: &Cluster, more: &[&str]) -> Value {
    let said = capture(place, cluster, more);
    assert_eq!(said.code(), 0, "{}{}", said.text(), said.stderr);
    summary(&said)
}

fn restore(place: &Place, cluster: &Cluster, more: &[&str], code: i32) -> Said {
    let url = cluster.url("postgres");
    let mut words = vec!["restore", "--name", "app/dumps", "--into", &url];
    words.extend(more);
    place.ours().run_in("db", words).ends(code)
}

fn databases(cluster: &Cluster) -> Vec<String> {
    let names = cluster.sql("select datname from pg_database where not datistemplate order by 1");
    names.lines().map(str::to_owned).collect()
}

/// A database with some of everything.
pub fn fill(cluster: &Cluster) {
    cluster.sql("create role \"o'wner\" login password 'hidden'");
    cluster.sql("create role member in role \"o'wner\" createdb");
    cluster.sql("create database app owner \"o'wner\" connection limit 7");
    cluster.sql("comment on database app is 'it''s'");
    cluster.sql("alter database app set search_path = '$user', 'a b', public");
    cluster.sql("alter role member in database app set work_mem = '8MB'");
    cluster.sql("revoke connect on database app from public");
    cluster.sql("grant connect on database app to member with grant option");
    sql(
        cluster,
        "app",
        "create schema \"a b\"; create extension pgcrypto schema public; create sequence public.s start 77; \
         create table public.t (id int primary key default nextval('public.s'), x text); \
         insert into public.t (x) select md5(g::text) from generate_series(1, 20000) g; \
         alter table public.t owner to \"o'wner\"; create table \"a b\".empty (i int references public.t); \
         create materialized view public.v as select count(*) n from public.t; \
         select lo_from_bytea(4711, 'large'); create view public.w as select 1 as one",
    );
}

#[test]
fn databases_of_any_name_come_back_equal_in_another_cluster() {
    let (place, cluster) = (Place::new(), Cluster::start(Options::default()));
    fill(&cluster);
    for name in ODD {
        cluster.sql(&format!(
            "create database \"{}\"",
            name.replace('"', "\"\"")
        ));
        sql(
            &cluster,
            name,
            "create table t as select current_database() as name",
        );
    }
    let first = captured(&place, &cluster, &[]);
    assert_eq!(
        first["databases"].as_array().unwrap().len(),
        ODD.len() + 2,
        "{first}"
    );
    assert_eq!(first["flags"].as_array().unwrap().len(), 0, "{first}");
    let other = Cluster::start(Options::default());
    restore(&place, &other, &["--globals"], 0);
    assert_eq!(databases(&other), databases(&cluster));
    for name in ODD.into_iter().chain(["app"]) {
        assert_eq!(
            text(&other, name, "pg_dump", &["--create"]),
            text(&cluster, name, "pg_dump", &["--create"]),
        );
    }
    // The superuser is there already, with a password of its own.
    let globals = |cluster: &Cluster| {
        let all = text(cluster, "postgres", "pg_dumpall", &["--globals-only"]);
        let others = all
            .lines()
            .filter(|line| !line.starts_with("ALTER ROLE tester"));
        others.collect::<Vec<_>>().join("\n")
    };
    assert!(globals(&other).contains("SCRAM-SHA-256"));
    assert_eq!(globals(&other), globals(&cluster));
    assert_eq!(
        sql(&other, "app", "select convert_from(lo_get(4711), 'UTF8')"),
        "large"
    );
    // What was not touched is not stored again.
    sql(
        &cluster,
        "app",
        "update public.t set x = 'new' where id = 10000",
    );
    let second = captured(&place, &cluster, &[]);
    let bytes = |name: &str| second[name].as_u64().unwrap();
    assert!(
        bytes("data_added") * 3 < bytes("total_bytes_processed") * 2,
        "{second}"
    );
    // And others read it.
    place.current().run(["check", "--read-data"]).ok();
    let dump = place
        .current()
        .run([
            "dump",
            "--path",
            "/apps/app/dumps",
            "latest",
            "/dumps/app.dump",
        ])
        .ok();
    let file = other.home().join("app.dump");
    fs::write(&file, dump.stdout).unwrap();
    give_away(&file);
    other.sql("create database by_hand");
    let mut by_hand = on(&other, "pg_restore", "by_hand");
    let status = by_hand
        .arg("--exit-on-error")
        .arg(&file)
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    assert_eq!(
        sql(&other, "by_hand", "select x from t where id = 10000"),
        "new"
    );
}

#[test]
fn a_database_that_is_there_is_never_filled() {
    let (place, cluster) = (Place::new(), Cluster::start(Options::default()));
    fill(&cluster);
    captured(&place, &cluster, &[]);
    sql(&cluster, "app", "create table later (i int)");
    let before = databases(&cluster);
    let said = restore(&place, &cluster, &[], 1).stderr;
    assert!(
        said.contains("already") && said.contains("--replace"),
        "{said}"
    );
    let said = restore(&place, &cluster, &["--database", "appp"], 1).stderr;
    assert!(said.contains("it has app, postgres"), "{said}");
    let said = restore(&place, &cluster, &["--as", "x"], 1).stderr;
    assert!(said.contains("--database"), "{said}");
    let said = restore(
        &place,
        &cluster,
        &["--database", "app", "--as", "x", "--dry-run"],
        0,
    );
    assert!(said.text().contains(" to x\n"), "{}", said.text());
    assert_eq!(databases(&cluster), before);
    restore(&place, &cluster, &["--database", "app", "--as", "x"], 0);
    assert_eq!(sql(&cluster, "x", "select count(*) from public.t"), "20000");
    // One that somebody uses can't be set aside.
    let mut psql = on(&cluster, "psql", "app");
    let mut user = psql.stdout(Stdio::piped()).spawn().unwrap();
    lifeboat_testkit::wait::until("somebody uses it", || {
        cluster.sql("select count(*) from pg_stat_activity where datname = 'app'") == "1"
    });
    let replace = ["--database", "app", "--replace"];
    let said = restore(&place, &cluster, &replace, 1).stderr;
    assert!(said.contains("1 session uses the database"), "{said}");
    drop(user.stdin.take());
    user.wait().unwrap();
    lifeboat_testkit::wait::until("nobody uses it", || {
        cluster.sql("select count(*) from pg_stat_activity where datname = 'app'") == "0"
    });
    restore(&place, &cluster, &replace, 0);
    let kept = databases(&cluster);
    let kept: Vec<&String> = kept
        .iter()
        .filter(|name| name.starts_with("app_before_"))
        .collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(sql(&cluster, kept[0], "select count(*) from later"), "0");
    assert_eq!(
        sql(&cluster, "app", "select to_regclass('later') is null"),
        "t"
    );
}

#[test]
fn a_restore_that_fails_leaves_nothing_and_says_what_to_do() {
    let (place, cluster) = (Place::new(), Cluster::start(Options::default()));
    fill(&cluster);
    captured(&place, &cluster, &["--database", "app"]);
    let other = Cluster::start(Options::default());
    let said = restore(&place, &other, &[], 1).stderr;
    assert!(
        said.contains("does not exist") && said.contains("--no-owner"),
        "{said}"
    );
    assert_eq!(databases(&other), ["postgres"]);
    restore(&place, &other, &["--no-owner"], 0);
    assert_eq!(sql(&other, "app", "select count(*) from public.t"), "20000");
    assert_eq!(
        other.sql("select count(*) from pg_roles where rolname = 'member'"),
        "0"
    );
}

#[test]
fn dumps_become_files_that_the_stock_programs_take() {
    let (place, cluster) = (Place::new(), Cluster::start(Options::default()));
    fill(&cluster);
    captured(&place, &cluster, &[]);
    let target = place.path("back");
    let to = target.to_str().unwrap();
    let run = |more: &[&str], code| {
        let words = [&["restore", "--name", "app/dumps", "--target", to], more].concat();
        place.ours().run_in("db", words).ends(code)
    };
    run(&["--dry-run"], 0);
    assert!(!target.exists());
    let said = run(&["--replace"], 1).stderr;
    assert!(said.contains("--into"), "{said}");
    let said = run(&["--to-end"], 1).stderr;
    assert!(said.contains("a logical capture"), "{said}");
    let said = run(&["--database", "app"], 0);
    assert!(
        said.text().contains("pg_restore --create"),
        "{}",
        said.text()
    );
    let names = |dir: &Path| {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&target), ["dumps", "globals.sql", "member.json"]);
    assert_eq!(names(&target.join("dumps")), ["app.dump"]);
    let said = run(&[], 1).stderr;
    assert!(said.contains("is not empty"), "{said}");
    // What is for files of a server is refused, and the other way round.
    let url = cluster.url("postgres");
    let physical = ["capture", "--postgres", &url, "--name", "app/files"];
    place.ours().run_in("db", physical).ok();
    let into = ["restore", "--name", "app/files", "--into", &url];
    let said = place.ours().run_in("db", into).ends(1).stderr;
    assert!(said.contains("a physical capture"), "{said}");
    place.ours().run_in("wal", ["status"]).ok();
}

#[test]
fn a_database_that_was_emptied_is_marked_until_it_has_rows_again() {
    let (place, cluster) = (Place::new(), Cluster::start(Options::default()));
    cluster.sql("create table t as select 1 as i");
    assert_eq!(captured(&place, &cluster, &[])["flags"].to_string(), "[]");
    cluster.sql("truncate t");
    let emptied = r#"[{"database":"postgres","flag":"emptied"}]"#;
    for _ in 0..2 {
        assert_eq!(
            captured(&place, &cluster, &[])["flags"].to_string(),
            emptied
        );
    }
    let url = cluster.url("postgres");
    let words = [
        "capture",
        "--logical",
        "--postgres",
        &url,
        "--name",
        "app/dumps",
        "--dry-run",
    ];
    let said = place.ours().run_in("db", words).ok().stderr;
    assert!(
        said.contains("no table of postgres has a row any more"),
        "{said}"
    );
    cluster.sql("insert into t values (1)");
    assert_eq!(captured(&place, &cluster, &[])["flags"].to_string(), "[]");
}

#[test]
fn only_what_nobody_made_anything_in_is_left_out_and_what_it_had_beside_is_said() {
    let (place, cluster) = (Place::new(), Cluster::start(Options::default()));
    cluster.sql("create role r");
    cluster.sql("alter database postgres set work_mem = '8MB'");
    let made = [
        ("nothing", "select 1", 0),
        ("an_enum", "create type t as enum ('a')", 1),
        ("a_domain", "create domain t as int", 1),
        ("a_row", "create type t as (i int)", 1),
        ("a_table", "create table t (i int)", 1),
        (
            "a_server",
            "create extension postgres_fdw; create server s foreign data wrapper postgres_fdw",
            2,
        ),
        ("a_wrapper", "create foreign data wrapper w", 1),
        ("a_publication", "create publication p", 1),
        (
            "a_trigger",
            "create function f() returns event_trigger language plpgsql as 'begin end'; \
             create event trigger e on sql_drop execute function f()",
            2,
        ),
        ("a_collation", "create collation c from \"C\"", 1),
        ("a_cast", "create cast (point as bytea) with inout", 1),
        (
            "a_default",
            "alter default privileges grant select on tables to r",
            1,
        ),
        (
            "a_subscription",
            "create subscription s connection '' publication p with (connect = false, slot_name = none)",
            1,
        ),
    ];
    for (name, all, _) in made {
        cluster.sql(&format!("create database {name}"));
        sql(&cluster, name, all);
    }
    captured(&place, &cluster, &[]);
    let member = place
        .ours()
        .run([
            "dump",
            "--path",
            "/apps/app/dumps",
            "latest",
            "/member.json",
        ])
        .ok();
    let member: Value = serde_json::from_str(&member.text()).unwrap();
    let dumps = member["logical"]["databases"].as_array().unwrap();
    for (name, _, count) in made {
        let dump = dumps.iter().find(|dump| dump["name"] == name).unwrap();
        assert_eq!(dump["objects"], count, "{dump}");
    }
    let other = Cluster::start(Options::default());
    let said = restore(&place, &other, &["--globals", "--dry-run"], 0).text();
    assert!(
        said.contains("postgres is there") && said.contains("without the settings"),
        "{said}"
    );
    let said = restore(&place, &other, &["--database", "postgres"], 1).stderr;
    assert!(said.contains("already"), "{said}");
}

#[test]
fn no_statement_of_a_dump_is_told_and_rights_of_nobody_come_back() {
    let (place, cluster) = (Place::new(), Cluster::start(Options::default()));
    for name in ["app", "mapped", "set"] {
        cluster.sql(&format!("create database {name}"));
    }
    cluster.sql("create role absent");
    cluster.sql("revoke all on database app from public, tester");
    let rights = "select datacl from pg_database where datname = 'app'";
    assert_eq!(cluster.sql(rights), "{}");
    sql(
        &cluster,
        "mapped",
        "create foreign data wrapper w; create server s foreign data wrapper w; \
         create user mapping for absent server s options (password 'geheim9')",
    );
    cluster.sql("alter role absent in database set set \"my.password\" = 'geheim9'");
    captured(&place, &cluster, &[]);
    let other = Cluster::start(Options::default());
    for name in ["mapped", "set"] {
        let said = restore(&place, &other, &["--database", name], 1).stderr;
        assert!(
            said.contains("role \"absent\" does not exist")
                && said.contains("what there was of it is removed")
                && !said.contains("geheim9"),
            "{said}"
        );
    }
    assert_eq!(databases(&other), ["postgres"]);
    restore(&place, &other, &["--database", "app"], 0);
    assert_eq!(other.sql(rights), "{}");
}
