//! The log is streamed: what the server was told to be kept comes back, whoever is killed and whenever.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lifeboat_flow::Cancel;
use lifeboat_protect::postgres::{Archive, LogReceiver, StreamEnd};
use lifeboat_repo::Repository;
use lifeboat_state::postgres::Lsn;
use lifeboat_state::postgres::client::Address;
use lifeboat_testkit::bare::{self, memory};
use lifeboat_testkit::faults::{FaultPlan, FaultyBackend, Operation, Verb};
use lifeboat_testkit::postgres::{Cluster, USER};
use lifeboat_testkit::proxy::{Exchange, HttpFault, HttpPlan, HttpProxy};
use lifeboat_testkit::random::Random;
use lifeboat_testkit::rest_server::{self, RestServer};
use lifeboat_testkit::wait::until;
use serde_json::Value;

use crate::capture::{Load, SUMS, fill, with_checksums};
use crate::common::{Place, objects};
use crate::scene::{Scene, Stream, copy_dir, folder, give_all_away, kept, names, pieces};

/// How often a stream is killed.
const KILLS: u64 = 6;
/// The same when there is time.
const KILLS_SOAK: u64 = 200;

/// Lets commits wait until they are in the archive.
fn wait_for_archive(cluster: &Cluster) {
    cluster.sql("alter system set synchronous_standby_names = 'lifeboat'");
    cluster.sql("select pg_reload_conf()");
    until("commits wait", || {
        cluster.sql("select count(*) from pg_stat_replication where sync_state = 'sync'") == "1"
    });
}

/// What the archive has of a cluster.
fn archive(scene: &Scene) -> Value {
    let said = scene.run("wal", &["status", "--json"]).ok();
    objects(&said)[0].clone()
}

fn piece_path(scene: &Scene, piece: &str) -> PathBuf {
    folder(scene, &piece[..8]).join(piece)
}

/// A directory in which a recovery would begin, without any log of its own.
fn bare(scene: &Scene) -> PathBuf {
    let bare = scene.home.join("bare");
    fs::create_dir_all(bare.join("global")).unwrap();
    let control = "global/pg_control";
    fs::copy(scene.cluster.data().join(control), bare.join(control)).unwrap();
    bare
}

/// Fetches a segment for a server in this directory.
fn fetch(scene: &Scene, name: &str, data: &Path, code: i32) -> Option<Vec<u8>> {
    let out = scene.home.join("out");
    let _ = fs::remove_file(&out);
    let words = [
        "fetch",
        "--no-resident",
        name,
        out.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
    ];
    scene.run("wal", &words).ends(code);
    fs::read(&out).ok()
}

/// A position as a number.
fn number(lsn: &str) -> u64 {
    let (high, low) = lsn.split_once('/').unwrap();
    let part = |text| u64::from_str_radix(text, 16).unwrap();
    (part(high) << 32) + part(low)
}

#[test]
fn what_was_committed_comes_back_though_no_segment_was_whole() {
    let mut scene = Scene::silent();
    fill(&scene.cluster);
    scene.cluster.sql("create table t (x int)");
    scene.capture();
    let stream = Stream::begun(&scene, &scene.cluster, &[]);
    wait_for_archive(&scene.cluster);
    let load = Load::start(&scene.cluster);
    // Each of these is in the archive when the server says that it is committed.
    for number in 0..20 {
        scene
            .cluster
            .sql(&format!("insert into t values ({number})"));
    }
    let done = scene.cluster.sql("select count(*) from pgbench_history");
    scene.cluster.crash();
    drop((load, stream));
    let said = scene.run("wal", &["status"]).ok().text();
    assert!(said.contains("and of the next one up to"), "{said}");
    let back = scene.recovered(&["--to-end"]);
    assert_eq!(back.sql("select count(*), max(x) from t"), "20|19");
    assert_eq!(back.sql(SUMS), "t|t|t|t");
    let more = format!("select count(*) >= {done} from pgbench_history");
    assert_eq!(back.sql(&more), "t");
}

