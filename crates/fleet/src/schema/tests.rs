//! Proves that the schema takes what the reader takes, refuses what is plainly wrong, and is the one that is published.

use proptest::prelude::*;
use regex::Regex;

use super::*;
use crate::yaml::tests::{good, json};

/// Why a value does not fit; only what [`fleet_schema`] uses is understood, and anything else fails the test.
pub(crate) fn misfits(root: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let fits = |schema: &Value, value: &Value| misfits(root, schema, value).is_empty();
    for (word, rule) in schema.as_object().unwrap() {
        let ok = match word.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "description" => true,
            "$ref" => {
                let target = root
                    .pointer(rule.as_str().unwrap().strip_prefix('#').unwrap())
                    .unwrap();
                found.extend(misfits(root, target, value));
                true
            }
            "const" => value == rule,
            "enum" => rule.as_array().unwrap().contains(value),
            "type" => match rule.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_i64(),
                other => panic!("the type {other}"),
            },
            "pattern" => value
                .as_str()
                .is_none_or(|text| Regex::new(rule.as_str().unwrap()).unwrap().is_match(text)),
            "maxLength" => value
                .as_str()
                .is_none_or(|text| text.chars().count() as u64 <= rule.as_u64().unwrap()),
            "minimum" => value
                .as_i64()
                .is_none_or(|number| number >= rule.as_i64().unwrap()),
            "maximum" => value
                .as_i64()
                .is_none_or(|number| number <= rule.as_i64().unwrap()),
            "minItems" => value
                .as_array()
                .is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap()),
            "minProperties" => value
                .as_object()
                .is_none_or(|map| map.len() as u64 >= rule.as_u64().unwrap()),
            "items" => value
                .as_array()
                .is_none_or(|items| items.iter().all(|item| fits(rule, item))),
            "required" => value.as_object().is_none_or(|map| {
                let names = rule.as_array().unwrap().iter();
                names
                    .map(|name| name.as_str().unwrap())
                    .all(|name| map.contains_key(name))
            }),
            "propertyNames" => value
                .as_object()
                .is_none_or(|map| map.keys().all(|key| fits(rule, &json!(key)))),
            "properties" => value.as_object().is_none_or(|map| {
                map.iter()
                    .all(|(key, value)| rule.get(key).is_none_or(|schema| fits(schema, value)))
            }),
            "additionalProperties" => value.as_object().is_none_or(|map| {
                let known = schema.get("properties");
                let others = map
                    .iter()
                    .filter(|(key, _)| known.is_none_or(|known| known.get(key).is_none()));
                let mut others = others.map(|(_, value)| value);
                if rule == &json!(false) {
                    others.next().is_none()
                } else {
                    others.all(|value| fits(rule, value))
                }
            }),
            "oneOf" => {
                rule.as_array()
                    .unwrap()
                    .iter()
                    .filter(|one| fits(one, value))
                    .count()
                    == 1
            }
            "anyOf" => rule.as_array().unwrap().iter().any(|one| fits(one, value)),
            "not" => !fits(rule, value),
            other => panic!("the word {other}"),
        };
        if !ok {
            found.push(format!("{word}: {value}"));
        }
    }
    found
}

const EXAMPLES: [&str; 6] = [
    include_str!("../../../../docs/examples/homelab.yaml"),
    include_str!("../../../../docs/examples/two-backends.yaml"),
    include_str!("../../../../docs/examples/tiers.yaml"),
    include_str!("../../../../docs/examples/windows.yaml"),
    include_str!("../../../../docs/examples/stores.yaml"),
    include_str!("../../../../docs/examples/infra.yaml"),
];

#[test]
fn examples_fit() {
    let schema = fleet_schema();
    for text in EXAMPLES {
        assert_eq!(
            misfits(&schema, &schema, &json(&good(text))),
            [""; 0],
            "{text}"
        );
    }
}

#[test]
fn what_is_plainly_wrong_does_not_fit() {
    let schema = fleet_schema();
    let text = EXAMPLES[0];
    for (from, to) in [
        ("version: 1", "version: 2"),
        ("name: homelab", "nam: homelab"),
        ("name: homelab", "name: Homelab"),
        ("name: homelab", "name: 5"),
        (
            "password: { file: /run/secrets/restic-nas }",
            "password: hunter2",
        ),
        (
            "password: { file: /run/secrets/restic-nas }",
            "password: { file: a, env: B }",
        ),
        ("schedule: hourly,", "schedule: sometimes,"),
        ("schedule: hourly,", ""),
        ("keep: { daily: 14 }", "keep: {}"),
        ("keep: { daily: 14 }", "keep: { daily: 0 }"),
        ("keep: { daily: 14 }", "keep: { daily: 14, minutely: 3 }"),
        ("rpo: 2h", "rpo: 2 hours"),
        ("wal: true", "wal: yes"),
        ("on: [failure, overdue, drill]", "on: [failure, boredom]"),
        ("after: [memos]", "after: []"),
        ("url: \"ntfy:", "url: \"gopher:"),
    ] {
        let changed = text.replace(from, to);
        assert_ne!(changed, text, "{from}");
        assert_ne!(
            misfits(&schema, &schema, &json(&good(&changed))),
            [""; 0],
            "{to}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// An editor must not complain about what the reader takes.
    #[test]
    fn what_the_reader_takes_fits(
        of in 0..EXAMPLES.len(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..3_usize, "[a-z0-9 .:/*-]{0,2}"), 1..3),
    ) {
        let mut text: Vec<char> = EXAMPLES[of].chars().collect();
        for (at, length, other) in cuts {
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, other.chars());
        }
        let text: String = text.into_iter().collect();
        if crate::Fleet::parse("f", &text).is_ok() {
            let schema = fleet_schema();
            prop_assert_eq!(misfits(&schema, &schema, &json(&good(&text))), [""; 0]);
        }
    }
}

/// Both pages are made from the table; `INSTA_UPDATE=always` writes them anew.
#[test]
#[allow(clippy::disallowed_methods)]
fn what_is_published_is_what_the_table_says() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let schema = format!(
        "{}\n",
        serde_json::to_string_pretty(&fleet_schema()).unwrap()
    );
    for (name, text) in [
        ("lifeboat.schema.json", schema),
        ("fleet-file.md", crate::fleet_reference()),
    ] {
        let path = docs.join(name);
        if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
            std::fs::write(&path, &text).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            published == text,
            "docs/{name} is not what the table says: run this test with INSTA_UPDATE=always"
        );
    }
}
