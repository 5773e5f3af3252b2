//! What a fleet needs, over a file with both kinds of policies.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use lifeboat_fleet::Fleet;
use lifeboat_plan::{
    CopyFacts, CopyName, Due, DueReason, FleetPlan, FleetRequest, Freshness, plan_fleet,
};

const FILE: &str = r#"
version: 1
name: home
timezone: Europe/Berlin
repositories:
  near: { url: /srv/near, password: { file: /run/near } }
  far: { url: /mnt/far, password: { file: /run/far } }
policies:
  chained: { schedule: "0 * * * *", keep: { hourly: 24 }, rpo: 3h }
  apart:
    rpo: 2h
    copies:
      - { to: near, schedule: "0 * * * *", keep: { hourly: 24 } }
      - { to: far, schedule: "0 3 * * *", keep: { daily: 7 } }
defaults: { policy: chained, repositories: [near, far] }
apps:
  memos:
    volumes:
      assets: { path: /srv/memos/assets }
      thumbs: { path: /srv/memos/thumbs, exempt: made again }
  wiki:
    policy: apart
    volumes: { pages: { path: /srv/wiki } }
  elsewhere:
    host: other
    volumes: { files: { path: /srv/files } }
"#;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn plan(known: &[(&str, &str, &str, Option<&str>)], apps: &[&str], now: &str) -> FleetPlan {
    let fleet = Fleet::parse("lifeboat.yaml", FILE).unwrap();
    let facts: BTreeMap<CopyName, CopyFacts> = known
        .iter()
        .map(|(app, member, repository, newest)| {
            let name = CopyName {
                app: (*app).to_owned(),
                member: (*member).to_owned(),
                repository: (*repository).to_owned(),
            };
            let facts = CopyFacts {
                newest: newest.map(at),
                ..CopyFacts::default()
            };
            (name, facts)
        })
        .collect();
    let apps: Vec<String> = apps.iter().map(|app| (*app).to_owned()).collect();
    let request = FleetRequest {
        apps: &apps,
        host: "here",
        now: at(now),
        zone: &TimeZone::UTC,
    };
    plan_fleet(&fleet, &facts, &request)
}

fn due(plan: &FleetPlan) -> Vec<(String, DueReason)> {
    plan.due()
        .map(|(app, member, copy)| {
            let name = format!("{}/{} {}", app.app, member.member, copy.repository);
            (name, copy.reason().unwrap())
        })
        .collect()
}

const NOW: &str = "2026-11-22T10:30:00Z";
const TURN: &str = "2026-11-22T10:00:00Z";

#[test]
fn all_is_due_where_nothing_is() {
    let plan = plan(
        &[
            ("memos", "assets", "near", None),
            ("memos", "assets", "far", None),
            ("wiki", "pages", "near", None),
            ("wiki", "pages", "far", None),
        ],
        &[],
        NOW,
    );
    let first = |name: &str| (name.to_owned(), DueReason::First);
    assert_eq!(
        due(&plan),
        [
            first("memos/assets near"),
            first("memos/assets far"),
            first("wiki/pages near"),
            first("wiki/pages far"),
        ]
    );
    assert_eq!(
        plan.apps[0].exempt,
        [("thumbs".into(), "made again".into())]
    );
    assert_eq!(plan.apps[2].elsewhere.as_deref(), Some("other"));
    assert!(plan.copies().all(|(app, _, copy)| {
        copy.freshness == Freshness::NeverRun || app.elsewhere.is_some()
    }));
}

#[test]
fn a_copy_follows_its_source_and_an_independent_one_its_own_turns() {
    let newest = "2026-11-22T10:00:01Z";
    let known = [
        ("memos", "assets", "near", Some(newest)),
        ("memos", "assets", "far", Some("2026-11-22T08:00:01Z")),
        ("wiki", "pages", "near", Some("2026-11-22T09:00:01Z")),
        ("wiki", "pages", "far", Some("2026-11-22T02:00:01Z")),
    ];
    let plan = plan(&known, &[], NOW);
    assert_eq!(
        due(&plan),
        [
            ("memos/assets far".to_owned(), DueReason::Behind(at(newest))),
            ("wiki/pages near".to_owned(), DueReason::Turn(at(TURN))),
        ]
    );
    let next: Vec<Due> = plan.apps[1].members[0]
        .copies
        .iter()
        .map(|copy| copy.due)
        .collect();
    assert_eq!(next[1], Due::At(at("2026-11-23T02:00:00Z")));
    let stands: Vec<Freshness> = plan.copies().map(|(_, _, copy)| copy.freshness).collect();
    assert_eq!(
        stands[..4],
        [
            Freshness::Fresh,
            Freshness::Overdue,
            Freshness::Due,
            Freshness::Fresh
        ]
    );
}

#[test]
fn what_is_asked_for_is_done_at_any_time_and_nothing_else() {
    let fresh = Some("2026-11-22T10:00:01Z");
    let known = [
        ("memos", "assets", "near", fresh),
        ("memos", "assets", "far", fresh),
        ("wiki", "pages", "near", None),
    ];
    let plan = plan(&known, &["memos"], NOW);
    let asked = |name: &str| (name.to_owned(), DueReason::Asked);
    assert_eq!(
        due(&plan),
        [asked("memos/assets near"), asked("memos/assets far")]
    );
    assert_eq!(plan.apps.len(), 1);
}

#[test]
fn what_nobody_knows_is_unknown_and_not_fresh() {
    let plan = plan(&[("wiki", "pages", "near", None)], &[], NOW);
    let (_, _, copy) = plan.copies().next().unwrap();
    assert_eq!(copy.freshness, Freshness::Unknown);
    assert!(copy.unknown.is_some());
}
