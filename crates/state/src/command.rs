//! The output of a command as a member: a single file that is what the command wrote to its standard output.
//! It must never be acknowledged if the command failed, and never leave the command running behind.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use lifeboat_flow::{Content, Entry, EntryPath, Listing, Source, SourceError, Timestamp};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::pipe::Pipe;
use crate::stream::{StreamNameError, StreamPlace, read_twice, refuse_nothing};

/// A longer line of a command's complaints is given in pieces.
const COMPLAINT_LIMIT_BYTES: u64 = 4 << 10;
/// How long the last complaints are waited for; what the command left running may hold its standard error open.
pub(crate) const LAST_COMPLAINTS_TIMEOUT: Duration = Duration::from_secs(2);

/// Takes what the command writes to its standard error, line by line; called from a thread of its own.
pub type Complaints = Arc<dyn Fn(&str) + Send + Sync>;

/// The output of a command as a source. The command starts when the file is opened.
pub struct CommandSource {
    place: StreamPlace,
    command: Vec<OsString>,
    complaints: Option<Complaints>,
    alone_in: Option<PathBuf>,
    is_used: AtomicBool,
}

/// A command can't be a source.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It has no words.
    #[error("no command was given")]
    Empty,
    /// Its output can't have this name.
    #[error(transparent)]
    Name(#[from] StreamNameError),
}

impl CommandSource {
    /// The output of a program (the first word) with its arguments, as the file `name`; `time` is when it was taken.
    /// Without `complaints` the command shares our standard error.
    ///
    /// # Errors
    /// When the command has no words, or the name no component.
    pub fn new(
        name: &[u8],
        time: Timestamp,
        command: Vec<OsString>,
        complaints: Option<Complaints>,
    ) -> Result<Self, CommandError> {
        if command.is_empty() {
            return Err(CommandError::Empty);
        }
        Ok(Self {
            place: StreamPlace::new(name, time)?,
            command,
            complaints,
            alone_in: None,
            is_used: AtomicBool::new(false),
        })
    }

    /// The same for a command that nobody sits before: it runs in this directory and in a process group of its own, so that
    /// all that it starts ends with it.
    #[must_use]
    pub fn alone_in(self, dir: &Path) -> Self {
        Self {
            alone_in: Some(dir.to_path_buf()),
            ..self
        }
    }

    fn start(&self, program: String) -> io::Result<CommandContent> {
        let (word, arguments) = self
            .command
            .split_first()
            .ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(word);
        command.args(arguments);
        if let Some(dir) = &self.alone_in {
            command.current_dir(dir).process_group(0);
        }
        let mut content = CommandContent::start(
            command,
            program,
            self.place.file_entry(),
            self.complaints.clone(),
        )?;
        content.leads_group = self.alone_in.is_some();
        Ok(content)
    }
}

impl Source for CommandSource {
    fn list(&self, dir: &EntryPath) -> Result<Listing, SourceError> {
        self.place.list(dir)
    }

    fn open(&self, path: &EntryPath) -> Result<Box<dyn Content>, SourceError> {
        self.place.expect_file(path)?;
        if self.is_used.swap(true, Ordering::Relaxed) {
            return Err(read_twice(path));
        }
        let program = self
            .command
            .first()
            .map(|word| word.to_string_lossy().into_owned());
        let program = program.unwrap_or_default();
        let content = self.start(program.clone());
        let content = content.map_err(|cause| SourceError::Fatal {
            reason: format!("the command {program:?} can't be started: {cause}"),
        })?;
        Ok(Box::new(content))
    }
}

/// What a command that runs writes to its standard output.
pub(crate) struct CommandContent {
    child: Child,
    stdout: Option<Pipe<ChildStdout>>,
    listener: Option<Receiver<()>>,
    entry: Entry,
    program: String,
    leads_group: bool,
}

impl CommandContent {
    /// Starts a command that is called `program` in messages; `entry` is the file that its output becomes. Without
    /// `complaints` the command shares our standard error.
    pub(crate) fn start(
        mut command: Command,
        program: String,
        entry: Entry,
        complaints: Option<Complaints>,
    ) -> io::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(match complaints {
                Some(_) => Stdio::piped(),
                None => Stdio::inherit(),
            })
            .spawn()?;
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let stderr = child.stderr.take();
        let listener = stderr
            .zip(complaints)
            .map(|(stderr, complaints)| listen(stderr, complaints));
        Ok(Self {
            child,
            stdout: Some(Pipe(stdout)),
            listener,
            entry,
            program,
            leads_group: false,
        })
    }
}

impl Read for CommandContent {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(stdout) = self.stdout.as_mut() else {
            return Ok(0);
        };
        let length = stdout.read(buf)?;
        self.entry.size_bytes += length as u64;
        Ok(length)
    }
}

impl Content for CommandContent {
    fn finish(&mut self) -> Result<Option<Entry>, SourceError> {
        // Closed before waiting: a command that is still writing must not wait for us.
        self.stdout = None;
        let status = self.child.wait().map_err(|cause| SourceError::Fatal {
            reason: format!(
                "the command {:?} can't be waited for: {cause}",
                self.program
            ),
        })?;
        if let Some(listener) = self.listener.take() {
            let _ = listener.recv_timeout(LAST_COMPLAINTS_TIMEOUT);
        }
        if !status.success() {
            return Err(SourceError::Fatal {
                reason: format!("the command {:?} {}", self.program, how_it_ended(status)),
            });
        }
        refuse_nothing(&self.entry, &format!("the command {:?}", self.program))?;
        Ok(Some(self.entry.clone()))
    }
}

impl Drop for CommandContent {
    fn drop(&mut self) {
        // One that was waited for may have given its number to somebody else.
        if self.leads_group && matches!(self.child.try_wait(), Ok(None)) {
            let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
            let _ = group.map(|group| kill_process_group(group, Signal::KILL));
        }
        // Both do nothing once it was waited for. Its complaints are left to their thread, which ends with the pipe.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In words, behind the name of a program.
pub(crate) fn how_it_ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

/// Passes on what a command complains about, on a thread of its own; the receiver hears nothing but the end of it.
pub(crate) fn listen(stderr: ChildStderr, complaints: Complaints) -> Receiver<()> {
    let (done, ended) = channel();
    std::thread::spawn(move || {
        pass_on(stderr, &complaints);
        drop(done);
    });
    ended
}

fn pass_on(stderr: ChildStderr, complaints: &Complaints) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader
            .by_ref()
            .take(COMPLAINT_LIMIT_BYTES)
            .read_until(b'\n', &mut line)
        {
            Ok(0) | Err(_) => return,
            Ok(_) => complaints(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r'])),
        }
    }
}
