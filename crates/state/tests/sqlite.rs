//! SQLite databases in a volume are read as of one moment while other processes write, crash, lock or damage them.
#![cfg(feature = "sqlite")]

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lifeboat_flow::{
    Cancel, ChunkRule, Content, Entry, EntryPath, Event, EventSink, Listing, Source, SourceError,
};
use lifeboat_state::sqlite::{CheckError, SqliteSource, check};
use lifeboat_state::{VolumeOptions, VolumeSource};
use rusqlite::Connection;
use tempfile::TempDir;

/// Says in a process of its own which part it plays, and on which database.
const PART: &str = "LIFEBOAT_TEST_SQLITE_PART";
const DATABASE: &str = "LIFEBOAT_TEST_SQLITE_DATABASE";
const ACCOUNTS: i64 = 500;
const SUM: i64 = ACCOUNTS * 1000;
/// A user who owns nothing.
const NOBODY: u32 = 65534;

#[derive(Default)]
struct Heard(Mutex<Vec<Event>>);

impl EventSink for Heard {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

/// A volume with databases in it.
struct Volume {
    dir: TempDir,
    scratch: TempDir,
    cancel: Cancel,
    heard: Heard,
    wait_max: Duration,
}

/// What was read of a file.
struct Taken {
    bytes: Vec<u8>,
    entry: Entry,
    rule: ChunkRule,
    faults: Vec<String>,
}

impl Volume {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            scratch: tempfile::tempdir().unwrap(),
            cancel: Cancel::new(),
            heard: Heard::default(),
            wait_max: Duration::from_secs(20),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn at(&self) -> EntryPath {
        let dir = self.dir.path().to_str().unwrap();
        EntryPath(dir.trim_start_matches('/').into())
    }

    fn with<R>(&self, work: impl FnOnce(&SqliteSource<'_>) -> R) -> R {
        let dir = self.dir.path().to_path_buf();
        let inner = VolumeSource::new(vec![dir], VolumeOptions::default()).unwrap();
        let scratch = self.scratch.path().to_path_buf();
        let source = SqliteSource::new(&inner, "/".into(), scratch, &self.cancel, &self.heard);
        work(&source.waiting_at_most(self.wait_max))
    }

    fn list(&self) -> Listing {
        self.with(|source| source.list(&self.at())).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let names = self.list().entries.into_iter().map(|entry| entry.name);
        names.map(|name| String::from_utf8(name).unwrap()).collect()
    }

    fn take(&self, name: &str) -> Taken {
        self.with(|source| take(source, &self.at().join(name.as_bytes())))
            .unwrap()
    }

    /// A copy that has to be right, with nothing said about it; gives how many transfers it knows.
    fn take_whole(&self, name: &str) -> i64 {
        let taken = self.take(name);
        assert!(taken.faults.is_empty(), "{:?}", taken.faults);
        transfers(&taken.bytes)
    }
}

fn take(source: &SqliteSource<'_>, path: &EntryPath) -> Result<Taken, SourceError> {
    let mut content = source.open(path)?;
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).unwrap();
    let entry = content.finish()?.unwrap();
    assert_eq!(entry.size_bytes, bytes.len() as u64);
    assert!(!content.changed());
    Ok(Taken {
        bytes,
        entry,
        rule: content.chunk_rule(),
        faults: content.faults(),
    })
}

/// Puts a copy back, checks it, and asks it how many transfers there were.
fn transfers(bytes: &[u8]) -> i64 {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("restored.db");
    fs::write(&path, bytes).unwrap();
    check(&path).unwrap();
    let files = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(files, 1, "a check makes no file");
    let connection = Connection::open(&path).unwrap();
    let ask = |question: &str| -> i64 {
        let answer = connection.query_row(question, [], |row| row.get(0));
        answer.unwrap()
    };
    assert_eq!(ask("SELECT sum(amount) FROM account"), SUM);
    ask("SELECT count(*) FROM transfer")
}

fn make(path: &Path, mode: &str, page_bytes: u32) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(&format!(
            "PRAGMA page_size={page_bytes}; PRAGMA journal_mode={mode}; PRAGMA busy_timeout=60000;
             CREATE TABLE account (id INTEGER PRIMARY KEY, amount INTEGER, padding BLOB);
             CREATE TABLE transfer (id INTEGER PRIMARY KEY, source INTEGER REFERENCES account, amount INTEGER);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ACCOUNTS})
             INSERT INTO account SELECT i, 1000, randomblob(1500) FROM n;"
        ))
        .unwrap();
    connection
}

