//! The process that `wal push` and `wal fetch` leave behind: it makes them fast, and nothing is lost by it, however it ends.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use lifeboat_repo::backend::{LocalBackend, open};
use lifeboat_repo::{Identity, KeyCost, Repository};
use lifeboat_testkit::postgres::{Cluster, Options, give_away};
use lifeboat_testkit::program::copy_program;
use lifeboat_testkit::proxy::HttpProxy;
use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::{Note, seed};
use lifeboat_testkit::rest_server::{self, RestServer};
use lifeboat_testkit::restic::{PASSWORD, Said};
use lifeboat_testkit::wait::until;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::scene::{Scene, copy_dir};

/// Segments that every yard has.
const SEGMENTS: usize = 10;
/// How often something is killed, and in a soak.
const KILLS: usize = 15;
const KILLS_SOAK: usize = 200;
/// The longest that is waited before a kill: longer than a push takes, also that of a program that was not optimised.
const KILL_WITHIN: Duration = Duration::from_millis(80);
/// Long enough for a test that is held up, short for one that waits for the end.
const IDLE: &str = "20s";

/// The resident processes of a copy of the program.
fn residents(binary: &Path) -> Vec<Pid> {
    let line = format!("{}\0wal\0resident\0", binary.display());
    let pids = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let said = fs::read(entry.path().join("cmdline")).ok()?;
            (said == line.as_bytes()).then(|| Pid::from_raw(pid))?
        });
    pids.collect()
}

/// Kills those that are left, so that none outlives its test.
struct Residents(PathBuf);

impl Drop for Residents {
    fn drop(&mut self) {
        for pid in residents(&self.0) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// A log that waits to be archived, beside what is needed of its cluster; its server does not run.
fn log() -> &'static Path {
    static LOG: OnceLock<TempDir> = OnceLock::new();
    let dir = LOG.get_or_init(|| {
        let options = Options {
            initdb: vec!["--wal-segsize=1".into()],
            ..Options::default()
        };
        let mut cluster = Cluster::make(options.set("archive_mode", "on"));
        cluster.start_again();
        cluster.sql("create table t (x text)");
        for _ in 0..SEGMENTS {
            cluster.sql("insert into t select md5(g::text) from generate_series(1, 2000) g");
            cluster.sql("select pg_switch_wal()");
        }
        cluster.stop();
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("global")).unwrap();
        let control = "global/pg_control";
        fs::copy(cluster.data().join(control), dir.path().join(control)).unwrap();
        copy_dir(&cluster.data().join("pg_wal"), dir.path());
        dir
    });
    dir.path()
}

/// A place where we do what the server does: archive its log, file by file.
struct Yard {
    dir: TempDir,
    location: String,
    idle: &'static str,
    _residents: Residents,
}

