//! How the keys of the fleet file are described: one table from which the reader, the schema and the reference are made.
//! It never says what a value means to the rest of the program; that is the business of the model.

/// A map of the fleet file with fixed keys.
#[derive(Debug)]
pub(crate) struct Object {
    /// What it is called in the schema and in the reference.
    pub(crate) name: &'static str,
    /// What it is, in a sentence.
    pub(crate) says: &'static str,
    pub(crate) keys: &'static [Key],
    pub(crate) rule: Rule,
    /// What may stand there instead of the map.
    pub(crate) short: Option<&'static Kind>,
}

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
    /// What holds if it is left out; empty if that goes without saying.
    pub(crate) default: &'static str,
    /// What it does, in a sentence.
    pub(crate) says: &'static str,
    /// A value, as YAML.
    pub(crate) example: &'static str,
}

/// A key of few words: name, kind, required, default, what it does, example.
pub(crate) const fn key(
    name: &'static str,
    kind: Kind,
    required: bool,
    default: &'static str,
    says: &'static str,
    example: &'static str,
) -> Key {
    Key {
        name,
        kind,
        required,
        default,
        says,
        example,
    }
}

/// What holds between keys.
#[derive(Debug)]
pub(crate) enum Rule {
    None,
    /// Exactly one of these.
    OneOf(&'static [&'static str]),
    /// At least one key.
    Some,
}

/// What a value may be.
#[derive(Debug)]
pub(crate) enum Kind {
    /// The number 1.
    Version,
    /// `true` or `false`.
    Bool,
    /// A whole number from 1.
    Count,
    /// A text of a form.
    Text(&'static Form),
    /// One of these words.
    Word(&'static [&'static str]),
    Object(&'static Object),
    /// A map with names of the user's choice.
    Map {
        key: &'static Form,
        of: &'static Kind,
    },
    List(&'static Kind),
    Either(&'static [Kind]),
}

/// What a text must look like.
#[derive(Debug)]
pub(crate) struct Form {
    /// What it is called, as in "expected a …".
    pub(crate) name: &'static str,
    /// A regular expression for editors; the reader may be stricter.
    pub(crate) pattern: Option<&'static str>,
    pub(crate) max_chars: Option<usize>,
}

impl Object {
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// Every map with fixed keys that can be reached from `root`, each once, in the order in which one meets them.
pub(crate) fn all_below(root: &'static Object) -> Vec<&'static Object> {
    fn visit(kind: &'static Kind, found: &mut Vec<&'static Object>) {
        match kind {
            Kind::Object(object) => gather(object, found),
            Kind::Map { of, .. } => visit(of, found),
            Kind::List(of) => visit(of, found),
            Kind::Either(kinds) => kinds.iter().for_each(|kind| visit(kind, found)),
            _ => {}
        }
    }
    fn gather(object: &'static Object, found: &mut Vec<&'static Object>) {
        if found.iter().any(|known| known.name == object.name) {
            return;
        }
        found.push(object);
        for key in object.keys {
            visit(&key.kind, found);
        }
    }
    let mut found = Vec::new();
    gather(root, &mut found);
    found
}
