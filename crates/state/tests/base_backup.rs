//! What a server sends as a base backup is its data directory; what somebody else sends is not believed.
//! It must never take the word of our own reader for it: the server's files are read, and bytes are sent that no server sends.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;

use lifeboat_flow::Cancel;
use lifeboat_state::postgres::client::{Address, Connection, Session};
use lifeboat_state::postgres::{
    BLOCK_BYTES, BackupLabel, BaseBackup, BaseBackupError, Control, Fate, Lsn, SentLog, fate,
    identify, keep_log,
};
use lifeboat_testkit::postgres::{Cluster, Options, USER, give_away};

fn session(url: &str) -> Connection {
    let address = Address::parse(url, USER).unwrap();
    Connection::open(&address, Session::Replication, &Cancel::new()).unwrap()
}

/// All that comes: files with their contents, and directories.
fn received(backup: &mut BaseBackup) -> Result<BTreeMap<String, Option<Vec<u8>>>, BaseBackupError> {
    let mut all = BTreeMap::new();
    while let Some(arrival) = backup.arrival()? {
        let mut content = arrival.size_bytes.map(|_| Vec::new());
        while let Some(piece) = backup.content()? {
            content.as_mut().unwrap().extend_from_slice(piece);
        }
        let length = content.as_ref().map(|content| content.len() as u64);
        assert_eq!(length, arrival.size_bytes, "{arrival:?}");
        let path = String::from_utf8(arrival.path.0).unwrap();
        assert!(all.insert(path, content).is_none());
    }
    Ok(all)
}

/// The files below a directory that belong into a capture.
fn files(dir: &Path, path: &str, all: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let below = format!("{path}{}", entry.file_name().to_str().unwrap());
        if fate(below.as_bytes(), |_| false) == Fate::Leave {
            continue;
        }
        match entry.path().is_dir() {
            true => files(&entry.path(), &format!("{below}/"), all),
            false => {
                all.insert(below, fs::read(entry.path()).unwrap());
            }
        }
    }
}

#[test]
fn a_backup_is_the_data_directory_with_label_and_log() {
    let cluster = Cluster::start(Options::default());
    let space = cluster.home().join("space");
    fs::create_dir(&space).unwrap();
    give_away(&space);
    cluster.sql(&format!(
        "create tablespace far location '{}'",
        space.display()
    ));
    cluster.sql("create table far tablespace far as select generate_series(1, 100000) x");
    cluster.sql("create table near as select generate_series(1, 100000) x; checkpoint");
    // A file of no whole number of blocks, and one of none.
    fs::write(cluster.data().join("odd"), [7; 1000]).unwrap();
    fs::write(cluster.data().join("empty"), []).unwrap();
    give_away(&cluster.data().join("odd"));
    give_away(&cluster.data().join("empty"));
    let cancel = Cancel::new();
    let mut session = session(&cluster.url("postgres"));
    let who = identify(&mut session, &cancel).unwrap();
    let slots = "select slot_name, temporary, restart_lsn is not null from pg_replication_slots";
    assert!(keep_log(&mut session, "held", &cancel).unwrap());
    assert_eq!(cluster.sql(slots), "held|t|t");
    let mut backup = BaseBackup::start(session, true, &cancel).unwrap();
    assert_eq!(backup.spaces.len(), 1);
    assert_eq!(backup.spaces[0].location, space);
    let came = received(&mut backup).unwrap();
    let end = backup.finish().unwrap();
    assert!(!end.is_damaged);
    let text = String::from_utf8(came["backup_label"].clone().unwrap()).unwrap();
    let label = BackupLabel::parse(&text).unwrap();
    assert_eq!((label.start, label.timeline), (backup.start, who.timeline));
    let control = Control::parse(came["global/pg_control"].as_ref().unwrap()).unwrap();
    assert_eq!(control.system_id, who.system_id);
    let mut there = BTreeMap::new();
    files(&cluster.data(), "", &mut there);
    for (path, content) in &there {
        // The server goes on with these.
        if !["global/pg_control", "postmaster.pid"].contains(&&**path) {
            let came = came.get(path).unwrap_or_else(|| panic!("{path}"));
            assert!(came.as_ref() == Some(content), "{path}");
        }
    }
    let far = format!("pg_tblspc/{}/", backup.spaces[0].oid);
    assert!(there.keys().any(|path| path.starts_with(&far)));
    let mut log = SentLog::new(who.system_id, who.timeline);
    for (path, content) in &came {
        if let Some(name) = log.wanted(path.as_bytes()) {
            let content = content.as_ref().unwrap();
            log.take(name, content, content.len() as u64).unwrap();
        }
    }
    let segments = log.check(backup.start, end.stop, control.segment_bytes);
    assert_eq!(segments.unwrap(), 1);
    let sent: u64 = came
        .values()
        .flatten()
        .map(|content| content.len() as u64)
        .sum();
    let estimate = backup.estimate_bytes;
    assert!(
        estimate > sent / 2 && estimate < sent * 2,
        "{estimate}, {sent}"
    );
    drop(backup);
    lifeboat_testkit::wait::until("the slot went with the session", || {
        cluster.sql(slots).is_empty()
    });
}

