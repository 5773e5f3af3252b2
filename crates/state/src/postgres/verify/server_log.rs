//! What a server writes to its log: the last lines of it, and among them those that say why it ended.
//! It must never keep more than its limits: a recovery may talk for hours.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::control::ServerLimits;

/// Lines that are kept.
const LINES_MAX: usize = 400;
/// A longer line is kept in pieces.
const LINE_MAX_BYTES: u64 = 1024;
/// Lines of an explanation.
const WORDS_MAX_LINES: usize = 12;
/// How long the last lines are waited for; what the server left running may hold its log open.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(2);

/// What begins a line that says why something ended.
const GRAVE: [&str; 2] = ["FATAL:", "PANIC:"];
/// What begins a line that belongs to the one before it.
const MORE: [&str; 5] = ["DETAIL:", "HINT:", "CONTEXT:", "STATEMENT:", "\t"];
/// What a server says of each of our attempts to connect while it can't be asked yet, or is about to end.
const NOT_YET: &str = "the database system is";
/// Words of a server that this machine does not suit, or that something beside the capture failed: they say nothing of the
/// capture. In the words of PostgreSQL 13 to 18.
const NOT_OF_THE_CAPTURE: [&str; 23] = [
    "Input/output error",
    "could not access file",
    "could not load library",
    "undefined symbol",
    "No space left on device",
    "Disk quota exceeded",
    "Read-only file system",
    "Cannot allocate memory",
    "out of memory",
    "could not map anonymous shared memory",
    "could not create shared memory segment",
    "could not create semaphores",
    "Too many open files",
    "Permission denied",
    "has wrong ownership",
    "has invalid permissions",
    "not recognized by setlocale",
    "is incompatible with operating system",
    "database files are incompatible with server",
    "lock file \"",
    "from archive: ",
    "resource manager with ID",
    "was terminated by signal 9",
];

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<String>,
    /// All that came.
    count: u64,
}

/// The log of a server while it runs, and after.
#[derive(Debug)]
pub(super) struct ServerLog {
    lines: Arc<Mutex<Lines>>,
    end: Receiver<()>,
}

impl ServerLog {
    /// Reads a log on a thread of its own, which ends with it.
    pub(super) fn read(from: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Lines::default()));
        let (done, end) = channel();
        std::thread::spawn({
            let lines = Arc::clone(&lines);
            move || {
                keep(from, &lines);
                drop(done);
            }
        });
        Self { lines, end }
    }

    /// How many lines came: a server that says something is not stuck.
    pub(super) fn count(&self) -> u64 {
        locked(&self.lines).count
    }

    /// Waits until all that was said is here; for a server that has ended.
    pub(super) fn finish(&self) {
        let _ = self.end.recv_timeout(LAST_LINES_TIMEOUT);
    }

    /// Why the server ended, in its words: what was fatal, or else the last that it said.
    pub(super) fn words(&self) -> String {
        words(locked(&self.lines).kept.iter().map(String::as_str))
    }

    /// The lines that are kept, and how many came before them.
    pub(super) fn kept(&self) -> (Vec<String>, u64) {
        let lines = locked(&self.lines);
        let kept: Vec<String> = lines.kept.iter().cloned().collect();
        let before = lines.count.saturating_sub(kept.len() as u64);
        (kept, before)
    }

    /// What the log asks for beyond these limits, if it does.
    pub(super) fn raised(&self, limits: ServerLimits) -> Option<ServerLimits> {
        let lines = locked(&self.lines);
        let raised = lines
            .kept
            .iter()
            .fold(limits, |limits, line| raise(limits, line));
        (raised != limits).then_some(raised)
    }
}

/// Whether these words are about this machine or the archive, and not about what was captured.
#[must_use]
pub fn is_not_of_the_capture(words: &str) -> bool {
    NOT_OF_THE_CAPTURE.iter().any(|part| words.contains(part))
}

fn locked(lines: &Mutex<Lines>) -> MutexGuard<'_, Lines> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep(from: impl Read, lines: &Mutex<Lines>) {
    let mut reader = BufReader::new(from);
    let (mut line, mut is_knocking) = (Vec::new(), false);
    loop {
        line.clear();
        match reader
            .by_ref()
            .take(LINE_MAX_BYTES)
            .read_until(b'\n', &mut line)
        {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                // Our own knocking would push out all else.
                is_knocking = text.starts_with("FATAL:") && text.contains(NOT_YET)
                    || is_knocking && MORE.iter().any(|begin| text.starts_with(begin));
                if is_knocking {
                    continue;
                }
                let mut lines = locked(lines);
                lines.count += 1;
                if lines.kept.len() == LINES_MAX {
                    lines.kept.pop_front();
                }
                lines
                    .kept
                    .push_back(text.trim_end_matches(['\n', '\r']).to_owned());
            }
        }
    }
}