fn transfer(connection: &Connection, number: i64) {
    let (from, to) = (number * 7 % ACCOUNTS + 1, number * 13 % ACCOUNTS + 1);
    connection
        .execute_batch(&format!(
            "BEGIN IMMEDIATE;
             UPDATE account SET amount = amount - 5, padding = randomblob(1500) WHERE id = {from};
             UPDATE account SET amount = amount + 5 WHERE id = {to};
             INSERT INTO transfer (source, amount) VALUES ({from}, 5);
             COMMIT;"
        ))
        .unwrap();
}

/// A process that plays a part; it ends with this, or when it crashes as it should.
struct Other {
    child: Child,
}

impl Other {
    fn start(part: &str, database: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "plays_a_part", "--nocapture"])
            .env(PART, part)
            .env(DATABASE, database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        while said.next().expect("it says when it is ready").unwrap() != "ready" {}
        Self { child }
    }

    /// It ends of itself.
    fn crashed(part: &str, database: &Path) {
        let mut other = Self::start(part, database);
        drop(other.child.stdin.take());
        assert!(!other.child.wait().unwrap().success());
    }

    fn stop(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says a line to the process that began this one.
fn say(line: &str) {
    let mut out = std::io::stdout();
    // Behind what the test harness writes on the same line.
    writeln!(out, "\n{line}").unwrap();
    out.flush().unwrap();
}

/// No test by itself: what other processes do.
#[test]
fn plays_a_part() {
    let (Ok(part), Ok(database)) = (std::env::var(PART), std::env::var(DATABASE)) else {
        return;
    };
    let database = Path::new(&database);
    let ready = || {
        say("ready");
    };
    let until_told = || {
        let _ = std::io::stdin().read(&mut [0]).unwrap();
    };
    static IS_TOLD: AtomicBool = AtomicBool::new(false);
    match part.as_str() {
        "transfers" => {
            let connection = Connection::open(database).unwrap();
            connection.busy_timeout(Duration::from_secs(60)).unwrap();
            transfer(&connection, 0);
            ready();
            std::thread::spawn(move || {
                until_told();
                IS_TOLD.store(true, Ordering::Release);
            });
            let mut number = 1;
            while !IS_TOLD.load(Ordering::Acquire) {
                transfer(&connection, number);
                number += 1;
            }
        }
        "holds it open" => {
            let connection = Connection::open(database).unwrap();
            transfer(&connection, 0);
            ready();
            until_told();
        }
        "locks it" => {
            let connection = Connection::open(database).unwrap();
            transfer(&connection, 0);
            connection.execute_batch("BEGIN EXCLUSIVE").unwrap();
            ready();
            until_told();
        }
        "writes and lets nobody in" => {
            let connection = Connection::open(database).unwrap();
            connection
                .execute_batch("PRAGMA locking_mode=EXCLUSIVE")
                .unwrap();
            transfer(&connection, 0);
            ready();
            std::thread::spawn(move || {
                until_told();
                IS_TOLD.store(true, Ordering::Release);
            });
            let mut number = 1;
            while !IS_TOLD.load(Ordering::Acquire) {
                transfer(&connection, number);
                number += 1;
            }
        }
        "crashes after commits" => {
            let connection = Connection::open(database).unwrap();
            transfer(&connection, 0);
            transfer(&connection, 1);
            ready();
            until_told();
            std::process::abort();
        }
        "crashes in a transaction" => {
            let connection = Connection::open(database).unwrap();
            transfer(&connection, 0);
            connection
                .execute_batch(
                    "PRAGMA cache_size=5; BEGIN; UPDATE account SET amount = 0, padding = randomblob(1400);",
                )
                .unwrap();
            ready();
            until_told();
            std::process::abort();
        }
        "reads as nobody" => {
            let dir = database.parent().unwrap().to_path_buf();
            let scratch = tempfile::tempdir().unwrap();
            let inner = VolumeSource::new(vec![dir], VolumeOptions::default()).unwrap();
            let (cancel, heard) = (Cancel::new(), Heard::default());
            let source = SqliteSource::new(
                &inner,
                "/".into(),
                scratch.path().to_path_buf(),
                &cancel,
                &heard,
            );
            let path = EntryPath(database.to_str().unwrap().trim_start_matches('/').into());
            source.list(&path.parent().unwrap()).unwrap();
            match take(&source, &path) {
                Ok(taken) => {
                    assert!(taken.faults.is_empty(), "{:?}", taken.faults);
                    say(&format!("transfers {}", transfers(&taken.bytes)));
                }
                Err(error) => say(&format!("refused {}", lifeboat_flow::chain(&error))),
            }
        }
        part => panic!("no such part: {part}"),
    }
}

fn is_taken_20_times_while_it_is_written(mode: &str) {
    let volume = Volume::new();
    // So many pages that a copy takes several steps.
    let connection = make(&volume.path("app.db"), mode, 512);
    connection
        .execute_batch("CREATE TABLE ballast AS SELECT randomblob(6000) FROM account")
        .unwrap();
    drop(connection);
    let writer = Other::start("transfers", &volume.path("app.db"));
    let mut before = 1;
    for _ in 0..20 {
        assert_eq!(volume.names(), ["app.db"]);
        let now = volume.take_whole("app.db");
        assert!(now >= before, "{now} after {before}");
        before = now;
    }
    writer.stop();
    assert!(volume.take_whole("app.db") >= before);
    let left = fs::read_dir(volume.scratch.path()).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn each_copy_of_a_database_with_a_log_is_of_one_moment() {
    is_taken_20_times_while_it_is_written("WAL");
}

#[test]
fn each_copy_of_a_database_with_a_journal_is_of_one_moment() {
    is_taken_20_times_while_it_is_written("DELETE");
}

#[test]
fn two_that_read_it_in_one_process_do_not_take_each_others_locks() {
    let volume = Volume::new();
    drop(make(&volume.path("app.db"), "DELETE", 4096));
    fs::hard_link(volume.path("app.db"), volume.path("other name")).unwrap();
    let writer = Other::start("transfers", &volume.path("app.db"));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..8 {
                    volume.list();
                    volume.take_whole("app.db");
                }
            });
        }
    });
    writer.stop();
}

