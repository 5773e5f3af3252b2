//! What runs around the captures of an app, and which of its services rest meanwhile.
//! It never runs anything, and names no service that is both stopped and paused.

use std::time::Duration;

use crate::forms::{NAME, SHELL, TIME_SPAN};
use crate::key_table::{HOOK, HOOKS, SERVICES};
use crate::names::check_name;
use crate::node::Node;
use crate::problems::Problems;
use crate::spot::Placed;
use crate::time_span::TimeSpan;

/// How long a hook may take if nothing is said.
pub const HOOK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(600);

/// What runs around captures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Before, in order.
    pub before: Vec<Hook>,
    /// After, in order.
    pub after: Vec<Hook>,
    /// Services of the Compose file that are stopped meanwhile.
    pub stop: Vec<Placed<String>>,
    /// Those that are paused.
    pub pause: Vec<Placed<String>>,
}

/// A command around captures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// What is run.
    pub run: Placed<String>,
    /// How long it may take.
    pub timeout: Duration,
    /// What becomes of the captures when it fails.
    pub on_failure: OnFailure,
}

/// What becomes of captures when a hook fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// They are left out, and that is a failure.
    Stop,
    /// They are made; the failure is told.
    Continue,
}

impl Hooks {
    pub(crate) fn read(
        node: &Node<'_>,
        has_compose: bool,
        problems: &mut Problems,
    ) -> Option<Self> {
        let fields = node.object(problems, &HOOKS)?;
        let mut hooks = |key| {
            let items = fields.get(key).and_then(|node| node.list(problems));
            let items = items.unwrap_or_default().into_iter();
            items
                .filter_map(|node| Hook::read(&node, problems))
                .collect()
        };
        let (before, after) = (hooks("before"), hooks("after"));
        let mut found = Self {
            before,
            after,
            ..Self::default()
        };
        let Some(node) = fields.get("services") else {
            return Some(found);
        };
        if !has_compose {
            let hint = "add `compose: PATH` to the app";
            fields.misplaced(
                problems,
                "services",
                "services are those of a Compose file, and none is named",
                hint,
            );
        }
        let services = node.object(problems, &SERVICES)?;
        let mut names = |key| {
            let items = services.get(key).and_then(|node| node.list(problems));
            let items = items.unwrap_or_default().into_iter();
            let names =
                items.filter_map(|node| Some((node.checked(problems, &NAME, check_name)?, node)));
            names.collect::<Vec<_>>()
        };
        let (stop, pause) = (names("stop"), names("pause"));
        for (name, node) in &pause {
            if let Some((first, _)) = stop.iter().find(|(other, _)| other.value == name.value) {
                let what = format!("this service is stopped already, at {}", first.spot);
                node.wrong(problems, what, "name it once");
            }
        }
        found.stop = stop.into_iter().map(|(name, _)| name).collect();
        found.pause = pause.into_iter().map(|(name, _)| name).collect();
        Some(found)
    }
}

impl Hook {
    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        if node.is_text() {
            return Some(Self {
                run: node.placed(problems, &SHELL)?,
                timeout: HOOK_TIMEOUT_DEFAULT,
                on_failure: OnFailure::Stop,
            });
        }
        let fields = node.object(problems, &HOOK)?;
        let run = fields
            .get("run")
            .and_then(|node| node.placed(problems, &SHELL));
        let timeout = fields
            .get("timeout")
            .and_then(|node| node.parsed::<TimeSpan>(problems, &TIME_SPAN));
        let words = [("stop", OnFailure::Stop), ("continue", OnFailure::Continue)];
        let on_failure = fields
            .get("on_failure")
            .and_then(|node| node.word(problems, &words));
        Some(Self {
            run: run?,
            timeout: timeout.map_or(HOOK_TIMEOUT_DEFAULT, |timeout| timeout.value.duration()),
            on_failure: on_failure.unwrap_or(OnFailure::Stop),
        })
    }
}
