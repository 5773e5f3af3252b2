//! The last lines that a program wrote to its standard error, for the message when it fails.
//! It must never keep more than a few lines, show what stands in the remote, nor let the program wait for a reader.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::remote::Veil;

/// Lines that are kept.
const LINES_MAX: usize = 6;
/// How much of a line is read at once: what is to be hidden in it must not lie across an end.
const READ_MAX_BYTES: u64 = 64 * 1024;
/// How much of a line is kept.
const LINE_MAX_CHARS: usize = 300;

/// The last lines of a program.
#[derive(Clone, Default)]
pub(super) struct Tail(Arc<Shared>);

#[derive(Default)]
struct Shared {
    veil: Veil,
    lines: Mutex<Lines>,
    has_ended: Condvar,
}

#[derive(Default)]
struct Lines {
    last: VecDeque<String>,
    is_complete: bool,
}

impl Tail {
    /// The last lines of a program that may say what nobody may see.
    pub(super) fn behind(veil: Veil) -> Self {
        let shared = Shared {
            veil,
            ..Shared::default()
        };
        Self(Arc::new(shared))
    }

    /// Reads until the end, and keeps the last lines.
    pub(super) fn read(&self, from: impl Read) {
        let mut from = BufReader::new(from);
        loop {
            let mut line = Vec::new();
            let read = (&mut from)
                .take(READ_MAX_BYTES)
                .read_until(b'\n', &mut line);
            if !read.is_ok_and(|count| count > 0) {
                break;
            }
            let line = self.0.veil.over(&String::from_utf8_lossy(&line));
            let kept = without_time(line.trim()).chars().take(LINE_MAX_CHARS);
            self.push(kept.collect());
        }
        self.lock().is_complete = true;
        self.0.has_ended.notify_all();
    }

    /// The last lines as one, waiting at most so long for the last of them. Empty if there are none.
    pub(super) fn words(&self, patience: Duration) -> String {
        let lines = self.lock();
        let waited = self
            .0
            .has_ended
            .wait_timeout_while(lines, patience, |lines| !lines.is_complete);
        let (lines, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&str> = lines.last.iter().map(String::as_str).collect();
        match lines.last() {
            // Before it stand all options that there are.
            Some(last) if last.starts_with("Fatal error: unknown") => (*last).to_owned(),
            _ => lines.join("; "),
        }
    }

    fn push(&self, line: String) {
        if line.is_empty() {
            return;
        }
        let mut lines = self.lock();
        if lines.last.len() >= LINES_MAX {
            lines.last.pop_front();
        }
        lines.last.push_back(line);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line of rclone's log without the time before it: `2024/05/06 07:08:09 ERROR : …`.
fn without_time(line: &str) -> &str {
    const TIME_LENGTH: usize = "2024/05/06 07:08:09 ".len();
    let is_time = |time: &str| {
        time.bytes()
            .all(|byte| byte.is_ascii_digit() || b"/: ".contains(&byte))
    };
    match line.split_at_checked(TIME_LENGTH) {
        Some((time, rest)) if is_time(time) => rest.trim_start(),
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_without_times() {
        let tail = Tail::default();
        let mut said = String::new();
        for number in 0..20 {
            said.push_str(&format!("line {number}\n\n"));
        }
        said.push_str("2024/05/06 07:08:09 Failed to create file system");
        tail.read(said.as_bytes());
        assert_eq!(
            tail.words(Duration::ZERO),
            "line 15; line 16; line 17; line 18; line 19; Failed to create file system"
        );
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let tail = Tail::default();
        tail.read("x".repeat(100_000).as_bytes());
        assert!(tail.words(Duration::ZERO).len() < 10_000);
        assert_eq!(Tail::default().words(Duration::ZERO), "");
    }
}
