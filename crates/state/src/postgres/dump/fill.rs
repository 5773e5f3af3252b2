//! Fills a database from a dump that comes as a stream, by `pg_restore`, which stops at the first error.
//! It must never take half a dump for the whole of it, nor leave the program running behind.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lifeboat_flow::{Cancel, Cancelled};

use super::super::client::Address;
use super::conninfo::client;
use super::programs::ClientPrograms;
use super::words::Words;
use crate::command::{LAST_COMPLAINTS_TIMEOUT, how_it_ended, listen};

/// Between two looks at whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A longer table of contents is none.
const LIST_MAX_BYTES: u64 = 256 * 1024 * 1024;
/// What its line in a table of contents says of the rows of a materialised view.
const VIEW_ROWS: &str = "MATERIALIZED VIEW DATA ";

/// How a database is filled.
#[derive(Clone, Debug, Default)]
pub struct Filling<'a> {
    /// Leave out who owns what, and who may do what.
    pub no_owner: bool,
    /// Put everything into the tablespace of the database.
    pub no_tablespaces: bool,
    /// Leave out subscriptions to other servers.
    pub no_subscriptions: bool,
    /// Take only what this file lists.
    pub list: Option<&'a Path>,
}

/// A dump that ended before its end.
#[derive(Debug)]
pub enum Fed<E> {
    /// The program does not take more of it, and says why by itself.
    Refused,
    /// There is no more of it to be had.
    Lost(E),
}

/// A database was not filled.
#[derive(Debug, thiserror::Error)]
pub enum FillError<E: std::error::Error + 'static> {
    /// The program can't be started, or not be waited for.
    #[error("{doing} {}", .program.display())]
    Program {
        /// What was being done.
        doing: &'static str,
        /// To which.
        program: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It failed.
    #[error("pg_restore {how}{words}")]
    Refused {
        /// How it ended.
        how: String,
        /// What it said.
        words: String,
    },
    /// Somebody or something killed it.
    #[error("pg_restore was killed by signal {0}")]
    Killed(i32),
    /// The dump could not be read to its end.
    #[error(transparent)]
    Lost(E),
    /// Somebody wishes to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// Fills a database. `feed` writes the dump, and tells a pipe that broke from a dump that can't be read.
///
/// # Errors
/// When the program fails, or the dump can't be read.
pub fn fill<E: std::error::Error + Send + 'static>(
    programs: &ClientPrograms,
    address: &Address,
    database: &str,
    filling: &Filling<'_>,
    feed: impl FnOnce(&mut dyn Write) -> Result<(), Fed<E>> + Send,
    cancel: &Cancel,
) -> Result<(), FillError<E>> {
    let mut command = client(programs, "pg_restore", address, database);
    command.args(["--format=custom", "--exit-on-error"]);
    if filling.no_owner {
        command.args(["--no-owner", "--no-privileges"]);
    }
    if filling.no_tablespaces {
        command.arg("--no-tablespaces");
    }
    if filling.no_subscriptions {
        command.arg("--no-subscriptions");
    }
    if let Some(list) = filling.list {
        command.arg("--use-list").arg(list);
    }
    run(command, feed, cancel).map(drop)
}

/// The table of contents of a dump without the rows of materialised views, and how many of those there are. To fill one,
/// its query is run, which may lead anywhere.
///
/// # Errors
/// As [`fill`].
pub fn list_without_view_rows<E: std::error::Error + Send + 'static>(
    programs: &ClientPrograms,
    feed: impl FnOnce(&mut dyn Write) -> Result<(), Fed<E>> + Send,
    cancel: &Cancel,
) -> Result<(String, u64), FillError<E>> {
    let mut command = std::process::Command::new(programs.path("pg_restore"));
    command.env_clear().env("LC_ALL", "C");
    command.args(["--format=custom", "--list"]);
    let list = run(command, feed, cancel)?;
    Ok(without_view_rows(&String::from_utf8_lossy(&list)))
}

