//! `lifeboat wal resident`: the process that has a repository open, and does what the commands of servers ask for.
//! It must never answer before what it says is so, hold on to what its starter had open, or outlive its use.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::{Args, Parser};
use lifeboat_protect::postgres::{ArchiveError, Fetched, LogFileError, LookAhead};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;

use super::place::{Claim, keep_others_out};
use super::wire::{Answer, Request, Told};
use super::{Identity, SIGN_OF_LIFE_EVERY, SILENCE_MAX};
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::repo::session::{Locking, Session};
use crate::ui::Ui;
use crate::wal::impatient;

/// Between two looks at whether it should go on.
const LOOK_EVERY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 500_000_000,
};
/// Commands that are answered at once; others do their work by themselves.
const COMMANDS_MAX: usize = 16;
/// How long what is being done may take when it ends.
const PARTING_MAX: Duration = Duration::from_secs(10);
/// Between two looks at whether that has ended.
const PARTING_LOOK_EVERY: Duration = Duration::from_millis(20);
/// Longest text that it is told at its start, in bytes.
const TOLD_MAX_BYTES: u64 = 1024 * 1024;

/// Keep a repository open for `wal push` and `wal fetch`, which start this by themselves
#[derive(Args)]
pub struct Serve {}

/// What it is told at its start, on standard input, where no process list shows it.
struct Start {
    key: String,
    idle: Duration,
    global: Global,
}

/// The options among that.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    global: Global,
}

impl Start {
    fn read(from: impl Read) -> Option<Self> {
        let mut told = Vec::new();
        from.take(TOLD_MAX_BYTES).read_to_end(&mut told).ok()?;
        let mut words = told
            .split(|byte| *byte == 0)
            .map(|word| OsString::from_vec(word.to_vec()));
        let key = words.next()?.into_string().ok()?;
        let idle_milliseconds = words.next()?.into_string().ok()?.parse().ok()?;
        let program = OsString::from("lifeboat");
        let options = Options::try_parse_from(std::iter::once(program).chain(words));
        Some(Self {
            key,
            idle: Duration::from_millis(idle_milliseconds),
            global: options.ok()?.global,
        })
    }
}

impl Serve {
    /// Serves until nobody asks any more. Whatever fails is told to nobody: who asks does it himself then, and tells.
    pub fn run(&self) -> Outcome {
        keep_others_out();
        // A server that stops signals the group of its commands. One that leads its group was started by hand.
        let _ = rustix::process::setsid();
        let start = Start::read(io::stdin())
            .ok_or_else(|| Failure::new("`wal push` and `wal fetch` start this by themselves"))?;
        let identity = Identity::of(&start.global).map_err(|refused| Failure::new(refused.0))?;
        if identity.key != start.key {
            return Err(Failure::new(
                "this is another program, or has other options",
            ));
        }
        let failed = |error: io::Error| Failure::from_error(&error);
        let Some(mut claim) = identity.place.claim(&identity.key).map_err(failed)? else {
            return Ok(Exit::Done);
        };
        let ui = Ui::new(&start.global);
        let session = Session::open_early(&impatient(&start.global), &ui, Locking::None)?;
        if identity.directory.is_none() {
            // Nothing is kept busy by a process that only waits.
            std::env::set_current_dir("/").map_err(failed)?;
        }
        let listener = claim.listen(identity.socket.clone()).map_err(failed)?;
        let memory_bytes = start.global.memory_bytes()?;
        let service = Arc::new(Service {
            archive: LookAhead::new(&session.repository, memory_bytes),
            commands: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        });
        let is_wanted = || identity.binary.is_in_place() && !ui.wish.is_cancelled();
        let served = service.serve(&listener, &claim, start.idle, is_wanted);
        drop(listener);
        drop(claim);
        ui.wish.cancel();
        let began = Instant::now();
        while service.is_busy() && began.elapsed() < PARTING_MAX {
            std::thread::sleep(PARTING_LOOK_EVERY);
        }
        served.map_err(failed)?;
        Ok(Exit::Done)
    }
}

