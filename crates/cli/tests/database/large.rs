//! A relation of more than 1 GiB, which PostgreSQL keeps in several files.
//! Blocks must be counted on from one file to the next, in checksums as in what comes back.

use lifeboat_testkit::postgres::Cluster;

use crate::capture::{amcheck, capture, restored, with_checksums};
use crate::common::{Place, summary};

/// Rows of about 1 KiB each; with `LIFEBOAT_SOAK` they fill a file of 1 GiB and begin the next.
fn rows() -> u32 {
    match std::env::var_os("LIFEBOAT_SOAK") {
        Some(_) => 1_200_000,
        None => 10_000,
    }
}

#[test]
fn a_relation_of_many_blocks_comes_back() {
    let options = with_checksums()
        .set("max_wal_size", "256MB")
        .set("wal_level", "minimal")
        .set("max_wal_senders", "0");
    let (place, mut cluster) = (Place::new(), Cluster::start(options));
    // The table is written without log, or that would be as large again.
    cluster.sql(&format!(
        "begin; create table large (id int, filler char(960)); \
         copy large from program 'seq -f %.0f,x {}' with (format csv); commit; create index on large (id)",
        rows()
    ));
    let path = cluster.sql("select pg_relation_filepath('large')");
    let is_in_two = cluster.data().join(format!("{path}.1")).exists();
    assert_eq!(is_in_two, rows() > 1_000_000);
    cluster.stop();
    cluster.set("wal_level", "replica");
    cluster.set("max_wal_senders", "10");
    cluster.start_again();
    let sum = "select count(*), sum(id::bigint), sum(hashtext(id || filler)::bigint) from large";
    let before = cluster.sql(sum);
    let said = capture(&place, &cluster, &[]);
    assert_eq!(said.code(), 0, "{}{}", said.text(), said.stderr);
    assert_eq!(summary(&said)["faults"], 0);
    cluster.sql(&format!(
        "update large set id = -id where id > {}",
        rows() - 100
    ));
    let changed = cluster.sql(sum);
    let said = capture(&place, &cluster, &[]);
    assert_eq!(summary(&said)["faults"], 0, "{}", said.stderr);
    drop(cluster);
    let back = restored(&place, &[]);
    assert_eq!(back.sql(sum), changed);
    amcheck(&back);
    drop(back);
    assert_eq!(restored(&place, &["latest~1"]).sql(sum), before);
}
