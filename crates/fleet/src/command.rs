//! A member of an app that is what a command prints.
//! It never runs the command.

use std::time::Duration;

use crate::forms::{SHELL, TIME_SPAN};
use crate::key_table::COMMAND;
use crate::known::Known;
use crate::node::Node;
use crate::problems::Problems;
use crate::spot::Placed;
use crate::time_span::TimeSpan;
use crate::volume::{read_exempt, read_policy};

/// How long a command may take if nothing is said.
pub const COMMAND_TIMEOUT_DEFAULT: Duration = Duration::from_secs(3_600);

/// A command whose output is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its name in the app.
    pub name: Placed<String>,
    /// What is run.
    pub run: Placed<String>,
    /// How long it may take.
    pub timeout: Duration,
    /// Its own policy.
    pub policy: Option<Placed<String>>,
    /// Why it is not protected, if it is not.
    pub exempt: Option<String>,
}

impl Command {
    pub(crate) fn read(
        name: Placed<String>,
        node: &Node<'_>,
        known: &Known,
        problems: &mut Problems,
    ) -> Option<Self> {
        if node.is_text() {
            return Some(Self {
                name,
                run: node.placed(problems, &SHELL)?,
                timeout: COMMAND_TIMEOUT_DEFAULT,
                policy: None,
                exempt: None,
            });
        }
        let fields = node.object(problems, &COMMAND)?;
        let run = fields
            .get("run")
            .and_then(|node| node.placed(problems, &SHELL));
        let timeout = fields
            .get("timeout")
            .and_then(|node| node.parsed::<TimeSpan>(problems, &TIME_SPAN));
        let policy = read_policy(&fields, known, problems);
        let exempt = read_exempt(&fields, problems);
        Some(Self {
            name,
            run: run?,
            timeout: timeout.map_or(COMMAND_TIMEOUT_DEFAULT, |timeout| timeout.value.duration()),
            policy,
            exempt,
        })
    }
}
