//! Restores and proofs of dumps where they end early: what is somebody else's stays, and a wish to stop is no verdict.

mod common;

use std::path::Path;

use common::{init, scratch};
use lifeboat_flow::{Cancel, Counters, Timestamp};
use lifeboat_format::Id;
use lifeboat_protect::ProtectError;
use lifeboat_protect::postgres::{
    DumpPlan, DumpRestore, DumpRestoreError, DumpStep, DumpVerification,
};
use lifeboat_repo::PackListing;
use lifeboat_repo::backend::MemoryBackend;
use lifeboat_state::postgres::client::Address;
use lifeboat_state::postgres::dump::{
    ClientPrograms, DatabaseRecord, DumpRecord, LogicalCapture, LogicalMember, Needed,
};
use lifeboat_state::postgres::{CaptureKind, ENGINE, MEMBER_VERSION};
use lifeboat_testkit::postgres::{Cluster, Options};

fn member() -> LogicalMember {
    LogicalMember {
        version: MEMBER_VERSION,
        app: "a".into(),
        member: "b".into(),
        fleet: None,
        instant: Timestamp::utc(0, 0),
        kind: CaptureKind::Logical,
        engine: ENGINE.into(),
        engine_version: "15.18".into(),
        files: 0,
        bytes: 0,
        flags: Vec::new(),
        logical: LogicalCapture {
            system_id: None,
            standby: false,
            dump_version: "15.18".into(),
            role_passwords: true,
            databases: Vec::new(),
            left_out: Vec::new(),
        },
        baseline: None,
    }
}

#[test]
fn a_wish_to_stop_is_no_verdict() {
    let repository = init(MemoryBackend::default());
    let (cancel, scratch) = (Cancel::new(), scratch());
    let (index, _) = repository.load_index(PackListing::Skip, &cancel).unwrap();
    cancel.cancel();
    let verification = DumpVerification {
        repository: &repository,
        index: &index,
        tree: Id::default(),
        member: &member(),
        scratch: scratch.path(),
        programs: Some(Path::new("/nowhere")),
        other_dirs: &[],
        vouched: &[],
        memory_bytes: 1 << 20,
        counters: &Counters::default(),
        cancel: &cancel,
    };
    let ended = verification.run();
    assert!(
        matches!(ended, Err(ProtectError::Cancelled(_))),
        "{ended:?}"
    );
}

#[test]
fn a_database_that_appears_under_the_name_of_a_new_one_stays() {
    let repository = init(MemoryBackend::default());
    let cancel = Cancel::new();
    let (index, _) = repository.load_index(PackListing::Skip, &cancel).unwrap();
    let cluster = Cluster::start(Options::default());
    cluster.sql("create database theirs");
    let needed = Needed {
        at_least: 13,
        best: 15,
        by: "the server",
    };
    let programs = ClientPrograms::find(needed, None, &[]).unwrap();
    let restore = DumpRestore {
        repository: &repository,
        index: &index,
        tree: Id::default(),
        address: &Address::parse(&cluster.url("postgres"), "x").unwrap(),
        programs: &programs,
        memory_bytes: 1 << 20,
        counters: &Counters::default(),
        stage: &|_| {},
        secluded: None,
        cancel: &cancel,
    };
    let dump = Box::new(DumpRecord {
        database: DatabaseRecord {
            name: "app".into(),
            encoding: "UTF8".into(),
            collate: "C".into(),
            ctype: "C".into(),
            ..DatabaseRecord::default()
        },
        file: "app.dump".into(),
        instant: Timestamp::utc(0, 0),
        bytes: 0,
        tables: None,
        objects: None,
    });
    let plan = |temporary: &str| DumpPlan {
        steps: vec![
            DumpStep::Create {
                dump: dump.clone(),
                temporary: temporary.to_owned(),
            },
            // There is no such dump.
            DumpStep::Fill {
                dump: dump.clone(),
                temporary: temporary.to_owned(),
            },
        ],
        home: "postgres".into(),
        version: 150_018,
        no_owner: false,
        missing_tablespaces: Vec::new(),
        left: Vec::new(),
    };
    let ended = restore.run(&plan("theirs"));
    assert!(
        matches!(ended, Err(DumpRestoreError::Create { .. })),
        "{ended:?}"
    );
    let there = "select count(*) from pg_database where datname in ('theirs', 'ours')";
    assert_eq!(cluster.sql(there), "1");
    // What it made itself goes.
    assert!(restore.run(&plan("ours")).is_err());
    assert_eq!(cluster.sql(there), "1");
}