#[test]
fn a_stream_that_is_killed_has_kept_what_it_reported() {
    let scene = Scene::silent();
    let bare = bare(&scene);
    fill(&scene.cluster);
    let _load = Load::start(&scene.cluster);
    let soak = std::env::var_os("LIFEBOAT_SOAK").is_some();
    let seed = u64::from(std::process::id());
    let (mut random, mut compared) = (Random::new(seed), 0);
    for _ in 0..if soak { KILLS_SOAK } else { KILLS } {
        let stream = Stream::begun(&scene, &scene.cluster, &[]);
        std::thread::sleep(Duration::from_millis(random.below(700)));
        stream.kill();
        until("the server lets go of the slot", || {
            scene.cluster.sql("select active from pg_replication_slots") == "f"
        });
        let reported = scene
            .cluster
            .sql("select restart_lsn from pg_replication_slots");
        let name = format!("select pg_walfile_name('{reported}')");
        let name = scene.cluster.sql(&name);
        let log_bytes = number(&reported) as usize % (16 << 20);
        if log_bytes == 0 {
            continue;
        }
        let archived = fetch(&scene, &name, &bare, 0).unwrap();
        let own = fs::read(scene.cluster.data().join("pg_wal").join(&name)).unwrap();
        assert!(
            archived[..log_bytes] == own[..log_bytes],
            "{reported}, seed {seed}"
        );
        assert_eq!(archived.len(), own.len());
        compared += 1;
    }
    assert!(compared > 0);
    // What the killed ones left behind goes with the segment.
    let stream = Stream::begun(&scene, &scene.cluster, &[]);
    let name = scene.cluster.sql("select pg_walfile_name(pg_switch_wal())");
    until("the segment is archived", || scene.archived(&name).exists());
    kept(&scene.cluster);
    stream.stop();
    let left = pieces(&scene, "00000001");
    let left: Vec<&String> = left.iter().filter(|piece| **piece < name).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(
        archive(&scene)["timelines"][0]["gaps"],
        Value::Array(vec![])
    );
}

#[test]
fn a_promoted_standby_goes_on_with_its_timeline() {
    let scene = Scene::silent();
    scene.cluster.sql("create table t (x int)");
    scene.capture();
    let standby = scene.standby(&[]);
    let stream = Stream::begun(&scene, &standby, &[]);
    scene
        .cluster
        .sql("insert into t select generate_series(1, 1000)");
    let at = scene.cluster.sql("select pg_current_wal_flush_lsn()");
    until("the standby follows", || {
        standby.sql(&format!("select pg_last_wal_replay_lsn() >= '{at}'")) == "t"
    });
    kept(&standby);
    let mut scene = scene;
    scene.cluster.crash();
    standby.sql("select pg_promote()");
    standby.sql("insert into t values (1001)");
    kept(&standby);
    until("the server archived the rest of the timeline", || {
        names(&scene, "00000001")
            .iter()
            .any(|name| name.ends_with(".partial"))
    });
    let said = stream.stop();
    assert!(said.contains("going on with timeline 2"), "{said}");
    assert!(names(&scene, "00000002").contains(&"00000002.history".to_owned()));
    let found = archive(&scene);
    assert!(found["timelines"][1]["streamed"].is_string(), "{found}");
    let count = |back: &Cluster| back.sql("select count(*) from t");
    assert_eq!(count(&scene.recovered(&["--to-end"])), "1001");
    assert_eq!(
        count(&scene.recovered(&["--to-end", "--timeline", "1"])),
        "1000"
    );
    // Had it been killed when only the history was stored, nothing of the old timeline would be missing.
    for piece in pieces(&scene, "00000002") {
        fs::remove_file(piece_path(&scene, &piece)).unwrap();
    }
    assert_eq!(count(&scene.recovered(&["--to-end"])), "1000");
}

#[test]
fn a_stream_and_the_server_archive_into_one_place() {
    let scene = Scene::new();
    let mut stream = Stream::begun(&scene, &scene.cluster, &[]);
    scene.cluster.sql("create table t (x int)");
    let mut last = String::new();
    for number in 0..5 {
        scene
            .cluster
            .sql(&format!("insert into t values ({number})"));
        last = scene.cluster.sql("select pg_walfile_name(pg_switch_wal())");
    }
    until("the server archived it", || {
        scene.cluster.sql(&format!(
            "select last_archived_wal >= '{last}' from pg_stat_archiver"
        )) == "t"
    });
    kept(&scene.cluster);
    // A server that goes away and comes back is asked again.
    let mut scene = scene;
    scene.cluster.stop();
    until("the stream noticed", || {
        stream.said().contains("connecting again")
    });
    scene.cluster.start_again();
    scene.cluster.sql("insert into t values (5)");
    until("it goes on", || {
        assert!(!stream.has_ended(), "{}", stream.said());
        scene
            .cluster
            .sql("select count(*) from pg_stat_replication where application_name = 'lifeboat'")
            == "1"
    });
    kept(&scene.cluster);
    assert_eq!(
        scene
            .cluster
            .sql("select failed_count from pg_stat_archiver"),
        "0"
    );
    stream.stop();
    let found = archive(&scene);
    assert_eq!(
        found["timelines"][0]["gaps"],
        Value::Array(vec![]),
        "{found}"
    );
    assert!(
        pieces(&scene, "00000001")
            .iter()
            .all(|piece| piece[..24] > *last)
    );
}

