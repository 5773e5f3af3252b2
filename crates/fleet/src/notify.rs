//! Who is told what.
//! It never sends anything, and takes no credentials in a URL.

use std::str::FromStr;
use std::time::Duration;

use crate::credentials::holds_password;
use crate::forms::{NOTIFY_URL, SHELL, TIME_SPAN};
use crate::key_table::NOTIFY;
use crate::node::Node;
use crate::problems::Problems;
use crate::refusal::Refusal;
use crate::secret::SecretRef;
use crate::spot::Spot;
use crate::time_span::TimeSpan;

/// The same is not told again before, if nothing is said.
pub const MIN_INTERVAL_DEFAULT: Duration = Duration::from_secs(3_600);

/// Somebody who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// How.
    pub way: Way,
    /// What.
    pub on: Vec<Event>,
    /// The token or password for it.
    pub secret: Option<SecretRef>,
    /// The same is not told again before.
    pub min_interval: Duration,
    /// Where it was written.
    pub spot: Spot,
}

/// How somebody is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// A service.
    Url(NotifyUrl),
    /// A command that gets the message on its standard input.
    Run(String),
}

/// What can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something that was due failed.
    Failure,
    /// Something that was due did not happen.
    Overdue,
    /// A drill found that something does not come back.
    Drill,
    /// What was told before is over.
    Recovered,
    /// A capture is flagged: emptied, shrunk.
    Guard,
    /// A repository runs out of space.
    LowSpace,
    /// Something that was due was done.
    Success,
}

const WORDS: [(&str, Event); 7] = [
    ("failure", Event::Failure),
    ("overdue", Event::Overdue),
    ("drill", Event::Drill),
    ("recovered", Event::Recovered),
    ("guard", Event::Guard),
    ("low_space", Event::LowSpace),
    ("success", Event::Success),
];

/// The URL of a service that tells somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifyUrl {
    /// As it was written.
    pub text: String,
}

impl Notify {
    pub(crate) fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let fields = node.object(problems, &NOTIFY)?;
        let url = fields
            .get("url")
            .and_then(|node| node.parsed::<NotifyUrl>(problems, &NOTIFY_URL));
        let run = fields
            .get("run")
            .and_then(|node| node.placed(problems, &SHELL));
        let on = fields.get("on").and_then(|node| {
            let words = node.list(problems)?.into_iter();
            Some(
                words
                    .filter_map(|node| node.word(problems, &WORDS))
                    .collect(),
            )
        });
        let secret = fields
            .get("secret")
            .and_then(|node| SecretRef::read(&node, problems));
        let min_interval = fields
            .get("min_interval")
            .and_then(|node| node.parsed::<TimeSpan>(problems, &TIME_SPAN));
        let way = url
            .map(|url| Way::Url(url.value))
            .or(run.map(|run| Way::Run(run.value)));
        let all = || {
            WORDS
                .iter()
                .map(|(_, event)| *event)
                .filter(|event| *event != Event::Success)
        };
        Some(Self {
            way: way?,
            on: on.unwrap_or_else(|| all().collect()),
            secret,
            min_interval: min_interval.map_or(MIN_INTERVAL_DEFAULT, |span| span.value.duration()),
            spot: fields.spot,
        })
    }
}

impl FromStr for NotifyUrl {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        const SCHEMES: [&str; 7] = [
            "http",
            "https",
            "ntfy",
            "smtp",
            "smtps",
            "alertmanager+http",
            "alertmanager+https",
        ];
        if holds_password(text) {
            let hint = "give them as `secret: { file: PATH }`";
            return Err(Refusal::new(
                "credentials do not belong into a URL, where everybody sees them",
                hint,
            ));
        }
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        if !SCHEMES.contains(&scheme) {
            let hint = format!("write one of {}, followed by ://", SCHEMES.join(", "));
            return Err(Refusal::new("this kind of URL is not known", hint));
        }
        if rest.is_empty() || rest.starts_with(['/', '?', ':']) {
            return Err(Refusal::new(
                "this URL names no host",
                "write it as `ntfy://HOST/TOPIC`",
            ));
        }
        let text = text.to_owned();
        Ok(Self { text })
    }
}
