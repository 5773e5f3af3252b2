//! Which snapshots of a group are kept and which are removed, and why.
//! It must never decide otherwise than restic: two programs with one policy on one repository must not fight.

use jiff::tz::TimeZone;
use lifeboat_format::Timestamp;
use serde::Serialize;

use crate::calendar_span::CalendarSpan;
use crate::civil::Civil;
use crate::facts::SnapshotFacts;
use crate::group::Group;
use crate::keep_reason::{KeepReason, Period};
use crate::policy::{KeepCount, PolicyError, RetentionPolicy};

/// What a policy decides about a group. Both lists go from new to old.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention<'a> {
    /// The snapshots to keep.
    pub keep: Vec<Kept<'a>>,
    /// The snapshots to remove.
    pub remove: Vec<&'a SnapshotFacts>,
}

/// A snapshot that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept<'a> {
    /// The snapshot.
    pub snapshot: &'a SnapshotFacts,
    /// Why it is kept; never empty.
    pub matches: Vec<KeepReason>,
    /// What the rules can still keep after it.
    pub counters: Counters,
}

/// What the counted rules can still keep. As JSON it has restic's names and leaves out what is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// For `--keep-last`.
    #[serde(skip_serializing_if = "KeepCount::is_zero")]
    pub last: KeepCount,
    /// For `--keep-hourly`.
    #[serde(skip_serializing_if = "KeepCount::is_zero")]
    pub hourly: KeepCount,
    /// For `--keep-daily`.
    #[serde(skip_serializing_if = "KeepCount::is_zero")]
    pub daily: KeepCount,
    /// For `--keep-weekly`.
    #[serde(skip_serializing_if = "KeepCount::is_zero")]
    pub weekly: KeepCount,
    /// For `--keep-monthly`.
    #[serde(skip_serializing_if = "KeepCount::is_zero")]
    pub monthly: KeepCount,
    /// For `--keep-yearly`.
    #[serde(skip_serializing_if = "KeepCount::is_zero")]
    pub yearly: KeepCount,
}

/// Applies a policy to a group.
///
/// Hours, days and so on are those of each snapshot's own UTC offset. Spans go back from the newest snapshot that is
/// not in the future of `now`, on the calendar of `zone` if the snapshot was written there. Of snapshots of one
/// instant, which restic takes in any order, the one with the greater ID counts as the newer.
///
/// # Errors
/// [`PolicyError::WholeGroup`] when a policy that has rules keeps no snapshot of the group, as restic refuses it. An
/// empty policy removes all: ask [`RetentionPolicy::check`] first.
pub fn retain<'a>(
    policy: &RetentionPolicy,
    group: &Group<'a>,
    now: Timestamp,
    zone: &TimeZone,
) -> Result<Retention<'a>, PolicyError> {
    let mut snapshots = group.snapshots.clone();
    snapshots.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.age_key()));
    // One that is named twice must not be kept once and removed once.
    snapshots.dedup_by_key(|snapshot| snapshot.id);
    let mut rules = Rules::new(policy, newest(&snapshots, now), zone);
    let mut retention = Retention::default();
    let last = snapshots.len().saturating_sub(1);
    for (number, snapshot) in snapshots.into_iter().enumerate() {
        let matches = rules.apply(snapshot, number, number == last);
        if matches.is_empty() {
            retention.remove.push(snapshot);
        } else {
            retention.keep.push(Kept {
                snapshot,
                matches,
                counters: rules.counters(),
            });
        }
    }
    if retention.keep.is_empty() && !retention.remove.is_empty() && !policy.is_empty() {
        return Err(PolicyError::WholeGroup(group.key.to_string()));
    }
    Ok(retention)
}

/// The time that spans are counted from. Without a snapshot before `now` it is the beginning of time, and every span
/// holds every snapshot: who doubts the clock removes nothing.
fn newest(snapshots: &[&SnapshotFacts], now: Timestamp) -> Timestamp {
    let past = snapshots
        .iter()
        .map(|snapshot| snapshot.time)
        .find(|time| *time < now);
    past.filter(|time| *time > Timestamp::ZERO)
        .unwrap_or(Timestamp::ZERO)
}

/// A policy while it is applied.
struct Rules<'a> {
    policy: &'a RetentionPolicy,
    /// Snapshots after this time are within the span.
    within: Option<Timestamp>,
    counted: [Counted; 6],
    spans: [Spanned; 5],
}

struct Counted {
    period: Period,
    left: KeepCount,
    before: Option<i64>,
}

struct Spanned {
    period: Period,
    span: CalendarSpan,
    /// Snapshots after this time are within the span; none if the rule was not given.
    within: Option<Timestamp>,
    before: Option<i64>,
}

