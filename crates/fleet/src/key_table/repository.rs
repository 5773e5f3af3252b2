//! The keys of repositories, their secrets and their upkeep.
//! None of them takes a secret itself.

use super::{NO, YES};
use crate::forms::{HOST, PATH, REPOSITORY_URL, SCHEDULE, SHELL, SIZE, SUBSET, VARIABLE};
use crate::keys::{Kind, Object, Rule, key};

pub(crate) static REPOSITORY: Object = Object {
    name: "Repository",
    says: "A restic repository, or one for each app if its URL has a placeholder.",
    rule: Rule::None,
    short: None,
    keys: &[
        key(
            "url",
            Kind::Text(&REPOSITORY_URL),
            YES,
            "",
            "A directory, or `s3:`, `rest:`, `sftp:` or `rclone:` as restic has them, without credentials; `{app}` and `{fleet}` stand for the names.",
            "\"s3:https://s3.example.net/backup/{app}\"",
        ),
        key(
            "password",
            Kind::Object(&SECRET),
            YES,
            "",
            "The password that opens it.",
            "{ file: /run/secrets/restic }",
        ),
        key(
            "env",
            Kind::Either(&[
                Kind::Object(&ENV_FILE),
                Kind::Map {
                    key: &VARIABLE,
                    of: &Kind::Object(&SECRET),
                },
            ]),
            NO,
            "",
            "Credentials of the backend: a file of environment variables, or each by its name.",
            "{ AWS_SECRET_ACCESS_KEY: { file: /run/secrets/s3 } }",
        ),
        key(
            "maintenance",
            Kind::Object(&MAINTENANCE),
            NO,
            "",
            "Who prunes and checks it, and when.",
            "{ prune: weekly }",
        ),
        key(
            "low_space",
            Kind::Text(&SIZE),
            NO,
            "never",
            "Tell it when less than this is free.",
            "50GiB",
        ),
    ],
};

pub(crate) static ENV_FILE: Object = Object {
    name: "EnvironmentFile",
    says: "A file with a line `NAME=value` for each environment variable.",
    rule: Rule::None,
    short: None,
    keys: &[key(
        "file",
        Kind::Text(&PATH),
        YES,
        "",
        "The file.",
        "/run/secrets/s3.env",
    )],
};

pub(crate) static SECRET: Object = Object {
    name: "Secret",
    says: "Where a secret is to be had; it is never written into the fleet file.",
    rule: Rule::OneOf(&["file", "env", "command"]),
    short: None,
    keys: &[
        key(
            "file",
            Kind::Text(&PATH),
            NO,
            "",
            "The file that holds it.",
            "/run/secrets/restic",
        ),
        key(
            "env",
            Kind::Text(&VARIABLE),
            NO,
            "",
            "The environment variable that holds it.",
            "RESTIC_PASSWORD",
        ),
        key(
            "command",
            Kind::Text(&SHELL),
            NO,
            "",
            "The command that prints it.",
            "pass show restic",
        ),
    ],
};

pub(crate) static MAINTENANCE: Object = Object {
    name: "Maintenance",
    says: "The upkeep of a repository.",
    rule: Rule::Some,
    short: None,
    keys: &[
        key(
            "host",
            Kind::Text(&HOST),
            NO,
            "the machine that serves the fleet",
            "The one machine that does it.",
            "nas",
        ),
        key(
            "prune",
            Kind::Text(&SCHEDULE),
            NO,
            "weekly",
            "When data is removed that no snapshot needs.",
            "weekly",
        ),
        key(
            "check",
            Kind::Text(&SCHEDULE),
            NO,
            "weekly",
            "When the repository is checked.",
            "daily",
        ),
        key(
            "read_data",
            Kind::Text(&SUBSET),
            NO,
            "none of it",
            "How much of the data each check reads back: a percentage, or one of so many parts.",
            "5%",
        ),
    ],
};
