//! The keys of apps, their members and their hooks.
//! None of them says how long anything is kept.

use super::repository::SECRET;
use super::{NO, YES};
use crate::forms::{HOST, NAME, PATH, PATTERN, POSTGRES_URL, SERVER_PATH, SHELL, TEXT, TIME_SPAN};
use crate::keys::{Kind, Object, Rule, key};

pub(crate) static APP: Object = Object {
    name: "App",
    says: "A unit that is deployed, protected and recovered together. Its members' names are unique in it, over volumes, databases and commands.",
    rule: Rule::None,
    short: None,
    keys: &[
        key(
            "policy",
            Kind::Text(&NAME),
            NO,
            "that of `defaults`",
            "The policy of its members.",
            "p",
        ),
        key(
            "repositories",
            Kind::List(&Kind::Text(&NAME)),
            NO,
            "those of `defaults`",
            "The repositories of its members; not for policies with `copies`, which name their own.",
            "[ r ]",
        ),
        key(
            "host",
            Kind::Text(&HOST),
            NO,
            "the machine that reads the file",
            "The machine that it lives on.",
            "nas",
        ),
        key(
            "after",
            Kind::List(&Kind::Text(&NAME)),
            NO,
            "none",
            "Apps that are recovered before it.",
            "[ other ]",
        ),
        key(
            "volumes",
            Kind::Map {
                key: &NAME,
                of: &Kind::Object(&VOLUME),
            },
            NO,
            "none",
            "Its directories, by name.",
            "{ assets: { path: /srv/wiki/assets } }",
        ),
        key(
            "databases",
            Kind::Map {
                key: &NAME,
                of: &Kind::Object(&DATABASE),
            },
            NO,
            "none",
            "Its databases, by name.",
            "{ wiki: { postgres: \"postgresql://backup@db/wiki\" } }",
        ),
        key(
            "commands",
            Kind::Map {
                key: &NAME,
                of: &Kind::Object(&COMMAND),
            },
            NO,
            "none",
            "Commands whose output is kept, by name.",
            "{ config.xml: \"ssh firewall cat /cf/conf/config.xml\" }",
        ),
        key(
            "hooks",
            Kind::Object(&HOOKS),
            NO,
            "none",
            "What runs around its captures.",
            "{ before: [ \"/usr/local/bin/flush\" ] }",
        ),
        key(
            "compose",
            Kind::Text(&PATH),
            NO,
            "",
            "The Compose file that it is deployed from.",
            "/srv/wiki/compose.yaml",
        ),
        key(
            "drill",
            Kind::Object(&DRILL),
            NO,
            "",
            "What a drill checks beside what it always does.",
            "{ expect: { d: \"select count(*) > 0 from note\" } }",
        ),
        key(
            "exempt",
            Kind::Text(&TEXT),
            NO,
            "it is protected",
            "Why nothing of it is protected.",
            "nothing that can't be made anew",
        ),
    ],
};

pub(crate) static VOLUME: Object = Object {
    name: "Volume",
    says: "A directory tree. SQLite databases in it are found and captured consistently.",
    rule: Rule::None,
    short: None,
    keys: &[
        key(
            "path",
            Kind::Text(&PATH),
            YES,
            "",
            "The directory, absolute or relative to the fleet file.",
            "/srv/wiki/data",
        ),
        key(
            "exclude",
            Kind::List(&Kind::Text(&PATTERN)),
            NO,
            "nothing",
            "Patterns of what is left out, as restic's `--exclude` has them, relative to the directory.",
            "[ cache/ ]",
        ),
        key(
            "policy",
            Kind::Text(&NAME),
            NO,
            "that of the app",
            "Its own policy.",
            "p",
        ),
        key(
            "exempt",
            Kind::Text(&TEXT),
            NO,
            "it is protected",
            "Why it is not protected.",
            "regenerated from assets",
        ),
        key(
            "one_file_system",
            Kind::Bool,
            NO,
            "false",
            "Leave out what is mounted below it.",
            "true",
        ),
        key(
            "sqlite",
            Kind::Word(&["auto", "off"]),
            NO,
            "auto",
            "Whether SQLite databases are looked for; if off, they are files like others.",
            "off",
        ),
        key(
            "guard",
            Kind::Word(&["auto", "off"]),
            NO,
            "auto",
            "Whether a capture of a volume that was emptied or shrank is flagged, so that it replaces no older one.",
            "off",
        ),
    ],
};

