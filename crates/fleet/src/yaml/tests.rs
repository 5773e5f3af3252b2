//! Proves that a tree has YAML's meaning, that its parts know their places, and that nothing makes it grow.

use super::*;

pub(crate) fn good(text: &str) -> Yaml {
    let mut problems = Problems::default();
    let yaml = read(text, &mut problems);
    assert!(problems.is_empty(), "{text:?}: {:?}", problems.into_list());
    yaml.unwrap()
}

fn bad(text: &str) -> (Spot, String) {
    let mut problems = Problems::default();
    read(text, &mut problems);
    let problem = problems.into_list().into_iter().next();
    let problem = problem.unwrap_or_else(|| panic!("{text:?} is fine"));
    (problem.spot, problem.what)
}

/// As JSON, which has no places.
pub(crate) fn json(yaml: &Yaml) -> serde_json::Value {
    match &yaml.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(is) => (*is).into(),
        Value::Integer(number) => (*number).into(),
        Value::Number(text) => format!("number {text}").into(),
        Value::Text(text) => text.clone().into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|entry| (entry.key.clone(), json(&entry.value)))
            .collect(),
    }
}

#[test]
fn scalars_follow_the_core_rules_of_1_2() {
    let text = "[~, null, yes, no, on, 0o17, 0x1F, 017, 1_000, +3, -4, 1.5, 1e3, .5, .inf, 1.0.0, true, 'true', \"5\", 12:30, 99999999999999999999]";
    let found = json(&good(text));
    let expected = serde_json::json!([
        null,
        null,
        "yes",
        "no",
        "on",
        15,
        31,
        17,
        "1_000",
        3,
        -4,
        "number 1.5",
        "number 1e3",
        "number .5",
        "number .inf",
        "1.0.0",
        true,
        "true",
        "5",
        "12:30",
        "number 99999999999999999999"
    ]);
    assert_eq!(found, expected);
}

#[test]
fn everything_knows_its_place() {
    let yaml = good("a: 1\nb:\n  - x\n  - {c: ä, d: z}\n");
    let Value::Map(entries) = &yaml.value else {
        panic!("no map");
    };
    assert_eq!(entries[1].key_spot, Spot { line: 2, column: 1 });
    let Value::List(items) = &entries[1].value.value else {
        panic!("no list");
    };
    assert_eq!(items[0].spot, Spot { line: 3, column: 5 });
    let Value::Map(inner) = &items[1].value else {
        panic!("no map");
    };
    assert_eq!(
        inner[1].key_spot,
        Spot {
            line: 4,
            column: 12
        }
    );
}

#[test]
fn anchors_and_merge_keys_are_replaced() {
    let text = "base: &b {x: 1, y: 2}\nother: &o {y: 3, z: 4}\none: *b\ntwo: {<<: *b, x: 9}\nthree: {<<: [*b, *o]}\n'<<': 1\n";
    let expected = serde_json::json!({
        "base": {"x": 1, "y": 2}, "other": {"y": 3, "z": 4}, "one": {"x": 1, "y": 2}, "two": {"x": 9, "y": 2},
        "three": {"x": 1, "y": 2, "z": 4}, "<<": 1
    });
    assert_eq!(json(&good(text)), expected);
}

#[test]
fn what_is_no_tree_is_refused_at_its_place() {
    let mut wrong = Vec::new();
    for (text, line, column, says) in [
        ("", 1, 1, "empty"),
        ("# only a comment\n", 1, 1, "empty"),
        ("a: 1\na: 2\n", 2, 1, "given before, at 1:1"),
        ("a: 1\n---\nb: 2\n", 2, 1, "second document"),
        ("a: !!str 5\n", 1, 4, "tags"),
        ("? [a]\n: b\n", 1, 3, "can't be a key"),
        ("~: b\n", 1, 1, "empty"),
        ("a: &a [*a]\n", 1, 8, "lies in what it stands for"),
        ("a: *b\n", 1, 4, "no YAML"),
        ("<<: 5\n", 1, 5, "only maps"),
        ("a: &k b\n*k : c\n", 2, 1, "can't be a key"),
    ] {
        let (spot, what) = bad(text);
        if (spot.line, spot.column) != (line, column) || !what.contains(says) {
            wrong.push(format!("{text:?}: {spot} {what}"));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn nothing_grows_past_its_bounds() {
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        let below = level - 1;
        laughs.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            vec![format!("*a{below}"); 10].join(", ")
        ));
    }
    assert!(bad(&laughs).1.contains("more than 100000 values"));
    // What the scanner itself gives up on is no YAML to it.
    assert!(bad(&"[".repeat(100_000)).1.contains("no YAML"));
    assert!(
        bad(&format!("{}{}", "[".repeat(100), "]".repeat(100)))
            .1
            .contains("deep")
    );
    assert!(bad(&"- ".repeat(1000)).1.contains("deep"));
    let mut deep = "a0: &a0 [[[[[x]]]]]\n".to_owned();
    for level in 1..20 {
        deep.push_str(&format!("a{level}: &a{level} [[[[[*a{}]]]]]\n", level - 1));
    }
    assert!(bad(&deep).1.contains("deep"));
    assert!(bad(&" ".repeat(FILE_MAX_BYTES + 1)).1.contains("bytes"));
    let merges = format!(
        "a: &a {{x: 1}}\nb: {{<<: [{}]}}\n",
        vec!["*a"; 60_000].join(",")
    );
    assert!(bad(&merges).1.contains("more than 100000 values"));
}
