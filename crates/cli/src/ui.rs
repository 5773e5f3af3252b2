//! What the user sees: results on standard output, everything else on standard error, JSON lines if asked for.
//! It must never mix the two, and never end the process itself: locks are given back on the way out.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, OnceLock};

use lifeboat_flow::{Cancel, Event, EventSink};
use serde_json::{Value, json};

use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};

/// What writes messages on standard error. Clones share the line, so that a part that outlives a borrow has its own.
#[derive(Clone)]
struct Messages {
    json: bool,
    quiet: bool,
    /// Whether colours are wanted.
    color: bool,
    /// Whether the last line of standard error is a progress line that the next message must replace.
    status_shown: Arc<Mutex<bool>>,
}

impl Messages {
    fn note(&self, label: &str, color: &str, text: &dyn Display) {
        if self.color {
            self.line(&format!("\x1b[1;{color}m{label}:\x1b[0m {text}"))
        } else {
            self.line(&format!("{label}: {text}"))
        }
    }

    fn line(&self, text: &str) {
        self.clear_status();
        // There is nobody to tell when standard error is closed.
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    fn clear_status(&self) {
        let mut is_shown = self
            .status_shown
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if *is_shown {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
            *is_shown = false;
        }
    }

    fn tell(&self, text: &str) {
        if self.json {
            self.line(&json!({"message_type": "note", "message": text}).to_string());
        } else if !self.quiet {
            self.note("note", "36", &text);
        }
    }
}

impl EventSink for Messages {
    fn event(&self, event: Event) {
        match event {
            Event::Note(text) => self.tell(&text),
            Event::Problem(problem) => self.tell(&problem.to_string()),
            Event::Item { .. } => {}
        }
    }
}

/// The user's terminal or pipe.
pub struct Ui {
    /// Whether programs read the output.
    pub json: bool,
    /// Whether only errors are shown.
    pub quiet: bool,
    /// How much detail is asked for.
    pub verbose: u8,
    /// Whether a person looks at standard error.
    pub is_terminal: bool,
    messages: Messages,
    /// The wish to stop: the user's, or ours when the result reaches nobody.
    pub wish: Cancel,
    /// Why the result could not be delivered.
    undelivered: OnceLock<std::io::Error>,
    /// What restic calls the phase in its JSON errors.
    during: Mutex<&'static str>,
}

impl Ui {
    /// A user interface by the global options.
    pub fn new(global: &Global) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let is_set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let color = is_terminal
            && is_set("NO_COLOR").is_none()
            && is_set("TERM").is_none_or(|t| t != "dumb");
        Self {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            is_terminal,
            messages: Messages {
                json: global.json,
                quiet: global.quiet,
                color,
                status_shown: Arc::default(),
            },
            wish: Cancel::new(),
            undelivered: OnceLock::new(),
            during: Mutex::new(""),
        }
    }

    /// Where parts that outlive a borrow, as backends, tell what the user should know.
    pub fn notes(&self) -> Arc<dyn EventSink> {
        Arc::new(self.messages.clone())
    }

    /// Begins a phase of a command.
    pub fn enter(&self, phase: &'static str) {
        *self
            .during
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = phase;
    }

    /// A line of the result.
    pub fn line(&self, text: impl Display) {
        self.write(format!("{text}\n").as_bytes());
    }

    /// A line for people; programs get the result elsewhere.
    pub fn say(&self, text: impl Display) {
        if !self.json && !self.quiet {
            self.line(text);
        }
    }

    /// A JSON object of the result.
    pub fn object(&self, value: &Value) {
        self.line(value);
    }

