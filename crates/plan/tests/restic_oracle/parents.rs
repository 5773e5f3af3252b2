//! The parent that `restic backup` takes for the same time, host, paths and tags.

use std::fs;

use lifeboat_format::Timestamp;
use lifeboat_plan::{ParentQuery, TagList, find_parent, parse_time};
use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::{Note, seed};

use crate::repository::{Repository, facts, some};
use crate::zone::central_europe;

const SNAPSHOTS: i64 = 40;
const QUERIES: usize = 40;

#[test]
fn backups_take_the_parent_that_restic_takes() {
    let seed = seed();
    let _note = Note::seed(seed);
    let mut random = Random::new(seed);
    let repository = Repository::create();
    let base = repository
        .path()
        .parent()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let (zone, zone_file) = central_europe(base.as_ref());
    let directories: Vec<String> = ["p", "q", "r"]
        .iter()
        .map(|name| format!("{base}/{name}"))
        .collect();
    for directory in &directories {
        fs::create_dir(directory).unwrap();
    }
    let words: Vec<&str> = directories.iter().map(String::as_str).collect();
    // An hour apart, across the night in which the clock is turned back.
    let start = "2023-10-28T12:00:00Z".parse::<Timestamp>().unwrap().seconds;
    let history: Vec<_> = (0..SNAPSHOTS)
        .map(|number| {
            let host = *random.pick(&["a", "b"]);
            let paths = some(&mut random, &words, 60);
            let tags = some(&mut random, &["x", "y"], 50);
            repository.store(facts(
                Timestamp::utc(start + number * 3600, 0),
                host,
                &paths,
                &tags,
            ))
        })
        .collect();
    let restic = repository
        .restic()
        .with_variable("TZ", zone_file.to_str().unwrap());
    let mut found_at_all = 0;
    for _ in 0..QUERIES {
        let host = *random.pick(&["a", "b", "c"]);
        let mut paths = some(&mut random, &words, 50);
        if paths.is_empty() {
            paths.push(words[0]);
        }
        let tags = some(&mut random, &["x", "x,y", ""], 30);
        let group_by =
            *random.pick(&["host,paths", "host", "paths", "host,paths,tags", "tags", ""]);
        let hour = random.below(50);
        let time = format!("2023-10-{} {:02}:30:00", 28 + hour / 24, hour % 24);
        let mut arguments = vec![
            "backup".to_owned(),
            "--dry-run".to_owned(),
            "--time".to_owned(),
            time.clone(),
        ];
        arguments.extend([
            "--host".to_owned(),
            host.to_owned(),
            format!("--group-by={group_by}"),
        ]);
        arguments.extend(tags.iter().map(|tags| format!("--tag={tags}")));
        arguments.extend(
            paths
                .iter()
                .map(|path| format!("{path}/../{}/", &path[base.len() + 1..])),
        );
        // The parents' trees don't exist, so the backup itself may fail later.
        let said = restic.try_run(&arguments);
        let theirs = said.text().lines().find_map(|line| {
            let line = line.trim();
            match line.strip_prefix("using parent snapshot ") {
                Some(id) => Some(Some(id.to_owned())),
                None => line.starts_with("no parent snapshot found").then_some(None),
            }
        });
        let theirs =
            theirs.unwrap_or_else(|| panic!("{arguments:?}: {}{}", said.text(), said.stderr));

        let tags: Vec<TagList> = tags.iter().map(|tags| tags.parse().unwrap()).collect();
        let paths: Vec<String> = paths.iter().map(|path| format!("{path}/")).collect();
        let query = ParentQuery {
            time: parse_time(&time, Timestamp::ZERO, &zone).unwrap(),
            hostname: host,
            paths: &paths,
            tags: &tags,
            group_by: group_by.parse().unwrap(),
        };
        let ours = find_parent(&query, &history).map(|snapshot| snapshot.id.short());
        assert_eq!(ours, theirs, "{arguments:?}");
        found_at_all += usize::from(ours.is_some());
    }
    assert!(
        found_at_all * 4 > QUERIES,
        "only {found_at_all} of {QUERIES} backups have a parent"
    );
}
