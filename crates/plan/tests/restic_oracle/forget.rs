//! Generated histories and policies: what is kept, what is removed, and why, as `restic forget` says.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use lifeboat_format::Timestamp;
use lifeboat_plan::{
    CalendarSpan, GroupBy, KeepCount, PolicyError, Retention, RetentionPolicy, SnapshotFacts,
    TagList, group, retain,
};
use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::{Note, seed};
use lifeboat_testkit::restic::Restic;
use serde_json::Value;

use crate::repository::{Repository, facts, some};
use crate::zone::central_europe;

const HISTORIES: usize = 16;
const SNAPSHOTS_MAX: u64 = 45;
const POLICIES: usize = 40;
const POLICIES_SOAK: usize = 1500;

/// Between what the histories call past and what they call future, so that our `now` can stand for restic's.
const NOW: &str = "2025-01-01T00:00:00Z";
const FUTURE: &str = "2090-01-01T00:00:00Z";

/// A line for each snapshot: its group, whether it is kept, its ID, and why.
type Decisions = Vec<String>;

#[test]
fn generated_histories_are_thinned_out_as_by_restic() {
    let seed = seed();
    let _note = Note::seed(seed);
    let mut random = Random::new(seed);
    let repository = Repository::create();
    let (berlin, berlin_file) = central_europe(&repository.beside("repository").join(".."));
    let snapshots = histories(&mut random, &repository, &berlin);
    let restics = [
        (
            repository.restic().with_variable("TZ", "UTC"),
            TimeZone::UTC,
        ),
        (
            repository
                .restic()
                .with_variable("TZ", berlin_file.to_str().unwrap()),
            berlin,
        ),
    ];
    let soak = std::env::var_os("LIFEBOAT_SOAK").is_some();
    let mut refused = 0;
    let mut seen = BTreeSet::new();
    for number in 0..if soak { POLICIES_SOAK } else { POLICIES } {
        let policy = policy(&mut random);
        let group_by = *random.pick(&[
            "host,paths",
            "host,paths",
            "host",
            "paths,tags",
            "host,tags",
        ]);
        let (restic, zone) = &restics[number % restics.len()];
        let theirs = ask(restic, &policy, group_by);
        let ours = decide(&snapshots, &policy, group_by.parse().unwrap(), zone);
        let context = format!("policy {number}: {policy}; by {group_by}; {zone:?}");
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => {
                let differences = ours
                    .iter()
                    .zip(&theirs)
                    .filter(|(ours, theirs)| ours != theirs);
                let differences: Vec<_> = differences.take(3).collect();
                assert!(differences.is_empty(), "{context}: {differences:#?}");
                assert_eq!(ours.len(), theirs.len(), "{context}");
                seen.extend(ours);
            }
            (Err(ours), Err(theirs)) => {
                assert!(
                    matches!(ours, PolicyError::WholeGroup(_)),
                    "{context}: {ours}"
                );
                assert!(
                    theirs.contains("refusing to delete last snapshot of snapshot group"),
                    "{context}: {theirs}"
                );
                refused += 1;
            }
            (ours, theirs) => panic!("{context}: we say {ours:?}, restic says {theirs:?}"),
        }
    }
    // The comparison is worth nothing if generated policies are all alike.
    assert!(
        refused * 4 < POLICIES || soak,
        "{refused} policies were refused"
    );
    for word in [
        "oldest ",
        "has tags",
        "within ",
        "hourly within",
        "last snapshot",
        "weekly snapshot",
    ] {
        assert!(
            seen.iter().any(|line| line.contains(word)),
            "no policy gave the reason {word:?}"
        );
    }
}

#[test]
fn a_missing_policy_is_refused_as_by_restic() {
    let repository = Repository::create();
    repository.store(facts(NOW.parse().unwrap(), "h", &["/p"], &[]));
    let restic = repository.restic();
    let empty = RetentionPolicy::default();
    for (allow, filter, accepted) in [
        (false, false, false),
        (true, false, false),
        (true, true, true),
        (false, true, false),
    ] {
        let mut arguments = vec!["forget", "--dry-run", "--json"];
        arguments.extend(allow.then_some("--unsafe-allow-remove-all"));
        arguments.extend(filter.then_some("--host=h"));
        assert_eq!(
            restic.try_run(&arguments).status.success(),
            accepted,
            "{arguments:?}"
        );
        assert_eq!(
            empty.check(allow, !filter).is_ok(),
            accepted,
            "{arguments:?}"
        );
    }
}

