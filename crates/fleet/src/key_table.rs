//! Every key of the fleet file: what it takes, what it does, what holds without it.
//! A key that is not here does not exist, and none is here that the reader does not read.

use crate::forms::{FLEET_NAME, NAME, NOTIFY_URL, RATE, SHELL, TIME_SPAN, TIME_ZONE};
use crate::keys::{Kind, Object, Rule, key};

mod app;
mod policy;
mod repository;

pub(crate) use app::{APP, COMMAND, DATABASE, DRILL, HOOK, HOOKS, SERVICES, VOLUME};
pub(crate) use policy::{COPY, KEEP, POLICY};
pub(crate) use repository::{ENV_FILE, MAINTENANCE, REPOSITORY, SECRET};

const YES: bool = true;
const NO: bool = false;

pub(crate) static FLEET: Object = Object {
    name: "Fleet",
    says: "The whole file: all apps of one configuration, where they are kept and how.",
    rule: Rule::None,
    short: None,
    keys: &[
        key(
            "version",
            Kind::Version,
            YES,
            "",
            "The version of this format.",
            "1",
        ),
        key(
            "name",
            Kind::Text(&FLEET_NAME),
            YES,
            "",
            "What the fleet is called; its snapshots have it as their host.",
            "homelab",
        ),
        key(
            "timezone",
            Kind::Text(&TIME_ZONE),
            NO,
            "local",
            "The time zone of all schedules, by its IANA name; `local` is that of the machine.",
            "Europe/Berlin",
        ),
        key(
            "repositories",
            Kind::Map {
                key: &NAME,
                of: &Kind::Object(&REPOSITORY),
            },
            NO,
            "none",
            "Where captures are kept, by name.",
            "{ nas: { url: /srv/restic, password: { file: /run/secrets/restic } } }",
        ),
        key(
            "policies",
            Kind::Map {
                key: &NAME,
                of: &Kind::Object(&POLICY),
            },
            NO,
            "none",
            "How often, how long and how well, by name.",
            "{ standard: { schedule: daily, keep: { daily: 14 } } }",
        ),
        key(
            "defaults",
            Kind::Object(&DEFAULTS),
            NO,
            "",
            "What holds for apps that say nothing else.",
            "{ policy: p }",
        ),
        key(
            "apps",
            Kind::Map {
                key: &NAME,
                of: &Kind::Object(&APP),
            },
            NO,
            "none",
            "What is protected, by name; each app is recovered as a whole.",
            "{ wiki: { volumes: { data: { path: /srv/wiki } } } }",
        ),
        key(
            "notify",
            Kind::List(&Kind::Object(&NOTIFY)),
            NO,
            "nobody",
            "Who is told.",
            "[ { url: \"ntfy://ntfy.example.net/backups\" } ]",
        ),
        key(
            "limits",
            Kind::Object(&LIMITS),
            NO,
            "",
            "What all work together may take.",
            "{ captures: 2 }",
        ),
    ],
};

pub(crate) static DEFAULTS: Object = Object {
    name: "Defaults",
    says: "What holds for apps that say nothing else.",
    rule: Rule::None,
    short: None,
    keys: &[
        key("policy", Kind::Text(&NAME), NO, "none", "The policy.", "p"),
        key(
            "repositories",
            Kind::List(&Kind::Text(&NAME)),
            NO,
            "all, in their order in the file",
            "The repositories; the first is written to, the others are copied to.",
            "[ r ]",
        ),
    ],
};

pub(crate) static NOTIFY: Object = Object {
    name: "Notify",
    says: "Somebody who is told.",
    rule: Rule::OneOf(&["url", "run"]),
    short: None,
    keys: &[
        key(
            "url",
            Kind::Text(&NOTIFY_URL),
            NO,
            "",
            "Where to: `http`, `https`, `ntfy`, `smtp`, `smtps`, `alertmanager+http`, `alertmanager+https`; without credentials.",
            "\"ntfy://ntfy.example.net/backups\"",
        ),
        key(
            "run",
            Kind::Text(&SHELL),
            NO,
            "",
            "A command that gets the message on its standard input.",
            "/usr/local/bin/tell",
        ),
        key(
            "on",
            Kind::List(&Kind::Word(EVENTS)),
            NO,
            "all but success",
            "What is told.",
            "[ failure, overdue ]",
        ),
        key(
            "secret",
            Kind::Object(&SECRET),
            NO,
            "none",
            "The token or password for the URL.",
            "{ file: /run/secrets/ntfy }",
        ),
        key(
            "min_interval",
            Kind::Text(&TIME_SPAN),
            NO,
            "1h",
            "The same is not told again before.",
            "6h",
        ),
    ],
};

/// What can be told.
pub(crate) const EVENTS: &[&str] = &[
    "failure",
    "overdue",
    "drill",
    "recovered",
    "guard",
    "low_space",
    "success",
];

pub(crate) static LIMITS: Object = Object {
    name: "Limits",
    says: "What all work of one machine together may take.",
    rule: Rule::None,
    short: None,
    keys: &[
        key(
            "captures",
            Kind::Count,
            NO,
            "one for each two cores",
            "How many captures run at once.",
            "2",
        ),
        key(
            "upload",
            Kind::Text(&RATE),
            NO,
            "no limit",
            "How fast data is stored.",
            "10MiB/s",
        ),
        key(
            "download",
            Kind::Text(&RATE),
            NO,
            "no limit",
            "How fast data is fetched.",
            "50MiB/s",
        ),
    ],
};

#[cfg(test)]
mod tests;
