//! Reads values of the tree by what the table of keys says, and notes what does not fit with its place and path.
//! It never shows what stands where a secret should, and never takes a number for a text.

use std::str::FromStr;

use crate::key_path;
use crate::keys::{Form, Kind, Object, Rule};
use crate::problems::{Problems, shown};
use crate::refusal::Refusal;
use crate::spot::{Placed, Spot};
use crate::suggest;
use crate::yaml::{Entry, Value, Yaml};

/// A value and the way to it.
#[derive(Clone, Debug)]
pub(crate) struct Node<'a> {
    yaml: &'a Yaml,
    pub(crate) path: String,
}

/// The keys of a map that has fixed ones.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    object: &'static Object,
    entries: &'a [Entry],
    pub(crate) path: String,
    pub(crate) spot: Spot,
}

impl<'a> Node<'a> {
    pub(crate) fn root(yaml: &'a Yaml) -> Self {
        let path = String::new();
        Self { yaml, path }
    }

    pub(crate) fn spot(&self) -> Spot {
        self.yaml.spot
    }

    pub(crate) fn is_map(&self) -> bool {
        matches!(self.yaml.value, Value::Map(_))
    }

    pub(crate) fn is_text(&self) -> bool {
        matches!(self.yaml.value, Value::Text(_))
    }

