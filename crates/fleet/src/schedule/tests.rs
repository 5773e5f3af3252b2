//! Proves that schedules are due when a person who reads them would say so, also where clocks are set.

use croner::parser::{CronParser, Seconds, Year};
use proptest::prelude::*;

use super::*;

fn zone(name: &str) -> TimeZone {
    jiff::tz::TimeZoneDatabase::bundled().get(name).unwrap()
}

fn schedule(text: &str) -> Schedule {
    text.parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The wall times of the next runs after an instant.
fn next(text: &str, zone_name: &str, from: &str, count: usize) -> Vec<String> {
    let (schedule, zone) = (schedule(text), zone(zone_name));
    let runs = std::iter::successors(Some(at(from)), |last| schedule.next_after(*last, &zone));
    let shown = |run: Timestamp| {
        run.to_zoned(zone.clone())
            .strftime("%m-%d %H:%M%z")
            .to_string()
    };
    runs.skip(1).take(count).map(shown).collect()
}

#[test]
fn words_begin_with_the_calendar() {
    for (text, expected) in [
        ("hourly", ["11-22 15:00+0100", "11-22 16:00+0100"]),
        ("daily", ["11-23 00:00+0100", "11-24 00:00+0100"]),
        ("weekly", ["11-23 00:00+0100", "11-30 00:00+0100"]),
        ("monthly", ["12-01 00:00+0100", "01-01 00:00+0100"]),
        ("every 1w", ["11-23 00:00+0100", "11-30 00:00+0100"]),
        ("every 6h", ["11-22 18:00+0100", "11-23 00:00+0100"]),
        ("every 90m", ["11-22 15:00+0100", "11-22 16:30+0100"]),
        ("every 15m", ["11-22 14:45+0100", "11-22 15:00+0100"]),
        ("0 3 * * *", ["11-23 03:00+0100", "11-24 03:00+0100"]),
        ("30 4 1,15 * fri", ["11-27 04:30+0100", "12-01 04:30+0100"]),
    ] {
        // A Sunday, 14:30 in Berlin.
        assert_eq!(
            next(text, "Europe/Berlin", "2026-11-22T13:30:00Z", 2),
            expected,
            "{text}"
        );
    }
    assert_eq!(
        next("hourly", "Asia/Kolkata", "2026-11-22T13:31:00Z", 2),
        ["11-22 20:00+0530", "11-22 21:00+0530"]
    );
}

#[test]
fn a_skipped_time_runs_after_the_gap_and_a_repeated_one_once() {
    let berlin = "Europe/Berlin";
    // The clock goes from 02:00 to 03:00 on 29 March, and from 03:00 to 02:00 on 25 October.
    let (spring, autumn) = ("2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z");
    assert_eq!(
        next("30 2 * * *", berlin, spring, 2),
        ["03-29 03:00+0200", "03-30 02:30+0200"]
    );
    assert_eq!(
        next("0,30 2,3 * * *", berlin, spring, 3),
        ["03-29 03:00+0200", "03-29 03:30+0200", "03-30 02:00+0200"]
    );
    assert_eq!(
        next("30 2 * * *", berlin, autumn, 2),
        ["10-25 02:30+0200", "10-26 02:30+0100"]
    );
    assert_eq!(
        next("hourly", berlin, "2026-10-24T23:30:00Z", 3),
        ["10-25 02:00+0200", "10-25 02:00+0100", "10-25 03:00+0100"]
    );
    assert_eq!(
        next("*/30 * * * *", berlin, "2026-10-24T23:45:00Z", 5),
        [
            "10-25 02:00+0200",
            "10-25 02:30+0200",
            "10-25 02:00+0100",
            "10-25 02:30+0100",
            "10-25 03:00+0100"
        ]
    );
    // Half an hour is skipped at 02:00 on 4 October, and comes twice before 02:00 on 5 April.
    let howe = "Australia/Lord_Howe";
    assert_eq!(
        next("15 2 * * *", howe, "2026-10-03T12:00:00Z", 2),
        ["10-04 02:30+1100", "10-05 02:15+1100"]
    );
    assert_eq!(
        next("45 1 * * *", howe, "2026-04-04T12:00:00Z", 2),
        ["04-05 01:45+1100", "04-06 01:45+1030"]
    );
}

#[test]
fn a_day_that_did_not_exist_is_made_up_for() {
    // Samoa went from 29 to 31 December 2011.
    assert_eq!(
        next("0 12 * * *", "Pacific/Apia", "2011-12-29T23:00:00Z", 3),
        ["12-31 00:00+1400", "12-31 12:00+1400", "01-01 12:00+1400"]
    );
}

#[test]
fn rare_days_are_found() {
    assert_eq!(
        next("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1),
        ["02-29 00:00+0000"]
    );
    // A 29 February that is a Sunday: no other is so long in coming.
    let schedule = schedule("0 0 29 2 */7");
    let (before, after) = (at("2088-02-29T00:00:00Z"), at("2128-02-29T00:00:00Z"));
    assert_eq!(schedule.next_after(before, &TimeZone::UTC), Some(after));
    let just_before = after - SignedDuration::from_secs(1);
    assert_eq!(
        schedule.last_before(just_before, &TimeZone::UTC),
        Some(before)
    );
    assert_eq!(schedule.next_after(Timestamp::MAX, &TimeZone::UTC), None);
    assert_eq!(schedule.last_before(Timestamp::MIN, &TimeZone::UTC), None);
}

#[test]
fn periods_are_the_shortest_time_between_runs() {
    for (text, hours) in [
        ("hourly", 1),
        ("daily", 24),
        ("weekly", 168),
        ("every 6h", 6),
        ("every 2d", 48),
        ("0 3 * * *", 24),
        ("0 3,5,23 * * *", 2),
        ("0 1,23 * * *", 2),
    ] {
        assert_eq!(
            schedule(text).period(),
            Duration::from_secs(hours * 3600),
            "{text}"
        );
    }
}

#[test]
fn what_is_no_schedule_is_refused() {
    for (text, what) in [
        ("", "\"\" is no schedule"),
        ("nightly", "\"nightly\" is no schedule"),
        ("@daily", "\"@daily\" is no schedule"),
        (
            "every 7h",
            "7h neither divides a day into equal parts nor is a number of days",
        ),
        (
            "every 36h",
            "36h neither divides a day into equal parts nor is a number of days",
        ),
        (
            "every 30s",
            "30s neither divides a day into equal parts nor is a number of days",
        ),
        ("every day", "\"day\" is no length of time"),
        ("0 3 * *", "\"0 3 * *\" is no cron expression"),
        (
            "0 25 * * *",
            "\"25\" is no hour of a cron expression: it goes from 0 to 23",
        ),
    ] {
        assert_eq!(
            text.parse::<Schedule>().unwrap_err().to_string(),
            what,
            "{text}"
        );
    }
}

const ZONES: [&str; 4] = [
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
];

fn any_field(min: u32, max: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("*".to_owned()),
        2 => (min..=max).prop_map(|one| one.to_string()),
        1 => (2..=max).prop_map(|step| format!("*/{step}")),
        1 => (min..=max, min..=max).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (min..=max, min..=max).prop_map(|(a, b)| format!("{a},{b}")),
    ]
}

fn any_cron() -> impl Strategy<Value = String> {
    let fields = (
        any_field(0, 59),
        any_field(0, 23),
        any_field(1, 31),
        any_field(1, 12),
        any_field(0, 7),
    );
    let text = fields.prop_map(|(a, b, c, d, e)| format!("{a} {b} {c} {d} {e}"));
    text.prop_filter("impossible", |text| text.parse::<Schedule>().is_ok())
}

fn any_schedule() -> impl Strategy<Value = String> {
    let words = [
        "hourly",
        "daily",
        "weekly",
        "monthly",
        "every 5m",
        "every 30m",
        "every 2h",
        "every 3d",
        "30 2 * * *",
        "*/20 * * * *",
    ];
    prop_oneof![
        proptest::sample::select(words.to_vec()).prop_map(str::to_owned),
        any_cron()
    ]
}

/// Instants of 2020 to 2035, half of them within two days of a change of the clock in one of the zones.
fn any_instant() -> impl Strategy<Value = Timestamp> {
    let anywhen = 1_577_836_800..2_051_222_400_i64;
    let changes: Vec<i64> = ZONES
        .iter()
        .flat_map(|name| {
            let zone = zone(name);
            let changes = zone.following(Timestamp::from_second(1_577_836_800).unwrap());
            changes
                .take(20)
                .map(|change| change.timestamp().as_second())
                .collect::<Vec<_>>()
        })
        .collect();
    let near = (proptest::sample::select(changes), -172_800..172_800_i64)
        .prop_map(|(change, off)| change + off);
    prop_oneof![anywhen, near].prop_map(|second| Timestamp::from_second(second).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn runs_follow_each_other(text in any_schedule(), zone_at in 0..ZONES.len(), from in any_instant()) {
        let (schedule, zone) = (schedule(&text), zone(ZONES[zone_at]));
        let first = schedule.next_after(from, &zone).unwrap();
        prop_assert!(first > from);
        prop_assert_eq!(schedule.last_before(first, &zone), Some(first));
        let before = schedule.last_before(from, &zone).unwrap();
        prop_assert!(before <= from);
        prop_assert_eq!(schedule.next_after(before, &zone), Some(first), "nothing lies between");
        let second = schedule.next_after(first, &zone).unwrap();
        prop_assert!(second > first);
        let just_before = second - SignedDuration::from_nanos(1);
        prop_assert_eq!(schedule.last_before(just_before, &zone), Some(first));
        prop_assert_eq!(schedule.next_after(just_before, &zone), Some(second));
    }

    #[test]
    fn hourly_is_each_real_hour(zone_at in 0..3_usize, from in any_instant()) {
        let (schedule, zone) = (schedule("hourly"), zone(ZONES[zone_at]));
        let first = schedule.next_after(from, &zone).unwrap();
        let second = schedule.next_after(first, &zone).unwrap();
        prop_assert_eq!(second.duration_since(first), SignedDuration::from_hours(1));
    }

    #[test]
    fn daily_is_once_a_day(zone_at in 0..ZONES.len(), from in any_instant()) {
        let (schedule, zone) = (schedule("30 2 * * *"), zone(ZONES[zone_at]));
        let first = schedule.next_after(from, &zone).unwrap();
        let second = schedule.next_after(first, &zone).unwrap();
        let dates = [first, second].map(|run| zone.to_datetime(run).date());
        prop_assert_eq!(dates[0].tomorrow().unwrap(), dates[1]);
    }

    /// Where the clock is never set, there is nothing to decide, and croner must agree.
    #[test]
    fn cron_is_what_croner_says(text in any_cron(), from in any_instant()) {
        let zone = zone("Asia/Kolkata");
        // It takes `*` with a step for a restriction of the day, crontab(5) does not.
        let fields: Vec<&str> = text.split(' ').collect();
        prop_assume!(!fields[2].contains('/') && !fields[4].contains('/'));
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let oracle = parser.parse(&text).unwrap();
        let expected = oracle.find_next_occurrence(&from.to_zoned(zone.clone()), false).unwrap();
        prop_assert_eq!(schedule(&text).next_after(from, &zone), Some(expected.timestamp()));
        let before = oracle.find_previous_occurrence(&from.to_zoned(zone.clone()), true).unwrap();
        prop_assert_eq!(schedule(&text).last_before(from, &zone), Some(before.timestamp()));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}|(every )?[0-9*/, a-z-]{0,30}") {
        if let Ok(schedule) = text.parse::<Schedule>() {
            prop_assert_eq!(schedule.to_string(), text);
        }
    }
}