#[test]
fn what_is_committed_in_the_log_alone_is_taken_and_makes_the_database_another() {
    let volume = Volume::new();
    drop(make(&volume.path("app.db"), "WAL", 4096));
    let size_bytes = fs::metadata(volume.path("app.db")).unwrap().len();
    let entry = || volume.list().entries.remove(0);
    let idle = entry();
    // Nobody has it open: it is read, and nothing is made beside it.
    let dir_before = fs::metadata(volume.dir.path()).unwrap().modified().unwrap();
    let taken = volume.take("app.db");
    assert_eq!((transfers(&taken.bytes), taken.faults.len()), (0, 0));
    assert_eq!(taken.entry, idle, "so that it counts as unchanged");
    let dir_after = fs::metadata(volume.dir.path()).unwrap().modified().unwrap();
    assert_eq!(dir_before, dir_after);

    let holder = Other::start("holds it open", &volume.path("app.db"));
    let on_disk = fs::metadata(volume.path("app.db")).unwrap();
    assert_eq!(on_disk.len(), size_bytes, "it stands in the log");
    let written = entry();
    assert_ne!(
        (written.changed, written.modified),
        (idle.changed, idle.modified)
    );
    assert_eq!(volume.names(), ["app.db"]);
    let taken = volume.take("app.db");
    assert_eq!((transfers(&taken.bytes), taken.faults.len()), (1, 0));
    let marks = |entry: &Entry| (entry.modified, entry.changed, entry.inode);
    assert_eq!(marks(&taken.entry), marks(&entry()));
    holder.stop();
    assert_ne!(marks(&entry()), marks(&written));
    assert!(volume.heard.0.lock().unwrap().is_empty());
}

