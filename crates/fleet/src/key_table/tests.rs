//! Proves that the reader reads every key of the table and no other, and that every example in it is one.

use super::*;
use crate::Fleet;
use crate::fleet_error::FleetError;
use crate::keys::{Key, all_below};
use crate::schema::fleet_schema;
use crate::schema::tests::misfits;
use crate::yaml::tests::{good, json};

/// For each map with fixed keys a file, with `@` in the place of that map, and the way to it.
const PLACES: [(&str, &str, &str); 18] = [
    ("Repository", "repositories.x", "repositories: { x: @ }"),
    (
        "EnvironmentFile",
        "repositories.x.env",
        "repositories: { x: { url: /x, password: { file: f }, env: @ } }",
    ),
    (
        "Secret",
        "repositories.x.password",
        "repositories: { x: { url: /x, password: @ } }",
    ),
    (
        "Maintenance",
        "repositories.x.maintenance",
        "repositories: { x: { url: /x, password: { file: f }, maintenance: @ } }",
    ),
    ("Policy", "policies.x", "policies: { x: @ }"),
    (
        "Copy",
        "policies.x.copies[0]",
        "policies: { x: { copies: [ @ ] } }",
    ),
    (
        "Keep",
        "policies.x.keep",
        "policies: { x: { schedule: daily, keep: @ } }",
    ),
    ("Defaults", "defaults", "defaults: @"),
    ("App", "apps.x", "apps: { other: { compose: f }, x: @ }"),
    (
        "Volume",
        "apps.x.volumes.v",
        "apps: { x: { volumes: { v: @ } } }",
    ),
    (
        "Database",
        "apps.x.databases.d",
        "apps: { x: { databases: { d: @ } } }",
    ),
    (
        "Command",
        "apps.x.commands.c",
        "apps: { x: { commands: { c: @ } } }",
    ),
    (
        "Hooks",
        "apps.x.hooks",
        "apps: { x: { compose: f, hooks: @ } }",
    ),
    (
        "Hook",
        "apps.x.hooks.before[0]",
        "apps: { x: { compose: f, hooks: { before: [ @ ] } } }",
    ),
    (
        "Services",
        "apps.x.hooks.services",
        "apps: { x: { compose: f, hooks: { services: @ } } }",
    ),
    (
        "Drill",
        "apps.x.drill",
        "apps: { x: { databases: { d: { postgres: 'postgresql://h/d' } }, drill: @ } }",
    ),
    ("Notify", "notify[0]", "notify: [ @ ]"),
    ("Limits", "limits", "limits: @"),
];

/// What an example needs beside it.
const BESIDE: [(&str, &str, &str); 2] = [
    ("Database", "databases", ", method: dump"),
    (
        "App",
        "drill",
        ", databases: { d: { postgres: 'postgresql://h/d' } }",
    ),
];

/// What a file has that says nothing else.
const BASE: [(&str, &str); 4] = [
    ("version", "1"),
    ("name", "t"),
    ("repositories", "{ r: { url: /r, password: { file: f } } }"),
    ("policies", "{ p: { schedule: daily, keep: { last: 1 } } }"),
];

/// The way to a map, and the errors of a file in which it has just `text`.
fn errors(object: &Object, text: &str) -> (String, Vec<FleetError>) {
    let place = PLACES.iter().find(|(name, ..)| *name == object.name);
    let (path, mut file) = match place {
        Some((_, path, template)) => (
            format!("{path}."),
            template.replace('@', &format!("{{ {text} }}")),
        ),
        None => (String::new(), text.to_owned()),
    };
    for (key, value) in BASE {
        if !file.starts_with(key) {
            file.push_str(&format!("\n{key}: {value}"));
        } else if place.is_some() {
            // Names that examples use must be declared here too.
            let names = value.strip_suffix(" }").unwrap();
            file = file.replacen('{', &format!("{names},"), 1);
        }
    }
    match Fleet::parse("f", &file) {
        Ok(_) => (path, Vec::new()),
        Err(errors) => (path, errors.told),
    }
}

fn all_keys() -> impl Iterator<Item = (&'static Object, &'static Key)> {
    let objects = all_below(&FLEET).into_iter();
    objects.flat_map(|object| object.keys.iter().map(move |key| (object, key)))
}

#[test]
fn every_example_is_one() {
    let schema = fleet_schema();
    for (object, key) in all_keys() {
        let beside = BESIDE
            .iter()
            .find(|(of, name, _)| (*of, *name) == (object.name, key.name));
        let beside = beside.map_or("", |(.., beside)| beside);
        let text = format!("{}: {}{beside}", key.name, key.example);
        let (path, errors) = errors(object, &text);
        let place = format!("{path}{}", key.name);
        // That an example has no policy is no fault of the example.
        let is_wrong = |error: &&FleetError| {
            error.path.starts_with(&place) && !error.what.contains("no policy")
        };
        let wrong: Vec<_> = errors.iter().filter(is_wrong).collect();
        assert!(wrong.is_empty(), "{}.{}: {wrong:?}", object.name, key.name);
        let value = json(&good(&format!("x: {}", key.example)));
        let pointer = format!("/$defs/{}", object.name);
        let definition = schema.pointer(&pointer).unwrap();
        let definition = definition
            .pointer("/oneOf/1")
            .filter(|_| object.short.is_some())
            .unwrap_or(definition);
        let property = definition
            .pointer(&format!("/properties/{}", key.name))
            .unwrap();
        assert_eq!(
            misfits(&schema, property, &value["x"]),
            [""; 0],
            "{}.{}",
            object.name,
            key.name
        );
    }
}

#[test]
fn every_key_is_read() {
    for (object, key) in all_keys() {
        let (path, errors) = errors(object, &format!("{}: [[{{}}]]", key.name));
        let place = format!("{path}{}", key.name);
        let found = errors
            .iter()
            .any(|error| error.path.starts_with(&place) && error.what.starts_with("expected"));
        let secret = errors
            .iter()
            .any(|error| error.path.starts_with(&place) && error.what.contains("not written into"));
        assert!(
            found || secret,
            "{}.{} is not read: {errors:?}",
            object.name,
            key.name
        );
    }
}

#[test]
fn no_other_key_is_read() {
    for object in all_below(&FLEET) {
        let (path, errors) = errors(object, "nonsense: 1");
        let place = match object.name {
            // What stands in the place of a secret is not shown.
            "Secret" => path.trim_end_matches('.').to_owned(),
            _ => format!("{path}nonsense"),
        };
        assert!(
            errors.iter().any(|error| error.path == place),
            "{}: {errors:?}",
            object.name
        );
    }
}
