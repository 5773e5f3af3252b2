//! How the demo looks: chapters, rows in columns, one verdict.
//! Colour is decoration: on a pipe, or with `NO_COLOR`, nothing is lost without it.

use std::io::IsTerminal;

pub(super) struct Screen {
    coloured: bool,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "1;32";

const NAME_COLUMNS: usize = 26;
const WHAT_COLUMNS: usize = 58;

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
        let mut lines = wrap(what, WHAT_COLUMNS).into_iter();
        let first = lines.next().unwrap_or_default();
        let line = format!("    {name:<NAME_COLUMNS$}  {first:<WHAT_COLUMNS$}  {took:>8}");
        println!("{}", line.trim_end());
        for line in lines {
            println!("    {:<NAME_COLUMNS$}  {line}", "");
        }
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

/// Lines of at most `columns`, broken between words.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words() {
        assert_eq!(
            wrap("women and children first", 12),
            ["women and", "children", "first"]
        );
        assert_eq!(wrap("", 12), [""]);
    }
}