impl<'a> Rules<'a> {
    fn new(policy: &'a RetentionPolicy, newest: Timestamp, zone: &TimeZone) -> Self {
        let within = |span: CalendarSpan| {
            let seconds = span.seconds_before(&newest, zone);
            (!span.is_zero()).then(|| Timestamp::utc(seconds, newest.nanoseconds))
        };
        let counted = [
            (Period::Last, policy.last),
            (Period::Hourly, policy.hourly),
            (Period::Daily, policy.daily),
            (Period::Weekly, policy.weekly),
            (Period::Monthly, policy.monthly),
            (Period::Yearly, policy.yearly),
        ];
        let spans = [
            (Period::Hourly, policy.within_hourly),
            (Period::Daily, policy.within_daily),
            (Period::Weekly, policy.within_weekly),
            (Period::Monthly, policy.within_monthly),
            (Period::Yearly, policy.within_yearly),
        ];
        Self {
            policy,
            within: within(policy.within),
            counted: counted.map(|(period, left)| Counted {
                period,
                left,
                before: None,
            }),
            spans: spans.map(|(period, span)| Spanned {
                period,
                span,
                within: within(span),
                before: None,
            }),
        }
    }

    /// Why the next snapshot is kept; nothing if it is not. They come from new to old.
    fn apply(
        &mut self,
        snapshot: &SnapshotFacts,
        number: usize,
        is_oldest: bool,
    ) -> Vec<KeepReason> {
        let mut reasons = Vec::new();
        for list in self
            .policy
            .tags
            .iter()
            .filter(|list| list.is_in(&snapshot.tags))
        {
            reasons.push(KeepReason::HasTags(list.clone()));
        }
        if self.within.is_some_and(|limit| snapshot.time > limit) {
            reasons.push(KeepReason::Within(self.policy.within));
        }
        let civil = Civil::of(&snapshot.time);
        for rule in self.counted.iter_mut().filter(|rule| !rule.left.is_zero()) {
            let here = Some(rule.period.number(&civil, number));
            // The oldest is kept while there are places, so that history reaches as far back as it can.
            if rule.before != here || is_oldest {
                let is_newest = rule.before != here;
                reasons.push(if is_newest {
                    KeepReason::Newest(rule.period)
                } else {
                    KeepReason::Oldest(rule.period)
                });
                rule.before = here;
                rule.left = rule.left.less_one();
            }
        }
        for rule in &mut self.spans {
            if rule.within.is_none_or(|limit| snapshot.time <= limit) {
                continue;
            }
            let here = Some(rule.period.number(&civil, number));
            if rule.before != here || is_oldest {
                let reason = if rule.before != here {
                    KeepReason::NewestWithin
                } else {
                    KeepReason::OldestWithin
                };
                reasons.push(reason(rule.period, rule.span));
                rule.before = here;
            }
        }
        reasons
    }

    fn counters(&self) -> Counters {
        let [last, hourly, daily, weekly, monthly, yearly] = &self.counted;
        Counters {
            last: last.left,
            hourly: hourly.left,
            daily: daily.left,
            weekly: weekly.left,
            monthly: monthly.left,
            yearly: yearly.left,
        }
    }
}

impl Period {
    /// A number that differs between one period and the next.
    fn number(self, civil: &Civil, number: usize) -> i64 {
        let (year, month, day) = (civil.year, civil.month, civil.day);
        match self {
            Self::Last => i64::try_from(number).unwrap_or(i64::MAX),
            Self::Hourly => ((year * 100 + month) * 100 + day) * 100 + civil.hour(),
            Self::Daily => (year * 100 + month) * 100 + day,
            Self::Weekly => {
                let (year, week) = civil.iso_week();
                year * 100 + week
            }
            Self::Monthly => year * 100 + month,
            Self::Yearly => year,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::facts::samples::snapshot;
    use crate::group::{GroupBy, group};
    use crate::tags::TagList;

    fn history(times: &[&str]) -> Vec<SnapshotFacts> {
        (1..)
            .zip(times)
            .map(|(number, time)| snapshot(number, time))
            .collect()
    }

    fn decide<'a>(
        policy: &RetentionPolicy,
        history: &'a [SnapshotFacts],
    ) -> Result<Retention<'a>, PolicyError> {
        let now = "2030-01-01T00:00:00Z".parse().unwrap();
        match group(history, GroupBy::NOTHING).first() {
            Some(group) => retain(policy, group, now, &TimeZone::UTC),
            None => Ok(Retention::default()),
        }
    }

