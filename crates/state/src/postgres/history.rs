//! The history of a timeline: which ones came before it, and where each was left.
//! It must never read a history that is cut off as one that is shorter: a recovery would end on another timeline.

use super::lsn::{Lsn, Timeline};

/// Where a timeline was left for the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The timeline that was left.
    pub timeline: Timeline,
    /// The position up to which it counts.
    pub at: Lsn,
    /// Why, in the words of the server.
    pub reason: String,
}

/// What came before a timeline, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The timelines that were left.
    pub switches: Vec<Switch>,
}

/// It is no history.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the timeline history {why}: {text:?}")]
pub struct HistoryError {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong.
    pub why: &'static str,
    /// What is in it.
    pub text: String,
}

impl History {
    /// Reads the content of a `.history` file (PostgreSQL source, `access/transam/timeline.c`).
    ///
    /// # Errors
    /// When a line is not what a server writes.
    pub fn parse(text: &str) -> Result<Self, HistoryError> {
        let mut switches: Vec<Switch> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let wrong = |why| HistoryError {
                line: number + 1,
                why,
                text: line.to_owned(),
            };
            let content = line.split('#').next().unwrap_or_default().trim();
            if content.is_empty() {
                continue;
            }
            let mut words = line
                .trim()
                .splitn(3, |byte: char| byte.is_ascii_whitespace());
            let timeline = words.next().and_then(|word| word.parse().ok());
            let timeline = timeline.ok_or_else(|| wrong("does not begin with a timeline"))?;
            let at = words.next().and_then(|word| word.parse().ok());
            let at = at.ok_or_else(|| wrong("has no position"))?;
            let timeline = Timeline(timeline);
            if switches
                .last()
                .is_some_and(|last| last.timeline >= timeline || last.at > at)
            {
                return Err(wrong("goes back"));
            }
            let reason = words.next().unwrap_or_default().trim().to_owned();
            switches.push(Switch {
                timeline,
                at,
                reason,
            });
        }
        Ok(Self { switches })
    }

    /// The timeline on which a position lies, for a server on `timeline`, whose history this is. A position at which a
    /// timeline was left is on the next one.
    #[must_use]
    pub fn timeline_of(&self, position: Lsn, timeline: Timeline) -> Timeline {
        let left_after = self.switches.iter().find(|switch| position < switch.at);
        left_after.map_or(timeline, |switch| switch.timeline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "1\t0/3000148\tno recovery target specified\n\n2\t0/5000000\tbefore 2026-11-21 10:00:00+00\n";

    #[test]
    fn a_position_lies_on_one_timeline() {
        let history = History::parse(TEXT).expect("a history");
        assert_eq!(history.switches.len(), 2);
        assert_eq!(history.switches[0].reason, "no recovery target specified");
        assert_eq!(history.switches[1].reason, "before 2026-11-21 10:00:00+00");
        let of = |position| history.timeline_of(Lsn(position), Timeline(3)).0;
        assert_eq!(
            [of(0), of(0x300_0147), of(0x300_0148), of(0x500_0000)],
            [1, 1, 2, 3]
        );
    }

    #[test]
    fn what_no_server_writes_is_named() {
        for (text, expected) in [
            (
                "one 0/1 x",
                "line 1 of the timeline history does not begin with a timeline: \"one 0/1 x\"",
            ),
            (
                "1\t0/1\tx\n2",
                "line 2 of the timeline history has no position: \"2\"",
            ),
            (
                "2\t0/1\tx\n1\t0/2\ty",
                "line 2 of the timeline history goes back: \"1\\t0/2\\ty\"",
            ),
            (
                "1\t0/2\tx\n2\t0/1\ty",
                "line 2 of the timeline history goes back: \"2\\t0/1\\ty\"",
            ),
        ] {
            assert_eq!(History::parse(text).expect_err(text).to_string(), expected);
        }
        assert_eq!(History::parse("# nothing\n"), Ok(History::default()));
    }
}
