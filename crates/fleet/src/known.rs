//! Which names a fleet file declares, so that one that leads nowhere is found where it is used.
//! It knows names alone, never what they stand for, and counts those whose declaration is wrong in another way.

use std::collections::BTreeSet;

use crate::node::{Fields, Node};
use crate::problems::{Problems, shown};
use crate::suggest;

/// The names of one kind of thing.
#[derive(Debug)]
pub(crate) struct Names {
    /// What they name: "repository".
    what: &'static str,
    names: BTreeSet<String>,
}

/// All names that can be referred to.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) repositories: Names,
    pub(crate) policies: Names,
    pub(crate) apps: Names,
}

impl Known {
    pub(crate) fn of(fleet: &Fields<'_>) -> Self {
        Self {
            repositories: Names::of(fleet.get("repositories"), "repository"),
            policies: Names::of(fleet.get("policies"), "policy"),
            apps: Names::of(fleet.get("apps"), "app"),
        }
    }
}

impl Names {
    /// The names of a map, whatever they are; that they are good ones is checked where the map is read.
    pub(crate) fn of(node: Option<Node<'_>>, what: &'static str) -> Self {
        let entries = node.and_then(|node| node.named(&mut Problems::default(), |_| Ok(())));
        let names = entries
            .unwrap_or_default()
            .into_iter()
            .map(|(name, _)| name.value);
        Self {
            what,
            names: names.collect(),
        }
    }

    /// Lets a name pass that is declared.
    pub(crate) fn check(&self, node: &Node<'_>, name: &str, problems: &mut Problems) -> Option<()> {
        if self.names.contains(name) {
            return Some(());
        }
        let none = format!("no {} is declared", self.what);
        let hint = suggest::hint_for(name, self.names.iter().map(String::as_str), &none);
        node.wrong(
            problems,
            format!("there is no {} {}", self.what, shown(name)),
            &hint,
        );
        None
    }
}
