//! Sinks of events for tests: one that keeps notes, and one that nobody listens at.
//! They must never print: what a test wants to know, it asks.

use std::sync::Mutex;

use lifeboat_flow::{Event, EventSink};

/// Keeps notes, and nothing else.
#[derive(Debug, Default)]
pub struct Notes(pub Mutex<Vec<String>>);

impl EventSink for Notes {
    fn event(&self, event: Event) {
        if let Event::Note(note) = event {
            self.0.lock().expect("nobody panics here").push(note);
        }
    }
}

/// Hears nothing.
#[derive(Debug)]
pub struct Unheard;

impl EventSink for Unheard {
    fn event(&self, _: Event) {}
}