#[test]
fn a_listing_without_the_log_does_not_hide_that_it_grew() {
    let volume = Volume::new();
    drop(make(&volume.path("app.db"), "WAL", 4096));
    let list = || {
        let options = VolumeOptions {
            select: Some(std::sync::Arc::new(|path: &Path, _, _| {
                !path.to_str().unwrap().ends_with("-wal")
            })),
            ..VolumeOptions::default()
        };
        let dir = volume.dir.path().to_path_buf();
        let inner = VolumeSource::new(vec![dir], options).unwrap();
        let scratch = volume.scratch.path().to_path_buf();
        let source = SqliteSource::new(&inner, "/".into(), scratch, &volume.cancel, &volume.heard);
        source.list(&volume.at()).unwrap().entries.remove(0).changed
    };
    let before = list();
    let _holder = Other::start("holds it open", &volume.path("app.db"));
    assert_ne!(before, list());
}

#[test]
fn what_a_crash_leaves_is_put_in_order_in_the_copy_alone() {
    let volume = Volume::new();
    for (name, mode, part, count) in [
        ("log.db", "WAL", "crashes after commits", 2),
        ("journal.db", "DELETE", "crashes in a transaction", 1),
    ] {
        drop(make(&volume.path(name), mode, 4096));
        Other::crashed(part, &volume.path(name));
        let all = || {
            let files = fs::read_dir(volume.dir.path()).unwrap();
            let mut files: Vec<_> = files
                .map(|file| file.unwrap().path())
                .map(|path| (path.clone(), fs::read(path).unwrap()))
                .collect();
            files.sort();
            files
        };
        let before = all();
        assert_eq!(volume.take_whole(name), count, "{name}");
        assert!(before == all(), "{name}: nothing is written in the volume");
    }
    let sides = fs::read_dir(volume.dir.path()).unwrap().count();
    assert!(sides >= 4, "the crashes left something: {sides}");
    assert_eq!(volume.names(), ["journal.db", "log.db"]);
    assert!(volume.heard.0.lock().unwrap().is_empty());
}

#[test]
fn a_database_that_stays_locked_is_taken_from_its_files() {
    for mode in ["DELETE", "WAL"] {
        let volume = Volume {
            wait_max: Duration::ZERO,
            ..Volume::new()
        };
        drop(make(&volume.path("app.db"), mode, 4096));
        let holder = Other::start("locks it", &volume.path("app.db"));
        let path = volume.at().join(b"app.db");
        let taken = volume
            .with(|source| take(source, &path))
            .unwrap_or_else(|error| {
                panic!("{mode}: {error}");
            });
        // In WAL mode who writes locks nobody out.
        let notes = volume.heard.0.lock().unwrap().len();
        assert_eq!(
            (taken.faults.len(), notes),
            (0, usize::from(mode == "DELETE"))
        );
        assert_eq!(transfers(&taken.bytes), 1);
        holder.stop();
    }
}

#[test]
fn one_that_nobody_is_let_into_and_that_is_written_is_right_or_a_fault() {
    let volume = Volume::new();
    drop(make(&volume.path("app.db"), "WAL", 4096));
    let writer = Other::start("writes and lets nobody in", &volume.path("app.db"));
    assert_eq!(volume.names(), ["app.db"]);
    let taken = volume.take("app.db");
    match taken.faults.as_slice() {
        // The writer paused for so long.
        [] => assert!(transfers(&taken.bytes) >= 1),
        [fault] => assert!(
            fault.contains("may not be consistent") || fault.contains("as it is"),
            "{fault}"
        ),
        faults => panic!("{faults:?}"),
    }
    writer.stop();
    assert!(volume.take_whole("app.db") >= 1);
}