/// The lines that say why.
fn words<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let lines: Vec<&str> = lines.collect();
    let mut chosen: Vec<&str> = Vec::new();
    let mut is_more = false;
    for line in &lines {
        let is_grave = GRAVE.iter().any(|begin| line.starts_with(begin));
        is_more = is_grave || is_more && MORE.iter().any(|begin| line.starts_with(begin));
        if is_more {
            chosen.push(line.trim());
        }
    }
    if chosen.is_empty() {
        chosen = lines;
    }
    let skipped = chosen.len().saturating_sub(WORDS_MAX_LINES);
    chosen.split_off(skipped).join("\n")
}

/// Limits that are as high as this line asks for: `max_connections = 20 is a lower setting than on the primary server,
/// where its value was 50.`, or `… on the master server (its value was 50)` in PostgreSQL 13.
fn raise(mut limits: ServerLimits, line: &str) -> ServerLimits {
    let Some((before, behind)) = line.split_once(" is a lower setting than on the ") else {
        return limits;
    };
    let name = before
        .rsplit_once(" = ")
        .and_then(|(before, _)| before.rsplit(' ').next());
    let wanted = behind
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse::<u32>().ok())
        .next_back();
    let limit = match name {
        Some("max_connections") => &mut limits.connections,
        Some("max_worker_processes") => &mut limits.worker_processes,
        Some("max_wal_senders") => &mut limits.wal_senders,
        Some("max_prepared_transactions") => &mut limits.prepared_transactions,
        Some("max_locks_per_transaction") => &mut limits.locks_per_transaction,
        _ => return limits,
    };
    *limit = wanted.unwrap_or(0).max(*limit);
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fatal_is_told_with_what_belongs_to_it() {
        let said = [
            "LOG:  starting archive recovery",
            "LOG:  redo starts at 0/2000028",
            "FATAL:  recovery aborted",
            "DETAIL:  because",
            "\tof this",
            "LOG:  startup process (PID 1) exited with exit code 1",
            "DETAIL:  of something else",
        ];
        assert_eq!(
            words(said.into_iter()),
            "FATAL:  recovery aborted\nDETAIL:  because\nof this"
        );
        assert_eq!(
            words(said[..2].iter().copied()),
            "LOG:  starting archive recovery\nLOG:  redo starts at 0/2000028"
        );
        let many: Vec<String> = (0..50).map(|number| format!("PANIC:  {number}")).collect();
        let last = words(many.iter().map(String::as_str));
        assert!(
            last.lines().count() == WORDS_MAX_LINES && last.ends_with("PANIC:  49"),
            "{last}"
        );
    }

    #[test]
    fn a_log_is_kept_in_bounds_without_our_knocking() {
        let mut said = "FATAL:  the database system is starting up\n".repeat(1000);
        said += "FATAL:  no\n";
        said += &"x".repeat(5000);
        let log = ServerLog::read(std::io::Cursor::new(said));
        log.finish();
        // The long line in five pieces.
        assert_eq!(log.count(), 6);
        assert_eq!(log.words(), "FATAL:  no");
    }

    #[test]
    fn limits_rise_to_what_the_log_asks_for() {
        let limits = ServerLimits {
            connections: 20,
            worker_processes: 8,
            wal_senders: 10,
            prepared_transactions: 0,
            locks_per_transaction: 64,
        };
        let new = "DETAIL:  max_connections = 20 is a lower setting than on the primary server, where its value was 50.";
        let old = "FATAL:  hot standby is not possible because max_prepared_transactions = 0 is a lower setting than on \
                   the master server (its value was 7)";
        assert_eq!(raise(limits, new).connections, 50);
        assert_eq!(raise(limits, old).prepared_transactions, 7);
        for other in [
            &new.replace("50", "10"),
            &new.replace("max_connections", "max_else"),
            "LOG:  redo = 1",
        ] {
            assert_eq!(raise(limits, other), limits, "{other}");
        }
    }
}
