//! What is said of a cluster's files and of the protocol, against real servers and PostgreSQL's own programs.
//! It must never compare our own reading with itself: the server, its programs or `pg_basebackup` are asked.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use lifeboat_flow::Cancel;
use lifeboat_state::postgres::client::{Address, Connection, PgError, Session};
use lifeboat_state::postgres::{
    BackupLabel, ClusterState, Control, Fate, Fork, Lsn, PAGE_BYTES, PageState, RelationFile,
    WalHeader, WalName, fate, has_checksums, judge,
};
use lifeboat_testkit::postgres::{Cluster, Options, PASSWORD, USER, give_away};
use lifeboat_testkit::tls::Certificates;

const PATIENCE: Option<Duration> = Some(Duration::from_secs(60));

fn with_checksums() -> Options {
    Options {
        initdb: vec!["--data-checksums".into()],
        ..Options::default()
    }
}

fn connect(url: &str) -> Result<Connection, PgError> {
    Connection::open(
        &Address::parse(url, USER).unwrap(),
        Session::Queries,
        &Cancel::new(),
    )
}

fn ask(connection: &mut Connection, sql: &str) -> Vec<Vec<Option<String>>> {
    connection.query(sql, PATIENCE, &Cancel::new()).unwrap()
}

#[test]
fn answers_come_as_the_server_gives_them() {
    let cluster = Cluster::start(Options::default());
    let mut connection = connect(&cluster.url("postgres")).unwrap();
    let rows = ask(
        &mut connection,
        "select 1, null, '', 'zwei' union all select 2, 'x', 'y', E'a\\nb' order by 1",
    );
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        rows,
        [
            vec![some("1"), None, some(""), some("zwei")],
            vec![some("2"), some("x"), some("y"), some("a\nb")],
        ]
    );
    let version = ask(&mut connection, "show server_version_num");
    assert_eq!(
        version[0][0].as_ref().unwrap().parse().ok(),
        connection.version()
    );
    let address = Address::parse(&cluster.url("postgres"), USER).unwrap();
    let replication = Connection::open(&address, Session::Replication, &Cancel::new());
    let identity = ask(&mut replication.unwrap(), "IDENTIFY_SYSTEM");
    let system = ask(
        &mut connection,
        "select system_identifier from pg_control_system()",
    );
    assert_eq!(identity[0][0], system[0][0]);
    // An error ends the answer, not the connection.
    let error = connection.query("select * from nowhere", PATIENCE, &Cancel::new());
    let error = error.err().unwrap();
    let server = error.server().unwrap();
    assert_eq!((&*server.code, &*server.severity), ("42P01", "ERROR"));
    assert_eq!(server.message, "relation \"nowhere\" does not exist");
    ask(&mut connection, "do $$ begin raise notice 'news'; end $$");
    assert_eq!(connection.take_notices(), ["news"]);
    assert_eq!(ask(&mut connection, "").len(), 0);
    let large = ask(&mut connection, "select repeat('x', 3000000)");
    assert_eq!(large[0][0].as_ref().unwrap().len(), 3_000_000);
    // Whoever waits can be stopped, and gives up by himself.
    let silent = connection.query(
        "select pg_sleep(600)",
        Some(Duration::from_millis(300)),
        &Cancel::new(),
    );
    assert!(matches!(silent, Err(PgError::Silent(_))), "{silent:?}");
    let (mut other, cancel) = (connect(&cluster.url("postgres")).unwrap(), Cancel::new());
    cancel.cancel();
    let stopped = other.query("select pg_sleep(600)", None, &cancel);
    assert!(matches!(stopped, Err(PgError::Cancelled(_))), "{stopped:?}");
}

