//! A server of PostgreSQL that says whatever it is told to, to the client that is shipped: from its greeting to the end.
//! It must never be waited for: all that it says is there before it is heard, and then it hangs up.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lifeboat_flow::Cancel;
use lifeboat_state::postgres::client::{
    Address, Connection, Host, PgError, Secret, Session, TlsMode,
};
use lifeboat_state::postgres::dump::{ServerFacts, TargetFacts, databases};
use lifeboat_state::postgres::{
    BLOCK_BYTES, BaseBackup, BaseBackupError, Facts, Lsn, Replication, SlotFacts, Streamed,
    Timeline, identify, keep_log,
};
use rustix::net::{SendFlags, send};

use super::postgres::{is_below, sum};

/// What a server says at most, in bytes: it fits into the buffer of a socket, so that nobody waits to say it.
const SAID_MAX_BYTES: usize = 48 * 1024;
/// The port in the name of the socket.
const PORT: u16 = 5432;
/// Longer than anything takes here: a server that has hung up is noticed at once.
const PATIENCE: Duration = Duration::from_secs(600);
/// Says that the server lets everybody in.
const WELCOMES: u8 = 0x80;
/// The tag of a header of an archive, which gets its right sum and is sent as a part of a copy.
const HEADER: u8 = 1;
/// The tag of bytes that are sent as they are, without a length that fits.
const RAW: u8 = 0;

/// The first byte says what is asked. Then come the messages of the server: a tag, two bytes of length, a body.
pub(super) fn server(bytes: &[u8]) {
    let Some((first, script)) = bytes.split_first() else {
        return;
    };
    let said = said(script, first & WELCOMES != 0);
    let dir = tempfile::tempdir().expect("a place for a socket");
    let address = address(dir.path());
    let socket = socket_of(dir.path());
    let listener = UnixListener::bind(&socket).expect("a socket");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| serve(&listener, &said, &is_over));
        let _end = End {
            socket,
            is_over: &is_over,
        };
        ask(first & !WELCOMES, &address, said.len());
    });
}

/// Lets the server go, also when something does not hold.
struct End<'a> {
    socket: PathBuf,
    is_over: &'a AtomicBool,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = UnixStream::connect(&self.socket);
    }
}

/// Says the same to everybody, and keeps all connections so that nobody's words come back.
fn serve(listener: &UnixListener, said: &[u8], is_over: &AtomicBool) {
    let mut kept = Vec::new();
    loop {
        let (stream, _) = listener.accept().expect("a connection");
        if is_over.load(Ordering::SeqCst) {
            return;
        }
        // Who has gone already does not want to hear it.
        let _ = say(&stream, said);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        kept.push(stream);
    }
}

fn say(stream: &UnixStream, mut said: &[u8]) -> io::Result<()> {
    while !said.is_empty() {
        let sent = send(stream.as_fd(), said, SendFlags::NOSIGNAL)?;
        said = said.get(sent..).unwrap_or_default();
    }
    Ok(())
}

fn socket_of(dir: &Path) -> PathBuf {
    dir.join(format!(".s.PGSQL.{PORT}"))
}

fn address(dir: &Path) -> Address {
    Address {
        host: Host::Socket(dir.to_owned()),
        port: PORT,
        user: "somebody".into(),
        database: "postgres".into(),
        password: Some(Secret("secret".into())),
        tls: TlsMode::Disable,
        root_certificates: None,
        connect_timeout: PATIENCE,
        settings: Vec::new(),
    }
}

/// The bytes of a script.
fn said(mut script: &[u8], welcomes: bool) -> Vec<u8> {
    let mut said = Vec::new();
    if welcomes {
        message(&mut said, b'R', &[0; 4]);
        message(&mut said, b'S', b"server_version\x0015.18\0");
        message(&mut said, b'Z', b"I");
    }
    while let Some((head, rest)) = script.split_first_chunk::<3>() {
        let [tag, length @ ..] = *head;
        let length = usize::from(u16::from_be_bytes(length)).min(rest.len());
        let (body, rest) = rest.split_at(length);
        script = rest;
        match tag {
            RAW => said.extend_from_slice(body),
            HEADER => {
                let mut block = [0; BLOCK_BYTES];
                for (to, from) in block.iter_mut().zip(body) {
                    *to = *from;
                }
                sum(&mut block);
                message(&mut said, b'd', &[b"d".as_slice(), &block].concat());
            }
            tag => message(&mut said, tag, body),
        }
        if said.len() > SAID_MAX_BYTES {
            break;
        }
    }
    said.truncate(SAID_MAX_BYTES);
    said
}