#[test]
fn the_wish_to_stop_stores_what_has_come_and_pieces_stay_few() {
    let scene = Scene::silent();
    let stream = Stream::begun(&scene, &scene.cluster, &["--interval", "0s"]);
    scene.cluster.sql("create table t (x int)");
    let mut most = 0;
    for number in 0..40 {
        scene
            .cluster
            .sql(&format!("insert into t values ({number})"));
        kept(&scene.cluster);
        most = most.max(pieces(&scene, "00000001").len());
    }
    // While several become one, that is there too.
    assert!((2..=17).contains(&most), "{most}");
    stream.stop();
    let before = scene.cluster.sql("select pg_current_wal_flush_lsn()");
    let stream = Stream::begun(&scene, &scene.cluster, &["--interval", "1h"]);
    let told = |what: &str| {
        let told = format!("select {what} from pg_stat_replication");
        scene.cluster.sql(&told) == "t"
    };
    // What comes first is stored at once, and the next only when its time has come.
    scene.cluster.sql("insert into t values (40)");
    until("the first piece is stored", || {
        told(&format!("flush_lsn > '{before}'"))
    });
    scene.cluster.sql("insert into t values (41)");
    let at = scene.cluster.sql("select pg_current_wal_flush_lsn()");
    until("it came", || told(&format!("write_lsn >= '{at}'")));
    assert!(told(&format!("flush_lsn < '{at}'")));
    stream.stop();
    let streamed = archive(&scene)["timelines"][0]["streamed"]
        .as_str()
        .map(number);
    assert!(streamed >= Some(number(&at)), "{streamed:?}");
    // One that has an end ends there.
    let said = Stream::start(&scene, &scene.cluster, &["--until", &at]).ends(0);
    assert!(said.contains("streaming the log"), "{said}");
    // How far a server is ahead.
    let url = scene.cluster.url("postgres");
    let said = scene
        .run("wal", &["status", "--postgres", &url, "--json"])
        .ok();
    let server = objects(&said).pop().unwrap();
    assert_eq!(server["message_type"], "server");
    assert!(server["behind_bytes"].is_u64(), "{server}");
}

#[test]
fn a_segment_that_was_begun_is_given_as_far_as_it_goes_and_no_hole_is_an_end() {
    let scene = Scene::silent();
    let bare = bare(&scene);
    let stream = Stream::begun(&scene, &scene.cluster, &[]);
    scene.cluster.sql("create table t (x int)");
    kept(&scene.cluster);
    scene.cluster.sql("insert into t values (1)");
    kept(&scene.cluster);
    let at = scene.cluster.sql("select pg_current_wal_flush_lsn()");
    let name = scene
        .cluster
        .sql(&format!("select pg_walfile_name('{at}')"));
    stream.stop();
    let parts = pieces(&scene, "00000001");
    assert!(parts.len() > 1, "{parts:?}");
    let content = fetch(&scene, &name, &bare, 0).unwrap();
    assert_eq!(content.len(), 16 << 20);
    // A server that has the same itself, and perhaps more, is left to it.
    fetch(&scene, &name, &scene.cluster.data(), 1);
    let hidden = scene.home.join("hidden");
    let hide = |piece: &str| fs::rename(piece_path(&scene, piece), &hidden).unwrap();
    let back = |piece: &str| fs::rename(&hidden, piece_path(&scene, piece)).unwrap();
    // The last that is gone nobody can know of.
    let last = parts.last().unwrap();
    hide(last);
    let shorter = fetch(&scene, &name, &bare, 0).unwrap();
    assert!(shorter != content);
    back(last);
    hide(&parts[0]);
    fetch(&scene, &name, &bare, 200);
    back(&parts[0]);
    // A later segment proves that there was more, also if it has only begun.
    let later = format!(
        "{:024X}.00000000-00000100",
        u128::from_str_radix(&name, 16).unwrap() + 1
    );
    let later = piece_path(&scene, &later);
    fs::copy(piece_path(&scene, &parts[0]), &later).unwrap();
    fetch(&scene, &name, &bare, 200);
    fs::remove_file(&later).unwrap();
    // Another server that archives the same log differently.
    let changed = piece_path(&scene, last);
    let mut sealed = fs::read(&changed).unwrap();
    let end = sealed.len() - 1;
    sealed[end] ^= 1;
    fs::write(&changed, sealed).unwrap();
    fetch(&scene, &name, &bare, 200);
    let said = Stream::start(&scene, &scene.cluster, &[]).ends(1);
    assert!(said.contains("is damaged"), "{said}");
}

