//! Streams and commands as sources: one file, once, and only if all went well.
//! A failed or silent command must never look like a good dump, nor stay behind.

mod common;

use std::ffi::OsString;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use lifeboat_flow::{Content, Entry, EntryKind, EntryPath, Source, SourceError, Timestamp};
use lifeboat_state::{CommandError, CommandSource, Complaints, StreamSource};

const TIME: Timestamp = Timestamp {
    seconds: 1_700_000_000,
    nanoseconds: 5,
    offset_seconds: 3_600,
};

fn stream(name: &str, bytes: &'static [u8]) -> StreamSource {
    StreamSource::new(name.as_bytes(), TIME, Box::new(bytes)).expect("a name")
}

fn command(words: &[&str], complaints: Option<Complaints>) -> CommandSource {
    let words = words.iter().map(OsString::from).collect();
    CommandSource::new(b"dump.sql", TIME, words, complaints).expect("a command")
}

fn opened(source: &dyn Source, path: &str) -> Box<dyn Content> {
    source
        .open(&EntryPath(path.as_bytes().to_vec()))
        .expect("opened")
}

fn all(content: &mut Box<dyn Content>) -> (Vec<u8>, Result<Option<Entry>, SourceError>) {
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).expect("read");
    (bytes, content.finish())
}

fn reason(result: Result<Option<Entry>, SourceError>) -> String {
    match result {
        Err(SourceError::Fatal { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stream_is_a_file_below_the_directories_of_its_name() {
    let source = stream("/db/./x/../dump.sql", b"select 1");
    let top = source.list(&EntryPath::top()).expect("listed");
    common::conformance::listing_is_ordered(&top);
    assert_eq!(
        (
            top.entries[0].name.as_slice(),
            top.entries[0].kind,
            top.entries[0].permissions
        ),
        (b"db".as_slice(), EntryKind::Dir, 0o755)
    );
    let inner = source.list(&EntryPath(b"db".to_vec())).expect("listed");
    assert_eq!(
        (
            inner.entries[0].name.as_slice(),
            inner.entries[0].kind,
            inner.entries[0].permissions
        ),
        (b"dump.sql".as_slice(), EntryKind::File, 0o644)
    );
    assert!(source.list(&EntryPath(b"d".to_vec())).is_err());
    assert!(source.open(&EntryPath(b"db".to_vec())).is_err());
    let (bytes, entry) = all(&mut opened(&source, "db/dump.sql"));
    let entry = entry.expect("finished").expect("an entry");
    assert_eq!(
        (bytes.as_slice(), entry.size_bytes),
        (b"select 1".as_slice(), 8)
    );
    assert_eq!(
        entry.modified.to_string(),
        "2023-11-14T23:13:20.000000005+01:00"
    );
    let again = source.open(&EntryPath(b"db/dump.sql".to_vec()));
    assert!(again.is_err(), "it can be read only once");
    for name in ["", "/", "..", "a/..", "a\0b"] {
        assert!(
            StreamSource::new(name.as_bytes(), TIME, Box::new(std::io::empty())).is_err(),
            "{name:?}"
        );
    }
}

#[test]
fn a_stream_of_nothing_is_a_failure() {
    let (_, result) = all(&mut opened(&stream("x", b""), "x"));
    assert_eq!(reason(result), "no data came from standard input");
    let (_, result) = all(&mut opened(&command(&["true"], None), "dump.sql"));
    assert_eq!(reason(result), "no data came from the command \"true\"");
}

#[test]
fn a_command_that_succeeds_is_its_output() {
    let source = command(&["sh", "-c", "cat; printf '%s' \"$0\"", "a word"], None);
    let (bytes, entry) = all(&mut opened(&source, "dump.sql"));
    assert_eq!(bytes, b"a word", "and its standard input is empty");
    assert_eq!(entry.expect("finished").expect("an entry").size_bytes, 6);
    assert!(
        source.open(&EntryPath(b"dump.sql".to_vec())).is_err(),
        "it runs only once"
    );
}

#[test]
fn a_command_that_fails_is_never_acknowledged() {
    let (bytes, result) = all(&mut opened(
        &command(&["sh", "-c", "echo half; exit 3"], None),
        "dump.sql",
    ));
    assert_eq!(bytes, b"half\n");
    assert_eq!(
        reason(result),
        "the command \"sh\" failed with exit status 3"
    );
    let (_, result) = all(&mut opened(
        &command(&["sh", "-c", "echo half; kill -9 $$"], None),
        "dump.sql",
    ));
    assert_eq!(reason(result), "the command \"sh\" was killed by signal 9");
    let missing = command(&["/no/such/program"], None)
        .open(&EntryPath(b"dump.sql".to_vec()))
        .map(|_| None);
    assert!(reason(missing).contains("can't be started"));
    let none = CommandSource::new(b"x", TIME, Vec::new(), None);
    assert!(matches!(none, Err(CommandError::Empty)));
}

#[test]
fn what_a_command_complains_about_is_passed_on() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ears = Arc::clone(&heard);
    let complaints: Complaints =
        Arc::new(move |line: &str| ears.lock().expect("no panic").push(line.to_owned()));
    // More than a pipe holds, so that nobody may wait for a reader.
    let script = "echo one >&2; head -c 200000 /dev/zero | tr '\\0' x >&2; echo >&2; echo last >&2; echo data";
    let (bytes, result) = all(&mut opened(
        &command(&["sh", "-c", script], Some(complaints)),
        "dump.sql",
    ));
    assert_eq!(bytes, b"data\n");
    assert!(result.is_ok());
    let heard = heard.lock().expect("no panic");
    assert_eq!(heard.first().map(String::as_str), Some("one"));
    assert_eq!(heard.last().map(String::as_str), Some("last"));
    assert!(heard.iter().all(|line| line.len() <= 4096));
}

#[test]
fn a_command_that_nobody_waits_for_is_ended() {
    let begun = Instant::now();
    let mut content = opened(
        &command(&["sh", "-c", "echo $$; exec sleep 600"], None),
        "dump.sql",
    );
    let mut buf = [0; 32];
    let length = content.read(&mut buf).expect("read");
    let pid = String::from_utf8_lossy(&buf[..length]).trim().to_owned();
    drop(content);
    assert!(begun.elapsed().as_secs() < 60);
    assert!(
        !std::path::Path::new("/proc").join(&pid).exists(),
        "process {pid} is still there"
    );
}
