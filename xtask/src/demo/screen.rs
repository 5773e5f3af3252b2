//! How the demo looks: chapters, rows in columns, one verdict.
//! Colour is decoration: on a pipe, or with `NO_COLOR`, nothing is lost without it.

use std::io::IsTerminal;

pub(super) struct Screen {
    coloured: bool,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "1;32";

impl Screen {
    pub(super) fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            coloured: wanted && std::io::stdout().is_terminal(),
        }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.coloured {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub(super) fn title(&self, text: &str) {
        println!("\n  {}", self.paint(BOLD, text));
    }

    pub(super) fn chapter(&self, text: &str) {
        println!("\n  {}", self.paint(BOLD, text));
    }

    /// A name, what is to be said of it, and how long it took.
    pub(super) fn row(&self, name: &str, what: &str, took: &str) {
        if name.chars().count() > 24 && took.is_empty() {
            return println!("    {name}  {}", self.paint(DIM, what));
        }
        let line = format!("    {name:<24}  {what:<62}");
        println!("{}  {}", line.trim_end(), self.paint(DIM, took));
    }

    pub(super) fn note(&self, text: &str) {
        println!("    {}", self.paint(DIM, &format!("· {text}")));
    }

    /// What a program printed.
    pub(super) fn text(&self, text: &str) {
        println!();
        for line in text.trim_end().lines() {
            println!("    {}", self.paint(DIM, line));
        }
    }

    pub(super) fn verdict(&self, text: &str) {
        println!("\n  {} {text}\n", self.paint(GREEN, "✓"));
    }
}
