//! The last words of a program: the end of what it wrote to its standard error.
//! It must never keep more than its limit: a program may complain for hours.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::command::Complaints;

/// Lines that are kept; each is bounded where it is read.
const LINES_MAX: usize = 12;

/// What a program said last. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Words(Arc<Mutex<VecDeque<String>>>);

impl Words {
    /// Takes the lines as they come.
    pub(super) fn listener(&self) -> Complaints {
        let Self(lines) = self.clone();
        Arc::new(move |line: &str| {
            let line = line.trim();
            if line.is_empty() {
                return;
            }
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == LINES_MAX {
                lines.pop_front();
            }
            lines.push_back(line.to_owned());
        })
    }

    /// All of it in one line, with `before` in front if there is any.
    pub(super) fn after(&self, before: &str) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        match lines.is_empty() {
            true => String::new(),
            false => format!("{before}{}", lines.join("; ")),
        }
    }
}