/// A message of the protocol.
fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag][..], &length, body].concat()
}

/// A row of texts.
fn row(columns: &[Option<&str>]) -> Vec<u8> {
    let mut body = u16::try_from(columns.len()).unwrap().to_be_bytes().to_vec();
    for column in columns {
        let length = column.map_or(-1, |text| i32::try_from(text.len()).unwrap());
        body.extend(length.to_be_bytes());
        body.extend(column.unwrap_or_default().as_bytes());
    }
    message(b'D', &body)
}

fn position(text: &str) -> Vec<u8> {
    [
        message(b'T', &[0, 0]),
        row(&[Some(text), Some("1")]),
        message(b'C', b"SELECT\0"),
    ]
    .concat()
}

/// How a backup begins.
fn begun() -> Vec<u8> {
    let spaces = [
        row(&[Some("16385"), Some("/far"), None]),
        row(&[None, None, None]),
    ];
    [
        position("0/2000028"),
        message(b'T', &[0, 0]),
        spaces.concat(),
        message(b'C', b"SELECT\0"),
        message(b'H', &[0, 0, 0]),
    ]
    .concat()
}

fn archive(name: &str) -> Vec<u8> {
    message(b'd', format!("n{name}\0\0").as_bytes())
}

fn data(bytes: &[u8]) -> Vec<u8> {
    message(b'd', &[b"d", bytes].concat())
}

/// The header of a file.
fn header(name: &str, size_bytes: u64) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    block[..name.len()].copy_from_slice(name.as_bytes());
    for (at, text) in [(100, "0000600"), (108, "0000001"), (116, "0000001")] {
        block[at..at + 7].copy_from_slice(text.as_bytes());
    }
    block[124..135].copy_from_slice(format!("{size_bytes:011o}").as_bytes());
    block[136..147].copy_from_slice(b"14000000000");
    block[156] = b'0';
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

fn refused(code: &str) -> Vec<u8> {
    message(b'E', format!("SERROR\0C{code}\0Mno\0\0").as_bytes())
}

/// Somebody who lets anybody in and answers the first command with some bytes.
fn liar(answer: Vec<u8>) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("postgresql://x@127.0.0.1:{port}/x?sslmode=disable");
    let told = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let hear = |stream: &mut TcpStream, tag: usize| {
            let mut head = vec![0; tag + 4];
            stream.read_exact(&mut head).unwrap();
            let length = u32::from_be_bytes(head[tag..].try_into().unwrap());
            let mut body = vec![0; length as usize - 4];
            stream.read_exact(&mut body).unwrap();
        };
        hear(&mut stream, 0);
        let welcome = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
        stream.write_all(&welcome).unwrap();
        hear(&mut stream, 1);
        // Whoever has heard enough goes.
        let _ = stream.write_all(&answer);
    });
    (url, told)
}

/// What is made of an answer.
fn told(pieces: &[Vec<u8>]) -> Result<(usize, Lsn, bool), BaseBackupError> {
    let (url, liar) = liar(pieces.concat());
    let backup = BaseBackup::start(session(&url), false, &Cancel::new());
    let made = backup.and_then(|mut backup| {
        let came = received(&mut backup)?;
        let end = backup.finish()?;
        Ok((came.len(), end.stop, end.is_damaged))
    });
    liar.join().unwrap();
    made
}