#[test]
fn whoever_is_not_let_in_is_told_why() {
    let lines = [
        "local all tester trust",
        "local all hashed md5",
        "local all all scram-sha-256",
    ];
    let cluster = Cluster::start(Options {
        hba: lines.map(str::to_owned).to_vec(),
        ..Options::default()
    });
    cluster.sql("create role scrambled login password 'pass word'");
    cluster.sql("set password_encryption = md5; create role hashed login password 'pass word'");
    let url = |user: &str| cluster.url("postgres").replace(USER, user);
    for user in ["scrambled", "hashed"] {
        connect(&url(&format!("{user}:pass%20word"))).unwrap();
        let wrong = connect(&url(&format!("{user}:falsch"))).err().unwrap();
        assert_eq!(wrong.server().unwrap().code, "28P01", "{wrong}");
        let text = lifeboat_flow::chain(&wrong);
        assert!(
            text.contains("password authentication failed") && !text.contains("falsch"),
            "{text}"
        );
        let without = connect(&url(user)).err().unwrap();
        assert!(matches!(without, PgError::NoPassword { .. }), "{without}");
    }
    let nowhere = connect(&cluster.url("nowhere")).err().unwrap();
    assert_eq!(nowhere.server().unwrap().code, "3D000", "{nowhere}");
    let gone = connect("postgresql://x@/x?host=/nowhere").err().unwrap();
    assert!(matches!(gone, PgError::Connect { .. }), "{gone}");
}

#[test]
fn a_connection_is_as_secret_as_asked() {
    let certificates = tempfile::tempdir().unwrap();
    let made = Certificates::make(certificates.path());
    let mut cluster = Cluster::make(Options {
        hba: vec![
            "local all all trust".into(),
            "hostssl all all 127.0.0.1/32 scram-sha-256".into(),
        ],
        settings: vec![("ssl".into(), "on".into())],
        ..Options::default()
    });
    for (from, name) in [
        (&made.server, "server.crt"),
        (&made.server_key, "server.key"),
    ] {
        let to = cluster.data().join(name);
        fs::copy(from, &to).unwrap();
        give_away(&to);
    }
    // A port that is free now; nobody else takes it while this machine runs tests of ours.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    cluster.listen(port);
    cluster.start_again();
    let url = |host: &str, mode: &str| {
        format!("postgresql://{USER}:{PASSWORD}@{host}:{port}/postgres?sslmode={mode}")
    };
    let authority = format!("&sslrootcert={}", made.authority.display());
    let is_encrypted = |url: &str| {
        let mut connection = connect(url).unwrap();
        ask(
            &mut connection,
            "select ssl from pg_stat_ssl where pid = pg_backend_pid()",
        )[0][0]
            .clone()
    };
    for mode in ["prefer", "require"] {
        assert_eq!(
            is_encrypted(&url("127.0.0.1", mode)).as_deref(),
            Some("t"),
            "{mode}"
        );
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        let url = url("localhost", mode) + &authority;
        assert_eq!(is_encrypted(&url).as_deref(), Some("t"), "{mode}");
    }
    // The server asks for encryption itself.
    let plain = connect(&url("127.0.0.1", "disable")).err().unwrap();
    assert_eq!(plain.server().unwrap().code, "28000", "{plain}");
    let anybody = connect(&url("localhost", "verify-ca")).err().unwrap();
    let text = lifeboat_flow::chain(&anybody);
    assert!(text.contains("needs sslrootcert"), "{text}");
    for mode in ["verify-ca", "verify-full"] {
        let unknown = connect(&url("localhost", mode)).err().unwrap();
        assert!(matches!(unknown, PgError::Lost { .. }), "{mode}: {unknown}");
    }
    // A name that the certificate does not have, of the same server.
    let other = url("127.0.0.1", "verify-full") + &authority;
    assert_eq!(is_encrypted(&other).as_deref(), Some("t"));
    let nameless = other.replace("127.0.0.1", "127.1");
    assert!(connect(&nameless).is_err());
    let anybody = nameless.replace("verify-full", "verify-ca");
    assert_eq!(is_encrypted(&anybody).as_deref(), Some("t"));
}

