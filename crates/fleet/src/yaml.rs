//! YAML as a tree in which everything knows its place: scalars by the core rules of YAML 1.2, anchors and merge keys resolved.
//! It must never grow past its bounds, whatever aliases multiply, and knows nothing of what the keys mean.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use crate::key_path;
use crate::problems::Problems;
use crate::spot::Spot;

/// A longer file is none that somebody wrote.
pub const FILE_MAX_BYTES: usize = 1024 * 1024;
/// So many values may a file have once all aliases are replaced by what they stand for.
pub const NODES_MAX: usize = 100_000;
/// So deep may values lie in each other.
pub const DEPTH_MAX: usize = 32;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Yaml {
    pub(crate) value: Value,
    pub(crate) spot: Spot,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// A whole number that fits.
    Integer(i64),
    /// Any other number, as it was written.
    Number(String),
    Text(String),
    List(Vec<Yaml>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_spot: Spot,
    pub(crate) value: Yaml,
}

/// Reads the one document of a file; none after a fault that hides the rest.
pub(crate) fn read(text: &str, problems: &mut Problems) -> Option<Yaml> {
    if text.len() > FILE_MAX_BYTES {
        let hint = "a fleet file is written by hand: is this the right file?".to_owned();
        let what = format!("the file has more than {FILE_MAX_BYTES} bytes");
        problems.add(START, "", what, hint);
        return None;
    }
    let mut builder = Builder {
        problems,
        open: Vec::new(),
        anchors: HashMap::new(),
        root: None,
        nodes: 0,
    };
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(found) => found,
            Err(error) => {
                let spot = spot_of(*error.marker());
                let what = format!("this is no YAML: {}", error.info());
                return builder.fail(spot, what, "look for a quote, bracket or indentation");
            }
        };
        builder.take(event, spot_of(span.start))?;
    }
    let root = builder.root.take();
    if root.is_none() {
        let hint = "begin with `version: 1` and `name:`".to_owned();
        problems.add(START, "", "the file is empty", hint);
    }
    root
}

const START: Spot = Spot { line: 1, column: 1 };

fn spot_of(marker: Marker) -> Spot {
    Spot {
        line: marker.line().max(1),
        column: marker.col() + 1,
    }
}

/// A finished value with what it costs to repeat it.
#[derive(Clone)]
struct Built {
    yaml: Yaml,
    nodes: usize,
    height: usize,
}

/// A list or map whose end has not come.
struct Open {
    spot: Spot,
    anchor: usize,
    inside: Inside,
    nodes: usize,
    height: usize,
}

enum Inside {
    List(Vec<Yaml>),
    Map {
        entries: Vec<Entry>,
        /// What `<<` stands for, in order.
        merged: Vec<Entry>,
        key: Option<(String, Spot, bool)>,
    },
}

struct Builder<'p> {
    problems: &'p mut Problems,
    open: Vec<Open>,
    anchors: HashMap<usize, Built>,
    root: Option<Yaml>,
    nodes: usize,
}

