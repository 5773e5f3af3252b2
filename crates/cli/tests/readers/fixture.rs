//! A repository of restic with a tree of everything, changed once in between.
//! It must never be made by our program: what that reads should not be its own word.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use lifeboat_testkit::fixtures::{Generator, Shape};
use lifeboat_testkit::replay::{self, Note};
use lifeboat_testkit::restic::Said;
use serde_json::{Number, Value};

use crate::common::{Place, Program, array};

/// Every kind of entry and most odd names, and little to read.
const SHAPE: Shape = Shape {
    entries: 110,
    depth: 5,
    largest_bytes: 300_000,
};

/// A repository with both programs on it.
pub(crate) struct Fixture {
    pub place: Place,
    pub ours: Program,
    pub theirs: Program,
    /// IDs of its snapshots, from the oldest on.
    pub snapshots: Vec<String>,
    _note: Note,
}

/// The one that tests share which run at the same time.
static SHARED: Mutex<Weak<Fixture>> = Mutex::new(Weak::new());

impl Fixture {
    /// For tests that change nothing: two snapshots of a tree, the first of host `web` and the second of host `db`.
    pub(crate) fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let made = Arc::new(Self::new());
            *shared = Arc::downgrade(&made);
            made
        })
    }

    /// For a test that damages it.
    pub(crate) fn new() -> Self {
        let seed = replay::seed();
        let note = Note::seed(seed);
        let place = Place::empty();
        let theirs = place.current();
        theirs.run(["init"]).ok();
        place.cheapen();
        let tree = place.path("tree");
        let mut generator = Generator::with_shape(seed, SHAPE);
        generator.tree(&tree.join("generated"));
        plant(&tree);
        let backup = |host: &str| {
            let arguments = ["backup", "--host", host, "--tag", "a,b", "tree"];
            theirs.run(arguments).within(&place.path("")).ok();
        };
        backup("web");
        generator.edit(&tree.join("generated"), 25);
        plant(&tree);
        fs::write(tree.join("planted/changed"), "later").unwrap();
        backup("db");
        let listed = array(&theirs.run(["snapshots", "--json"]).ok());
        let snapshots = listed.iter().map(|one| text(&one["id"])).collect();
        Self {
            ours: place.ours(),
            theirs,
            place,
            snapshots,
            _note: note,
        }
    }

    /// The tree as it was backed up last.
    pub(crate) fn tree(&self) -> PathBuf {
        self.place.path("tree")
    }

    /// Runs both with the same arguments and wants the same JSON, value by value.
    pub(crate) fn assert_same_json(&self, arguments: &[&str]) -> Vec<Value> {
        let theirs = documents(&without_lock(&self.theirs, arguments));
        let ours = documents(&without_lock(&self.ours, arguments));
        assert_eq!(ours.len(), theirs.len(), "{arguments:?}");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs, "{arguments:?}");
        }
        ours
    }

    /// Runs both with the same arguments and wants the same bytes.
    pub(crate) fn assert_same_bytes(&self, arguments: &[&str]) -> Vec<u8> {
        let theirs = without_lock(&self.theirs, arguments).stdout;
        let ours = without_lock(&self.ours, arguments).stdout;
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            ours == theirs,
            "{arguments:?}\n{}\n{}",
            shown(&ours),
            shown(&theirs)
        );
        ours
    }
}

/// Both programs wait a moment after they locked, which adds up.
fn without_lock(program: &Program, arguments: &[&str]) -> Said {
    program.run([arguments, &["--no-lock"]].concat()).ok()
}

/// Entries that tests know by name.
fn plant(tree: &Path) {
    let planted = tree.join("planted/deep");
    fs::create_dir_all(&planted).unwrap();
    fs::write(planted.join("once.CONF"), "found by its name").unwrap();
    fs::write(tree.join("planted/changed"), "earlier").unwrap();
    // Longer than the longest blob.
    let large: Vec<u8> = (0..2_200_000u32)
        .flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    fs::write(tree.join("planted/large"), large).unwrap();
    let link = tree.join("planted/link");
    if link.symlink_metadata().is_err() {
        fs::hard_link(tree.join("planted/large"), link).unwrap();
    }
}

/// Each JSON document of the output, with all numbers as floating point: 100 and 100.0 are the same number.
fn documents(said: &Said) -> Vec<Value> {
    let parsed = serde_json::Deserializer::from_slice(&said.stdout).into_iter();
    parsed
        .map(|one| with_floats(one.unwrap_or_else(|error| panic!("{}: {error}", said.text()))))
        .collect()
}

fn with_floats(value: Value) -> Value {
    match value {
        Value::Number(number) if number.as_u64().is_none_or(|whole| whole < 1 << 53) => {
            let float = number.as_f64().and_then(Number::from_f64);
            float.map_or(Value::Null, Value::Number)
        }
        Value::Array(list) => list.into_iter().map(with_floats).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (key, with_floats(value)))
            .collect(),
        other => other,
    }
}

pub(crate) fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
        .to_owned()
}
