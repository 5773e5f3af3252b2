//! Proves which member is protected how, over the examples that are published.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use lifeboat_fleet::{Copies, Database, Fleet, Jitter, Member, Method, Protection, Role, Way};

macro_rules! example {
    ($name:literal) => {
        Fleet::parse(
            $name,
            include_str!(concat!("../../../docs/examples/", $name)),
        )
        .unwrap_or_else(|errors| panic!("{errors}"))
    };
}

/// A line for each copy of each member.
fn shown(fleet: &Fleet) -> String {
    let mut text = String::new();
    for protection in fleet.members() {
        let log = if protection.log { " and log" } else { "" };
        text.push_str(&format!(
            "{}{log}: {}\n",
            protection.path(),
            protection.policy.name.value
        ));
        for copy in &protection.copies {
            let role = match copy.role {
                Role::Primary => "primary".to_owned(),
                Role::CopyOf(other) => format!("copy of {other}"),
                Role::Independent => "independent".to_owned(),
            };
            let keep = copy.keep;
            let counts = [
                ("last", keep.last),
                ("hourly", keep.hourly),
                ("daily", keep.daily),
                ("weekly", keep.weekly),
                ("monthly", keep.monthly),
                ("yearly", keep.yearly),
            ];
            let mut rules: Vec<String> = counts
                .iter()
                .filter_map(|(name, count)| Some(format!("{name} {}", (*count)?)))
                .collect();
            rules.extend(keep.within.map(|within| format!("within {within}")));
            rules.extend(keep.window.map(|window| format!("window {}", window.value)));
            let rpo = copy.rpo.map_or(String::new(), |rpo| format!(", rpo {rpo}"));
            text.push_str(&format!(
                "  {} ({role}) {} {:?}: {}{rpo}\n",
                copy.repository.name.value,
                copy.schedule,
                copy.jitter,
                rules.join(", ")
            ));
        }
    }
    text
}

fn member<'f>(fleet: &'f Fleet, path: &str) -> Protection<'f> {
    let found = fleet.members().into_iter().find(|one| one.path() == path);
    found.unwrap_or_else(|| panic!("{path} is not protected"))
}

#[test]
fn the_fleet_of_the_design() {
    let fleet = example!("homelab.yaml");
    insta::assert_snapshot!("homelab", shown(&fleet));
    assert_eq!(fleet.warnings(), []);
    let memos = fleet.app("memos").unwrap();
    assert_eq!(memos.expect[0].1, "select count(*) > 0 from memo");
    let firewall = fleet.app("firewall").unwrap();
    assert_eq!(
        firewall.commands[0].run.value,
        "ssh firewall cat /cf/conf/config.xml"
    );
    assert_eq!(firewall.commands[0].timeout, Duration::from_secs(3600));
    assert_eq!(fleet.app("vaultwarden").unwrap().after[0].value, "memos");
    assert!(
        matches!(&fleet.notify[0].way, Way::Url(url) if url.text == "ntfy://ntfy.example.net/backups")
    );
    assert_eq!(
        fleet.time_zone(&TimeZone::UTC).iana_name(),
        Some("Europe/Berlin")
    );
    let critical = fleet.policy("critical").unwrap();
    assert_eq!(critical.drill.as_ref().unwrap().to_string(), "weekly");
    let offsite = fleet.repository("offsite").unwrap();
    assert_eq!(
        offsite.url.value.of("homelab", "memos"),
        "s3:https://s3.example.net/volsync/memos"
    );
}

#[test]
fn two_backends_are_independent() {
    let fleet = example!("two-backends.yaml");
    insta::assert_snapshot!("two-backends", shown(&fleet));
    assert!(matches!(
        fleet.policy("stateful").unwrap().copies,
        Copies::Independent(_)
    ));
}

#[test]
fn tiers_differ_in_schedule_and_retention() {
    let fleet = example!("tiers.yaml");
    insta::assert_snapshot!("tiers", shown(&fleet));
    assert!(
        fleet
            .members()
            .iter()
            .all(|one| one.path() != "/apps/search/index"),
        "it is exempt"
    );
}

#[test]
fn windows_have_logs() {
    let fleet = example!("windows.yaml");
    insta::assert_snapshot!("windows", shown(&fleet));
    assert!(fleet.members().iter().all(|one| one.log));
    assert_eq!(fleet.limits.upload.unwrap().bytes_per_second, 10 << 20);
    assert_eq!(fleet.timezone, None);
}

#[test]
fn members_of_one_app_are_kept_for_different_times() {
    let fleet = example!("stores.yaml");
    insta::assert_snapshot!("stores", shown(&fleet));
    let relational = member(&fleet, "/apps/platform/relational");
    assert!(matches!(
        relational.member,
        Member::Database(Database {
            method: Some(Method::Files),
            ..
        })
    ));
    let platform = fleet.app("platform").unwrap();
    assert_eq!(platform.hooks.pause[0].value, "worker");
}

#[test]
fn three_at_night_is_three_at_night() {
    let fleet = example!("infra.yaml");
    insta::assert_snapshot!("infra", shown(&fleet));
    let utc = TimeZone::UTC;
    let zone = fleet.time_zone(&utc);
    let nightly = member(&fleet, "/apps/firewall/config.xml");
    let copy = &nightly.copies[0];
    assert_eq!(copy.jitter, Jitter::None);
    let from: Timestamp = "2026-06-01T12:00:00Z".parse().unwrap();
    let run = copy.schedule.next_after(from, zone).unwrap();
    assert_eq!(
        run,
        "2026-06-02T02:00:00Z".parse().unwrap(),
        "03:00 in London"
    );
    let passwords = fleet.policy("passwords").unwrap();
    assert_eq!(
        passwords.check.as_ref().unwrap().period(),
        Duration::from_secs(6 * 3600)
    );
}

#[test]
fn one_directory_of_two_apps_is_told_and_allowed() {
    let text = "version: 1
name: t
repositories: { r: { url: /r, password: { file: f } } }
policies: { p: { schedule: daily, keep: { last: 1 } } }
defaults: { policy: p }
apps:
  a: { volumes: { v: { path: /srv/x } } }
  b: { volumes: { v: { path: /srv/./x/ } } }
  c: { host: other, volumes: { v: { path: /srv/x } } }
";
    let fleet = Fleet::parse("lifeboat.yaml", text).unwrap();
    let warnings = fleet.warnings();
    assert_eq!(warnings.len(), 1);
    assert_eq!(
        (warnings[0].path.as_str(), warnings[0].spot.line),
        ("apps.b.volumes.v.path", 8)
    );
    assert_eq!(
        warnings[0].what,
        "this directory is protected by the app a already, at 7:30"
    );
}

#[test]
fn no_debug_text_shows_a_secret_s_place() {
    let text = "version: 1
name: t
repositories:
  r: { url: /r, password: { command: echo hunter2 }, env: { X: { command: echo hunter2 } } }
notify: [ { url: \"ntfy://h/t\", secret: { command: echo hunter2 } } ]
";
    let fleet = Fleet::parse("lifeboat.yaml", text).unwrap();
    assert!(!format!("{fleet:?}").contains("hunter2"));
}