impl Builder<'_> {
    fn fail<T>(&mut self, spot: Spot, what: impl Into<String>, hint: &str) -> Option<T> {
        let path = self.path();
        self.problems.add(spot, path, what, Some(hint.to_owned()));
        None
    }

    /// The way to what is being read.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match &open.inside {
                Inside::List(items) => path = key_path::item(&path, items.len()),
                Inside::Map {
                    key: Some((key, ..)),
                    ..
                } => path = key_path::below(&path, key),
                Inside::Map { key: None, .. } => {}
            }
        }
        path
    }

    fn take(&mut self, event: Event<'_>, spot: Spot) -> Option<()> {
        let (tag, anchor) = match &event {
            Event::Scalar(_, _, anchor, tag) => (tag.is_some(), *anchor),
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag) => {
                (tag.is_some(), *anchor)
            }
            _ => (false, 0),
        };
        if tag {
            let hint = "leave it out; quotes make a number a text";
            return self.fail(spot, "tags such as `!!str` are not known here", hint);
        }
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                let hint = "put it into a file of its own, or remove the `---`";
                self.fail(spot, "a second document begins here", hint)
            }
            Event::Scalar(text, style, ..) => {
                let is_plain = style == ScalarStyle::Plain;
                if self.wants_key() {
                    return self.key(&text, spot, is_plain);
                }
                let value = if is_plain {
                    plain(&text)
                } else {
                    Value::Text(text.into_owned())
                };
                let yaml = Yaml { value, spot };
                self.count(1, spot)?;
                self.place(
                    Built {
                        yaml,
                        nodes: 1,
                        height: 1,
                    },
                    anchor,
                )
            }
            Event::SequenceStart(..) => self.begin(spot, anchor, Inside::List(Vec::new())),
            Event::MappingStart(..) => {
                let inside = Inside::Map {
                    entries: Vec::new(),
                    merged: Vec::new(),
                    key: None,
                };
                self.begin(spot, anchor, inside)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let Some(built) = self.anchors.get(&anchor).cloned() else {
                    let hint = "an alias repeats what stands before it";
                    return self.fail(spot, "this alias lies in what it stands for", hint);
                };
                if self.wants_key() {
                    return self.fail(spot, "an alias can't be a key", "write the key out");
                }
                if self.open.len() + built.height > DEPTH_MAX {
                    return self.too_deep(spot);
                }
                self.count(built.nodes, spot)?;
                self.place(built, 0)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Some(()),
        }
    }

    fn too_deep<T>(&mut self, spot: Spot) -> Option<T> {
        let what = format!("values lie more than {DEPTH_MAX} deep in each other");
        self.fail(spot, what, "no key of a fleet file is that deep")
    }

    fn count(&mut self, nodes: usize, spot: Spot) -> Option<()> {
        self.nodes += nodes;
        if self.nodes <= NODES_MAX {
            return Some(());
        }
        let what =
            format!("the file has more than {NODES_MAX} values, with all that aliases repeat");
        self.fail(spot, what, "use fewer aliases, or several fleets")
    }

    fn wants_key(&self) -> bool {
        matches!(
            self.open.last(),
            Some(Open {
                inside: Inside::Map { key: None, .. },
                ..
            })
        )
    }

    fn key(&mut self, text: &str, spot: Spot, is_plain: bool) -> Option<()> {
        if is_plain && plain(text) == Value::Null {
            return self.fail(spot, "this key is empty", "write a name before the colon");
        }
        let is_merge = is_plain && text == "<<";
        if let Some(Inside::Map { key, .. }) = self.open.last_mut().map(|open| &mut open.inside) {
            *key = Some((text.to_owned(), spot, is_merge));
        }
        Some(())
    }

    fn begin(&mut self, spot: Spot, anchor: usize, inside: Inside) -> Option<()> {
        if self.wants_key() {
            return self.fail(
                spot,
                "a list or map can't be a key",
                "write a name before the colon",
            );
        }
        if self.open.len() >= DEPTH_MAX {
            return self.too_deep(spot);
        }
        self.count(1, spot)?;
        self.open.push(Open {
            spot,
            anchor,
            inside,
            nodes: 1,
            height: 1,
        });
        Some(())
    }

    fn end(&mut self) -> Option<()> {
        let open = self.open.pop()?;
        let value = match open.inside {
            Inside::List(items) => Value::List(items),
            Inside::Map {
                entries, merged, ..
            } => Value::Map(self.whole(entries, merged)),
        };
        let built = Built {
            yaml: Yaml {
                value,
                spot: open.spot,
            },
            nodes: open.nodes,
            height: open.height,
        };
        self.place(built, open.anchor)
    }

    /// A map's own entries, and of those that are merged the ones that it does not have itself.
    fn whole(&mut self, entries: Vec<Entry>, merged: Vec<Entry>) -> Vec<Entry> {
        let mut places: HashMap<String, Spot> = HashMap::new();
        let mut whole: Vec<Entry> = Vec::new();
        for entry in entries {
            match places.get(&entry.key) {
                Some(first) => {
                    let what = format!("this key was given before, at {first}");
                    let hint = "remove one of the two".to_owned();
                    let path = key_path::below(&self.path(), &entry.key);
                    self.problems.add(entry.key_spot, path, what, hint);
                }
                None => {
                    places.insert(entry.key.clone(), entry.key_spot);
                    whole.push(entry);
                }
            }
        }
        for entry in merged {
            if !places.contains_key(&entry.key) {
                places.insert(entry.key.clone(), entry.key_spot);
                whole.push(entry);
            }
        }
        whole
    }

    fn place(&mut self, built: Built, anchor: usize) -> Option<()> {
        if anchor != 0 {
            self.anchors.insert(anchor, built.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(built.yaml);
            return Some(());
        };
        open.nodes += built.nodes;
        open.height = open.height.max(built.height + 1);
        match &mut open.inside {
            Inside::List(items) => items.push(built.yaml),
            Inside::Map {
                entries,
                merged,
                key,
            } => {
                let (key, key_spot, is_merge) = key.take()?;
                if is_merge {
                    let Some(found) = entries_of(&built.yaml) else {
                        let hint = "write `<<: *NAME`, where NAME is the anchor of a map";
                        return self.fail(built.yaml.spot, "only maps can be merged", hint);
                    };
                    merged.extend(found);
                } else {
                    entries.push(Entry {
                        key,
                        key_spot,
                        value: built.yaml,
                    });
                }
            }
        }
        Some(())
    }
}

/// The entries that a merge key brings in: those of a map, or of each map of a list.
fn entries_of(yaml: &Yaml) -> Option<Vec<Entry>> {
    match &yaml.value {
        Value::Map(entries) => Some(entries.clone()),
        Value::List(items) => {
            let mut found = Vec::new();
            for item in items {
                let Value::Map(entries) = &item.value else {
                    return None;
                };
                found.extend(entries.iter().cloned());
            }
            Some(found)
        }
        _ => None,
    }
}

/// What a scalar without quotes means (YAML 1.2.2, 10.3.2 "Tag Resolution" of the core schema).
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    if let Some(number) = integer(text) {
        return match number {
            Some(number) => Value::Integer(number),
            None => Value::Number(text.to_owned()),
        };
    }
    if is_float(text) {
        return Value::Number(text.to_owned());
    }
    Value::Text(text.to_owned())
}

/// None if it is no whole number, and none in it if it is one that does not fit.
fn integer(text: &str) -> Option<Option<i64>> {
    let of_base = |digits: &str, base: u32| {
        let all = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(base));
        all.then(|| i64::from_str_radix(digits, base).ok())
    };
    if let Some(digits) = text.strip_prefix("0o") {
        return of_base(digits, 8);
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return of_base(digits, 16);
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let all = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.parse().ok())
}

fn is_float(text: &str) -> bool {
    if matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(text, ".inf" | ".Inf" | ".INF") {
        return true;
    }
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let some = !whole.is_empty() || !part.is_empty();
    let exponent = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    some && digits(whole) && digits(part) && exponent
}

#[cfg(test)]
pub(crate) mod tests;
