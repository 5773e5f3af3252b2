//! A volume of an app: a directory tree and how it is read.
//! It never says whether the directory exists; that is found out when it is captured.

use crate::forms::{NAME, PATH, PATTERN, TEXT};
use crate::key_table::VOLUME;
use crate::known::Known;
use crate::node::{Fields, Node};
use crate::problems::Problems;
use crate::refusal::Refusal;
use crate::spot::Placed;

/// A directory tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name in the app.
    pub name: Placed<String>,
    /// The directory, absolute or relative to the fleet file.
    pub path: Placed<String>,
    /// Patterns of what is left out, relative to the directory.
    pub exclude: Vec<Placed<String>>,
    /// Its own policy.
    pub policy: Option<Placed<String>>,
    /// Why it is not protected, if it is not.
    pub exempt: Option<String>,
    /// Whether what is mounted below it is left out.
    pub one_file_system: bool,
    /// Whether SQLite databases are looked for.
    pub sqlite: bool,
    /// Whether a capture that was emptied or shrank is flagged.
    pub guard: bool,
}

/// The words of switches.
const SWITCH: &[(&str, bool)] = &[("auto", true), ("off", false)];

impl Volume {
    pub(crate) fn read(
        name: Placed<String>,
        node: &Node<'_>,
        known: &Known,
        problems: &mut Problems,
    ) -> Option<Self> {
        let fields = node.object(problems, &VOLUME)?;
        let path = fields
            .get("path")
            .and_then(|node| node.checked(problems, &PATH, check_path));
        let items = fields.get("exclude").and_then(|node| node.list(problems));
        let exclude = items.unwrap_or_default().into_iter();
        let exclude = exclude
            .filter_map(|node| node.checked(problems, &PATTERN, check_path))
            .collect();
        let policy = read_policy(&fields, known, problems);
        let exempt = read_exempt(&fields, problems);
        let one_file_system = fields
            .get("one_file_system")
            .and_then(|node| node.boolean(problems));
        let sqlite = fields
            .get("sqlite")
            .and_then(|node| node.word(problems, SWITCH));
        let guard = fields
            .get("guard")
            .and_then(|node| node.word(problems, SWITCH));
        Some(Self {
            name,
            path: path?,
            exclude,
            policy,
            exempt,
            one_file_system: one_file_system.unwrap_or(false),
            sqlite: sqlite.unwrap_or(true),
            guard: guard.unwrap_or(true),
        })
    }
}

fn check_path(path: &str) -> Result<(), Refusal> {
    if path.contains('\0') {
        return Err(Refusal::new("no path has a zero byte", "remove it"));
    }
    Ok(())
}

/// The policy that a member or app names.
pub(crate) fn read_policy(
    fields: &Fields<'_>,
    known: &Known,
    problems: &mut Problems,
) -> Option<Placed<String>> {
    let node = fields.get("policy")?;
    let name = node.placed(problems, &NAME)?;
    known.policies.check(&node, &name.value, problems)?;
    Some(name)
}

/// The reason why something is not protected.
pub(crate) fn read_exempt(fields: &Fields<'_>, problems: &mut Problems) -> Option<String> {
    let reason = fields.get("exempt")?.placed(problems, &TEXT)?;
    Some(reason.value)
}