/// Somebody who writes into a file whenever another one is opened.
struct Disturbed<'a>(&'a VolumeSource, PathBuf);

impl Source for Disturbed<'_> {
    fn list(&self, dir: &EntryPath) -> Result<Listing, SourceError> {
        self.0.list(dir)
    }

    fn open(&self, path: &EntryPath) -> Result<Box<dyn Content>, SourceError> {
        let opened = fs::OpenOptions::new().append(true).open(&self.1);
        opened.unwrap().write_all(&[0; 10]).unwrap();
        self.0.open(path)
    }
}

#[test]
fn files_that_change_while_they_are_copied_are_a_fault() {
    let volume = Volume::new();
    drop(make(&volume.path("app.db"), "WAL", 4096));
    Other::crashed("crashes after commits", &volume.path("app.db"));
    // So that there is no way but to copy the files.
    fs::remove_file(volume.path("app.db-shm")).unwrap();
    let dir = volume.dir.path().to_path_buf();
    let inner = VolumeSource::new(vec![dir], VolumeOptions::default()).unwrap();
    let inner = Disturbed(&inner, volume.path("app.db-wal"));
    let scratch = volume.scratch.path().to_path_buf();
    let source = SqliteSource::new(&inner, "/".into(), scratch, &volume.cancel, &volume.heard);
    let taken = take(&source, &volume.at().join(b"app.db")).unwrap();
    assert_eq!(taken.faults.len(), 1);
    assert!(
        taken.faults[0].contains("may not be consistent"),
        "{:?}",
        taken.faults
    );
    assert_eq!(
        transfers(&taken.bytes),
        2,
        "here nothing of worth was written"
    );
}

#[test]
fn what_sqlite_does_not_read_is_kept_as_it_is_with_what_lies_beside_it() {
    let volume = Volume::new();
    let mut garbage = b"SQLite format 3\0".to_vec();
    garbage.resize(20_000, 0xa5);
    fs::write(volume.path("bad.db"), &garbage).unwrap();
    for end in ["-wal", "-journal", "-shm"] {
        fs::write(volume.path(&format!("bad.db{end}")), b"something").unwrap();
        fs::write(volume.path(&format!("none.txt{end}")), b"something").unwrap();
    }
    fs::write(volume.path("none.txt"), vec![b'x'; 1000]).unwrap();
    fs::write(volume.path("short.db"), b"SQLite format 3\0").unwrap();
    let sources = [volume.names(), volume.names()];
    for names in sources {
        assert_eq!(
            names,
            [
                "bad.db",
                "bad.db-journal",
                "bad.db-wal",
                "none.txt",
                "none.txt-journal",
                "none.txt-shm",
                "none.txt-wal",
                "short.db"
            ]
        );
    }
    let taken = volume.take("bad.db");
    assert!(taken.bytes == garbage);
    assert_eq!(taken.faults.len(), 1);
    assert!(
        taken.faults[0].contains("kept as it is"),
        "{:?}",
        taken.faults
    );
    for name in ["none.txt", "none.txt-wal", "short.db", "bad.db-wal"] {
        let taken = volume.take(name);
        assert!(taken.bytes == fs::read(volume.path(name)).unwrap());
        assert!(taken.faults.is_empty() && taken.rule == ChunkRule::Restic);
    }
}