#[test]
fn a_control_file_says_what_pg_controldata_reads() {
    let mut cluster = Cluster::start(Options {
        initdb: vec!["--data-checksums".into(), "--wal-segsize=4".into()],
        ..Options::default()
            .set("max_connections", "37")
            .set("max_prepared_transactions", "5")
    });
    let file = || fs::read(cluster.data().join("global/pg_control")).unwrap();
    assert_eq!(
        Control::parse(&file()).unwrap().state,
        ClusterState::InProduction
    );
    cluster.stop();
    let control =
        Control::parse(&fs::read(cluster.data().join("global/pg_control")).unwrap()).unwrap();
    let mut program = cluster.program("pg_controldata");
    let output = program
        .env("LC_ALL", "C")
        .arg("-D")
        .arg(cluster.data())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = |key: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = lines.find(|(name, _)| *name == key).expect(key);
        value.trim().to_owned()
    };
    assert_eq!(
        said("Database system identifier"),
        control.system_id.to_string()
    );
    assert_eq!(
        said("pg_control version number"),
        control.control_version.to_string()
    );
    assert_eq!(
        said("Catalog version number"),
        control.catalog_version.to_string()
    );
    assert_eq!(
        (&*said("Database cluster state"), control.state),
        ("shut down", ClusterState::ShutDown)
    );
    assert_eq!(
        said("Latest checkpoint location"),
        control.checkpoint.to_string()
    );
    assert_eq!(
        said("Latest checkpoint's REDO location"),
        control.redo.to_string()
    );
    assert_eq!(
        said("Latest checkpoint's TimeLineID"),
        control.timeline.to_string()
    );
    assert_eq!(said("Database block size"), control.page_bytes.to_string());
    assert_eq!(
        said("Blocks per segment of large relation"),
        control.file_pages.to_string()
    );
    assert_eq!(
        said("Bytes per WAL segment"),
        control.segment_bytes.get().to_string()
    );
    assert_eq!(
        said("Data page checksum version"),
        u32::from(control.has_checksums).to_string()
    );
    assert_eq!(
        said("Minimum recovery ending location"),
        control.minimum_recovery.to_string()
    );
    assert_eq!(
        said("Min recovery ending loc's timeline"),
        control.minimum_recovery_timeline.to_string()
    );
    let limits = control.limits;
    assert_eq!(
        said("max_connections setting"),
        limits.connections.to_string()
    );
    assert_eq!(
        said("max_worker_processes setting"),
        limits.worker_processes.to_string()
    );
    assert_eq!(
        said("max_wal_senders setting"),
        limits.wal_senders.to_string()
    );
    assert_eq!(
        said("max_prepared_xacts setting"),
        limits.prepared_transactions.to_string()
    );
    assert_eq!(
        said("max_locks_per_xact setting"),
        limits.locks_per_transaction.to_string()
    );
    let mut damaged = fs::read(cluster.data().join("global/pg_control")).unwrap();
    damaged[100] ^= 1;
    assert!(Control::parse(&damaged).is_err());
}

/// All files below a directory, by their paths in it.
fn files(dir: &Path, prefix: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        found.insert(path.clone());
        if fs::metadata(entry.path()).unwrap().is_dir() {
            files(&entry.path(), &format!("{path}/"), found);
        }
    }
}

