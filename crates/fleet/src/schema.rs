//! The JSON Schema of the fleet file, for editors and for whoever checks files without this program.
//! It never refuses what the reader takes; some faults, such as names that lead nowhere, only the reader finds.

use serde_json::{Map, Value, json};

use crate::fleet::FLEET_VERSION;
use crate::key_table::FLEET;
use crate::keys::{Form, Kind, Object, Rule, all_below};

/// The JSON Schema (draft 2020-12) of the fleet file.
#[must_use]
pub fn fleet_schema() -> Value {
    let mut definitions = Map::new();
    for object in all_below(&FLEET) {
        definitions.insert(object.name.to_owned(), definition(object));
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://raw.githubusercontent.com/lifeboat-backup/lifeboat/main/docs/lifeboat.schema.json",
        "title": "The fleet file of Lifeboat, lifeboat.yaml",
        "$ref": "#/$defs/Fleet",
        "$defs": definitions,
    })
}

fn definition(object: &'static Object) -> Value {
    let mut properties = Map::new();
    for key in object.keys {
        let mut schema = of_kind(&key.kind);
        if let Value::Object(schema) = &mut schema {
            let default = match key.default {
                "" => String::new(),
                default => format!(" Default: {default}."),
            };
            schema.insert(
                "description".into(),
                format!("{}{default}", key.says).into(),
            );
        }
        properties.insert(key.name.to_owned(), schema);
    }
    let required: Vec<&str> = object
        .keys
        .iter()
        .filter(|key| key.required)
        .map(|key| key.name)
        .collect();
    let mut schema = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    let mut set = |name: &str, value: Value| {
        if let Value::Object(schema) = &mut schema {
            schema.insert(name.to_owned(), value);
        }
    };
    if !required.is_empty() {
        set("required", json!(required));
    }
    match &object.rule {
        Rule::None => {}
        Rule::Some => set("minProperties", json!(1)),
        Rule::OneOf(names) => {
            let one = names.iter().map(|name| json!({ "required": [name] }));
            set("oneOf", one.collect());
        }
    }
    // What no table says: a policy is written in one of two ways.
    if object.name == "Policy" {
        let alone = ["schedule", "jitter", "keep"].map(|name| json!({ "required": [name] }));
        let ways = json!([
            { "required": ["schedule", "keep"], "not": { "required": ["copies"] } },
            { "required": ["copies"], "not": { "anyOf": alone } },
        ]);
        set("oneOf", ways);
    }
    let schema = match object.short {
        None => schema,
        Some(short) => json!({ "oneOf": [of_kind(short), schema] }),
    };
    let Value::Object(mut schema) = schema else {
        return schema;
    };
    schema.insert("description".into(), object.says.into());
    Value::Object(schema)
}

fn of_kind(kind: &'static Kind) -> Value {
    match kind {
        Kind::Version => json!({ "const": FLEET_VERSION }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Count => json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX }),
        Kind::Text(form) => of_form(form),
        Kind::Word(words) => json!({ "enum": words }),
        Kind::Object(object) => json!({ "$ref": format!("#/$defs/{}", object.name) }),
        Kind::Map { key, of } => json!({
            "type": "object",
            "propertyNames": of_form(key),
            "additionalProperties": of_kind(of),
        }),
        Kind::List(of) => json!({ "type": "array", "items": of_kind(of), "minItems": 1 }),
        Kind::Either(kinds) => {
            let each: Vec<Value> = kinds.iter().map(of_kind).collect();
            json!({ "anyOf": each })
        }
    }
}

fn of_form(form: &Form) -> Value {
    // Without another form: at least one character that is no blank.
    let mut schema = json!({ "type": "string", "pattern": form.pattern.unwrap_or("\\S") });
    if let (Some(max), Value::Object(schema)) = (form.max_chars, &mut schema) {
        schema.insert("maxLength".into(), max.into());
    }
    schema
}

#[cfg(test)]
pub(crate) mod tests;