#[test]
fn what_is_in_the_way_of_a_stream_is_told_with_what_to_do() {
    let scene = Scene::silent();
    let cluster = &scene.cluster;
    let url = cluster.url("postgres");
    let fails = |words: &[&str]| {
        let words = [&["stream", "--postgres", &url], words].concat();
        scene.run("wal", &words).ends(1).stderr
    };
    let said = fails(&[]);
    assert!(
        said.contains("has no replication slot lifeboat") && said.contains("--create-slot"),
        "{said}"
    );
    cluster.sql("create role weak login");
    let weak = url.replace("tester@", "weak@");
    let said = scene
        .run("wal", &["stream", "--postgres", &weak])
        .ends(1)
        .stderr;
    assert!(said.contains("attribute REPLICATION"), "{said}");
    let stream = Stream::begun(&scene, cluster, &[]);
    let said = fails(&[]);
    assert!(
        said.contains("is active for PID") && said.contains("another process streams"),
        "{said}"
    );
    let said = fails(&["--drop-slot"]);
    assert!(said.contains("is active for PID"), "{said}");
    cluster.sql("create table t as select 1 x");
    cluster.sql("select pg_switch_wal()");
    kept(cluster);
    stream.stop();
    // The server is let go of its log, and removes what nobody stored.
    scene
        .run("wal", &["stream", "--postgres", &url, "--drop-slot"])
        .ok();
    for _ in 0..4 {
        cluster.sql("insert into t values (2)");
        cluster.sql("select pg_switch_wal()");
    }
    cluster.sql("checkpoint");
    let said = fails(&["--create-slot"]);
    let last = archive(&scene)["timelines"][0]["ranges"][0][1].clone();
    let last = u64::from_str_radix(&last.as_str().unwrap()[16..], 16).unwrap();
    let from = format!("the log from 0/{:X} to", (last + 1) << 24);
    assert!(
        said.contains(&from)
            && said.contains("is lost for the archive")
            && said.contains("--skip-lost"),
        "{said}"
    );
    let stream = Stream::begun(&scene, cluster, &["--skip-lost"]);
    kept(cluster);
    let name = cluster.sql("select pg_walfile_name(pg_switch_wal())");
    until("the segment is archived", || scene.archived(&name).exists());
    let said = stream.stop();
    assert!(
        said.contains("LOST: the server has removed its log"),
        "{said}"
    );
    // A slot that was lost.
    cluster.sql("alter system set max_slot_wal_keep_size = '1MB'");
    cluster.sql("select pg_reload_conf()");
    for _ in 0..4 {
        cluster.sql("insert into t values (2)");
        cluster.sql("select pg_switch_wal()");
    }
    cluster.sql("checkpoint");
    assert_eq!(
        cluster.sql("select wal_status from pg_replication_slots"),
        "lost"
    );
    let said = fails(&[]);
    assert!(said.contains("is lost for the archive"), "{said}");
    let words = ["stream", "--postgres", &url, "--slot", "Bad-Name"];
    scene.run("wal", &words).ends(2);
}