impl Yard {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(&log().join("."), &dir.path().join("data"));
        let binary = dir.path().join("lifeboat");
        let program = Path::new(env!("CARGO_BIN_EXE_lifeboat"));
        // A name of its own is enough, where the system allows that.
        if fs::hard_link(program, &binary).is_err() {
            copy_program(program, &binary);
        }
        fs::create_dir(dir.path().join("run")).unwrap();
        let yard = Self {
            location: dir.path().join("repository").display().to_string(),
            idle: IDLE,
            _residents: Residents(binary),
            dir,
        };
        yard.init();
        yard
    }

    fn init(&self) {
        let backend = std::sync::Arc::new(LocalBackend::new(self.path("repository")));
        let who = Identity::of_this_process();
        Repository::init(backend, PASSWORD.as_bytes(), 2, None, &who, KeyCost::Test).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn wal(&self, name: &str) -> PathBuf {
        self.path("data/pg_wal").join(name)
    }

    fn residents(&self) -> Vec<Pid> {
        residents(&self.path("lifeboat"))
    }

    fn gone(&self) {
        until("the resident process is gone", || {
            self.residents().is_empty()
        });
    }

    fn come(&self) {
        until("a resident process listens", || {
            // That of one that was killed is there too, and nobody answers.
            let socket = self.socket();
            socket.is_some_and(|socket| UnixStream::connect(socket).is_ok())
        });
    }

    fn socket(&self) -> Option<PathBuf> {
        let found = fs::read_dir(self.path("run/lifeboat")).ok()?.flatten();
        let mut sockets = found
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_none() && path.file_name() != Some("salt".as_ref()));
        sockets.next()
    }

    fn kill(&self, signal: Signal) -> usize {
        let pids = self.residents();
        for pid in &pids {
            let _ = kill_process(*pid, signal);
        }
        pids.len()
    }

    /// What waits, in the order of the server.
    fn ready(&self) -> Vec<String> {
        let notes = fs::read_dir(self.wal("archive_status")).unwrap().flatten();
        let mut names: Vec<String> = notes
            .filter_map(|note| {
                let name = note.file_name().into_string().unwrap();
                Some(name.strip_suffix(".ready")?.to_owned())
            })
            .collect();
        names.sort();
        names
    }

    /// The server notes that a file is archived.
    fn note_done(&self, name: &str) {
        let status = self.wal("archive_status");
        let note = |ending: &str| status.join(format!("{name}.{ending}"));
        fs::rename(note("ready"), note("done")).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.path("lifeboat"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("RESTIC_PASSWORD", PASSWORD)
            .current_dir(self.path("data"))
            .arg("wal")
            .args(words)
            .args(["--repo", &self.location])
            .stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Said {
        let output = self.command(words).output().unwrap();
        Said {
            status: output.status,
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn pushing(&self, name: &str) -> Command {
        let path = format!("pg_wal/{name}");
        self.command(&["push", &path, "--resident-idle", self.idle])
    }

    fn push(&self, name: &str, more: &[&str], code: i32) -> String {
        let path = format!("pg_wal/{name}");
        let words = [&["push", &path, "--resident-idle", self.idle][..], more].concat();
        let said = self.run(&words);
        assert_eq!(said.code(), code, "{name}: {}{}", said.text(), said.stderr);
        said.stderr
    }

    /// Pushes a file and has it noted.
    fn archive(&self, name: &str) {
        self.push(name, &[], 0);
        self.note_done(name);
    }

    /// What the archive has of a file, without any process in between: the status, and the content.
    fn fetched(&self, name: &str, more: &[&str]) -> (i32, Option<Vec<u8>>) {
        let out = self.path("out");
        let _ = fs::remove_file(&out);
        let words = [&["fetch", name, out.to_str().unwrap()][..], more].concat();
        let said = self.run(&words);
        (said.code(), fs::read(&out).ok())
    }

    fn holds(&self, name: &str) {
        let (code, content) = self.fetched(name, &["--no-resident"]);
        assert_eq!(code, 0, "{name}");
        assert!(
            content == Some(fs::read(self.wal(name)).unwrap()),
            "{name} is archived as it is"
        );
    }
}

#[test]
fn a_server_archives_through_one_process_that_ends_by_itself() {
    let scene = Scene::archiving(|scene| {
        let home = &scene.home;
        fs::create_dir(home.join("run")).unwrap();
        give_away(&home.join("run"));
        let home = home.display();
        format!(
            "XDG_RUNTIME_DIR={home}/run {home}/lifeboat wal push %p --resident-idle 3s --repo {home}/repository --password-file {home}/password.txt"
        )
    });
    let binary = scene.home.join("lifeboat");
    let _residents = Residents(binary.clone());
    scene.cluster.sql("create table t (x int)");
    let mut last = scene.switch();
    until("a process is left behind", || {
        !residents(&binary).is_empty()
    });
    let first = residents(&binary);
    for _ in 0..3 {
        // All of these wait at once.
        for _ in 0..4 {
            scene
                .cluster
                .sql("insert into t select generate_series(1, 1000)");
            scene.cluster.sql("select pg_switch_wal()");
        }
        scene.cluster.sql("insert into t values (1)");
        last = scene.switch();
    }
    assert_eq!(residents(&binary), first, "one is enough");
    // It has nothing of the server's open: a logger would wait for that.
    let proc = PathBuf::from(format!("/proc/{}", first[0].as_raw_nonzero()));
    for fd in ["1", "2"] {
        let open = fs::read_link(proc.join("fd").join(fd)).unwrap();
        assert_eq!(open, Path::new("/dev/null"));
    }
    assert_eq!(fs::read_link(proc.join("cwd")).unwrap(), Path::new("/"));
    let failed = "select failed_count from pg_stat_archiver";
    assert_eq!(scene.cluster.sql(failed), "0");
    let status = scene.run("wal", &["status"]).ok().text();
    assert!(status.contains(&last), "{status}");
    assert!(!scene.cluster.said().contains("without a resident process"));
    until("it ended by itself", || residents(&binary).is_empty());
    let left: Vec<_> = fs::read_dir(scene.home.join("run/lifeboat"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["salt"]);
}

#[test]
fn whatever_is_killed_nothing_that_was_acknowledged_is_missing() {
    let seed = seed();
    let _note = Note::seed(seed);
    let mut random = Random::new(seed);
    let soak = std::env::var_os("LIFEBOAT_SOAK").is_some();
    let kills = if soak { KILLS_SOAK } else { KILLS };
    let (mut pushes, mut processes, mut yard) = (0, 0, Yard::new());
    while pushes < kills || processes < kills {
        let ready = yard.ready();
        let Some(name) = ready.first() else {
            yard.kill(Signal::KILL);
            yard = Yard::new();
            continue;
        };
        let mut push = yard.pushing(name);
        let mut push = push
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let within = u64::try_from(KILL_WITHIN.as_micros()).unwrap();
        // The moment is what is drawn here; nothing is concluded from it.
        std::thread::sleep(Duration::from_micros(random.below(within)));
        if random.chance(30) {
            processes += yard.kill(Signal::KILL);
        }
        if random.chance(50) {
            push.kill().unwrap();
        }
        let ended = push.wait().unwrap();
        // One that had ended by itself was not killed.
        pushes += usize::from(ended.signal() == Some(Signal::KILL.as_raw()));
        if ended.success() {
            yard.note_done(name);
            yard.holds(name);
        }
        if yard.ready().is_empty() {
            for entry in fs::read_dir(yard.wal("archive_status")).unwrap().flatten() {
                let note = entry.file_name().into_string().unwrap();
                yard.holds(note.strip_suffix(".done").unwrap());
            }
        }
    }
    yard.kill(Signal::KILL);
}

#[test]
fn a_store_that_fails_keeps_the_log_or_gives_it_up_as_the_user_wants() {
    let yard = Yard::new();
    let ready = yard.ready();
    assert_eq!(ready.len(), SEGMENTS, "{ready:?}");
    yard.archive(&ready[0]);
    yard.come();
    yard.archive(&ready[1]);
    // What was stored ahead is there before the place is gone.
    until("nothing is on its way", || {
        fs::read_dir(yard.path("repository/lifeboat/wal"))
            .unwrap()
            .flatten()
            .flat_map(|system| fs::read_dir(system.path().join("00000001")).unwrap())
            .count()
            == ready.len()
    });
    let (there, away) = (yard.path("repository"), yard.path("away"));
    fs::rename(&there, &away).unwrap();
    yard.kill(Signal::KILL);
    let lost = &ready[2];
    let drop = |size: &'static str| ["--queue-limit", size, "--queue-full", "drop"];
    let said = yard.push(lost, &[], 10);
    assert!(said.contains("no repository"), "{said}");
    // As much as may wait, and no more.
    let said = yard.push(lost, &drop("8M"), 10);
    assert!(!said.contains("GIVEN UP"), "{said}");
    let said = yard.push(lost, &["--queue-limit", "7M"], 10);
    assert!(said.contains("8.000 MiB of the log wait"), "{said}");
    let said = yard.push(lost, &drop("7M"), 0);
    for part in [lost.as_str(), "IS NOT ARCHIVED", "HAS A HOLE", "db capture"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    yard.note_done(lost);
    // What is wrong with the file itself is no fault of the store.
    let other = &ready[3];
    let content = fs::read(yard.wal(other)).unwrap();
    fs::write(yard.wal(other), &content[..100]).unwrap();
    fs::rename(&away, &there).unwrap();
    let said = yard.push(other, &drop("0"), 1);
    assert!(said.contains("has 100 bytes"), "{said}");
    fs::write(yard.wal(other), &content).unwrap();
    // The hole is named: here the one that had been stored ahead is taken away for it.
    for system in fs::read_dir(yard.path("repository/lifeboat/wal")).unwrap() {
        fs::remove_file(system.unwrap().path().join("00000001").join(lost)).unwrap();
    }
    for name in yard.ready() {
        yard.archive(&name);
    }
    let said = yard.run(&["status"]);
    assert_eq!(said.code(), 1);
    assert!(said.stderr.contains(lost.as_str()), "{}", said.stderr);
}

#[test]
fn what_is_fetched_ahead_is_what_is_fetched_without() {
    let yard = Yard::new();
    let ready = yard.ready();
    for name in &ready {
        yard.push(name, &["--no-resident"], 0);
    }
    assert!(yard.residents().is_empty(), "none was wanted");
    let hole = &ready[5];
    for system in fs::read_dir(yard.path("repository/lifeboat/wal")).unwrap() {
        fs::remove_file(system.unwrap().path().join("00000001").join(hole)).unwrap();
    }
    let beyond = ["0000000100000000000000F0", "00000002.history"];
    let mut names: Vec<&str> = ready.iter().map(String::as_str).collect();
    names.extend(beyond);
    names.push(&ready[0]);
    let with = ["--resident-idle", yard.idle];
    yard.fetched(&ready[0], &with);
    yard.come();
    let process = yard.residents();
    let mut codes = BTreeMap::new();
    for name in names {
        let without = yard.fetched(name, &["--no-resident"]);
        let found = yard.fetched(name, &with);
        assert!(found == without, "{name}: {} {}", found.0, without.0);
        codes.insert(name, found.0);
    }
    assert_eq!(codes[hole.as_str()], 200);
    assert_eq!(beyond.map(|name| codes[name]), [1, 1]);
    let found = codes.values().filter(|code| **code == 0).count();
    assert_eq!(found, SEGMENTS - 1);
    assert_eq!(yard.residents(), process);
    // What comes into the archive later is found: nothing is remembered as missing.
    yard.push(hole, &["--no-resident"], 0);
    assert_eq!(yard.fetched(hole, &with).0, 0);
    // A place that is gone is no end of the log.
    fs::rename(yard.path("repository"), yard.path("away")).unwrap();
    assert_eq!(yard.fetched(beyond[0], &with).0, 200);
    yard.gone();
}

#[test]
fn a_file_that_changed_since_it_was_stored_ahead_is_looked_at_again() {
    let yard = Yard::new();
    let ready = yard.ready();
    yard.archive(&ready[0]);
    yard.come();
    yard.archive(&ready[1]);
    until("the next are stored ahead", || {
        yard.fetched(&ready[3], &["--no-resident"]).0 == 0
    });
    let path = yard.wal(&ready[3]);
    let mut content = fs::read(&path).unwrap();
    *content.last_mut().unwrap() ^= 1;
    fs::write(&path, content).unwrap();
    yard.archive(&ready[2]);
    let said = yard.push(&ready[3], &[], 1);
    assert!(said.contains("another server archives here"), "{said}");
}

#[test]
fn another_repository_at_the_same_place_is_found_out() {
    let yard = Yard::new();
    let ready = yard.ready();
    yard.archive(&ready[0]);
    yard.come();
    fs::remove_dir_all(yard.path("repository")).unwrap();
    yard.init();
    // Sealed with the key of the one that was opened, nobody could read it.
    yard.archive(&ready[1]);
    yard.holds(&ready[1]);
}

#[test]
fn whatever_is_in_the_place_of_the_process_a_push_succeeds() {
    let yard = Yard::new();
    let ready = yard.ready();
    yard.push(&ready[0], &[], 0);
    yard.come();
    let socket = yard.socket().unwrap();
    // It hangs.
    yard.kill(Signal::STOP);
    let said = yard.push(&ready[1], &[], 0);
    assert!(said.contains("no sign of life"), "{said}");
    yard.holds(&ready[1]);
    assert!(!socket.exists(), "nobody waits for it again");
    yard.kill(Signal::CONT);
    yard.gone();
    // Something else answers nonsense, or nothing.
    for answer in [&b"HTTP/1.1 200 OK\r\n\r\n"[..], b""] {
        let listener = UnixListener::bind(&socket).unwrap();
        let said = std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                assert!(stream.read(&mut [0; 1000]).unwrap() > 0);
                // Who does not listen any more does not mind.
                let _ = stream.write_all(answer);
                // To leave with something unread would be told as a broken connection.
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = stream.read_to_end(&mut Vec::new());
            });
            yard.push(&ready[2], &[], 0)
        });
        assert_eq!(said.contains("does not help"), !answer.is_empty(), "{said}");
        let _ = fs::remove_file(&socket);
    }
    yard.holds(&ready[2]);
    // It was killed, and its socket is still there.
    yard.push(&ready[3], &[], 0);
    yard.come();
    yard.kill(Signal::KILL);
    yard.gone();
    assert!(socket.exists());
    yard.push(&ready[4], &[], 0);
    yard.come();
    // Somebody replaces the program.
    fs::rename(yard.path("lifeboat"), yard.path("old")).unwrap();
    copy_program(&yard.path("old"), &yard.path("lifeboat"));
    until("it ends", || socket.symlink_metadata().is_err());
    yard.push(&ready[5], &[], 0);
    yard.come();
    yard.kill(Signal::TERM);
    yard.gone();
    assert_eq!(yard.socket(), None);
}

#[test]
fn of_several_that_are_started_at_once_one_stays() {
    let yard = Yard::new();
    let ready = yard.ready();
    let mut pushes: Vec<_> = ready[..6]
        .iter()
        .map(|name| yard.pushing(name).stderr(Stdio::null()).spawn().unwrap())
        .collect();
    for push in &mut pushes {
        assert!(push.wait().unwrap().success());
    }
    yard.come();
    until("the others left", || yard.residents().len() == 1);
    let one = yard.residents();
    yard.archive(&ready[6]);
    assert_eq!(yard.residents(), one);
}

#[test]
fn a_directory_that_others_get_into_is_not_used() {
    let yard = Yard::new();
    let ready = yard.ready();
    let dir = yard.path("run/lifeboat");
    fs::create_dir(&dir).unwrap();
    let mode = |mode| fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o755);
    let said = yard.push(&ready[0], &[], 0);
    assert!(said.contains("others get into it"), "{said}");
    mode(0o700);
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&dir, Some(65_534), None).unwrap();
        let said = yard.push(&ready[1], &[], 0);
        assert!(said.contains("belongs to another user"), "{said}");
        std::os::unix::fs::chown(&dir, Some(0), None).unwrap();
    }
    assert!(yard.residents().is_empty());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    yard.push(&ready[1], &[], 0);
    yard.come();
}