    /// The value of a key, if this is a map that has it; nothing is judged.
    pub(crate) fn peek(&self, key: &str) -> Option<Node<'a>> {
        let Value::Map(entries) = &self.yaml.value else {
            return None;
        };
        let entry = entries.iter().find(|entry| entry.key == key)?;
        let path = key_path::below(&self.path, key);
        let yaml = &entry.value;
        Some(Node { yaml, path })
    }

    /// Notes that something is wrong here.
    pub(crate) fn wrong(&self, problems: &mut Problems, what: impl Into<String>, hint: &str) {
        problems.add(self.spot(), self.path.clone(), what, Some(hint.to_owned()));
    }

    pub(crate) fn refuse(&self, problems: &mut Problems, refusal: Refusal) {
        problems.refuse(self.spot(), &self.path, refusal);
    }

    /// Notes that something else was expected.
    fn unexpected<T>(&self, problems: &mut Problems, expected: &str) -> Option<T> {
        /// What quotes are not enough for.
        const UNITS: [&str; 3] = ["a length of time", "a size", "a rate"];
        /// What quotes make of a number.
        const TEXTS: [&str; 4] = ["a text", "a name", "a path", "a command"];
        let found = match &self.yaml.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Integer(_) | Value::Number(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        };
        let hint = match &self.yaml.value {
            Value::Null => Some("give a value or remove the key"),
            Value::Integer(_) | Value::Number(_) if UNITS.contains(&expected) => {
                Some("give it a unit")
            }
            Value::Bool(_) | Value::Integer(_) | Value::Number(_)
                if TEXTS.iter().any(|text| expected.starts_with(text)) =>
            {
                Some("in quotes it is a text")
            }
            _ => None,
        };
        let hint = hint.map(str::to_owned);
        let what = format!("expected {expected}, found {found}");
        problems.add(self.spot(), self.path.clone(), what, hint);
        None
    }

    pub(crate) fn text(&self, problems: &mut Problems, form: &Form) -> Option<&'a str> {
        match &self.yaml.value {
            Value::Text(text) if !text.trim().is_empty() => Some(text),
            Value::Text(_) => {
                self.wrong(
                    problems,
                    "this text is empty",
                    "give a value or remove the key",
                );
                None
            }
            _ => self.unexpected(problems, &article(form.name)),
        }
    }

    pub(crate) fn placed(&self, problems: &mut Problems, form: &Form) -> Option<Placed<String>> {
        let value = self.text(problems, form)?.to_owned();
        let spot = self.spot();
        Some(Placed { value, spot })
    }

    /// A text that passes a check.
    pub(crate) fn checked(
        &self,
        problems: &mut Problems,
        form: &Form,
        check: fn(&str) -> Result<(), Refusal>,
    ) -> Option<Placed<String>> {
        let placed = self.placed(problems, form)?;
        match check(&placed.value) {
            Ok(()) => Some(placed),
            Err(refusal) => {
                self.refuse(problems, refusal);
                None
            }
        }
    }

    pub(crate) fn parsed<T: FromStr<Err = Refusal>>(
        &self,
        problems: &mut Problems,
        form: &Form,
    ) -> Option<Placed<T>> {
        let spot = self.spot();
        match self.text(problems, form)?.parse() {
            Ok(value) => Some(Placed { value, spot }),
            Err(refusal) => {
                self.refuse(problems, refusal);
                None
            }
        }
    }

    /// One of some words, each with what it stands for.
    pub(crate) fn word<T: Copy>(&self, problems: &mut Problems, words: &[(&str, T)]) -> Option<T> {
        let names = || words.iter().map(|(name, _)| *name);
        let Value::Text(text) = &self.yaml.value else {
            let listed: Vec<&str> = names().collect();
            return self.unexpected(problems, &format!("one of: {}", listed.join(", ")));
        };
        let found = words.iter().find(|(name, _)| name == text);
        if found.is_none() {
            let hint = suggest::hint_for(text, names(), "");
            self.wrong(
                problems,
                format!("{} is not known here", shown(text)),
                &hint,
            );
        }
        found.map(|(_, value)| *value)
    }

    pub(crate) fn boolean(&self, problems: &mut Problems) -> Option<bool> {
        match self.yaml.value {
            Value::Bool(is) => Some(is),
            _ => self.unexpected(problems, "true or false"),
        }
    }

    /// A whole number from 1.
    pub(crate) fn count(&self, problems: &mut Problems) -> Option<u32> {
        match self.yaml.value {
            Value::Integer(0) => {
                self.wrong(
                    problems,
                    "zero is no number of anything",
                    "remove the key, or write a number from 1",
                );
                None
            }
            Value::Integer(number) => match u32::try_from(number) {
                Ok(number) => Some(number),
                Err(_) => {
                    let what = format!("{number} is out of range");
                    self.wrong(problems, what, "write a whole number from 1 to 4294967295");
                    None
                }
            },
            _ => self.unexpected(problems, "a whole number"),
        }
    }

    /// A whole number, whatever it means.
    pub(crate) fn integer(&self, problems: &mut Problems) -> Option<i64> {
        match self.yaml.value {
            Value::Integer(number) => Some(number),
            _ => self.unexpected(problems, "a whole number"),
        }
    }

    pub(crate) fn list(&self, problems: &mut Problems) -> Option<Vec<Node<'a>>> {
        let Value::List(items) = &self.yaml.value else {
            return self.unexpected(problems, "a list");
        };
        if items.is_empty() {
            self.wrong(
                problems,
                "this list is empty",
                "add something or remove the key",
            );
            return None;
        }
        let node = |(index, yaml)| Node {
            yaml,
            path: key_path::item(&self.path, index),
        };
        Some(items.iter().enumerate().map(node).collect())
    }

    /// The entries of a map with names of the user's choice; those whose names are refused are left out.
    pub(crate) fn named(
        &self,
        problems: &mut Problems,
        check: fn(&str) -> Result<(), Refusal>,
    ) -> Option<Vec<(Placed<String>, Node<'a>)>> {
        let Value::Map(entries) = &self.yaml.value else {
            return self.unexpected(problems, "a map with names as its keys");
        };
        let mut found = Vec::with_capacity(entries.len());
        for entry in entries {
            let path = key_path::below(&self.path, &entry.key);
            match check(&entry.key) {
                Ok(()) => {
                    let name = Placed {
                        value: entry.key.clone(),
                        spot: entry.key_spot,
                    };
                    let yaml = &entry.value;
                    found.push((name, Node { yaml, path }));
                }
                // The path ends before the name: what stands there by mistake may be a secret.
                Err(refusal) => problems.refuse(entry.key_spot, &self.path, refusal),
            }
        }
        Some(found)
    }

    /// The keys of a map, none of which is unknown.
    pub(crate) fn object(
        &self,
        problems: &mut Problems,
        object: &'static Object,
    ) -> Option<Fields<'a>> {
        let Value::Map(entries) = &self.yaml.value else {
            let expected = match object.short {
                Some(Kind::Text(form)) => format!("{} or a map", article(form.name)),
                _ => format!("a map ({})", names_of(object)),
            };
            return self.unexpected(problems, &expected);
        };
        let fields = Fields {
            object,
            entries,
            path: self.path.clone(),
            spot: self.spot(),
        };
        fields.check(problems);
        Some(fields)
    }
}

fn article(name: &str) -> String {
    let vowel = name.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {name}", if vowel { "an" } else { "a" })
}

fn names_of(object: &Object) -> String {
    let names: Vec<&str> = object.keys.iter().map(|key| key.name).collect();
    names.join(", ")
}