#[test]
fn counts_and_spans_are_read_as_by_restic() {
    let repository = Repository::create();
    repository.store(facts(NOW.parse().unwrap(), "h", &["/p"], &[]));
    let restic = repository.restic();
    let accepts = |flag: &str, text: &str| {
        let said = restic.try_run(&[
            "forget",
            "--dry-run",
            "--keep-last=1",
            &format!("{flag}={text}"),
        ]);
        said.status.success()
    };
    for text in [
        "0",
        "1",
        "+1",
        "-0",
        "-1",
        "unlimited",
        "Unlimited",
        "1.0",
        "",
        " 1",
        "9223372036854775807",
        "9223372036854775808",
    ] {
        assert_eq!(
            text.parse::<KeepCount>().is_ok(),
            accepts("--keep-daily", text),
            "{text:?}"
        );
    }
    for text in [
        "1y5m7d2h", "2h1y", "1d1d", "7", "d", "7w", " 7d ", "7 d", "1.5d", "-7d", "", "07d", "7D",
        "d7", "0h",
    ] {
        assert_eq!(
            text.parse::<CalendarSpan>().is_ok(),
            accepts("--keep-within", text),
            "{text:?}"
        );
    }
}

/// What restic says, or why it refuses.
fn ask(restic: &Restic, policy: &RetentionPolicy, group_by: &str) -> Result<Decisions, String> {
    let mut arguments = vec![
        "forget".to_owned(),
        "--dry-run".to_owned(),
        "--no-lock".to_owned(),
        "--json".to_owned(),
        format!("--group-by={group_by}"),
    ];
    for (flag, count) in [
        ("last", policy.last),
        ("hourly", policy.hourly),
        ("daily", policy.daily),
        ("weekly", policy.weekly),
        ("monthly", policy.monthly),
        ("yearly", policy.yearly),
    ] {
        if count != KeepCount::UpTo(0) {
            arguments.push(format!("--keep-{flag}={count}"));
        }
    }
    for (flag, span) in [
        ("within", policy.within),
        ("within-hourly", policy.within_hourly),
        ("within-daily", policy.within_daily),
        ("within-weekly", policy.within_weekly),
        ("within-monthly", policy.within_monthly),
        ("within-yearly", policy.within_yearly),
    ] {
        if !span.is_zero() {
            arguments.push(format!("--keep-{flag}={span}"));
        }
    }
    arguments.extend(
        policy
            .tags
            .iter()
            .map(|list| format!("--keep-tag={}", list.0.join(","))),
    );
    let said = restic.try_run(&arguments);
    if !said.status.success() {
        return Err(said.stderr);
    }
    let groups: Vec<Value> = serde_json::from_slice(&said.stdout).unwrap();
    let texts = |list: &Value| -> Vec<String> {
        list.as_array()
            .into_iter()
            .flatten()
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    };
    let id = |snapshot: &Value| snapshot["id"].as_str().unwrap().to_owned();
    let mut decisions = Decisions::new();
    for group in groups {
        let key = format!(
            "{} {:?} {:?}",
            group["host"].as_str().unwrap(),
            texts(&group["paths"]),
            texts(&group["tags"])
        );
        let list = |name: &str| group[name].as_array().cloned().unwrap_or_default();
        let reasons = list("reasons");
        assert!(
            list("keep")
                .iter()
                .map(id)
                .eq(reasons.iter().map(|reason| id(&reason["snapshot"])))
        );
        for (number, reason) in reasons.iter().enumerate() {
            let matches = texts(&reason["matches"]).join("; ");
            decisions.push(format!(
                "{key} keep {number} {}: {matches}",
                id(&reason["snapshot"])
            ));
        }
        for (number, snapshot) in list("remove").iter().enumerate() {
            decisions.push(format!("{key} remove {number} {}", id(snapshot)));
        }
    }
    decisions.sort();
    Ok(decisions)
}

/// What we say.
fn decide(
    snapshots: &[SnapshotFacts],
    policy: &RetentionPolicy,
    group_by: GroupBy,
    zone: &TimeZone,
) -> Result<Decisions, PolicyError> {
    let mut decisions = Decisions::new();
    for group in group(snapshots, group_by) {
        let Retention { keep, remove } = retain(policy, &group, NOW.parse().unwrap(), zone)?;
        let key = format!(
            "{} {:?} {:?}",
            group.key.hostname, group.key.paths, group.key.tags
        );
        for (number, kept) in keep.iter().enumerate() {
            let matches: Vec<_> = kept.matches.iter().map(ToString::to_string).collect();
            decisions.push(format!(
                "{key} keep {number} {}: {}",
                kept.snapshot.id,
                matches.join("; ")
            ));
        }
        for (number, snapshot) in remove.iter().enumerate() {
            decisions.push(format!("{key} remove {number} {}", snapshot.id));
        }
    }
    decisions.sort();
    Ok(decisions)
}

