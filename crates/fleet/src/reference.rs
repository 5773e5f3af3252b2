//! The reference of the fleet file as Markdown: every key of the table.
//! It never says what the table does not.

use std::fmt::Write;

use crate::key_table::FLEET;
use crate::keys::{Key, Kind, Object, Rule, all_below};

const HEAD: &str = "# The fleet file

Every key of `lifeboat.yaml`. This page and [the JSON Schema](lifeboat.schema.json) are made from the table that the
program reads the file by; examples of whole files are in [examples](examples).

Lengths of time have units: `90s`, `15m`, `2h`, `14d`, `6w`. Sizes too: `500MiB`, `10MiB/s`. A schedule is `hourly`, `daily`,
`weekly`, `monthly`, `every 6h` (what divides a day, or whole days), or a cron expression of five fields; all of them in the
time zone of the fleet. A time that the clock skips runs at the first instant after the gap. One that comes twice runs once,
the first time; `hourly`, `every` up to an hour, and cron expressions for every hour run in each real hour. A cron expression
that restricts both days runs when one of them fits, unless a field begins with `*` (crontab(5)).

A key that is not here is an error. Anchors, aliases and merge keys (`<<`) of YAML may be used.
";

/// The reference: a section for each map, a row for each key.
#[must_use]
pub fn fleet_reference() -> String {
    let mut text = HEAD.to_owned();
    for object in all_below(&FLEET) {
        text.push_str(&section(object));
    }
    text
}

fn section(object: &'static Object) -> String {
    let mut text = format!("\n## {}\n\n{}\n", object.name, object.says);
    if let Some(short) = object.short {
        let _ = write!(text, "\nShort form: {} alone, for `run`.\n", kind(short));
    }
    match object.rule {
        Rule::OneOf([_]) | Rule::None => {}
        Rule::OneOf(names) => {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let _ = write!(text, "\nExactly one of {}.\n", names.join(", "));
        }
        Rule::Some => text.push_str("\nAt least one key.\n"),
    }
    text.push_str(
        "\n| key | value | without it | what it does | example |\n|---|---|---|---|---|\n",
    );
    for key in object.keys {
        text.push_str(&row(object, key));
    }
    text
}

fn row(object: &Object, key: &'static Key) -> String {
    let is_needed = key.required || matches!(object.rule, Rule::OneOf([only]) if *only == key.name);
    let default = if is_needed { "required" } else { key.default };
    let cells = [
        format!("`{}`", key.name),
        kind(&key.kind),
        default.to_owned(),
        key.says.to_owned(),
        format!("`{}`", key.example),
    ];
    let cells = cells.map(|cell| cell.replace('|', "\\|"));
    format!("| {} |\n", cells.join(" | ")).replace("|  |", "| |")
}

fn kind(kind: &'static Kind) -> String {
    match kind {
        Kind::Version => "`1`".to_owned(),
        Kind::Bool => "`true` or `false`".to_owned(),
        Kind::Count => "number from 1".to_owned(),
        Kind::Text(form) => form.name.to_owned(),
        Kind::Word(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            words.join(", ")
        }
        Kind::Object(object) => format!("[{0}](#{1})", object.name, object.name.to_lowercase()),
        Kind::Map { key, of } => format!("map of {} to {}", key.name, self::kind(of)),
        Kind::List(of) => format!("list of {}", self::kind(of)),
        Kind::Either(kinds) => {
            let kinds: Vec<String> = kinds.iter().map(self::kind).collect();
            kinds.join(" or ")
        }
    }
}
