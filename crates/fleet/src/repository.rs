//! Where captures are kept: a repository of the fleet file, its credentials by reference and its upkeep.
//! It never holds a credential, nor shows a URL that may have one in it.

use std::str::FromStr;

use crate::forms::{HOST, PATH, REPOSITORY_URL, SCHEDULE, SIZE, SUBSET};
use crate::key_table::{ENV_FILE, MAINTENANCE, REPOSITORY};
use crate::names::{check_host, check_variable};
use crate::node::Node;
use crate::problems::Problems;
use crate::refusal::Refusal;
use crate::repository_url::RepositoryUrl;
use crate::schedule::Schedule;
use crate::secret::SecretRef;
use crate::size::Size;
use crate::spot::Placed;

/// A repository, or one for each app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// What the fleet file calls it.
    pub name: Placed<String>,
    /// Where it lies.
    pub url: Placed<RepositoryUrl>,
    /// What opens it.
    pub password: SecretRef,
    /// Credentials of its backend.
    pub env: Option<Environment>,
    /// Its upkeep.
    pub maintenance: Maintenance,
    /// Less free space than this is told.
    pub low_space: Option<Size>,
}

/// Environment variables of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Environment {
    /// A file with a line `NAME=value` for each.
    File(String),
    /// Each by its name.
    Variables(Vec<(String, SecretRef)>),
}

/// The upkeep of a repository; what is not said is left to the program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maintenance {
    /// The machine that does it.
    pub host: Option<String>,
    /// When data is removed that no snapshot needs.
    pub prune: Option<Schedule>,
    /// When it is checked.
    pub check: Option<Schedule>,
    /// How much of the data a check reads.
    pub read_data: Option<DataShare>,
}

/// A share of a repository's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataShare {
    /// From 1 to 100 percent.
    Percent(u32),
    /// One of so many parts.
    Part {
        /// Which, from 1.
        part: u32,
        /// Of how many.
        of: u32,
    },
}

impl Repository {
    pub(crate) fn read(
        name: Placed<String>,
        node: &Node<'_>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let fields = node.object(problems, &REPOSITORY)?;
        let url = fields
            .get("url")
            .and_then(|node| node.parsed(problems, &REPOSITORY_URL));
        let password = fields
            .get("password")
            .and_then(|node| SecretRef::read(&node, problems));
        let env = fields
            .get("env")
            .and_then(|node| Environment::read(&node, problems));
        let maintenance = fields
            .get("maintenance")
            .and_then(|node| Maintenance::read(&node, problems));
        let low_space = fields
            .get("low_space")
            .and_then(|node| node.parsed::<Size>(problems, &SIZE));
        Some(Self {
            name,
            url: url?,
            password: password?,
            env,
            maintenance: maintenance.unwrap_or_default(),
            low_space: low_space.map(|size| size.value),
        })
    }
}

impl Environment {
    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        if !node.is_map() {
            let hint = "write `{ file: PATH }`, or `{ NAME: { file: PATH } }` for each variable";
            node.wrong(
                problems,
                "environment variables are not written into this file",
                hint,
            );
            return None;
        }
        let entries = node.named(problems, check_variable)?;
        // `file` with a path is a file; a variable called `file` would have a map.
        if let [(name, value)] = &entries[..]
            && name.value == "file"
            && !value.is_map()
        {
            let fields = node.object(problems, &ENV_FILE)?;
            let file = fields.get("file")?.placed(problems, &PATH)?;
            return Some(Self::File(file.value));
        }
        if entries.is_empty() {
            node.wrong(
                problems,
                "nothing is said here",
                "remove the key, or name a file or variables",
            );
            return None;
        }
        let read = entries.into_iter().filter_map(|(name, value)| {
            let secret = SecretRef::read(&value, problems)?;
            Some((name.value, secret))
        });
        Some(Self::Variables(read.collect()))
    }
}

impl Maintenance {
    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let fields = node.object(problems, &MAINTENANCE)?;
        let host = fields
            .get("host")
            .and_then(|node| node.checked(problems, &HOST, check_host));
        let prune = fields
            .get("prune")
            .and_then(|node| node.parsed(problems, &SCHEDULE));
        let check = fields
            .get("check")
            .and_then(|node| node.parsed(problems, &SCHEDULE));
        let read_data = fields
            .get("read_data")
            .and_then(|node| node.parsed(problems, &SUBSET));
        Some(Self {
            host: host.map(|host| host.value),
            prune: prune.map(|schedule| schedule.value),
            check: check.map(|schedule| schedule.value),
            read_data: read_data.map(|share| share.value),
        })
    }
}

impl FromStr for DataShare {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let number = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
            text.parse::<u32>().ok().filter(|_| digits)
        };
        let percent = text
            .strip_suffix('%')
            .and_then(number)
            .filter(|percent| *percent <= 100);
        let part = || {
            let (part, of) = text.split_once('/')?;
            let (part, of) = (number(part)?, number(of)?);
            (part <= of).then_some(Self::Part { part, of })
        };
        percent.map(Self::Percent).or_else(part).ok_or_else(|| {
            Refusal::unlike(
                text,
                "share of the data",
                "write a percentage from 1% to 100%, or `1/7` for the first of seven parts",
            )
        })
    }
}
