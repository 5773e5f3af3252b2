//! Two equal repositories: in one works our program and in the other restic 0.19, with the same arguments.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use lifeboat_testkit::restic::Said;
use serde_json::{Value, json};

use crate::common::{Place, Program, array, summary};
use crate::listing::listed;

/// Fields of a snapshot that differ because they tell of the program, the moment or another snapshot's ID.
const OWN_FIELDS: [&str; 6] = [
    "id",
    "short_id",
    "time",
    "tree",
    "program_version",
    "parent",
];
/// What restic and we count alike; what is stored in packs depends on the compressor.
const COUNTS: [&str; 11] = [
    "files_new",
    "files_changed",
    "files_unmodified",
    "dirs_new",
    "dirs_changed",
    "dirs_unmodified",
    "data_blobs",
    "tree_blobs",
    "data_added",
    "total_files_processed",
    "total_bytes_processed",
];

/// Two equal repositories.
pub(crate) struct Pair {
    pub(crate) place: Place,
    pub(crate) ours: Program,
    pub(crate) theirs: Program,
    differences: RefCell<Vec<String>>,
}

/// Whether the directories above what is backed up are in the snapshot: they change while tests run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Above {
    Left,
    Stored,
}

/// What a backup led to.
struct Made {
    code: i32,
    snapshots: usize,
    snapshot: Option<Value>,
    listing: Vec<String>,
    counts: BTreeMap<&'static str, Value>,
    tree: Option<Value>,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let place = Place::new();
        let copied = Command::new("cp")
            .arg("-a")
            .args([place.repository(), place.path("theirs")])
            .status();
        assert!(copied.unwrap().success());
        Self {
            ours: place.ours(),
            theirs: Program::current(&place.path("theirs")),
            place,
            differences: RefCell::default(),
        }
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.place.path(name)
    }

    /// Backs up with the same arguments, notes what differs of what came of it, and gives what the two said.
    pub(crate) fn backup(
        &self,
        dir: &Path,
        above: Above,
        words: &[&str],
        input: Option<&[u8]>,
    ) -> (Said, Said) {
        let all = [&["backup", "--json"], words].concat();
        let of = |program: &Program| {
            let run = program.run(&all).within(dir);
            let said = match input {
                None => run.any(),
                Some(bytes) => run.input(bytes).any(),
            };
            let made = made(program, &said, above);
            (said, made)
        };
        let (our, their) = (of(&self.ours), of(&self.theirs));
        let differences = our.1.differences(&their.1);
        if !differences.is_empty() {
            let mut all = self.differences.borrow_mut();
            all.push(format!(
                "{words:?}\n  {}\n  ours said: {}\n  restic said: {}",
                differences.join("\n  "),
                our.0.stderr.trim_end(),
                their.0.stderr.trim_end()
            ));
        }
        (our.0, their.0)
    }

    /// Fails if anything differed.
    pub(crate) fn finish(&self) {
        let all = self.differences.borrow();
        assert!(all.is_empty(), "ours and restic's:\n{}", all.join("\n"));
    }
}

impl Made {
    /// What differs, one line each.
    fn differences(&self, other: &Self) -> Vec<String> {
        let (our, their) = (self.facts(), other.facts());
        let names: BTreeSet<&String> = our.keys().chain(their.keys()).collect();
        let differing = names
            .into_iter()
            .filter(|name| our.get(*name) != their.get(*name));
        differing
            .map(|name| format!("{name}: {:?} and {:?}", our.get(name), their.get(name)))
            .collect()
    }

    fn facts(&self) -> BTreeMap<String, String> {
        let mut facts = BTreeMap::from([
            ("exit status".to_owned(), self.code.to_string()),
            ("number of snapshots".to_owned(), self.snapshots.to_string()),
            ("tree".to_owned(), format!("{:?}", self.tree)),
        ]);
        for (name, count) in &self.counts {
            facts.insert((*name).to_owned(), count.to_string());
        }
        for (name, value) in self
            .snapshot
            .iter()
            .flat_map(|snapshot| snapshot.as_object().unwrap())
        {
            facts.insert(format!("snapshot's {name}"), value.to_string());
        }
        for line in &self.listing {
            facts.insert(format!("{line:?}"), "listed".to_owned());
        }
        facts
    }
}

fn made(program: &Program, said: &Said, above: Above) -> Made {
    let all = array(&program.run(["--no-lock", "snapshots", "--json"]).ok());
    let mut made = Made {
        code: said.code(),
        snapshots: all.len(),
        snapshot: None,
        listing: Vec::new(),
        counts: BTreeMap::new(),
        tree: None,
    };
    if !matches!(made.code, 0 | 3) {
        return made;
    }
    let done = summary(said);
    for name in COUNTS {
        let is_about_above =
            name.starts_with("dirs") || name.starts_with("tree") || name == "data_added";
        if above == Above::Left || !is_about_above {
            made.counts.insert(name, done[name].clone());
        }
    }
    let Some(id) = done["snapshot_id"].as_str() else {
        return made;
    };
    let position = |id: &Value| all.iter().position(|snapshot| snapshot["id"] == *id);
    if position(&id.into()).is_none() {
        // A dry run of restic names a snapshot that it does not write.
        return made;
    }
    // restic reads both, so that only the repositories differ. Its list of snapshots would sort their paths.
    let reader = program.repository().map(Program::current);
    let reader = reader.as_ref().unwrap_or(program);
    let file = reader.run(["--no-lock", "cat", "snapshot", id]).ok();
    let mut snapshot: Value = serde_json::from_slice(&file.stdout).unwrap();
    let parent = position(&snapshot["parent"]);
    if above == Above::Left {
        made.tree = Some(snapshot["tree"].clone());
    }
    let fields = snapshot.as_object_mut().unwrap();
    // With --time both must name the same.
    let is_old = fields["time"].as_str().unwrap() < "2022";
    for name in OWN_FIELDS {
        if name != "time" || !is_old {
            fields.remove(name);
        }
    }
    let summary = fields.remove("summary").unwrap();
    let took = |name: &str| {
        summary[name]
            .as_str()
            .unwrap()
            .parse::<Timestamp>()
            .unwrap()
    };
    let span = took("backup_end").duration_since(took("backup_start"));
    assert!((0..600).contains(&span.as_secs()), "{summary}");
    fields.insert("parent's position".into(), json!(parent));
    made.snapshot = Some(snapshot);
    made.listing = names(&reader.run(["--no-lock", "ls", "--json", id]).ok(), above);
    made
}

/// The nodes of a listing; where directories above are stored, without their times.
fn names(said: &Said, above: Above) -> Vec<String> {
    let mut lines = listed(said);
    if above == Above::Stored {
        for line in &mut lines {
            let shown = line.rsplit_once(", ").map(|(head, _)| head.to_owned());
            *line = shown.unwrap_or_default();
        }
    }
    lines
}
