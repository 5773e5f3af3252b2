//! Listens to a backup for what is wrong with what it reads, and passes everything on.
//! It must never keep more than its limit, and never count less than there was.

use std::sync::{Mutex, PoisonError};

use lifeboat_flow::{Event, EventSink, Problem};
use lifeboat_state::postgres::FAULTS_KEPT_MAX;

use crate::backup::VERIFYING;

/// What was heard.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The first of what was read and is damaged.
    pub(super) faults: Vec<String>,
    /// How much that is.
    pub(super) faults_count: u64,
    /// The first that could not be read at all.
    pub(super) unread: Option<Problem>,
    /// How much that is.
    pub(super) unread_count: u64,
}

/// A listener.
pub(super) struct Gather<'a> {
    inner: &'a dyn EventSink,
    heard: Mutex<Heard>,
}

impl<'a> Gather<'a> {
    pub(super) fn new(inner: &'a dyn EventSink) -> Self {
        Self {
            inner,
            heard: Mutex::default(),
        }
    }

    pub(super) fn heard(self) -> Heard {
        self.heard
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventSink for Gather<'_> {
    fn event(&self, event: Event) {
        if let Event::Problem(problem) = &event {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            if problem.doing == VERIFYING {
                heard.faults_count += 1;
                if heard.faults.len() < FAULTS_KEPT_MAX {
                    heard
                        .faults
                        .push(format!("{}: {}", problem.path, problem.why));
                }
            } else {
                heard.unread_count += 1;
                heard.unread.get_or_insert_with(|| problem.clone());
            }
        }
        self.inner.event(event);
    }

    fn wants_items(&self) -> bool {
        self.inner.wants_items()
    }
}
