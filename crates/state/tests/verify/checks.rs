//! What is damaged or missing in a cluster that recovers is found by the checks, and named.

use std::fs;
use std::time::Duration;

use lifeboat_flow::Cancel;
use lifeboat_state::postgres::client::{Connection, Session};
use lifeboat_state::postgres::verify::{
    Baseline, EXACT_UP_TO_BYTES, Found, Rows, Verdict, measure,
};
use lifeboat_testkit::postgres::{Options, USER};

use crate::live::{Live, address, not_recoverable, proven};

#[test]
fn a_page_that_is_wrong_is_found_with_its_file_and_block() {
    let live = Live::with_checksums();
    live.cluster
        .sql("create table t as select g, repeat('x', 500) from generate_series(1, 1000) g");
    let file = live.cluster.sql("select pg_relation_filepath('t')");
    live.copy("copy");
    live.archived();
    let path = live.path("copy").join(&file);
    let mut content = fs::read(&path).unwrap();
    content[7 * 8192 + 4000] ^= 0x10;
    fs::write(&path, content).unwrap();
    let mut request = live.request("copy");
    request.checksums = true;
    let words = not_recoverable(&request);
    assert!(
        words.starts_with(&format!("checksums: {file}: block 7 says checksum ")),
        "{words}"
    );
    // The server finds the same when it reads the page.
    request.amcheck = true;
    let proof = proven(&request);
    let found = &proof
        .report
        .checks
        .iter()
        .find(|check| check.name == "amcheck")
        .unwrap()
        .found;
    assert!(
        matches!(found, Found::Wrong { findings, .. } if findings[0].contains("invalid page in block 7")),
        "{found:?}"
    );
}

#[test]
fn an_index_that_is_wrong_is_found() {
    let live = Live::start(Options::default());
    live.cluster
        .sql("create table t as select g from generate_series(1, 1000) g; create index i on t (g)");
    let file = live.cluster.sql("select pg_relation_filepath('i')");
    live.copy("copy");
    live.archived();
    // Two entries of a leaf change their places: no page is damaged, only the order is.
    let path = live.path("copy").join(&file);
    let mut content = fs::read(&path).unwrap();
    let entry = |number: usize| 8192 + 24 + 4 * number;
    let (first, second) = (entry(10), entry(11));
    for byte in 0..4 {
        content.swap(first + byte, second + byte);
    }
    fs::write(&path, content).unwrap();
    let mut request = live.request("copy");
    (request.amcheck, request.checksums) = (true, true);
    let proof = proven(&request);
    let Verdict::NotRecoverable { words } = &proof.verdict else {
        panic!("{proof:?}");
    };
    assert!(
        words.starts_with("amcheck: btree index \"postgres.public.i\""),
        "{words}"
    );
    assert!(words.contains("item order invariant violated"), "{words}");
    assert_eq!(proof.report.unknown().collect::<Vec<_>>(), ["checksums"]);
}

#[test]
fn what_a_live_server_holds_is_counted_without_waiting_for_others() {
    let live = Live::start(Options::default());
    live.cluster.sql("create schema \"Odd\"; create table \"Odd\".\"na\"\"me\" as select generate_series(1, 42) g");
    live.cluster
        .sql("create table large as select generate_series(1, 3000) g; analyze large");
    live.cluster.sql("create table never (x int); create unlogged table quick as select 1; create view v as select 1");
    live.cluster
        .sql("create table locked as select 1; create extension hstore");
    live.cluster.sql("create database closed");
    live.cluster
        .sql("alter database closed allow_connections false");
    let address = address(&live);
    let cancel = Cancel::new();
    let baseline = measure(&address, 64 << 10, &cancel).unwrap();
    assert_eq!(baseline.superuser, USER);
    assert_eq!(
        baseline
            .databases
            .iter()
            .map(|database| &*database.name)
            .collect::<Vec<_>>(),
        ["postgres", "template1"]
    );
    let skipped: Vec<(&str, &str)> = baseline
        .skipped
        .iter()
        .map(|other| (&*other.name, &*other.why))
        .collect();
    assert_eq!(skipped, [("closed", "it allows no connections")]);
    let database = &baseline.databases[0];
    assert!(
        database.size_bytes > 1 << 20 && database.tables == 4,
        "{database:?}"
    );
    assert!(
        database
            .extensions
            .iter()
            .any(|extension| extension.name == "hstore" && !extension.version.is_empty())
    );
    let rows = |baseline: &Baseline, name: &str| {
        let table = baseline.databases[0]
            .largest
            .iter()
            .find(|table| table.name == name);
        table.unwrap().rows
    };
    assert_eq!(rows(&baseline, "na\"me"), Rows::Exact(42));
    assert_eq!(rows(&baseline, "large"), Rows::Estimate(3000));
    assert_eq!(rows(&baseline, "never"), Rows::Exact(0));
    assert_eq!(rows(&baseline, "locked"), Rows::Exact(1));
    let mut holder = Connection::open(&address, Session::Queries, &cancel).unwrap();
    let patience = Some(Duration::from_secs(60));
    holder.query("begin", patience, &cancel).unwrap();
    holder
        .query(
            "lock table locked in access exclusive mode",
            patience,
            &cancel,
        )
        .unwrap();
    let while_locked = measure(&address, 64 << 10, &cancel).unwrap();
    assert_eq!(rows(&while_locked, "locked"), Rows::Unknown);
    assert_eq!(rows(&while_locked, "na\"me"), Rows::Exact(42));
    holder.query("commit", patience, &cancel).unwrap();
}

#[test]
fn what_is_less_than_it_was_is_found() {
    let live = Live::start(Options::default());
    live.cluster.sql("create table kept as select generate_series(1, 100) g; create table less as select * from kept");
    live.cluster.sql("create table gone as select 1 x");
    live.cluster.sql("create database lost");
    let address = address(&live);
    let baseline = measure(&address, EXACT_UP_TO_BYTES, &Cancel::new()).unwrap();
    live.cluster
        .sql("delete from less where g > 50; drop table gone");
    live.cluster.sql("drop database lost");
    live.copy("copy");
    live.archived();
    let mut request = live.request("copy");
    request.baseline = Some(baseline);
    let proof = proven(&request);
    let found = proof
        .report
        .checks
        .iter()
        .map(|check| &check.found)
        .next()
        .unwrap();
    let expected = [
        "the database lost is missing",
        "the database postgres has 2 tables, and had 3",
        "the table public.less of postgres has 50 rows, and had 100",
        "the table public.gone of postgres is missing",
    ];
    let Found::Wrong { findings, more: 0 } = found else {
        panic!("{found:?}");
    };
    let mut found: Vec<&str> = findings.iter().map(String::as_str).collect();
    found.sort_by_key(|finding| expected.iter().position(|other| other == finding));
    assert_eq!(found, expected);
    assert!(
        matches!(proof.verdict, Verdict::NotRecoverable { words } if words.ends_with("(and 3 more)"))
    );
}
