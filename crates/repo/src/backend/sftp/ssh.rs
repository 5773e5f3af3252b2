//! The program that leads to an SFTP server, and what it says about it: started in a group of its own, stopped in time.
//! It must never be left running, never be told a password of ours, and never fill memory with what it says.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

use super::command::SftpCommand;
use super::failure::{Loss, host_key_advice, judge};
use super::terminal::LentTerminal;
use crate::backend::Trouble;

/// How long a program may take to end once its connection is closed, before it is asked to.
const END_MAX: Duration = Duration::from_secs(2);
/// How long it may take once it was asked, before it is killed.
const TERMINATE_MAX: Duration = Duration::from_secs(1);
/// How long the last words are waited for; a helper of ssh may hold its standard error open.
const LAST_WORDS_MAX: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How much of what it says is kept: the last lines, so long each.
const LINES_MAX: usize = 20;
const LINE_MAX_BYTES: u64 = 500;
/// How many lines make it into a message.
const LINES_SHOWN: usize = 3;

/// Secrets of ours that a user's configuration of ssh might send to the server (`SendEnv *`).
const SECRETS: [&str; 6] = [
    "RESTIC_PASSWORD",
    "RESTIC_FROM_PASSWORD",
    "RESTIC_REST_PASSWORD",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "RCLONE_CONFIG_PASS",
];

/// A running program whose standard input and output are ours.
pub(super) struct Ssh {
    child: Mutex<Child>,
    /// One end of a pair of sockets; a pipe could not be waited for with a limit.
    stream: UnixStream,
    said: Arc<Mutex<VecDeque<String>>>,
    /// Ends when standard error does.
    all_said: Receiver<()>,
    program: String,
    by_hand: String,
    /// While it may ask a person.
    lent: Mutex<Option<LentTerminal>>,
}

/// How a connection ended, seen from our side of it.
#[derive(Debug)]
pub(super) enum End {
    /// The program closed its standard output.
    Closed,
    /// Nothing came for so long.
    Silent(Duration),
    /// The stream failed.
    Broken(io::Error),
    /// What came is not what the protocol allows.
    Odd(String),
}

impl Ssh {
    /// Starts it.
    pub(super) fn start(command: &SftpCommand) -> Result<Self, Loss> {
        let (stream, theirs) = UnixStream::pair().map_err(|cause| cannot_start(command, &cause))?;
        let input = theirs
            .try_clone()
            .map_err(|cause| cannot_start(command, &cause))?;
        let mut program = Command::new(&command.program);
        program
            .args(&command.arguments)
            .stdin(OwnedFd::from(input))
            .stdout(OwnedFd::from(theirs))
            .stderr(Stdio::piped());
        for name in SECRETS {
            program.env_remove(name);
        }
        // Ctrl-C is for us to handle first: locks are removed through this very connection.
        program.process_group(0);
        let child = program.spawn();
        // Our copies of its end are closed, so that the end of the program is the end of the stream.
        drop(program);
        let mut child = child.map_err(|cause| cannot_start(command, &cause))?;
        let lent = command
            .may_ask
            .then(|| LentTerminal::to(rustix::process::Pid::from_child(&child)))
            .flatten();
        let said = Arc::new(Mutex::new(VecDeque::new()));
        let (done, all_said) = bounded(0);
        if let Some(stderr) = child.stderr.take() {
            let said = Arc::clone(&said);
            std::thread::spawn(move || {
                listen(stderr, &said);
                drop(done);
            });
        }
        Ok(Self {
            child: Mutex::new(child),
            stream,
            said,
            all_said,
            program: command.program.clone(),
            by_hand: command.by_hand.clone(),
            lent: Mutex::new(lent),
        })
    }

    /// The stream to and from it.
    pub(super) fn stream(&self) -> io::Result<UnixStream> {
        self.stream.try_clone()
    }

    /// Lets it ask nothing more, because it has greeted or ended.
    pub(super) fn take_terminal_back(&self) {
        let mut lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        drop(lent.take());
    }

    /// Closes the stream: whoever reads from it or writes to it fails from now on.
    pub(super) fn hang_up(&self) {
        // It fails only if that has happened already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Stops it: by closing the stream, by asking, at last by force.
    pub(super) fn stop(&self) {
        self.hang_up();
        if self.ended_within(END_MAX).is_some() {
            return;
        }
        let pid = rustix::process::Pid::from_child(&self.child());
        // Until it was waited for, its number is nobody else's.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        if self.ended_within(TERMINATE_MAX).is_none() {
            let _ = self.child().kill();
            let _ = self.child().wait();
        }
    }

    /// Why there is no connection, with the program's own words; waits a little for them. `greeted` is whether the
    /// server had been heard at all.
    pub(super) fn why(&self, end: End, greeted: bool) -> Loss {
        self.hang_up();
        let status = self.ended_within(END_MAX);
        let _ = self.all_said.recv_timeout(LAST_WORDS_MAX);
        let said: Vec<String> = self
            .said
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect();
        let said = before_usage(said);
        let shown = said.len().saturating_sub(LINES_SHOWN);
        let words = said.get(shown..).unwrap_or_default().join("; ");
        let seen = match (&end, status) {
            (End::Closed, Some(status)) => format!("{} ended with {status}", self.program),
            (End::Closed, None) => "the connection was closed".to_owned(),
            (End::Silent(limit), _) => {
                format!("the server was silent for {} s", limit.as_secs())
            }
            (End::Broken(cause), _) => format!("the connection broke: {cause}"),
            (End::Odd(what), _) => what.clone(),
        };
        let trouble = match end {
            End::Odd(_) => Trouble::Protocol,
            _ if greeted => Trouble::Transient,
            End::Silent(_) if said.is_empty() => Trouble::Unreachable,
            _ => judge(&said),
        };
        let why = match trouble {
            Trouble::HostKey => format!("{} ({words})", host_key_advice(&said, &self.by_hand)),
            _ if words.is_empty() => seen,
            _ if matches!(end, End::Closed) => words,
            _ => format!("{seen} ({words})"),
        };
        Loss { trouble, why }
    }

    /// How it ended, if it does within a time.
    fn ended_within(&self, limit: Duration) -> Option<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child().try_wait() {
                return Some(status);
            }
            if begun.elapsed() > limit {
                return None;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What is said before a program explains all its options, if it does: that says which one is wrong.
fn before_usage(mut said: Vec<String>) -> Vec<String> {
    let usage = said.iter().position(|line| line.starts_with("usage:"));
    said.truncate(usage.filter(|at| *at > 0).unwrap_or(said.len()));
    said
}

fn cannot_start(command: &SftpCommand, cause: &io::Error) -> Loss {
    let program = &command.program;
    let why = match cause.kind() {
        io::ErrorKind::NotFound if program == "ssh" => {
            "ssh is not installed: install OpenSSH's client, or name another program in sftp.command"
                .to_owned()
        }
        io::ErrorKind::NotFound => format!("the program {program} of sftp.command does not exist"),
        _ => format!("the program {program} can't be started: {cause}"),
    };
    Loss::new(Trouble::Program, why)
}

/// Keeps the last lines of what a program says.
fn listen(stderr: ChildStderr, said: &Mutex<VecDeque<String>>) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader)
            .take(LINE_MAX_BYTES)
            .read_until(b'\n', &mut line)
        {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        // What comes from a server may hold what a terminal would obey.
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        let text = text.trim().trim_matches('@').trim();
        if text.is_empty() {
            continue;
        }
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() == LINES_MAX {
            said.pop_front();
        }
        said.push_back(text.to_owned());
    }
}
