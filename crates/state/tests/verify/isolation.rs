//! What was restored is kept from everything outside its scratch, and a directory in use is left alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use lifeboat_flow::Cancel;
use lifeboat_state::postgres::recovery::RecoveryTarget;
use lifeboat_state::postgres::verify::{Found, Preload, ScratchError, ScratchServer, Verdict};
use lifeboat_testkit::postgres::{Options, give_away};
use lifeboat_testkit::wait::until;
use rustix::process::{Pid, Signal};

use crate::live::{Live, ask, programs, proven, recovered, undetermined};

/// A server that ends with the test, and with all that it started.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, Signal::QUIT);
        let _ = self.0.wait();
    }
}

#[test]
fn nothing_of_the_live_cluster_is_done_by_the_copy() {
    let live = Live::start(Options::default());
    let touch = |name: &str| format!("touch {}", live.path(name).display());
    live.cluster
        .sql("create table t (x int); create publication p for all tables");
    live.cluster
        .sql("create role other superuser login; alter role other set statement_timeout = 1");
    live.cluster
        .sql("alter role other set session_preload_libraries = 'nowhere_of_role'");
    live.cluster
        .sql("alter database template1 set local_preload_libraries = 'nowhere_of_database'");
    live.copy("copy");
    live.archived();
    // That such a command is run where it stands is not believed either.
    let auto = |name: &str| {
        let settings = [
            "archive_command",
            "restore_command",
            "archive_cleanup_command",
            "recovery_end_command",
        ];
        let mut text = format!(
            "archive_mode = always\nlisten_addresses = '127.0.0.1'\nport = 1\ncluster_name = '{name}'\n"
        );
        for setting in settings {
            text += &format!(
                "{setting} = '{}; false'\n",
                touch(&format!("{name}-{setting}"))
            );
        }
        text + "primary_conninfo = 'host=/nowhere'\nshared_preload_libraries = 'nowhere'\nsynchronous_standby_names = 'x'\n"
    };
    for (file, name) in [
        ("postgresql.auto.conf", "auto"),
        ("postgresql.conf", "conf"),
    ] {
        let path = live.path("copy").join(file);
        fs::write(&path, auto(name)).unwrap();
    }
    fs::write(
        live.path("copy").join("pg_hba.conf"),
        "local all all reject\n",
    )
    .unwrap();
    fs::write(live.path("copy").join("standby.signal"), "").unwrap();
    let recovery = live.request("copy").recovery;
    let mut options = live.options("copy");
    options.superuser = "other".into();
    let mut server =
        ScratchServer::start(&programs(&live), &options, Some(&recovery), None).unwrap();
    recovered(&mut server);
    let setting = |name: &str| ask(&server, &format!("select current_setting('{name}')"));
    for (name, value) in [
        ("archive_mode", "off"),
        ("listen_addresses", ""),
        ("primary_conninfo", ""),
        ("cluster_name", "lifeboat-scratch"),
        ("session_preload_libraries", ""),
        ("local_preload_libraries", ""),
        ("statement_timeout", "0"),
        ("max_logical_replication_workers", "0"),
    ] {
        assert_eq!(setting(name), value, "{name}");
    }
    let workers = "select count(*) from pg_stat_activity where backend_type in \
        ('archiver', 'walsender', 'walreceiver', 'logical replication launcher', 'autovacuum launcher')";
    assert_eq!(ask(&server, workers), "0");
    // A segment that would be archived.
    ask(&server, "select pg_switch_wal()");
    ask(&server, "select txid_current()");
    let run = live.path("run-copy");
    assert_eq!(
        fs::metadata(&run).unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert_eq!(
        fs::metadata(run.join("postgresql.conf"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    server.stop(&Cancel::new()).unwrap();
    let touched = fs::read_dir(live.cluster.home())
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name());
    let touched: Vec<_> = touched
        .filter(|name| name.to_str().is_some_and(|name| name.contains("_command")))
        .collect();
    assert!(touched.is_empty(), "{touched:?}");
    assert_eq!(
        fs::read_to_string(live.path("copy").join("postgresql.auto.conf.captured")).unwrap(),
        auto("auto")
    );
    // The same words do act where nothing keeps them from it.
    live.copy("other");
    fs::write(live.path("other/postgresql.auto.conf"), auto("other")).unwrap();
    fs::write(live.path("other/recovery.signal"), "").unwrap();
    let mut postgres = live.cluster.program("postgres");
    postgres
        .arg("-D")
        .arg(live.path("other"))
        .arg("-k")
        .arg(live.cluster.home());
    postgres.args([
        "-c",
        "shared_preload_libraries=",
        "-c",
        "listen_addresses=",
        "-c",
        "port=5433",
    ]);
    let _other = Ended(
        postgres
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    until("the other copy asks for its log", || {
        live.path("other-restore_command").exists()
    });
}

#[test]
fn a_copy_that_leads_out_of_the_scratch_is_not_started() {
    let live = Live::start(Options::default());
    let (space, outside) = (live.path("space"), tempfile::tempdir().unwrap());
    for dir in [&space, &live.path("inside"), &live.path("inside/space")] {
        fs::create_dir(dir).unwrap();
        give_away(dir);
    }
    live.cluster.sql(&format!(
        "create tablespace space location '{}'",
        space.display()
    ));
    let copy = live.path("inside/copy");
    let mut program = live.cluster.program("pg_basebackup");
    program
        .args(["--wal-method=none", "--checkpoint=fast", "--no-sync", "-d"])
        .arg(live.cluster.url("postgres"));
    program.arg(format!(
        "--tablespace-mapping={}={}",
        space.display(),
        live.path("inside/space").display()
    ));
    let output = program.arg("-D").arg(&copy).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    live.archived();
    let mut request = live.request("inside/copy");
    request.options.run = live.path("inside/run");
    request.options.within = live.path("inside");
    let link = fs::read_dir(copy.join("pg_tblspc"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let number = link.file_name().unwrap().to_str().unwrap().to_owned();
    // A map that a server would follow before all links.
    let map = copy.join("tablespace_map");
    fs::write(&map, format!("{number} {}\n", space.display())).unwrap();
    give_away(&map);
    let why = undetermined(&request);
    assert!(
        why.contains("tablespace_map leads to") && why.contains(space.to_str().unwrap()),
        "{why}"
    );
    fs::write(
        &map,
        format!("{number} {}\n", live.path("inside/space").display()),
    )
    .unwrap();
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&space, &link).unwrap();
    let why = undetermined(&request);
    assert!(
        why.contains(&format!("pg_tblspc/{number} leads to")),
        "{why}"
    );
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(live.path("inside/space"), &link).unwrap();
    std::os::unix::fs::symlink(outside.path(), copy.join("base/4711")).unwrap();
    let why = undetermined(&request);
    assert!(why.contains("base/4711 leads to"), "{why}");
    fs::remove_file(copy.join("base/4711")).unwrap();
    assert_eq!(proven(&request).verdict, Verdict::Recoverable);
}

#[test]
fn a_directory_that_a_server_may_use_is_left_as_it_is() {
    let live = Live::start(Options::default());
    let auto = live.cluster.data().join("postgresql.auto.conf");
    let before = fs::read(&auto).unwrap();
    let error = ScratchServer::start(&programs(&live), &live.options("data"), None, None)
        .err()
        .unwrap();
    assert!(
        matches!(&error, ScratchError::InUse(path) if path.ends_with("data/postmaster.pid")),
        "{error}"
    );
    assert_eq!(fs::read(&auto).unwrap(), before);
    assert!(!live.path("run-data").exists());
    assert_eq!(live.cluster.sql("select 1"), "1");
}

#[test]
fn a_library_that_is_vouched_for_is_loaded() {
    let live = Live::start(Options::default());
    live.copy("copy");
    live.archived();
    let mut options = live.options("copy");
    options.preload = Preload::choose("auto_explain,pg_prewarm", &["pg_prewarm".into()]);
    let recovery = live.request("copy").recovery;
    let mut server =
        ScratchServer::start(&programs(&live), &options, Some(&recovery), None).unwrap();
    recovered(&mut server);
    assert_eq!(
        ask(&server, "show shared_preload_libraries"),
        "\"pg_prewarm\""
    );
}

#[test]
fn event_triggers_of_the_cluster_do_not_see_the_checks() {
    let live = Live::start(Options::default());
    let touched = live.path("touched");
    live.cluster.sql(&format!(
        "create function act() returns event_trigger language plpgsql as $$ begin \
         execute 'copy (select 1) to program ''touch {}'''; end $$",
        touched.display()
    ));
    live.cluster
        .sql("create event trigger act on ddl_command_end execute function act()");
    live.cluster.sql("create table t (x int)");
    assert!(touched.exists());
    live.copy("copy");
    live.cluster.sql("alter event trigger act enable always");
    live.archived();
    fs::remove_file(&touched).unwrap();
    let found = |target| {
        let mut request = live.request("copy");
        request.amcheck = true;
        request.recovery.target = target;
        let proof = proven(&request);
        assert_eq!(proof.verdict, Verdict::Recoverable, "{proof:?}");
        assert!(!touched.exists());
        proof.report.checks[0].found.clone()
    };
    // One that fires whatever a session says keeps us from installing the extension.
    fs::rename(live.path("copy"), live.path("kept")).unwrap();
    let copied = Command::new("cp")
        .arg("-a")
        .args([live.path("kept"), live.path("copy")])
        .status();
    assert!(copied.unwrap().success());
    let always = found(RecoveryTarget::Latest);
    assert!(
        matches!(&always, Found::Unknown(why) if why.contains("amcheck is not installed")),
        "{always:?}"
    );
    fs::remove_dir_all(live.path("copy")).unwrap();
    fs::rename(live.path("kept"), live.path("copy")).unwrap();
    assert_eq!(found(RecoveryTarget::Immediate), Found::Nothing);
}