/// A line is `dump ID; catalog, OID, kind, schema, name, owner`.
fn without_view_rows(list: &str) -> (String, u64) {
    let (mut kept, mut left_out) = (String::new(), 0);
    for line in list.lines() {
        match line.splitn(4, ' ').nth(3) {
            Some(what) if what.starts_with(VIEW_ROWS) => left_out += 1,
            _ => {
                kept.push_str(line);
                kept.push('\n');
            }
        }
    }
    (kept, left_out)
}

/// Runs it, and gives what it writes.
fn run<E: std::error::Error + Send + 'static>(
    mut command: std::process::Command,
    feed: impl FnOnce(&mut dyn Write) -> Result<(), Fed<E>> + Send,
    cancel: &Cancel,
) -> Result<Vec<u8>, FillError<E>> {
    let program = PathBuf::from(command.get_program());
    let failed = |doing| {
        let program = program.clone();
        move |cause| FillError::Program {
            doing,
            program,
            cause,
        }
    };
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut running = Running(command.spawn().map_err(failed("start"))?);
    let pipes = (
        running.0.stdin.take(),
        running.0.stdout.take(),
        running.0.stderr.take(),
    );
    let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(failed("start")(io::ErrorKind::BrokenPipe.into()));
    };
    let words = Words::default();
    let listener = listen(stderr, words.listener());
    let is_lost = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let feeder = scope.spawn(|| {
            let fed = feed(&mut stdin);
            match fed {
                // What comes to no good end must not look like an end: it is killed before its input is closed.
                Err(Fed::Lost(error)) => {
                    is_lost.store(true, Ordering::Release);
                    Some((error, stdin))
                }
                _ => None,
            }
        });
        let reader = scope.spawn(|| {
            let mut output = Vec::new();
            let read = stdout.take(LIST_MAX_BYTES).read_to_end(&mut output);
            read.map(|_| output)
        });
        let waited = running.wait(&is_lost, cancel);
        running.end();
        let lost = feeder.join().unwrap_or(None);
        let output = reader.join().unwrap_or_else(|_| Ok(Vec::new()));
        cancel.check()?;
        if let Some((error, _stdin)) = lost {
            return Err(FillError::Lost(error));
        }
        let Some(status) = waited.map_err(failed("wait for"))? else {
            return Err(FillError::Cancelled(Cancelled));
        };
        let _ = listener.recv_timeout(LAST_COMPLAINTS_TIMEOUT);
        match (status.success(), status.signal()) {
            (true, _) => output.map_err(failed("read")),
            (false, Some(signal)) => Err(FillError::Killed(signal)),
            (false, None) => Err(FillError::Refused {
                how: how_it_ended(status),
                words: without_command(&words.after(": ")).to_owned(),
            }),
        }
    })
}

/// What it said without the statement that it failed at, which may hold a password.
fn without_command(words: &str) -> &str {
    let end = words.find("Command was:").unwrap_or(words.len());
    words.get(..end).unwrap_or_default().trim_end()
}

/// The running program. Dropped, it is killed.
struct Running(Child);

impl Running {
    /// Waits for its end; nothing if it should be ended instead.
    fn wait(
        &mut self,
        is_lost: &AtomicBool,
        cancel: &Cancel,
    ) -> io::Result<Option<std::process::ExitStatus>> {
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            if is_lost.load(Ordering::Acquire) || cancel.sleep(LOOK_EVERY).is_err() {
                return Ok(None);
            }
        }
    }

    /// Does nothing once it was waited for.
    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_not_told() {
        let words = "error: role \"x\" does not exist\nCommand was: CREATE USER MAPPING … (password 'geheim')";
        assert_eq!(without_command(words), "error: role \"x\" does not exist");
        assert_eq!(without_command("ä"), "ä");
    }

    #[test]
    fn only_rows_of_views_are_left_out_of_a_list() {
        let list = "; a comment\n215; 1259 16386 MATERIALIZED VIEW public v me\n3334; 0 16386 MATERIALIZED VIEW DATA public v me\n\
            3; 0 1 TABLE DATA public MATERIALIZED VIEW DATA x me\n";
        let (kept, left_out) = without_view_rows(list);
        assert_eq!((kept.lines().count(), left_out), (3, 1));
        assert!(kept.contains("3; 0 1 TABLE"), "{kept}");
    }
}
