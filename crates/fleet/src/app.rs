//! An app of the fleet: its members, what runs around them, and what it is recovered after.
//! It never has two members of one name, since each becomes a path in the repository.

use crate::command::Command;
use crate::database::Database;
use crate::forms::{HOST, NAME, PATH, TEXT};
use crate::hooks::Hooks;
use crate::key_table::{APP, DRILL};
use crate::known::{Known, Names};
use crate::names::{check_host, check_name};
use crate::node::{Fields, Node};
use crate::problems::Problems;
use crate::spot::Placed;
use crate::volume::{Volume, read_exempt, read_policy};

/// An app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// Its name.
    pub name: Placed<String>,
    /// The policy of its members.
    pub policy: Option<Placed<String>>,
    /// The repositories of its members; none leaves it to the defaults.
    pub repositories: Option<Vec<Placed<String>>>,
    /// The machine that it lives on; none is the one that reads the file.
    pub host: Option<Placed<String>>,
    /// Apps that are recovered before it.
    pub after: Vec<Placed<String>>,
    /// Its directories.
    pub volumes: Vec<Volume>,
    /// Its databases.
    pub databases: Vec<Database>,
    /// Commands whose output is kept.
    pub commands: Vec<Command>,
    /// What runs around its captures.
    pub hooks: Hooks,
    /// The Compose file that it is deployed from.
    pub compose: Option<Placed<String>>,
    /// Queries that must answer true after a recovery, each with its database.
    pub expect: Vec<(Placed<String>, String)>,
    /// Why nothing of it is protected, if so.
    pub exempt: Option<String>,
}

impl App {
    pub(crate) fn read(
        name: Placed<String>,
        node: &Node<'_>,
        known: &Known,
        problems: &mut Problems,
    ) -> Option<Self> {
        let fields = node.object(problems, &APP)?;
        let policy = read_policy(&fields, known, problems);
        let repositories = read_repositories(&fields, known, problems);
        let host = fields
            .get("host")
            .and_then(|node| node.checked(problems, &HOST, check_host));
        let after = read_names(&fields, "after", &known.apps, problems).unwrap_or_default();
        let volumes = members(&fields, "volumes", problems, |name, node, problems| {
            Volume::read(name, node, known, problems)
        });
        let databases = members(&fields, "databases", problems, |name, node, problems| {
            Database::read(name, node, known, problems)
        });
        let commands = members(&fields, "commands", problems, |name, node, problems| {
            Command::read(name, node, known, problems)
        });
        let compose = fields
            .get("compose")
            .and_then(|node| node.placed(problems, &PATH));
        let has_compose = fields.key_spot("compose").is_some();
        let hooks = fields
            .get("hooks")
            .and_then(|node| Hooks::read(&node, has_compose, problems));
        let expect = fields
            .get("drill")
            .and_then(|node| read_expect(&node, &fields, problems));
        let exempt = read_exempt(&fields, problems);
        check_members(&fields, problems);
        Some(Self {
            name,
            policy,
            repositories,
            host,
            after,
            volumes,
            databases,
            commands,
            hooks: hooks.unwrap_or_default(),
            compose,
            expect: expect.unwrap_or_default(),
            exempt,
        })
    }
}

const MEMBER_KEYS: [&str; 3] = ["volumes", "databases", "commands"];

fn members<T>(
    fields: &Fields<'_>,
    key: &'static str,
    problems: &mut Problems,
    read: impl Fn(Placed<String>, &Node<'_>, &mut Problems) -> Option<T>,
) -> Vec<T> {
    let entries = fields
        .get(key)
        .and_then(|node| node.named(problems, check_name));
    let entries = entries.unwrap_or_default().into_iter();
    entries
        .filter_map(|(name, node)| read(name, &node, problems))
        .collect()
}

/// An app has members, and no two of one name.
fn check_members(fields: &Fields<'_>, problems: &mut Problems) {
    let mut seen: Vec<(Placed<String>, &str)> = Vec::new();
    for kind in MEMBER_KEYS {
        let entries = fields
            .get(kind)
            .and_then(|node| node.named(&mut Problems::default(), |_| Ok(())));
        for (name, node) in entries.unwrap_or_default() {
            if let Some((first, others)) = seen.iter().find(|(other, _)| other.value == name.value)
            {
                let what = format!(
                    "a member of this name is among the {others} already, at {}",
                    first.spot
                );
                let hint =
                    "members of an app share one path in the repository: rename one of the two"
                        .to_owned();
                problems.add(name.spot, node.path, what, hint);
            }
            seen.push((name, kind));
        }
    }
    let may_be_empty = ["compose", "exempt"]
        .iter()
        .any(|key| fields.key_spot(key).is_some());
    if seen.is_empty() && !may_be_empty {
        let hint = "add `volumes`, `databases` or `commands`, or `exempt: REASON`";
        fields.wrong(
            problems,
            "this app has no members, so that nothing of it would be protected",
            hint,
        );
    }
}

/// Names that are declared, each once.
fn read_names(
    fields: &Fields<'_>,
    key: &'static str,
    known: &Names,
    problems: &mut Problems,
) -> Option<Vec<Placed<String>>> {
    let mut names: Vec<Placed<String>> = Vec::new();
    for node in fields.get(key)?.list(problems)? {
        let Some(name) = node.placed(problems, &NAME) else {
            continue;
        };
        if known.check(&node, &name.value, problems).is_none() {
            continue;
        }
        match names.iter().find(|other| other.value == name.value) {
            Some(first) => node.wrong(
                problems,
                format!("this was named before, at {}", first.spot),
                "remove one of the two",
            ),
            None => names.push(name),
        }
    }
    Some(names)
}

/// The repositories that an app or the defaults name.
pub(crate) fn read_repositories(
    fields: &Fields<'_>,
    known: &Known,
    problems: &mut Problems,
) -> Option<Vec<Placed<String>>> {
    read_names(fields, "repositories", &known.repositories, problems)
}

fn read_expect(
    node: &Node<'_>,
    app: &Fields<'_>,
    problems: &mut Problems,
) -> Option<Vec<(Placed<String>, String)>> {
    let fields = node.object(problems, &DRILL)?;
    let databases = Names::of(app.get("databases"), "database");
    let entries = fields.get("expect")?.named(problems, check_name)?;
    let read = entries.into_iter().filter_map(|(name, node)| {
        let query = node.placed(problems, &TEXT);
        databases.check(&node, &name.value, problems)?;
        Some((name, query?.value))
    });
    Some(read.collect())
}
