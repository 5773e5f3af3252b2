//! rclone as a child process: started apart from the terminal, listened to, and stopped by its own process.
//! It must never be ended by a name, nor outlive the value that stands for it.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::settings::Settings;
use super::tail::Tail;
use crate::backend::Trouble;
use crate::backend::http::TransportError;

/// How long rclone may take to end by itself when nobody speaks to it any more; restic waits as long.
const END_MAX: Duration = Duration::from_secs(5);
/// How long after a broken connection its end is waited for, to learn the reason.
const GRACE: Duration = Duration::from_secs(1);
/// How often its end is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long the rest of its last words may take: a program of its own may keep the pipe open.
const WORDS_MAX: Duration = Duration::from_millis(500);
/// The signals by which others end a program, as the kernel does without memory: SIGKILL and SIGTERM.
const BY_OTHERS: [i32; 2] = [9, 15];

/// A running rclone.
pub(super) struct Child {
    process: Mutex<std::process::Child>,
    tail: Tail,
    program: String,
}

/// What it is spoken to through.
pub(super) struct Pipes {
    /// Its standard input.
    pub(super) stdin: ChildStdin,
    /// Its standard output.
    pub(super) stdout: ChildStdout,
}

/// How it ended.
pub(super) struct End {
    words: String,
    status: ExitStatus,
}

impl End {
    /// That it ended while it was needed: it may run longer next time.
    pub(super) fn into_interruption(self) -> TransportError {
        TransportError {
            trouble: Trouble::Transient,
            why: self.words,
        }
    }

    /// That it ended before it answered: it will do so again, unless somebody killed it.
    pub(super) fn into_failure_to_start(self) -> TransportError {
        let trouble = match self.status.signal() {
            Some(signal) if BY_OTHERS.contains(&signal) => Trouble::Transient,
            _ => Trouble::Program,
        };
        TransportError {
            trouble,
            why: self.words,
        }
    }
}

impl Child {
    /// Starts it. Its process group is its own: a Ctrl-C in the terminal is for us, and we finish what we do with it.
    ///
    /// # Errors
    /// When it can't be started, in words.
    pub(super) fn start(settings: &Settings) -> Result<(Self, Pipes), String> {
        let program = settings.program.clone();
        let mut command = Command::new(&program);
        command
            .args(&settings.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        for (name, value) in &settings.variables {
            command.env(name, value.reveal());
        }
        let mut process = command.spawn().map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => format!(
                "there is no program {program:?}: install it (as `apt install rclone`), or name it with -o rclone.program"
            ),
            _ => format!("{program:?} can't be started: {cause}"),
        })?;
        let pipes = process.stdin.take().zip(process.stdout.take());
        let stderr = process.stderr.take();
        let tail = Tail::behind(settings.veil.clone());
        let child = Self {
            process: Mutex::new(process),
            tail: tail.clone(),
            program,
        };
        if let Some(stderr) = stderr {
            std::thread::Builder::new()
                .name("rclone-words".into())
                .spawn(move || tail.read(stderr))
                .map_err(|cause| format!("no thread can be made to listen to it: {cause}"))?;
        }
        let (stdin, stdout) = pipes.ok_or("it was given no pipes")?;
        Ok((child, Pipes { stdin, stdout }))
    }

    /// How it ended and what it said last, if it has ended or does within a moment.
    pub(super) fn ended(&self) -> Option<End> {
        let status = self.wait(GRACE)?;
        let program = &self.program;
        let words = self.tail.words(WORDS_MAX);
        let hint = match words.contains("didn't find section in config file") {
            true => "; `rclone listremotes` shows the remotes that it knows",
            false => "",
        };
        let words = match words.as_str() {
            "" => format!("{program} ended ({status}) and said nothing"),
            words => format!("{program} ended ({status}): {words}{hint}"),
        };
        Some(End { words, status })
    }

    /// What it said last, to be appended; empty if nothing.
    pub(super) fn words(&self) -> String {
        match self.tail.words(Duration::ZERO).as_str() {
            "" => String::new(),
            words => format!(", and said: {words}"),
        }
    }

    fn wait(&self, patience: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + patience;
        loop {
            let looked = self
                .process
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .try_wait();
            match looked {
                Ok(Some(status)) => return Some(status),
                // Nobody else waits for it, so this can't fail.
                Err(_) => return None,
                Ok(None) if Instant::now() >= until => return None,
                Ok(None) => std::thread::sleep(LOOK_EVERY),
            }
        }
    }
}

impl Drop for Child {
    /// Waits until it ends by itself, which it does when its standard input ends, and ends it if it does not.
    fn drop(&mut self) {
        if self.wait(END_MAX).is_some() {
            return;
        }
        let process = self
            .process
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        // Both fail only if it is gone.
        let _ = process.kill();
        let _ = process.wait();
    }
}
