//! Filters, names and groups: the snapshots that `restic snapshots` lists for the same words.

use std::collections::BTreeMap;

use lifeboat_format::{Id, Timestamp};
use lifeboat_plan::{
    Resolution, SnapshotFacts, SnapshotFilter, SnapshotPath, group, resolve_prefix, select,
};
use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::{Note, seed};
use serde_json::Value;

use crate::repository::{Repository, facts, some};

const SNAPSHOTS: i64 = 60;
const QUERIES: usize = 40;

fn history(random: &mut Random, repository: &Repository) -> Vec<SnapshotFacts> {
    let stored = (0..SNAPSHOTS).map(|number| {
        let host = *random.pick(&["a", "b", "B", ""]);
        // No backup is without a path.
        let mut paths = some(random, &["/q", "/p/x", "/r<&>"], 50);
        paths.push("/p");
        let tags = some(random, &["x", "y", "z z"], 40);
        let time = Timestamp::utc(1_700_000_000 + number * 5000, 0);
        repository.store(facts(time, host, &paths, &tags))
    });
    stored.collect()
}

fn ids(listed: &Value) -> Vec<String> {
    listed
        .as_array()
        .into_iter()
        .flatten()
        .map(|snapshot| snapshot["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn filters_and_names_choose_what_restic_chooses() {
    let seed = seed();
    let _note = Note::seed(seed);
    let mut random = Random::new(seed);
    let repository = Repository::create();
    let history = history(&mut random, &repository);
    let restic = repository.restic();
    let mut chosen_at_all = 0;
    for _ in 0..QUERIES {
        let hosts = some(&mut random, &["a", "b", "B", "", "c"], 25);
        let tags = some(
            &mut random,
            &["x", "x,y", "y, z z", "", "x,", ",x", "w"],
            25,
        );
        let paths = some(&mut random, &["/p/x", "/q", "/r<&>", "/none"], 15);
        let mut names: Vec<String> = Vec::new();
        while random.chance(50) {
            let id = random.pick(&history).id.to_string();
            let digits = [1, 2, 5, 64][random.index(4)];
            names.push(if random.chance(40) {
                "latest".to_owned()
            } else {
                id[..digits].to_owned()
            });
        }
        let mut arguments = vec!["snapshots".to_owned(), "--json".to_owned()];
        arguments.extend(hosts.iter().map(|host| format!("--host={host}")));
        arguments.extend(tags.iter().map(|tags| format!("--tag={tags}")));
        arguments.extend(paths.iter().map(|path| format!("--path={path}")));
        arguments.extend(names.clone());
        let said = restic.run(&arguments);
        let mut theirs = ids(&serde_json::from_slice(&said.stdout).unwrap());
        // A snapshot that is named and also the latest, restic may list twice.
        theirs.sort();
        theirs.dedup();

        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let lists = tags.iter().map(|tags| tags.parse().unwrap()).collect();
        let filter = SnapshotFilter::new(owned(&hosts), lists, owned(&paths));
        let names: Vec<SnapshotPath> = names
            .iter()
            .map(|name| SnapshotPath::parse(name.as_bytes()).unwrap())
            .collect();
        let selection = select(&names, &filter, &history);
        let mut ours: Vec<String> = selection
            .chosen
            .iter()
            .map(|snapshot| snapshot.id.to_string())
            .collect();
        ours.sort();
        assert_eq!(ours, theirs, "{arguments:?}");
        chosen_at_all += ours.len();
        // What is wrong, restic says once as well: one line for each name, and the filter.
        let complaints = said
            .stderr
            .lines()
            .filter(|line| line.starts_with("Ignoring "))
            .count();
        let repeated = selection
            .problems
            .iter()
            .filter(|problem| problem.to_string().contains("\"latest\""))
            .count();
        assert_eq!(
            selection.problems.len() - repeated.saturating_sub(1),
            complaints,
            "{arguments:?}: {:?}\n{}",
            selection.problems,
            said.stderr
        );
    }
    assert!(
        chosen_at_all > QUERIES,
        "the queries choose too little to prove anything"
    );
}

#[test]
fn prefixes_mean_what_they_mean_to_restic() {
    let repository = Repository::create();
    let mut random = Random::new(1);
    let history = history(&mut random, &repository);
    let restic = repository.restic();
    let all: Vec<Id> = history.iter().map(|snapshot| snapshot.id).collect();
    let first = all[0].to_string();
    // Sixty IDs and sixteen first digits: a digit is ambiguous, eight are not.
    let digits = (0..16).map(|digit| format!("{digit:x}"));
    for prefix in digits.chain([
        first[..8].to_owned(),
        first.clone(),
        "0".repeat(64),
        "0123456789".to_owned(),
    ]) {
        let said = restic.try_run(&["cat", "snapshot", &prefix]);
        match resolve_prefix(&prefix, all.iter().copied()) {
            Resolution::Unique(_) => assert!(said.status.success(), "{prefix}: {}", said.stderr),
            Resolution::Ambiguous(_) => assert!(
                said.stderr.contains("multiple IDs with prefix"),
                "{prefix}: {}",
                said.stderr
            ),
            Resolution::Missing if prefix.len() == 64 => {
                assert!(!said.status.success(), "{prefix}")
            }
            Resolution::Missing => assert!(
                said.stderr.contains("no matching ID found"),
                "{prefix}: {}",
                said.stderr
            ),
        }
    }
}

#[test]
fn groups_and_their_keys_are_restic_s() {
    let repository = Repository::create();
    let history = history(&mut Random::new(2), &repository);
    let restic = repository.restic();
    for by in [
        "host",
        "paths",
        "tags",
        "host,paths",
        "path,tag,host",
        "hosts,tags",
    ] {
        let said = restic.run(&["snapshots", "--json", "--group-by", by]);
        let listed: Vec<Value> = serde_json::from_slice(&said.stdout).unwrap();
        let mut theirs: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for group in &listed {
            theirs.insert(group["group_key"].to_string(), ids(&group["snapshots"]));
        }
        let ours: BTreeMap<String, Vec<String>> = group(&history, by.parse().unwrap())
            .iter()
            .map(|group| {
                let ids = group
                    .snapshots
                    .iter()
                    .map(|snapshot| snapshot.id.to_string());
                (
                    serde_json::to_value(&group.key).unwrap().to_string(),
                    ids.collect(),
                )
            })
            .collect();
        assert_eq!(ours, theirs, "{by}");
    }
}