impl<'a> Fields<'a> {
    /// The value of a key, if it is there.
    pub(crate) fn get(&self, key: &'static str) -> Option<Node<'a>> {
        debug_assert!(self.object.key(key).is_some(), "{key} is in no table");
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        let path = key_path::below(&self.path, key);
        let yaml = &entry.value;
        Some(Node { yaml, path })
    }

    /// Where a key stands.
    pub(crate) fn key_spot(&self, key: &str) -> Option<Spot> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(entry.key_spot)
    }

    /// Notes what is wrong with the map as a whole.
    pub(crate) fn wrong(&self, problems: &mut Problems, what: impl Into<String>, hint: &str) {
        problems.add(self.spot, self.path.clone(), what, Some(hint.to_owned()));
    }

    /// Notes that a key has no business here.
    pub(crate) fn misplaced(&self, problems: &mut Problems, key: &str, what: &str, hint: &str) {
        if let Some(spot) = self.key_spot(key) {
            problems.add(
                spot,
                key_path::below(&self.path, key),
                what,
                Some(hint.to_owned()),
            );
        }
    }

    fn check(&self, problems: &mut Problems) {
        let keys = self.object.keys;
        let is_secret = self.object.name == "Secret";
        for entry in self
            .entries
            .iter()
            .filter(|entry| self.object.key(&entry.key).is_none())
        {
            let known = keys.iter().map(|key| key.name);
            if is_secret {
                // A secret in the place of a key is still one.
                let hint = format!("known are: {}", names_of(self.object));
                problems.add(
                    entry.key_spot,
                    self.path.clone(),
                    "there is no such key",
                    hint,
                );
                continue;
            }
            let path = key_path::below(&self.path, &entry.key);
            match later(self.object.name, &entry.key) {
                Some(what) => problems.add(entry.key_spot, path, what, None::<String>),
                None => {
                    let hint = suggest::hint_for(&entry.key, known, "");
                    problems.add(entry.key_spot, path, "there is no such key", hint);
                }
            }
        }
        for key in keys
            .iter()
            .filter(|key| key.required && self.key_spot(key.name).is_none())
        {
            let what = format!("the key `{}` is missing", key.name);
            let example = if is_plain(key.example) {
                key.example
            } else {
                "…"
            };
            let hint = format!("add it: `{}: {example}`", key.name);
            problems.add(self.spot, self.path.clone(), what, hint);
        }
        let given = |names: &[&'static str]| -> Vec<&'static str> {
            let there = names.iter().filter(|name| self.key_spot(name).is_some());
            there.copied().collect()
        };
        let all: Vec<&str> = keys.iter().map(|key| key.name).collect();
        match &self.object.rule {
            Rule::None => {}
            Rule::OneOf(names) => match given(names)[..] {
                [_] => {}
                [] if self.has_later_engine() => {}
                [] => {
                    let what = format!("one of these keys is needed: {}", names.join(", "));
                    problems.add(self.spot, self.path.clone(), what, None::<String>);
                }
                [first, .., last] => {
                    let spot = self.key_spot(last).unwrap_or(self.spot);
                    let what = format!("only one of `{first}` and `{last}` can hold");
                    let hint = "remove one of the two".to_owned();
                    problems.add(spot, key_path::below(&self.path, last), what, hint);
                }
            },
            Rule::Some if given(&all).is_empty() => {
                let what = "nothing is said here";
                let hint = format!("known are: {}", all.join(", "));
                problems.add(self.spot, self.path.clone(), what, hint);
            }
            Rule::Some => {}
        }
    }

    fn has_later_engine(&self) -> bool {
        let mut keys = self.entries.iter().map(|entry| entry.key.as_str());
        keys.any(|key| later(self.object.name, key).is_some())
    }
}

/// Whether a value can stand in a hint: what is long or has braces is no help there.
fn is_plain(example: &str) -> bool {
    example.len() < 60 && !example.contains("{ file")
}

/// Engines of databases that are planned.
const LATER_ENGINES: &[&str] = &[
    "mysql", "mariadb", "redis", "qdrant", "etcd", "sqlite", "mongodb",
];

/// What is said of a key that will be known one day.
fn later(object: &str, key: &str) -> Option<String> {
    let is_later = object == "Database" && LATER_ENGINES.contains(&key);
    is_later.then(|| match key {
        "sqlite" => {
            "SQLite databases are found in volumes: declare the directory as a volume".to_owned()
        }
        key => {
            format!("databases of {key} can't be captured yet: use a command that prints a dump")
        }
    })
}
