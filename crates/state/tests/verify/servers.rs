//! Scratch servers recover to where they are told, are set up for what the log needs, and leave nothing behind.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use lifeboat_flow::Cancel;
use lifeboat_state::postgres::recovery::{Recovery, RecoveryTarget, RecoveryTimeline};
use lifeboat_state::postgres::verify::{
    Preload, Programs, Progress, ScratchError, ScratchOptions, ScratchServer, Verdict, WaitError,
};
use lifeboat_state::postgres::{Lsn, Timeline};
use lifeboat_testkit::postgres::{Options, USER};
use lifeboat_testkit::wait::until;
use rustix::process::{Pid, Signal};

use crate::live::{Live, ask, proven, recovered, started, waiting};

#[test]
fn a_recovery_ends_where_it_is_told() {
    let live = Live::start(Options::default());
    live.cluster.sql("create table t (x int)");
    for name in ["name", "lsn", "before", "xid", "time", "immediate"] {
        live.copy(name);
    }
    live.cluster.sql("insert into t values (1)");
    let lsn: Lsn = live
        .cluster
        .sql("select pg_create_restore_point('it''s here')")
        .parse()
        .unwrap();
    let xid = live
        .cluster
        .sql("insert into t values (2) returning pg_current_xact_id()")
        .parse()
        .unwrap();
    let time = live.cluster.sql(
        "select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    );
    live.cluster.sql("insert into t values (3)");
    live.archived();
    let base = Recovery {
        restore_command: Some(live.restore_command()),
        ..Recovery::to_the_end()
    };
    for (name, target, is_inclusive, expected) in [
        ("name", RecoveryTarget::Name("it's here".into()), true, "1"),
        ("lsn", RecoveryTarget::Lsn(lsn), true, "1"),
        ("before", RecoveryTarget::Xid(xid), false, "1"),
        ("xid", RecoveryTarget::Xid(xid), true, "2"),
        (
            "time",
            RecoveryTarget::Time(time.parse().unwrap()),
            true,
            "2",
        ),
        ("immediate", RecoveryTarget::Immediate, true, "0"),
    ] {
        let recovery = Recovery {
            target,
            is_inclusive,
            timeline: RecoveryTimeline::Current,
            ..base.clone()
        };
        let mut server = started(&live, name, &recovery);
        let found = recovered(&mut server);
        assert_eq!(
            ask(&server, "select count(*) from public.t"),
            expected,
            "{name}"
        );
        assert_eq!(found.timeline, Timeline(1), "{name}");
        if name == "lsn" {
            assert!(found.position >= lsn, "{found:?}");
        }
    }
}

#[test]
fn a_server_is_set_up_for_what_the_log_asks_for() {
    let mut live = Live::start(Options::default().set("max_connections", "30"));
    live.copy("copy");
    live.cluster.stop();
    live.cluster.set("max_connections", "61");
    live.cluster.set("max_prepared_transactions", "3");
    live.cluster.start_again();
    live.cluster.sql("create table t as select 1");
    let mut request = live.request("copy");
    request.at_least = Some(live.archived());
    assert_eq!(proven(&request).verdict, Verdict::Recoverable);
    assert!(live.is_gone("copy"));
}

#[test]
fn a_server_that_is_dropped_is_gone_with_what_it_started() {
    let live = Live::start(Options::default());
    live.copy("copy");
    let server = started(&live, "copy", &waiting(&live));
    until("the server asks for its log", || {
        live.path("asked").exists()
    });
    assert!(!live.is_gone("copy"));
    drop(server);
    assert!(live.is_gone("copy"));
    let asks = format!("touch {}", live.path("asked").display());
    let still_asks = || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let words =
            processes.map(|process| fs::read(process.path().join("cmdline")).unwrap_or_default());
        words
            .into_iter()
            .any(|words| String::from_utf8_lossy(&words).contains(&asks))
    };
    until("its command ended too", || !still_asks());
}

/// The process IDs of a server on the copy, and of what holds it.
fn server_and_holder(live: &Live) -> [Pid; 2] {
    let lock = || fs::read_to_string(live.path("copy/postmaster.pid")).unwrap_or_default();
    until("the server is there", || lock().lines().count() > 1);
    let server: i32 = lock().lines().next().unwrap().parse().unwrap();
    let stat = fs::read_to_string(format!("/proc/{server}/stat")).unwrap();
    let (_, behind) = stat.rsplit_once(") ").unwrap();
    let holder = behind.split(' ').nth(1).unwrap().parse().unwrap();
    [server, holder].map(|pid| Pid::from_raw(pid).unwrap())
}

#[test]
fn a_server_that_somebody_kills_says_nothing_of_the_capture_and_none_is_left() {
    let live = Live::start(Options::default());
    for who in [0, 1] {
        live.copy("copy");
        let mut server = started(&live, "copy", &waiting(&live));
        until("the server asks for its log", || {
            live.path("asked").exists()
        });
        let killed = server_and_holder(&live)[who];
        rustix::process::kill_process(killed, Signal::KILL).unwrap();
        let ended = server.wait(None, &Progress::default(), &Cancel::new());
        assert!(
            matches!(&ended, Err(WaitError::Process(ScratchError::Stopped(_)))),
            "{ended:?}"
        );
        drop(server);
        // A server that is killed can't remove this.
        let _ = fs::remove_file(live.path("copy/postmaster.pid"));
        // The command that a killed server waits for outlives it, until it ends by itself.
        until("nothing is left", || {
            let _ = fs::remove_file(live.path("asked"));
            live.is_gone("copy")
        });
        fs::remove_dir_all(live.path("copy")).unwrap();
    }
}

/// The variable by which a test that starts itself again says where.
const CHILD: &str = "LIFEBOAT_TEST_SCRATCH";

#[test]
fn a_server_ends_with_the_process_that_started_it_however_that_ends() {
    if let Ok(home) = std::env::var(CHILD) {
        return hold_a_server(Path::new(&home));
    }
    let live = Live::start(Options::default());
    live.copy("copy");
    let name = "servers::a_server_ends_with_the_process_that_started_it_however_that_ends";
    let mut child = Command::new(std::env::current_exe().unwrap());
    let mut child = child
        .args(["--exact", name])
        .env(CHILD, live.cluster.home())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("the server asks for its log", || {
        live.path("asked").exists()
    });
    assert!(live.path("copy/postmaster.pid").exists() && !live.is_gone("copy"));
    child.kill().unwrap();
    child.wait().unwrap();
    until("its server is gone", || live.is_gone("copy"));
}

/// The part of the process that is killed: it starts a server, and waits for ever.
fn hold_a_server(home: &Path) {
    let options = ScratchOptions {
        data: home.join("copy"),
        run: home.join("run-copy"),
        within: home.to_owned(),
        superuser: USER.into(),
        user: None,
        preload: Preload::default(),
        environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
    };
    let recovery = Recovery {
        restore_command: Some(format!(
            "touch {}; sleep 1000",
            home.join("asked").display()
        )),
        ..Recovery::to_the_end()
    };
    let major = fs::read_to_string(home.join("copy/PG_VERSION")).unwrap();
    let programs = Programs::find(major.trim().parse().unwrap(), None, &[]).unwrap();
    let mut server = ScratchServer::start(&programs, &options, Some(&recovery), None).unwrap();
    let ended = server.wait(None, &Progress::default(), &Cancel::new());
    panic!("it was to be killed: {ended:?}");
}