pub(crate) static DATABASE: Object = Object {
    name: "Database",
    says: "A member that only its engine can hand out consistently.",
    rule: Rule::OneOf(&["postgres"]),
    short: None,
    keys: &[
        key(
            "postgres",
            Kind::Text(&POSTGRES_URL),
            NO,
            "",
            "The PostgreSQL server, without a password.",
            "\"postgresql://backup@db/wiki\"",
        ),
        key(
            "password",
            Kind::Object(&SECRET),
            NO,
            "as libpq finds it",
            "The password for it.",
            "{ env: PGPASSWORD }",
        ),
        key(
            "data",
            Kind::Text(&SERVER_PATH),
            NO,
            "",
            "Its data directory, if this machine can read it.",
            "/var/lib/postgresql/17/main",
        ),
        key(
            "method",
            Kind::Word(&["files", "stream", "dump"]),
            NO,
            "files if `data` is given or the server is local, else stream",
            "How it is captured: its files, over the replication protocol, or as dumps.",
            "stream",
        ),
        key(
            "databases",
            Kind::List(&Kind::Text(&TEXT)),
            NO,
            "all",
            "Which databases are dumped; only with `method: dump`.",
            "[ wiki ]",
        ),
        key(
            "wal",
            Kind::Bool,
            NO,
            "true if the policy keeps a window",
            "Whether its log is archived, so that it recovers to any instant.",
            "true",
        ),
        key(
            "policy",
            Kind::Text(&NAME),
            NO,
            "that of the app",
            "Its own policy.",
            "p",
        ),
        key(
            "exempt",
            Kind::Text(&TEXT),
            NO,
            "it is protected",
            "Why it is not protected.",
            "a cache",
        ),
    ],
};

pub(crate) static COMMAND: Object = Object {
    name: "Command",
    says: "A member that is what a program prints.",
    rule: Rule::None,
    short: Some(&Kind::Text(&SHELL)),
    keys: &[
        key(
            "run",
            Kind::Text(&SHELL),
            YES,
            "",
            "The command.",
            "ssh firewall cat /cf/conf/config.xml",
        ),
        key(
            "timeout",
            Kind::Text(&TIME_SPAN),
            NO,
            "1h",
            "How long it may take.",
            "10m",
        ),
        key(
            "policy",
            Kind::Text(&NAME),
            NO,
            "that of the app",
            "Its own policy.",
            "p",
        ),
        key(
            "exempt",
            Kind::Text(&TEXT),
            NO,
            "it is protected",
            "Why it is not protected.",
            "known by heart",
        ),
    ],
};

pub(crate) static HOOKS: Object = Object {
    name: "Hooks",
    says: "What runs around the captures of an app.",
    rule: Rule::Some,
    short: None,
    keys: &[
        key(
            "before",
            Kind::List(&Kind::Object(&HOOK)),
            NO,
            "nothing",
            "Commands before its members are captured, in order.",
            "[ { run: /usr/local/bin/flush } ]",
        ),
        key(
            "after",
            Kind::List(&Kind::Object(&HOOK)),
            NO,
            "nothing",
            "Commands after that, in order, also when a capture failed.",
            "[ { run: /usr/local/bin/resume } ]",
        ),
        key(
            "services",
            Kind::Object(&SERVICES),
            NO,
            "all keep running",
            "Services of its Compose file that rest meanwhile.",
            "{ stop: [ wiki ] }",
        ),
    ],
};

pub(crate) static HOOK: Object = Object {
    name: "Hook",
    says: "A command around captures.",
    rule: Rule::None,
    short: Some(&Kind::Text(&SHELL)),
    keys: &[
        key(
            "run",
            Kind::Text(&SHELL),
            YES,
            "",
            "The command.",
            "/usr/local/bin/flush",
        ),
        key(
            "timeout",
            Kind::Text(&TIME_SPAN),
            NO,
            "10m",
            "How long it may take.",
            "30s",
        ),
        key(
            "on_failure",
            Kind::Word(&["stop", "continue"]),
            NO,
            "stop",
            "Whether the captures are left out when it fails.",
            "continue",
        ),
    ],
};

pub(crate) static SERVICES: Object = Object {
    name: "Services",
    says: "Services of the app's Compose file that rest while it is captured.",
    rule: Rule::Some,
    short: None,
    keys: &[
        key(
            "stop",
            Kind::List(&Kind::Text(&NAME)),
            NO,
            "none",
            "These are stopped and started again.",
            "[ wiki ]",
        ),
        key(
            "pause",
            Kind::List(&Kind::Text(&NAME)),
            NO,
            "none",
            "These are paused.",
            "[ worker ]",
        ),
    ],
};

pub(crate) static DRILL: Object = Object {
    name: "Drill",
    says: "What a drill of the app checks beside what it always does.",
    rule: Rule::None,
    short: None,
    keys: &[key(
        "expect",
        Kind::Map {
            key: &NAME,
            of: &Kind::Text(&TEXT),
        },
        YES,
        "",
        "For a database of the app, an SQL query that must answer true.",
        "{ d: \"select count(*) > 0 from note\" }",
    )],
};