#[test]
fn a_segment_is_kept_when_it_is_stored_and_not_before() {
    let options = with_checksums().set("wal_sender_timeout", "8s");
    let cluster = Cluster::start(options);
    let told = |what: &str| cluster.sql(&format!("select {what} from pg_stat_replication"));
    let (hangs, is_hanging) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let rule = {
        let (hangs, is_hanging) = (hangs.clone(), is_hanging.clone());
        move |operation: &Operation| {
            while operation.verb == Verb::LogCreate && hangs.load(Ordering::SeqCst) {
                is_hanging.store(true, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(1));
            }
            None
        }
    };
    let memory = memory();
    let backend = FaultyBackend::new(memory.clone(), FaultPlan::new(rule));
    cluster.sql("create table t (x int)");
    // The slot begins with a segment of which hardly anything is there.
    cluster.sql("select pg_switch_wal(); checkpoint");
    let at = number(&cluster.sql("select pg_current_wal_flush_lsn()"));
    let name = cluster.sql("select pg_walfile_name(pg_current_wal_lsn())");
    let end = ((at >> 24) + 1) << 24;
    let address = Address::parse(&cluster.url("postgres"), USER).unwrap();
    let streaming = std::thread::spawn(move || {
        let repository = Repository::open(Arc::new(backend), bare::PASSWORD, None).unwrap();
        let receiver = LogReceiver {
            repository: &repository,
            address: &address,
            slot: "lifeboat",
            creates_slot: true,
            skips_lost: false,
            interval: Duration::from_secs(3600),
            until: Some(Lsn(end)),
            events: &|_| {},
            stop: &Cancel::new(),
        };
        receiver.run().unwrap()
    });
    // What comes first is stored at once, and what comes then only when the segment is whole.
    until("the first piece is stored", || {
        told("flush_lsn > '0/0'") == "t"
    });
    let kept = told("flush_lsn");
    hangs.store(true, Ordering::SeqCst);
    cluster.sql("insert into t values (1)");
    cluster.sql("select pg_switch_wal()");
    until("the segment is being stored", || {
        is_hanging.load(Ordering::SeqCst)
    });
    cluster.sql("insert into t values (2)");
    let at = cluster.sql("select pg_current_wal_flush_lsn()");
    assert!(number(&at) > end);
    // The server asks for it when half of its patience is over.
    until("more came", || {
        assert!(!streaming.is_finished());
        told(&format!("write_lsn >= '{at}'")) == "t"
    });
    assert_eq!(told("flush_lsn"), kept);
    hangs.store(false, Ordering::SeqCst);
    until("the stream ended", || streaming.is_finished());
    assert_eq!(streaming.join().unwrap(), StreamEnd::Reached);
    let repository = Repository::open(Arc::new(memory), bare::PASSWORD, None).unwrap();
    let system = cluster.sql("select system_identifier from pg_control_system()");
    let archive = Archive::new(&repository, system.parse().unwrap());
    assert!(archive.holds(name.parse().unwrap()).unwrap());
}

#[test]
fn nothing_is_kept_in_a_repository_that_took_the_place_of_ours() {
    let scene = Scene::silent();
    let mut stream = Stream::begun(&scene, &scene.cluster, &[]);
    kept(&scene.cluster);
    let repository = scene.home.join("repository");
    fs::rename(&repository, scene.home.join("aside")).unwrap();
    copy_dir(&Place::new().repository(), &scene.home);
    give_all_away(&repository);
    scene.cluster.sql("create table t (x int)");
    let at = scene.cluster.sql("select pg_current_wal_flush_lsn()");
    until("the stream ended", || stream.has_ended());
    let said = stream.ends(1);
    // It has another key as well.
    let why = "look whether the repository is still the same";
    assert!(said.contains(why), "{said}");
    let slot = "select restart_lsn < '{at}' from pg_replication_slots";
    assert_eq!(scene.cluster.sql(&slot.replace("{at}", &at)), "t");
    assert!(!repository.join("lifeboat").exists());
}

#[test]
fn a_stream_that_waits_for_its_repository_can_be_stopped() {
    let server = RestServer::start(rest_server::Options::default());
    let proxy = HttpProxy::start(server.address().parse().unwrap());
    let scene = Scene::served_silently(&format!("rest:{}/nas/", proxy.url()), &[]);
    let is_busy = |exchange: &Exchange| {
        let is_of_log = exchange.target.contains("lifeboat");
        is_of_log.then_some(HttpFault::SlowDown)
    };
    proxy.follow(HttpPlan::new(is_busy));
    let stream = Stream::start(&scene, &scene.cluster, &[]);
    until("it waits", || !proxy.injected().is_empty());
    let said = stream.stop();
    assert!(said.contains("stopped"), "{said}");
}
