//! The side of the command: it asks the resident process, and leaves one behind where there is none.
//! It must never wait for one that gives no sign of life, nor put a secret where a process list shows it.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use lifeboat_flow::Event;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::place::abandon;
use super::wire::{Answer, Request};
use super::{Identity, SILENCE_MAX};
use crate::ui::Ui;

/// The names of a server that is the first process of a container. It would adopt the process that is left behind, and take
/// it for one of its own when that is killed: it ends all sessions then, and recovers (PostgreSQL source, `postmaster.c`,
/// `CleanupBackend`).
const SERVERS: [&str; 2] = ["postgres", "edb-postgres"];
/// Where the name of the first process is (`proc(5)`).
const FIRST_PROCESS: &str = "/proc/1/comm";

/// Whether the process that adopts ours can bear it.
pub(super) fn adopter_bears_it() -> bool {
    let name = std::fs::read_to_string(FIRST_PROCESS).unwrap_or_default();
    !SERVERS.contains(&name.trim_end())
}

/// The way to a resident process.
#[derive(Debug)]
pub struct Resident {
    identity: Identity,
    idle: Duration,
}

/// What came of a question.
#[derive(Debug)]
pub enum Asked {
    /// This.
    Answered(Answer),
    /// Nothing: there is no process.
    Nobody,
    /// Nothing: there is one, and it does not help.
    Nothing,
}

impl Resident {
    pub(super) fn new(identity: Identity, idle: Duration) -> Self {
        Self { identity, idle }
    }

    /// Asks it.
    pub fn ask(&self, request: &Request, ui: &Ui) -> Asked {
        let socket = &self.identity.socket;
        let stream = match connect(socket) {
            Ok(stream) => stream,
            Err(error) if is_nobody(&error) => return Asked::Nobody,
            Err(error) => {
                ui.notes().event(note(&error));
                return Asked::Nothing;
            }
        };
        match converse(stream, request) {
            Ok(answer) => Asked::Answered(answer),
            // It ended in the middle, or has enough to do.
            Err(error) if is_gone(&error) => Asked::Nothing,
            Err(error) => {
                abandon(socket);
                ui.notes().event(note(&error));
                Asked::Nothing
            }
        }
    }

    /// Leaves one behind. Nobody waits for it, and nothing depends on it.
    pub fn leave(&self, ui: &Ui) {
        if let Err(error) = self.start() {
            let text = format!("start a resident process: {error}");
            ui.notes().event(Event::Note(text));
        }
    }

    fn start(&self) -> io::Result<()> {
        let identity = &self.identity;
        let mut command = Command::new(identity.binary.path());
        command
            .args(["wal", "resident"])
            .stdin(Stdio::piped())
            // What is left open here keeps the log of the server waiting, and whoever reads from the command.
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if identity.directory.is_none() {
            command.current_dir("/");
        }
        let mut child = command.spawn()?;
        let mut told = format!("{}\0{}", identity.key, self.idle.as_millis()).into_bytes();
        for option in &identity.options {
            told.push(0);
            told.extend(option.as_bytes());
        }
        // It is nobody's child to wait for: who adopts it does.
        child
            .stdin
            .take()
            .map_or(Ok(()), |mut pipe| pipe.write_all(&told))
    }
}

/// Connects without waiting, and only to ourselves.
fn connect(socket: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Where too many wait already, this fails instead of waiting with them.
    rustix::net::connect(&fd, &SocketAddrUnix::new(socket)?)?;
    let stream = UnixStream::from(fd);
    stream.set_nonblocking(false)?;
    super::serve::is_ourselves(&stream)?;
    Ok(stream)
}

fn converse(mut stream: UnixStream, request: &Request) -> io::Result<Answer> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    request.write(&mut stream)?;
    loop {
        match Answer::read(&mut stream) {
            Ok(Answer::Working) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let seconds = SILENCE_MAX.as_secs();
                let why = format!("no sign of life for {seconds} s");
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            done => return done,
        }
    }
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

fn note(error: &io::Error) -> Event {
    Event::Note(format!(
        "the resident process does not help, so this is done without it: {error}"
    ))
}