    /// The kept snapshots by the numbers in their IDs, with the reasons.
    fn kept(policy: &RetentionPolicy, history: &[SnapshotFacts]) -> Vec<(u8, String)> {
        let kept = decide(policy, history).unwrap().keep;
        let reasons = |kept: &Kept<'_>| {
            kept.matches
                .iter()
                .map(KeepReason::to_string)
                .collect::<Vec<_>>()
                .join("; ")
        };
        kept.iter()
            .map(|kept| (kept.snapshot.id.0[0], reasons(kept)))
            .collect()
    }

    fn up_to(count: u64) -> KeepCount {
        KeepCount::UpTo(count)
    }

    #[test]
    fn places_that_are_left_go_to_the_oldest() {
        let history = history(&[
            "2024-01-01T10:00:00Z",
            "2024-01-01T11:00:00Z",
            "2024-01-02T10:00:00Z",
        ]);
        let policy = RetentionPolicy {
            daily: up_to(3),
            ..RetentionPolicy::default()
        };
        let daily = "daily snapshot".to_owned();
        assert_eq!(
            kept(&policy, &history),
            [
                (3, daily.clone()),
                (2, daily.clone()),
                (1, "oldest daily snapshot".to_owned())
            ]
        );
        let policy = RetentionPolicy {
            daily: up_to(2),
            ..RetentionPolicy::default()
        };
        assert_eq!(kept(&policy, &history), [(3, daily.clone()), (2, daily)]);
    }

    #[test]
    fn a_snapshot_that_is_named_twice_counts_once() {
        let mut history = history(&[
            "2024-01-01T10:00:00Z",
            "2024-01-02T10:00:00Z",
            "2024-01-03T10:00:00Z",
        ]);
        history.push(history[2].clone());
        let policy = RetentionPolicy {
            last: up_to(2),
            ..RetentionPolicy::default()
        };
        let retention = decide(&policy, &history).unwrap();
        let kept: Vec<u8> = retention.keep.iter().map(|k| k.snapshot.id.0[0]).collect();
        let gone: Vec<u8> = retention.remove.iter().map(|s| s.id.0[0]).collect();
        assert_eq!((kept, gone), (vec![3, 2], vec![1]));
    }

    #[test]
    fn counters_count_down_and_unlimited_does_not() {
        let history = history(&["2024-01-01T10:00:00Z", "2024-01-02T10:00:00Z"]);
        let policy = RetentionPolicy {
            last: up_to(2),
            yearly: KeepCount::Unlimited,
            ..RetentionPolicy::default()
        };
        let retention = decide(&policy, &history).unwrap();
        let json = |place: usize| serde_json::to_string(&retention.keep[place].counters).unwrap();
        assert_eq!(json(0), r#"{"last":1,"yearly":-1}"#);
        assert_eq!(json(1), r#"{"yearly":-1}"#);
    }

    #[test]
    fn a_day_is_that_of_the_snapshot_s_own_offset() {
        // One instant apart by a minute, but on two days where they were written.
        let history = history(&["2024-01-01T23:59:00+14:00", "2024-01-01T00:00:00-10:00"]);
        let policy = RetentionPolicy {
            daily: up_to(9),
            ..RetentionPolicy::default()
        };
        assert_eq!(
            kept(&policy, &history),
            [
                (2, "daily snapshot".to_owned()),
                (1, "oldest daily snapshot".to_owned())
            ]
        );
    }

    #[test]
    fn spans_go_back_from_the_newest_that_is_not_in_the_future() {
        let history = history(&[
            "2024-01-01T00:00:00Z",
            "2024-01-08T00:00:00Z",
            "2024-01-08T00:00:00.000000001Z",
            "2024-01-15T00:00:00Z",
            "2031-01-01T00:00:00Z",
        ]);
        let policy = RetentionPolicy {
            within: "7d".parse().unwrap(),
            ..RetentionPolicy::default()
        };
        let kept: Vec<u8> = kept(&policy, &history)
            .into_iter()
            .map(|(number, _)| number)
            .collect();
        assert_eq!(kept, [5, 4, 3]);
    }

    #[test]
    fn a_history_that_lies_in_the_future_is_kept() {
        let history = history(&["2031-01-01T00:00:00Z", "2041-01-01T00:00:00Z"]);
        let policy = RetentionPolicy {
            within: "1h".parse().unwrap(),
            ..RetentionPolicy::default()
        };
        assert_eq!(decide(&policy, &history).unwrap().remove, [&history[0]; 0]);
    }

    #[test]
    fn spans_keep_one_a_period_and_the_oldest() {
        let history = history(&[
            "2024-01-01T01:00:00Z",
            "2024-01-01T02:00:00Z",
            "2024-01-02T00:00:00Z",
        ]);
        let policy = RetentionPolicy {
            within_daily: "1m".parse().unwrap(),
            ..RetentionPolicy::default()
        };
        let daily = "daily within 1m".to_owned();
        assert_eq!(
            kept(&policy, &history),
            [
                (3, daily.clone()),
                (2, daily),
                (1, "oldest daily within 1m".to_owned())
            ]
        );
    }

    #[test]
    fn tags_are_kept_beside_the_counts() {
        let mut history = history(&[
            "2024-01-01T00:00:00Z",
            "2024-01-02T00:00:00Z",
            "2024-01-03T00:00:00Z",
        ]);
        history[0].tags = vec!["keep".to_owned()];
        let tags = vec![TagList(vec!["keep".to_owned()])];
        let policy = RetentionPolicy {
            last: up_to(1),
            tags,
            ..RetentionPolicy::default()
        };
        assert_eq!(
            kept(&policy, &history),
            [
                (3, "last snapshot".to_owned()),
                (1, "has tags [keep]".to_owned())
            ]
        );
    }

    #[test]
    fn a_policy_that_keeps_nothing_of_a_group_is_refused() {
        let history = history(&["2024-01-01T00:00:00Z"]);
        let policy = RetentionPolicy {
            tags: vec![TagList(vec!["x".to_owned()])],
            ..RetentionPolicy::default()
        };
        let error = decide(&policy, &history).unwrap_err();
        assert!(matches!(error, PolicyError::WholeGroup(_)));
        assert_eq!(
            decide(&RetentionPolicy::default(), &history)
                .unwrap()
                .remove,
            [&history[0]]
        );
        assert_eq!(decide(&policy, &[]), Ok(Retention::default()));
    }

    fn any_policy() -> impl Strategy<Value = RetentionPolicy> {
        let count = prop_oneof![3 => Just(up_to(0)), 3 => (1u64..6).prop_map(KeepCount::UpTo), 1 => Just(KeepCount::Unlimited)];
        let span = || {
            (0u32..2, 0u32..3, 0u32..9, 0u32..30).prop_map(|(years, months, days, hours)| {
                CalendarSpan {
                    years,
                    months,
                    days,
                    hours,
                }
            })
        };
        (proptest::collection::vec(count, 6), span(), span(), span()).prop_map(
            |(counts, within, within_daily, within_weekly)| RetentionPolicy {
                last: counts[0],
                hourly: counts[1],
                daily: counts[2],
                weekly: counts[3],
                monthly: counts[4],
                yearly: counts[5],
                within,
                within_daily,
                within_weekly,
                ..RetentionPolicy::default()
            },
        )
    }

    fn any_history() -> impl Strategy<Value = Vec<SnapshotFacts>> {
        // Two years around the turn of one, at offsets that move days apart.
        let time = (1_690_000_000i64..1_750_000_000, -14i32..=14);
        proptest::collection::vec(time, 0..40).prop_map(|times| {
            let numbered = (0u8..).zip(times);
            let one = |(number, (seconds, hours)): (u8, (i64, i32))| {
                let mut one = snapshot(number, "2024-01-01T00:00:00Z");
                one.time = Timestamp {
                    seconds,
                    nanoseconds: 0,
                    offset_seconds: hours * 3600,
                };
                one
            };
            numbered.map(one).collect()
        })
    }

    proptest! {
        #[test]
        fn every_snapshot_is_decided_once_and_for_a_reason(policy in any_policy(), history in any_history()) {
            let Ok(retention) = decide(&policy, &history) else {
                return Err(TestCaseError::fail("these policies keep the newest whenever they have a rule"));
            };
            prop_assert_eq!(retention.keep.len() + retention.remove.len(), history.len());
            prop_assert!(retention.keep.iter().all(|kept| !kept.matches.is_empty()));
            let newest = history.iter().max_by_key(|snapshot| snapshot.age_key());
            if !policy.is_empty() {
                prop_assert_eq!(retention.keep.first().map(|kept| kept.snapshot), newest);
            }
            if let KeepCount::UpTo(count) = policy.last {
                let last = retention.keep.iter().filter(|kept| kept.matches.contains(&KeepReason::Newest(Period::Last)));
                prop_assert_eq!(last.count() as u64, count.min(history.len() as u64));
            }
        }

        #[test]
        fn forgetting_twice_forgets_nothing_more_by_counts(policy in any_policy(), history in any_history()) {
            // Counts alone: a span's "oldest" is one of the snapshots that are there.
            let policy = RetentionPolicy {
                within: CalendarSpan::default(),
                within_daily: CalendarSpan::default(),
                within_weekly: CalendarSpan::default(),
                ..policy
            };
            if let Ok(retention) = decide(&policy, &history) {
                let left: Vec<SnapshotFacts> = retention.keep.iter().map(|kept| kept.snapshot.clone()).collect();
                if let Ok(again) = decide(&policy, &left) {
                    prop_assert!(again.remove.is_empty());
                }
            }
        }

        #[test]
        fn a_stricter_count_keeps_no_more(history in any_history(), count in 1u64..9) {
            let keep = |count| {
                let policy = RetentionPolicy { daily: up_to(count), ..RetentionPolicy::default() };
                decide(&policy, &history).unwrap().keep.len()
            };
            prop_assert!(keep(count) <= keep(count + 1));
        }
    }
}
