//! The keys of policies, copies and retention.
//! None of them says what is protected, only how.

use super::{NO, YES};
use crate::forms::{JITTER, NAME, SCHEDULE, TIME_SPAN};
use crate::keys::{Kind, Object, Rule, key};

pub(crate) static POLICY: Object = Object {
    name: "Policy",
    says: "How often, how long and how well: either `schedule` and `keep`, written to the first repository and copied to the rest, or `copies`, each of which is captured for itself.",
    rule: Rule::None,
    short: None,
    keys: &[
        key(
            "schedule",
            Kind::Text(&SCHEDULE),
            NO,
            "",
            "When a capture is made.",
            "hourly",
        ),
        key(
            "jitter",
            Kind::Text(&JITTER),
            NO,
            "auto for words, none for cron expressions",
            "By how much runs are shifted at most, so that not all begin at once.",
            "10m",
        ),
        key(
            "keep",
            Kind::Object(&KEEP),
            NO,
            "",
            "What is kept.",
            "{ daily: 14 }",
        ),
        key(
            "copies",
            Kind::List(&Kind::Object(&COPY)),
            NO,
            "",
            "Independent copies, each with its own schedule; stands instead of `schedule`, `jitter` and `keep`.",
            "[ { to: r, schedule: daily, keep: { daily: 7 } } ]",
        ),
        key(
            "rpo",
            Kind::Text(&TIME_SPAN),
            NO,
            "no objective",
            "How much time may be lost.",
            "2h",
        ),
        key(
            "rto",
            Kind::Text(&TIME_SPAN),
            NO,
            "no objective",
            "How long recovery may take.",
            "15m",
        ),
        key(
            "drill",
            Kind::Text(&SCHEDULE),
            NO,
            "never",
            "When a restore is rehearsed and proven.",
            "weekly",
        ),
        key(
            "check",
            Kind::Text(&SCHEDULE),
            NO,
            "never",
            "When the newest capture is read back and its databases are checked for integrity.",
            "daily",
        ),
    ],
};

pub(crate) static COPY: Object = Object {
    name: "Copy",
    says: "The protection of a member in one repository, which works while the others are away.",
    rule: Rule::None,
    short: None,
    keys: &[
        key("to", Kind::Text(&NAME), YES, "", "The repository.", "r"),
        key(
            "schedule",
            Kind::Text(&SCHEDULE),
            YES,
            "",
            "When a capture is made.",
            "daily",
        ),
        key(
            "jitter",
            Kind::Text(&JITTER),
            NO,
            "auto for words, none for cron expressions",
            "By how much runs are shifted at most.",
            "none",
        ),
        key(
            "keep",
            Kind::Object(&KEEP),
            YES,
            "",
            "What is kept.",
            "{ daily: 7 }",
        ),
        key(
            "rpo",
            Kind::Text(&TIME_SPAN),
            NO,
            "no objective of its own",
            "How much time may be lost with this copy alone.",
            "26h",
        ),
    ],
};

pub(crate) static KEEP: Object = Object {
    name: "Keep",
    says: "What is kept; a capture stays if one of the rules keeps it.",
    rule: Rule::Some,
    short: None,
    keys: &[
        key("last", Kind::Count, NO, "", "So many of the newest.", "3"),
        key(
            "hourly",
            Kind::Count,
            NO,
            "",
            "The newest of each hour, for so many hours that have one.",
            "24",
        ),
        key("daily", Kind::Count, NO, "", "The same for days.", "7"),
        key("weekly", Kind::Count, NO, "", "The same for weeks.", "5"),
        key("monthly", Kind::Count, NO, "", "The same for months.", "12"),
        key("yearly", Kind::Count, NO, "", "The same for years.", "3"),
        key(
            "within",
            Kind::Text(&TIME_SPAN),
            NO,
            "",
            "All that are less than this older than the newest.",
            "30d",
        ),
        key(
            "window",
            Kind::Text(&TIME_SPAN),
            NO,
            "",
            "All captures and log that recovery to any instant of this time needs; for databases with a log.",
            "14d",
        ),
    ],
};