/// The work of the process.
struct Service {
    archive: LookAhead,
    /// Commands that wait for an answer.
    commands: AtomicUsize,
    /// Whether the repository has to be opened anew.
    is_over: AtomicBool,
}

impl Service {
    fn serve(
        self: &Arc<Self>,
        listener: &UnixListener,
        claim: &Claim,
        idle: Duration,
        is_wanted: impl Fn() -> bool,
    ) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let mut last = Instant::now();
        while is_wanted() && claim.is_reached() && !self.is_over.load(Ordering::Acquire) {
            if self.is_busy() {
                last = Instant::now();
            }
            if last.elapsed() >= idle {
                break;
            }
            match poll(
                &mut [PollFd::new(listener, PollFlags::IN)],
                Some(&LOOK_EVERY),
            ) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                done => done?,
            };
            match listener.accept() {
                Ok((stream, _)) => {
                    last = Instant::now();
                    self.answer(stream);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn is_busy(&self) -> bool {
        self.commands.load(Ordering::Acquire) > 0 || self.archive.is_busy()
    }

    /// Answers a command, in a thread of its own. One that hears nothing does its work by itself.
    fn answer(self: &Arc<Self>, stream: UnixStream) {
        let command = Command::count(self);
        if self.commands.load(Ordering::Acquire) > COMMANDS_MAX {
            return;
        }
        let thread = std::thread::Builder::new().name("command".into());
        // Without a thread the command is let go.
        let _ = thread.spawn(move || {
            let _ = command.0.converse(stream);
        });
    }

    fn converse(&self, mut stream: UnixStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        is_ourselves(&stream)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        let request = Request::read(&mut stream)?;
        let (done, answers) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let done = done;
                // Nobody listens any more if the command has gone.
                let _ = done.send(self.work(&request));
            });
            loop {
                match answers.recv_timeout(SIGN_OF_LIFE_EVERY) {
                    Ok(Some(answer)) => return answer.write(&mut stream),
                    Err(mpsc::RecvTimeoutError::Timeout) => Answer::Working.write(&mut stream)?,
                    Ok(None) | Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
                }
            }
        })
    }

    /// Does what is asked; `None` if the command has to.
    fn work(&self, request: &Request) -> Option<Answer> {
        let done = match request {
            Request::Push(file) => self.archive.push(file).map(Answer::Pushed),
            Request::Fetch {
                system_id,
                name,
                own,
                size,
            } => {
                match self.archive.fetch(*system_id, *name, *own, *size) {
                    Ok(Fetched::Content(content)) => Ok(Answer::Content(content)),
                    Ok(Fetched::Beyond) => Ok(Answer::Beyond),
                    // The command compares it with what the server has itself.
                    Ok(Fetched::Beginning { .. }) => return None,
                    Err(error) => Err(error),
                }
            }
        };
        let error = match done {
            Ok(answer) => return Some(answer),
            Err(error) => error,
        };
        if error.ends_session() {
            self.is_over.store(true, Ordering::Release);
            return None;
        }
        if error.is_wish() {
            return None;
        }
        if matches!(error, LogFileError::Archive(ArchiveError::Lost { .. })) {
            return Some(Answer::Lost);
        }
        let is_of_store = error.is_of_store();
        let failure = Failure::of_database(&error);
        Some(Answer::Failed(Told {
            message: failure.message,
            hint: failure.hint,
            is_of_store,
        }))
    }
}

/// A command that is counted while it waits, however its thread ends.
struct Command(Arc<Service>);

impl Command {
    fn count(service: &Arc<Service>) -> Self {
        service.commands.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(service))
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        self.0.commands.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether the other end is a process of this user.
pub(super) fn is_ourselves(stream: &UnixStream) -> io::Result<()> {
    match socket_peercred(stream)?.uid == rustix::process::geteuid() {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "its socket belongs to a process of another user",
        )),
    }
}