    /// Raw bytes of the result.
    pub fn write(&self, bytes: &[u8]) {
        if self.undelivered.get().is_some() {
            return;
        }
        self.clear_status();
        let mut out = std::io::stdout().lock();
        if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
            // Whoever read the output is gone, or it can't be stored: there is no use in going on.
            let _ = self.undelivered.set(error);
            self.wish.cancel();
        }
    }

    /// A warning.
    pub fn warn(&self, text: impl Display) {
        self.note("warning", "33", &text);
    }

    /// Something that failed, while the rest goes on.
    pub fn fault(&self, text: impl Display) {
        self.note("error", "31", &text);
    }

    /// What to do next, where nothing failed.
    pub fn advise(&self, text: impl Display) {
        if !self.json {
            self.note("hint", "36", &text);
        }
    }

    /// A step of a plan: what is done to what, and why.
    pub fn step(&self, action: &str, what: &str, why: &str) {
        if self.json {
            self.object(
                &json!({"message_type": "step", "action": action, "item": what, "reason": why}),
            );
        } else {
            self.say(format_args!("{action} {what}: {why}"));
        }
    }

    /// Something that a check found wrong.
    pub fn finding(&self, finding: &lifeboat_repo::Finding) {
        if self.json {
            let message = finding.to_string();
            self.note_line(&json!({"message_type": "error", "error": {"message": message}, "item": finding.what}).to_string());
        } else {
            self.note("error", "31", finding);
        }
    }

    /// Ends a command: a result that was not delivered is a failure.
    pub fn end(&self, outcome: Outcome) -> Exit {
        match (outcome, self.undelivered.get()) {
            (Err(failure), None) => self.failure(&failure),
            (Err(failure), Some(_)) if failure.exit != Exit::Interrupted => self.failure(&failure),
            (Ok(exit), None) => exit,
            // A reader that went away wants no message.
            (_, Some(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Exit::Failed,
            (_, Some(error)) => {
                self.failure(&Failure::from_error(error).while_doing("write standard output"))
            }
        }
    }

    /// Says why a command ended, and gives the status.
    fn failure(&self, failure: &Failure) -> Exit {
        if self.json {
            let code = failure.exit.code();
            let message = match &failure.hint {
                Some(hint) => format!("{}; {hint}", failure.message),
                None => failure.message.clone(),
            };
            self.note_line(
                &json!({"message_type": "exit_error", "code": code, "message": message})
                    .to_string(),
            );
        } else {
            self.note("error", "31", &failure.message);
            if let Some(hint) = &failure.hint {
                self.note("hint", "36", hint);
            }
        }
        failure.exit
    }

    fn note(&self, label: &str, color: &str, text: &dyn Display) {
        self.messages.note(label, color, text);
    }

    fn note_line(&self, text: &str) {
        self.messages.line(text);
    }

    /// Replaces the progress line on a terminal.
    pub fn status(&self, text: &str) {
        let width = terminal_width();
        let shown: String = text.chars().take(width).collect();
        let mut is_shown = self
            .messages
            .status_shown
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = write!(std::io::stderr().lock(), "\r\x1b[K{shown}");
        *is_shown = true;
    }

    /// A progress line where there is no terminal.
    pub fn status_line(&self, text: &str) {
        self.note_line(text);
    }

    /// Removes the progress line.
    pub fn clear_status(&self) {
        self.messages.clear_status();
    }
}

fn terminal_width() -> usize {
    let columns = rustix::termios::tcgetwinsize(std::io::stderr())
        .map(|size| size.ws_col)
        .unwrap_or(0);
    if columns == 0 {
        80
    } else {
        usize::from(columns) - 1
    }
}

impl EventSink for Ui {
    fn event(&self, event: Event) {
        match event {
            Event::Problem(problem) if self.json => {
                let during = *self
                    .during
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                let message = format!("{}: {}", problem.doing, problem.why);
                self.note_line(&json!({"message_type": "error", "error": {"message": message}, "during": during, "item": problem.path}).to_string());
            }
            Event::Problem(problem) => self.note("error", "31", &problem),
            Event::Note(text) => self.messages.tell(&text),
            Event::Item {
                action,
                path,
                size_bytes,
            } if self.json => {
                self.object(&json!({"message_type": "verbose_status", "action": action, "item": path, "data_size": size_bytes}));
            }
            Event::Item {
                action,
                path,
                size_bytes,
            } => self.line(format_args!(
                "{action:<9} {path}, {}",
                crate::format::bytes(size_bytes)
            )),
        }
    }

    fn wants_items(&self) -> bool {
        self.verbose >= 2 || (self.json && self.verbose >= 1)
    }
}