#[test]
fn every_page_of_a_cluster_has_the_checksum_that_we_expect() {
    let mut cluster = Cluster::start(with_checksums());
    cluster
        .sql("create table t as select g, repeat('x', g % 900) from generate_series(1, 20000) g");
    cluster.sql("create index on t (g); create unlogged table u as select * from t");
    cluster.sql("vacuum t");
    cluster.stop();
    let (mut all, mut pages, mut forks) = (BTreeSet::new(), 0, BTreeSet::new());
    files(&cluster.data(), "", &mut all);
    let relations = all
        .iter()
        .filter_map(|path| Some((path, has_checksums(path.as_bytes())?)));
    let relations: Vec<(&String, RelationFile)> = relations.collect();
    for (path, file) in &relations {
        forks.insert(file.fork);
        let content = fs::read(cluster.data().join(path)).unwrap();
        let (chunks, rest) = content.as_chunks::<PAGE_BYTES>();
        assert!(rest.is_empty(), "{path}");
        for (block, page) in chunks.iter().enumerate() {
            let block = u32::try_from(block).unwrap();
            assert_eq!(
                judge(page, block),
                PageState::Right,
                "{path}, block {block}"
            );
            pages += 1;
        }
    }
    assert!(pages > 3000, "{pages}");
    assert_eq!(forks.len(), 4, "{forks:?}");
    // As many as PostgreSQL's own program finds.
    let mut program = cluster.program("pg_checksums");
    let output = program
        .env("LC_ALL", "C")
        .args(["--check", "-D"])
        .arg(cluster.data())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains(&format!("Blocks scanned:  {pages}")),
        "{text}, and we {pages}"
    );
    let (path, _) = relations
        .iter()
        .max_by_key(|(path, _)| fs::metadata(cluster.data().join(path)).unwrap().len())
        .unwrap();
    let mut content = fs::read(cluster.data().join(path)).unwrap();
    content[5 * PAGE_BYTES + 4000] ^= 1;
    let page = content.as_chunks::<PAGE_BYTES>().0[5];
    assert!(matches!(judge(&page, 5), PageState::Wrong { .. }));
}

#[test]
fn what_is_kept_of_a_cluster_is_what_pg_basebackup_keeps() {
    let cluster = Cluster::start(
        with_checksums()
            .set("wal_level", "replica")
            .set("autovacuum", "off"),
    );
    let space = cluster.home().join("space");
    fs::create_dir(&space).unwrap();
    give_away(&space);
    cluster.sql(&format!(
        "create tablespace space location '{}'",
        space.display()
    ));
    cluster.sql("create table plain (x int); create unlogged table quick (x int); create table far (x int) tablespace space");
    cluster.sql("create unlogged table quick_and_far (x int) tablespace space; select pg_create_physical_replication_slot('s', true)");
    let mut session = connect(&cluster.url("postgres")).unwrap();
    ask(
        &mut session,
        "create temp table mine as select 1; create temp table far_mine tablespace space as select 2",
    );
    ask(&mut session, "checkpoint");
    let copy = cluster.home().join("copy");
    let mut program = cluster.program("pg_basebackup");
    program.args([
        "--wal-method=none",
        "--checkpoint=fast",
        "--no-sync",
        "--no-manifest",
        "-d",
    ]);
    program.arg(cluster.url("postgres")).arg("-D").arg(&copy);
    program.arg(format!(
        "--tablespace-mapping={}={}",
        space.display(),
        cluster.home().join("far").display()
    ));
    let output = program.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let (mut theirs, mut all) = (BTreeSet::new(), BTreeSet::new());
    files(&copy, "", &mut theirs);
    files(&cluster.data(), "", &mut all);
    let is_unlogged = |path: &str, file: RelationFile| {
        let dir = path.rsplit_once('/').unwrap().0;
        all.contains(&format!("{dir}/{}_init", file.relation.number))
    };
    let ours: BTreeSet<String> = all
        .iter()
        .filter(|path| fate(path.as_bytes(), |file| is_unlogged(path, file)) != Fate::Leave)
        .cloned()
        .collect();
    // It writes these itself, as a capture does.
    theirs.remove("backup_label");
    theirs.remove("tablespace_map");
    // An empty directory, which servers make when they start.
    theirs.remove("pg_wal/archive_status");
    assert_eq!(ours, theirs);
    assert!(
        ours.iter()
            .any(|path| path.starts_with("pg_tblspc/") && path.ends_with("_init")),
        "{ours:?}"
    );
    assert!(
        all.iter()
            .filter_map(|path| RelationFile::parse(path.rsplit('/').next()?.as_bytes()))
            .any(|file| file.relation.is_temporary),
        "no temporary relation: {all:?}"
    );
    let label = fs::read_to_string(copy.join("backup_label")).unwrap();
    let label = BackupLabel::parse(&label).unwrap();
    assert!(label.start > Lsn(0) && label.checkpoint >= label.start && !label.is_of_standby);
}