#[test]
fn all_page_sizes_and_names_are_read_and_little_is_stored_anew() {
    let volume = Volume::new();
    for (name, page_bytes) in [("a", 512), ("50% a?b#c ü.db", 4096), ("c.sqlite", 65536)] {
        let connection = make(&volume.path(name), "DELETE", page_bytes);
        let chunk_bytes = page_bytes.max(16384) as usize;
        let first = volume.take(name);
        assert_eq!(first.rule, ChunkRule::Aligned { bytes: chunk_bytes });
        assert!(first.faults.is_empty() && transfers(&first.bytes) == 0);
        assert!(volume.take(name).bytes == first.bytes, "nothing changed");
        transfer(&connection, 3);
        let second = volume.take(name);
        assert_eq!(transfers(&second.bytes), 1);
        let known: HashSet<&[u8]> = first.bytes.chunks(chunk_bytes).collect();
        let all = second.bytes.chunks(chunk_bytes);
        let (count, new) = (
            all.len(),
            all.filter(|chunk| !known.contains(chunk)).count(),
        );
        assert!(
            count >= 10 && new <= 6,
            "{name}: {new} of {count} chunks are new"
        );
    }
}

#[test]
fn a_user_who_may_only_read_gets_a_copy_or_is_told_why_not() {
    let volume = Volume::new();
    let path = volume.path("app.db");
    drop(make(&path, "WAL", 4096));
    fs::set_permissions(volume.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // Who may do everything anyway reads as somebody else; the program must lie where that one may read it.
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = place.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    let read = || {
        let mut command = Command::new(&program);
        command
            .args(["--exact", "plays_a_part", "--nocapture"])
            .env(PART, "reads as nobody")
            .env(DATABASE, &path)
            .env_remove("TMPDIR")
            .current_dir("/");
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        let said = command.output().unwrap();
        assert!(said.status.success(), "{said:?}");
        let said = String::from_utf8(said.stdout).unwrap();
        let told = |line: &&str| line.starts_with("transfers") || line.starts_with("refused");
        said.lines().find(told).unwrap_or_default().to_owned()
    };
    let bits = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    // Idle, and in a directory where nobody may make a file.
    bits(&path, 0o444);
    bits(volume.dir.path(), 0o555);
    assert_eq!(read(), "transfers 0");
    // In use, with a log and an index that he can only read.
    bits(volume.dir.path(), 0o755);
    bits(&path, 0o644);
    let holder = Other::start("holds it open", &path);
    assert_eq!(read(), "transfers 1");
    holder.stop();
    bits(&path, 0o000);
    let said = read();
    assert!(said.contains("Permission denied"), "{said}");
}

#[test]
fn a_wish_to_stop_ends_the_wait_for_a_locked_database() {
    let volume = Volume::new();
    drop(make(&volume.path("app.db"), "DELETE", 4096));
    let holder = Other::start("locks it", &volume.path("app.db"));
    volume.cancel.cancel();
    let path = volume.at().join(b"app.db");
    let stopped = volume
        .with(|source| source.open(&path).map(drop))
        .unwrap_err();
    assert!(
        lifeboat_flow::chain(&stopped).contains("interrupted"),
        "{stopped:?}"
    );
    holder.stop();
}

#[test]
fn a_check_finds_damage_and_rows_that_dangle_and_does_not_guess() {
    let volume = Volume::new();
    let path = volume.path("app.db");
    drop(make(&path, "DELETE", 4096));
    check(&path).unwrap();
    let sound = fs::read(&path).unwrap();
    let mut bytes = sound.clone();
    bytes[3 * 4096..5 * 4096].fill(0x55);
    fs::write(&path, &bytes).unwrap();
    let damaged = check(&path).unwrap_err();
    assert!(matches!(&damaged, CheckError::Damaged { faults, .. } if !faults.is_empty()));
    fs::write(&path, &sound[..sound.len() / 2]).unwrap();
    assert!(matches!(check(&path), Err(CheckError::Damaged { .. })));
    fs::write(&path, &sound).unwrap();
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch("PRAGMA foreign_keys=OFF; DELETE FROM account WHERE id = 3; INSERT INTO transfer (source, amount) VALUES (3, 5);")
        .unwrap();
    drop(connection);
    let dangling = check(&path).unwrap_err();
    assert!(
        matches!(&dangling, CheckError::Dangling { rows: 1, .. }),
        "{dangling}"
    );
    let missing = check(&volume.path("none.db")).unwrap_err();
    assert!(matches!(missing, CheckError::Undetermined { .. }));
}