fn policy(random: &mut Random) -> RetentionPolicy {
    let mut policy = RetentionPolicy::default();
    while policy.is_empty() {
        let mut count = || match random.below(10) {
            0..=5 => KeepCount::UpTo(0),
            6..=8 => KeepCount::UpTo(1 + random.below(12)),
            _ => KeepCount::Unlimited,
        };
        policy.last = count();
        policy.hourly = count();
        policy.daily = count();
        policy.weekly = count();
        policy.monthly = count();
        policy.yearly = count();
        let mut span = || {
            let mut unit = |max| {
                if random.chance(30) {
                    u32::try_from(random.below(max)).unwrap()
                } else {
                    0
                }
            };
            let span = CalendarSpan {
                years: unit(4),
                months: unit(14),
                days: unit(40),
                hours: unit(60),
            };
            if random.chance(25) {
                span
            } else {
                CalendarSpan::default()
            }
        };
        policy.within = span();
        policy.within_hourly = span();
        policy.within_daily = span();
        policy.within_weekly = span();
        policy.within_monthly = span();
        policy.within_yearly = span();
        while random.chance(25) {
            policy.tags.push(TagList(
                some(random, &["a", "b", "c", ""], 40)
                    .into_iter()
                    .map(str::to_owned)
                    .collect(),
            ));
        }
        // On a command line, a list without tags is one with an empty tag.
        for list in policy.tags.iter_mut().filter(|list| list.0.is_empty()) {
            list.0.push(String::new());
        }
    }
    policy
}

/// Histories of one host each: some by the minute, some by the month, across the turns of years and clocks.
fn histories(random: &mut Random, repository: &Repository, zone: &TimeZone) -> Vec<SnapshotFacts> {
    let mut all = Vec::new();
    for history in 0..HISTORIES {
        let host = format!("host{history:02}");
        let start = *random.pick(&[
            // Turns of the year on each side of ISO's first week, a leap day, and both turns of the clock.
            "2020-12-27T12:00:00Z",
            "2018-12-30T20:00:00Z",
            "2024-02-28T22:00:00Z",
            "2023-03-26T02:30:00Z",
            "2023-10-29T03:30:00Z",
            "2022-06-15T00:00:00Z",
        ]);
        let start: Timestamp = start.parse().unwrap();
        let step = *random.pick(&[600, 3600, 8 * 3600, 86_400, 3 * 86_400, 11 * 86_400]);
        let mut seconds = start.seconds;
        let mut instants = BTreeSet::new();
        for _ in 0..1 + random.below(SNAPSHOTS_MAX) {
            // Some are exactly a step apart, so that they fall on the edges of spans.
            seconds -= if random.chance(40) {
                step
            } else {
                1 + i64::try_from(random.below(2 * step as u64)).unwrap()
            };
            instants.insert((
                seconds,
                if random.chance(30) {
                    random.below(1_000_000)
                } else {
                    0
                },
            ));
        }
        if random.chance(15) {
            let future: Timestamp = FUTURE.parse().unwrap();
            instants.insert((future.seconds, 0));
        }
        for (seconds, fraction) in instants {
            let local = zone
                .to_offset(jiff::Timestamp::from_second(seconds).unwrap())
                .seconds();
            let offset_seconds =
                *random.pick(&[local, local, local, 0, -5 * 3600, 14 * 3600, 20_700]);
            // No two histories share an instant, as restic decides between equal ones by chance.
            let nanoseconds = u32::try_from(fraction * HISTORIES as u64 + history as u64).unwrap();
            let time = Timestamp {
                seconds,
                nanoseconds,
                offset_seconds,
            };
            let tags = some(random, &["a", "b", "c"], 20);
            let paths = if random.chance(70) {
                &["/x", "/y"][..]
            } else {
                &["/y", "/x"]
            };
            let paths = if random.chance(90) { paths } else { &["/z"] };
            all.push(repository.store(facts(time, &host, paths, &tags)));
        }
    }
    all
}