#[test]
fn behind_a_server_claims_are_read_once_and_no_list_of_processes_shows_the_password() {
    let server = RestServer::start(rest_server::Options {
        auth: true,
        ..rest_server::Options::default()
    });
    let proxy = HttpProxy::start(server.address().parse().unwrap());
    let mut yard = Yard::new();
    let direct = server.location("r");
    let backend = open(&direct, &server.options()).unwrap();
    let who = Identity::of_this_process();
    Repository::init(backend, PASSWORD.as_bytes(), 2, None, &who, KeyCost::Test).unwrap();
    let with_password = format!("://{}:{PASSWORD}@", rest_server::USER);
    yard.location = format!("rest:{}/r/", proxy.url()).replace("://", &with_password);
    let ready = yard.ready();
    // Nothing is done ahead, so that each push has its own requests.
    for name in &ready {
        yard.note_done(name);
    }
    yard.push(&ready[0], &[], 0);
    yard.come();
    let requests = |name: &str| {
        proxy.reset_traffic();
        yard.push(name, &[], 0);
        proxy.traffic().total_requests()
    };
    let counts: Vec<u64> = ready[1..8].iter().map(|name| requests(name)).collect();
    assert!(
        counts[1..].windows(2).all(|pair| pair[0] == pair[1]),
        "as many for the last as for the first: {counts:?}"
    );
    for pid in yard.residents() {
        let said = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap();
        let said = String::from_utf8(said).unwrap();
        assert!(
            !said.contains(PASSWORD) && !said.contains("rest:"),
            "{said}"
        );
    }
    for name in &ready[..8] {
        yard.holds(name);
    }
}