fn message(said: &mut Vec<u8>, tag: u8, body: &[u8]) {
    said.push(tag);
    said.extend((body.len() as u32 + 4).to_be_bytes());
    said.extend_from_slice(body);
}

fn ask(what: u8, address: &Address, said_bytes: usize) {
    let cancel = Cancel::new();
    let asked = match what % 4 {
        0 => query(address, &cancel, said_bytes),
        1 => stream(address, &cancel, said_bytes),
        2 => backup(address, &cancel, said_bytes),
        _ => facts(address, &cancel, what / 4),
    };
    // What the server says, it has said: nobody waits for more of it.
    assert!(!matches!(asked, Err(PgError::Silent(_))), "{asked:?}");
}

/// A query, and what is known of the server beside its answer.
fn query(address: &Address, cancel: &Cancel, said_bytes: usize) -> Result<(), PgError> {
    let mut connection = Connection::open(address, Session::Queries, cancel)?;
    let _ = connection.version();
    let rows = connection.query("select 1", Some(PATIENCE), cancel)?;
    let values = rows.iter().flatten().flatten();
    // What is no text is shown as another character, of three bytes.
    assert!(values.map(String::len).sum::<usize>() <= said_bytes * 3);
    for notice in connection.take_notices() {
        assert!(notice.len() <= said_bytes * 3);
    }
    Ok(())
}

/// The facts that a capture begins with.
fn facts(address: &Address, cancel: &Cancel, which: u8) -> Result<(), PgError> {
    let mut connection = Connection::open(address, Session::Queries, cancel)?;
    match which % 4 {
        0 => drop(Facts::ask(&mut connection, cancel)),
        1 => drop(ServerFacts::ask(&mut connection, cancel)),
        2 => drop(TargetFacts::ask(&mut connection, cancel)),
        _ => drop(databases(&mut connection, 150_000, &[], cancel)),
    }
    Ok(())
}

/// The log as it is written, to the end of its timeline.
fn stream(address: &Address, cancel: &Cancel, said_bytes: usize) -> Result<(), PgError> {
    let mut replication = Replication::open(address, cancel)?;
    let _ = replication.identify(cancel)?;
    let _ = replication.segment_bytes(cancel)?;
    if let Some(SlotFacts { kept_from: None }) = replication.slot("slot", cancel)? {
        replication.drop_slot("slot", cancel)?;
        replication.create_slot("slot", cancel)?;
    }
    let mut stream = replication.stream("slot", Timeline(1), Lsn(0), cancel)?;
    let mut came_bytes = 0;
    loop {
        match stream.next(PATIENCE, cancel)? {
            Streamed::Log { bytes, .. } => came_bytes += bytes.len(),
            Streamed::Alive { .. } => stream.report(Lsn(7), Lsn(7), false)?,
            Streamed::Nothing => panic!("nobody waits"),
            Streamed::Ended => break,
        }
        assert!(came_bytes <= said_bytes);
    }
    let _ = stream.finish(cancel)?;
    let history = replication.history(Timeline(2), cancel)?;
    assert!(history.len() <= said_bytes * 3);
    Ok(())
}

/// A whole backup: each file is as long as it was announced, and lies where it belongs.
fn backup(address: &Address, cancel: &Cancel, said_bytes: usize) -> Result<(), PgError> {
    let connection = Connection::open(address, Session::Replication, cancel)?;
    match taken(connection, cancel, said_bytes) {
        Err(BaseBackupError::Session(error) | BaseBackupError::Stream(error)) => Err(error),
        _ => Ok(()),
    }
}

fn taken(
    mut connection: Connection,
    cancel: &Cancel,
    said_bytes: usize,
) -> Result<(), BaseBackupError> {
    let _ = identify(&mut connection, cancel).map_err(BaseBackupError::Session)?;
    let _ = keep_log(&mut connection, "slot", cancel)?;
    let mut backup = BaseBackup::start(connection, true, cancel)?;
    while let Some(arrival) = backup.arrival()? {
        is_below(&arrival.path.0);
        let mut came_bytes = 0;
        while let Some(piece) = backup.content()? {
            came_bytes += piece.len();
        }
        assert_eq!(came_bytes as u64, arrival.size_bytes.unwrap_or(0));
        assert!(came_bytes <= said_bytes);
    }
    backup.finish().map(drop)
}