#[test]
fn only_a_whole_backup_counts() {
    let (done, ready) = (message(b'c', &[]), message(b'Z', b"I"));
    let (end, complete) = (position("0/2000100"), message(b'C', b"BASE_BACKUP\0"));
    let file = || data(&[header("a", 3).to_vec(), b"abc".to_vec(), vec![0; 509]].concat());
    let zeros = || data(&[0; 2 * BLOCK_BYTES]);
    let whole = [
        begun(),
        archive("16385.tar"),
        file(),
        zeros(),
        archive("base.tar"),
        file(),
        zeros(),
    ];
    let with = |more: &[&Vec<u8>]| {
        let mut all = whole.to_vec();
        all.extend(more.iter().map(|piece| (*piece).clone()));
        told(&all)
    };
    let stop = Lsn(0x200_0100);
    let good = with(&[&done, &end, &complete, &ready]);
    assert_eq!(good.unwrap(), (2, stop, false));
    // Damaged pages are told when all was sent. Any other error is one.
    let damaged = with(&[&done, &end, &refused("XX001"), &ready]);
    assert_eq!(damaged.unwrap(), (2, stop, true));
    let other = with(&[&done, &end, &refused("58P01"), &ready]);
    assert!(matches!(other, Err(BaseBackupError::End(_))), "{other:?}");
    let early = with(&[&done, &refused("XX001"), &ready]);
    assert!(matches!(early, Err(BaseBackupError::End(_))), "{early:?}");
    let middle = with(&[&refused("XX001"), &ready]);
    assert!(
        matches!(middle, Err(BaseBackupError::Stream(_))),
        "{middle:?}"
    );
    for lost in [&[][..], &[&done], &[&done, &end]] {
        let lost = with(lost);
        assert!(matches!(lost, Err(BaseBackupError::Stream(_))), "{lost:?}");
    }
    let endless = with(&[&done, &ready]);
    assert!(
        matches!(endless, Err(BaseBackupError::Answer(_))),
        "{endless:?}"
    );
}

#[test]
fn what_no_server_sends_is_refused() {
    let done = message(b'c', &[]);
    let open = archive("base.tar");
    let link = |name: &str| {
        let mut block = header(name, 0);
        block[156] = b'2';
        let sum = block[148..156]
            .iter()
            .map(|byte| u32::from(*byte))
            .sum::<u32>();
        let all: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        let sum = all - sum + 8 * 32;
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        data(&block)
    };
    let end = [position("0/2000100"), message(b'Z', b"I")].concat();
    let linked = told(&[
        begun(),
        open.clone(),
        link("pg_tblspc/16385"),
        done.clone(),
        end,
    ]);
    assert_eq!(linked.unwrap().0, 1, "it stands for the tablespace");
    let form = |pieces: &[Vec<u8>]| {
        let mut all = vec![begun()];
        all.extend(pieces.iter().cloned());
        all.push(done.clone());
        match told(&all) {
            Err(BaseBackupError::Form(what)) => what.to_owned(),
            Err(BaseBackupError::Archive(cause)) => cause.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let file = header("a", 1000).to_vec();
    for (pieces, said) in [
        (vec![data(&file)], "files before their archive"),
        (vec![archive("7.tar")], "an archive of no tablespace"),
        (vec![archive("../base.tar")], "an archive of no tablespace"),
        (vec![open.clone(), data(&file)], "a part of a file alone"),
        (
            vec![open.clone(), data(&file), archive("16385.tar")],
            "a part of a file alone",
        ),
        (vec![open.clone(), data(&file[..100])], "half a header"),
        (vec![open.clone(), data(&[7; 512])], "another checksum"),
        (
            vec![open.clone(), data(&header("../a", 0))],
            "leads elsewhere",
        ),
        (vec![open.clone(), link("etc")], "a link that leads to no"),
        (
            vec![open.clone(), message(b'd', b"m")],
            "a message of a kind",
        ),
        (
            vec![open.clone(), message(b'd', b"")],
            "a message of a kind",
        ),
    ] {
        let found = form(&pieces);
        assert!(found.contains(said), "{found}");
    }
    let nothing = told(&[refused("42501"), message(b'Z', b"I")]);
    assert!(
        matches!(nothing, Err(BaseBackupError::Start(_))),
        "{nothing:?}"
    );
}
