//! The replication protocol, against real servers: what they stream is what stands in their own files.
//! It must never compare our own reading with itself: the server's files and views are asked.

use std::fs;
use std::time::Duration;

use lifeboat_flow::Cancel;
use lifeboat_state::postgres::client::{Address, PgError};
use lifeboat_state::postgres::{
    LogStream, Lsn, Replication, SegmentBytes, SegmentName, Streamed, Timeline,
};
use lifeboat_testkit::postgres::{Cluster, Options, USER};
use lifeboat_testkit::wait::until;

/// How long one look for more lasts.
const LOOK: Duration = Duration::from_millis(50);

fn open(cluster: &Cluster) -> Replication {
    let address = Address::parse(&cluster.url("postgres"), USER).unwrap();
    Replication::open(&address, &Cancel::new()).unwrap()
}

fn code(error: &PgError) -> &str {
    &error.server().unwrap().code
}

/// All of the log up to a position.
fn until_position(stream: &mut LogStream<'_>, from: Lsn, to: Lsn) -> Vec<u8> {
    let mut log = Vec::new();
    until("the log came", || {
        if let Streamed::Log { at, bytes, .. } = stream.next(LOOK, &Cancel::new()).unwrap() {
            assert_eq!(at.0, from.0 + log.len() as u64);
            log.extend(bytes);
        }
        from.0 + log.len() as u64 >= to.0
    });
    log
}

#[test]
fn what_a_server_streams_is_what_it_has_written() {
    let cluster = Cluster::start(Options {
        initdb: vec!["--wal-segsize=4".into()],
        ..Options::default()
    });
    let (mut server, cancel) = (open(&cluster), Cancel::new());
    let identity = server.identify(&cancel).unwrap();
    let system = cluster.sql("select system_identifier from pg_control_system()");
    assert_eq!(identity.system_id.to_string(), system);
    let size = server.segment_bytes(&cancel).unwrap();
    assert_eq!(Some(size), SegmentBytes::new(4 << 20));
    assert_eq!(server.slot("one", &cancel).unwrap(), None);
    server.create_slot("one", &cancel).unwrap();
    let again = server.create_slot("one", &cancel).unwrap_err();
    assert_eq!(code(&again), "42710");
    let slot = server.slot("one", &cancel).unwrap().unwrap();
    let kept_from = "select restart_lsn from pg_replication_slots";
    assert_eq!(slot.kept_from.unwrap().to_string(), cluster.sql(kept_from));

    let name = SegmentName::holding(Timeline(1), identity.end, size);
    let from = name.start(size).unwrap();
    let mut stream = server.stream("one", Timeline(1), from, &cancel).unwrap();
    cluster.sql("create table t as select generate_series(1, 1000)");
    let end: Lsn = cluster
        .sql("select pg_current_wal_flush_lsn()")
        .parse()
        .unwrap();
    let log = until_position(&mut stream, from, end);
    let own = fs::read(cluster.data().join("pg_wal").join(name.to_string())).unwrap();
    let both = log.len().min(own.len());
    assert!(log[..both] == own[..both]);
    // What is reported is what the server believes, and what its slot lets go of.
    stream.report(end, Lsn(end.0 - 8), true).unwrap();
    let believed = "select write_lsn || ' ' || flush_lsn from pg_stat_replication";
    until("the server heard", || {
        cluster.sql(believed) == format!("{end} {}", Lsn(end.0 - 8))
    });
    assert_eq!(cluster.sql(kept_from), Lsn(end.0 - 8).to_string());
    until(
        "the server gave a sign of life",
        || matches!(stream.next(LOOK, &cancel).unwrap(), Streamed::Alive { end: now, .. } if now >= end),
    );
    // Whoever waits can be stopped.
    let stop = Cancel::new();
    stop.cancel();
    until("it stopped", || {
        matches!(stream.next(LOOK, &stop), Err(PgError::Cancelled(_)))
    });
    let mut other = open(&cluster);
    let busy = other.drop_slot("one", &cancel).unwrap_err();
    assert_eq!(code(&busy), "55006");
    drop(server);
    until("the slot is free", || {
        other.drop_slot("one", &cancel).is_ok()
    });
    let gone = other.drop_slot("one", &cancel).unwrap_err();
    assert_eq!(code(&gone), "42704");
    // The session is good for more after all that.
    assert_eq!(
        other.identify(&cancel).unwrap().system_id,
        identity.system_id
    );
}

#[test]
fn a_timeline_ends_where_the_next_one_begins() {
    let primary = Cluster::start(Options::default());
    let standby = Cluster::standby_of(&primary, Options::default(), &[]);
    let (mut server, cancel) = (open(&standby), Cancel::new());
    server.create_slot("one", &cancel).unwrap();
    let size = server.segment_bytes(&cancel).unwrap();
    let end = server.identify(&cancel).unwrap().end;
    let from = SegmentName::holding(Timeline(1), end, size)
        .start(size)
        .unwrap();
    let missing = server.history(Timeline(2), &cancel).unwrap_err();
    assert_eq!(code(&missing), "58P01");
    let mut stream = server.stream("one", Timeline(1), from, &cancel).unwrap();
    standby.sql("select pg_promote()");
    let mut came = from;
    until("the timeline ended", || {
        match stream.next(LOOK, &cancel).unwrap() {
            Streamed::Ended => true,
            Streamed::Log { at, bytes, .. } => {
                came = Lsn(at.0 + bytes.len() as u64);
                false
            }
            _ => false,
        }
    });
    let (next, at) = stream.finish(&cancel).unwrap();
    assert_eq!((next, at), (Timeline(2), came));
    let history = server.history(next, &cancel).unwrap();
    let own = fs::read(standby.data().join("pg_wal/00000002.history")).unwrap();
    assert_eq!(history, own);
    // The new one has the old part, and goes on.
    let mut stream = server.stream("one", next, from, &cancel).unwrap();
    let end: Lsn = standby
        .sql("select pg_current_wal_flush_lsn()")
        .parse()
        .unwrap();
    until_position(&mut stream, from, end);
    drop(server);
    // What the server has removed is said when it should come.
    let mut server = open(&standby);
    let mut stream = server.stream("one", next, Lsn(1 << 24), &cancel).unwrap();
    let mut gone = None;
    until("the server refused", || {
        gone = stream.next(LOOK, &cancel).err();
        gone.is_some()
    });
    assert_eq!(code(&gone.unwrap()), "58P01");
}