#[test]
fn segments_of_the_log_say_who_and_where_they_are() {
    let mut cluster = Cluster::start(Options::default().set("wal_keep_size", "1GB"));
    cluster.sql("create table t as select generate_series(1, 1000)");
    cluster.sql("select pg_switch_wal()");
    cluster.sql("insert into t select generate_series(1, 1000)");
    cluster.sql("select pg_switch_wal()");
    cluster.sql("insert into t select generate_series(1, 1000)");
    let now: Lsn = cluster.sql("select pg_current_wal_lsn()").parse().unwrap();
    let name = cluster.sql("select pg_walfile_name(pg_current_wal_lsn())");
    cluster.stop();
    let control =
        Control::parse(&fs::read(cluster.data().join("global/pg_control")).unwrap()).unwrap();
    let mut segments = 0;
    for entry in fs::read_dir(cluster.data().join("pg_wal")).unwrap() {
        let entry = entry.unwrap();
        let Ok(WalName::Segment(segment)) = entry.file_name().to_str().unwrap().parse() else {
            continue;
        };
        let content = fs::read(entry.path()).unwrap();
        let size = control.segment_bytes;
        if segment.to_string() == name {
            assert!(
                segment.start(size).unwrap() <= now
                    && now < segment.next(size).unwrap().start(size).unwrap()
            );
        }
        // Those that wait to be written hold what they held before.
        if segment.start(size).unwrap() > control.checkpoint {
            continue;
        }
        let header = WalHeader::parse(&content).unwrap();
        header
            .check(segment, control.system_id, content.len() as u64)
            .unwrap();
        assert!(
            header
                .check(
                    segment.next(size).unwrap(),
                    control.system_id,
                    content.len() as u64
                )
                .is_err()
        );
        segments += 1;
    }
    assert!(segments >= 3, "{segments}");
    assert_eq!(RelationFile::parse(b"16384_init").unwrap().fork, Fork::Init);
}

#[test]
fn a_server_that_falls_silent_as_it_encrypts_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 8];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(b"S").unwrap();
            held.push(stream);
        }
    });
    let url = format!("postgresql://x@127.0.0.1:{port}/x?sslmode=require&connect_timeout=");
    // Both would hang.
    let silent = connect(&format!("{url}1")).err().unwrap();
    assert!(matches!(silent, PgError::Lost { .. }), "{silent}");
    let (address, cancel) = (
        Address::parse(&format!("{url}600"), USER).unwrap(),
        Cancel::new(),
    );
    let wish = cancel.clone();
    std::thread::spawn(move || wish.cancel());
    let stopped = Connection::open(&address, Session::Queries, &cancel)
        .err()
        .unwrap();
    let text = lifeboat_flow::chain(&stopped);
    assert!(text.contains("interrupted"), "{text}");
}

#[test]
fn whoever_wants_encryption_goes_no_further_without() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let mut heard = Vec::new();
        for stream in listener.incoming().take(3) {
            let mut stream = stream.unwrap();
            stream.read_exact(&mut [0; 8]).unwrap();
            stream.write_all(b"N").unwrap();
            // What comes in the clear, until the client goes.
            stream.read_to_end(&mut heard).unwrap();
        }
        heard
    });
    for mode in ["require", "verify-ca", "verify-full"] {
        let roots = "/etc/ssl/certs/ca-certificates.crt";
        let url =
            format!("postgresql://x:geheim@127.0.0.1:{port}/x?sslmode={mode}&sslrootcert={roots}");
        let refused = connect(&url).err().unwrap();
        assert!(
            matches!(refused, PgError::NoTls { .. }),
            "{mode}: {refused}"
        );
    }
    assert_eq!(server.join().unwrap(), b"");
}
