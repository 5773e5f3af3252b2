//! The fleet: what a fleet file says, read as a whole.
//! It never comes from a file that has anything wrong in it, and never leaves a fault untold that can be told at once.

use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::app::{App, read_repositories};
use crate::fleet_error::FleetErrors;
use crate::forms::{FLEET_NAME, TIME_ZONE};
use crate::key_table::{DEFAULTS, FLEET};
use crate::known::Known;
use crate::limits::Limits;
use crate::names::{check_fleet_name, check_name};
use crate::node::{Fields, Node};
use crate::notify::Notify;
use crate::policy::Policy;
use crate::problems::{Problems, shown};
use crate::repository::Repository;
use crate::spot::Placed;
use crate::volume::read_policy;
use crate::{order, resolve, suggest, yaml};

/// The version of the format that is read.
pub const FLEET_VERSION: i64 = 1;

/// All apps of one configuration. All names that are used in it are declared in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    /// The file, as the caller names it.
    pub file: String,
    /// What it is called.
    pub name: String,
    /// The time zone of schedules; none is that of the machine.
    pub timezone: Option<TimeZone>,
    /// Where captures are kept, in the order of the file.
    pub repositories: Vec<Repository>,
    /// The policies.
    pub policies: Vec<Policy>,
    /// What holds for apps that say nothing else.
    pub defaults: Defaults,
    /// The apps, in the order of the file.
    pub apps: Vec<App>,
    /// Who is told.
    pub notify: Vec<Notify>,
    /// What all work may take.
    pub limits: Limits,
}

/// What holds for apps that say nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// The policy.
    pub policy: Option<Placed<String>>,
    /// The repositories; none means all.
    pub repositories: Option<Vec<Placed<String>>>,
}

impl Fleet {
    /// Reads the text of a fleet file. What concerns single values and names is told together; what concerns the fleet as
    /// a whole (cycles, members without a policy, paths in each other) is judged once that is right.
    ///
    /// # Errors
    /// All that is wrong with it, in the order of the file.
    pub fn parse(file: &str, text: &str) -> Result<Self, FleetErrors> {
        let mut problems = Problems::default();
        let fleet = yaml::read(text, &mut problems)
            .and_then(|yaml| Self::read(file, &Node::root(&yaml), &mut problems));
        if let (Some(fleet), true) = (&fleet, problems.is_empty()) {
            order::check(&fleet.apps, &mut problems);
            resolve::check(fleet, &mut problems);
        }
        match fleet {
            Some(fleet) if problems.is_empty() => Ok(fleet),
            _ => Err(FleetErrors::of(file, problems.into_list())),
        }
    }

    fn read(file: &str, root: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        check_version(root, problems)?;
        let fields = root.object(problems, &FLEET)?;
        let known = Known::of(&fields);
        let name = fields
            .get("name")
            .and_then(|node| node.checked(problems, &FLEET_NAME, check_fleet_name));
        let timezone = fields
            .get("timezone")
            .and_then(|node| read_time_zone(&node, problems));
        let repositories = named(&fields, "repositories", problems, |name, node, problems| {
            Repository::read(name, node, problems)
        });
        let policies = named(&fields, "policies", problems, |name, node, problems| {
            Policy::read(name, node, &known, problems)
        });
        let defaults = fields
            .get("defaults")
            .and_then(|node| Defaults::read(&node, &known, problems));
        let apps = named(&fields, "apps", problems, |name, node, problems| {
            App::read(name, node, &known, problems)
        });
        let notify = fields
            .get("notify")
            .and_then(|node| node.list(problems))
            .unwrap_or_default();
        let notify = notify
            .iter()
            .filter_map(|node| Notify::read(node, problems))
            .collect();
        let limits = fields
            .get("limits")
            .and_then(|node| Limits::read(&node, problems));
        Some(Self {
            file: file.to_owned(),
            name: name?.value,
            timezone: timezone.flatten(),
            repositories,
            policies,
            defaults: defaults.unwrap_or_default(),
            apps,
            notify,
            limits: limits.unwrap_or_default(),
        })
    }

    /// The time zone of its schedules, where the machine's is `local`.
    #[must_use]
    pub fn time_zone<'a>(&'a self, local: &'a TimeZone) -> &'a TimeZone {
        self.timezone.as_ref().unwrap_or(local)
    }

    /// The repository of a name.
    #[must_use]
    pub fn repository(&self, name: &str) -> Option<&Repository> {
        self.repositories.iter().find(|one| one.name.value == name)
    }

    /// The policy of a name.
    #[must_use]
    pub fn policy(&self, name: &str) -> Option<&Policy> {
        self.policies.iter().find(|one| one.name.value == name)
    }

    /// The app of a name.
    #[must_use]
    pub fn app(&self, name: &str) -> Option<&App> {
        self.apps.iter().find(|one| one.name.value == name)
    }
}

impl Defaults {
    fn read(node: &Node<'_>, known: &Known, problems: &mut Problems) -> Option<Self> {
        let fields = node.object(problems, &DEFAULTS)?;
        let policy = read_policy(&fields, known, problems);
        let repositories = read_repositories(&fields, known, problems);
        Some(Self {
            policy,
            repositories,
        })
    }
}

/// A file of another version has other keys, and their faults would be none.
fn check_version(root: &Node<'_>, problems: &mut Problems) -> Option<()> {
    // The table of keys judges whether it is a map and whether it has a version at all.
    let Some(version) = root.peek("version") else {
        return Some(());
    };
    let number = version.integer(problems)?;
    if number == FLEET_VERSION {
        return Some(());
    }
    let hint = if number > FLEET_VERSION {
        "use a newer lifeboat, which reads this version"
    } else {
        "write `version: 1`"
    };
    version.wrong(
        problems,
        format!("this program reads version {FLEET_VERSION}, and the file has version {number}"),
        hint,
    );
    None
}

fn named<T>(
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

/// The zone, none in it for that of the machine.
fn read_time_zone(node: &Node<'_>, problems: &mut Problems) -> Option<Option<TimeZone>> {
    let name = node.text(problems, &TIME_ZONE)?;
    if name == "local" {
        return Some(None);
    }
    let database = TimeZoneDatabase::bundled();
    if let Ok(zone) = database.get(name) {
        return Some(Some(zone));
    }
    let known: Vec<String> = database.available().map(|name| name.to_string()).collect();
    let hint = suggest::hint_for(name, known.iter().map(String::as_str), "");
    let hint = if hint.starts_with("did") {
        hint
    } else {
        "write a name such as `Europe/Berlin`, or `local`".to_owned()
    };
    node.wrong(
        problems,
        format!("there is no time zone {}", shown(name)),
        &hint,
    );
    None
}
