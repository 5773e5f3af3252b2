//! Which snapshots `forget` shall keep: all of restic's `--keep-*`.
//! It must never stand for "remove everything" unless that was said on purpose.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::calendar_span::CalendarSpan;
use crate::tags::TagList;

/// Rules for the snapshots of a group. A snapshot is kept if one of them keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// How many of the newest snapshots.
    pub last: KeepCount,
    /// For how many hours that have snapshots, the newest of the hour.
    pub hourly: KeepCount,
    /// The same for days.
    pub daily: KeepCount,
    /// The same for weeks of ISO 8601.
    pub weekly: KeepCount,
    /// The same for months.
    pub monthly: KeepCount,
    /// The same for years.
    pub yearly: KeepCount,
    /// All snapshots that are less than this older than the newest.
    pub within: CalendarSpan,
    /// Of those, the newest of each hour.
    pub within_hourly: CalendarSpan,
    /// The same for days.
    pub within_daily: CalendarSpan,
    /// The same for weeks of ISO 8601.
    pub within_weekly: CalendarSpan,
    /// The same for months.
    pub within_monthly: CalendarSpan,
    /// The same for years.
    pub within_yearly: CalendarSpan,
    /// All snapshots that have all tags of one of these lists.
    pub tags: Vec<TagList>,
}

impl RetentionPolicy {
    /// Whether no rule was given, which keeps nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Lets a policy pass that may be applied; restic's `--unsafe-allow-remove-all` is `allow_remove_all`.
    ///
    /// # Errors
    /// [`PolicyError`] when the policy is empty and removing all was not asked for, or was asked for without a
    /// filter that says of what.
    pub fn check(&self, allow_remove_all: bool, filter_is_empty: bool) -> Result<(), PolicyError> {
        match (self.is_empty(), allow_remove_all, filter_is_empty) {
            (false, _, _) | (true, true, false) => Ok(()),
            (true, false, _) => Err(PolicyError::Empty),
            (true, true, true) => Err(PolicyError::WholeRepository),
        }
    }
}

/// A policy would remove what nobody asked to remove.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No rule was given.
    #[error(
        "no snapshot was forgotten: no policy says which ones to keep; give at least one --keep-… option"
    )]
    Empty,
    /// All snapshots of the repository would be removed.
    #[error(
        "no snapshot was forgotten: with --unsafe-allow-remove-all and no policy, every snapshot of the repository would go; name a --host, --tag or --path"
    )]
    WholeRepository,
    /// The policy keeps nothing of a group.
    #[error(
        "no snapshot was forgotten: the policy keeps none of the group \"{0}\"; add a rule such as --keep-last 1"
    )]
    WholeGroup(String),
}

/// How many snapshots a rule keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepCount {
    /// At most this many; none if zero, which is as if the rule was not there.
    UpTo(u64),
    /// As many as there are.
    Unlimited,
}

impl Default for KeepCount {
    fn default() -> Self {
        Self::UpTo(0)
    }
}

impl KeepCount {
    pub(crate) fn is_zero(&self) -> bool {
        *self == Self::UpTo(0)
    }

    pub(crate) fn less_one(self) -> Self {
        match self {
            Self::UpTo(count) => Self::UpTo(count.saturating_sub(1)),
            Self::Unlimited => Self::Unlimited,
        }
    }
}

/// A text doesn't say how many to keep.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot keep {0:?} snapshots: write a whole number from 0, or \"unlimited\" to keep all")]
pub struct KeepCountError(String);

impl FromStr for KeepCount {
    type Err = KeepCountError;

    /// Numbers below zero are refused, as restic does since 0.16.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "unlimited" {
            return Ok(Self::Unlimited);
        }
        let count = text
            .parse::<i64>()
            .ok()
            .and_then(|count| u64::try_from(count).ok());
        count
            .map(Self::UpTo)
            .ok_or_else(|| KeepCountError(text.chars().take(80).collect()))
    }
}

impl fmt::Display for KeepCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UpTo(count) => write!(f, "{count}"),
            Self::Unlimited => f.write_str("unlimited"),
        }
    }
}

impl Serialize for KeepCount {
    /// As restic counts: -1 is unlimited.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::UpTo(count) => serializer.serialize_u64(*count),
            Self::Unlimited => serializer.serialize_i64(-1),
        }
    }
}

impl fmt::Display for RetentionPolicy {
    /// In restic's words, such as `keep 2 latest, 7 daily snapshots and all snapshots with tags [[a]]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.last, "latest"),
            (self.hourly, "hourly"),
            (self.daily, "daily"),
            (self.weekly, "weekly"),
            (self.monthly, "monthly"),
            (self.yearly, "yearly"),
        ];
        let counts = counts.into_iter().filter_map(|(count, word)| match count {
            KeepCount::UpTo(0) => None,
            KeepCount::UpTo(count) => Some(format!("{count} {word}")),
            KeepCount::Unlimited => Some(format!("all {word}")),
        });
        let counts = counts.collect::<Vec<_>>().join(", ");
        let spans = [
            (self.within_hourly, "hourly"),
            (self.within_daily, "daily"),
            (self.within_weekly, "weekly"),
            (self.within_monthly, "monthly"),
            (self.within_yearly, "yearly"),
        ];
        let spans = spans.into_iter().filter(|(span, _)| !span.is_zero());
        let mut rules: Vec<String> = spans
            .map(|(span, word)| format!("{word} snapshots within {span}"))
            .collect();
        if !counts.is_empty() {
            rules.insert(0, format!("{counts} snapshots"));
        }
        let mut rules = vec![rules.join(", ")];
        if !self.tags.is_empty() {
            let lists: Vec<String> = self.tags.iter().map(TagList::to_string).collect();
            rules.push(format!("all snapshots with tags [{}]", lists.join(" ")));
        }
        if !self.within.is_zero() {
            rules.push(format!(
                "all snapshots within {} of the newest",
                self.within
            ));
        }
        rules.retain(|rule| !rule.is_empty());
        if rules.is_empty() {
            return f.write_str("remove");
        }
        write!(f, "keep {}", rules.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_as_by_restic() {
        for (text, expected) in [
            ("0", KeepCount::UpTo(0)),
            ("+7", KeepCount::UpTo(7)),
            ("unlimited", KeepCount::Unlimited),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in [
            "",
            "-1",
            "-2",
            "all",
            "1.5",
            "Unlimited",
            "9223372036854775808",
        ] {
            assert!(text.parse::<KeepCount>().is_err(), "{text}");
        }
        assert_eq!(
            "-1".parse::<KeepCount>().unwrap_err().to_string(),
            "cannot keep \"-1\" snapshots: write a whole number from 0, or \"unlimited\" to keep all"
        );
    }

    #[test]
    fn policies_are_told_in_restic_s_words() {
        let mut policy = RetentionPolicy::default();
        assert_eq!(policy.to_string(), "remove");
        policy.within = "7d".parse().unwrap();
        assert_eq!(
            policy.to_string(),
            "keep all snapshots within 7d of the newest"
        );
        policy.within_daily = "1m".parse().unwrap();
        policy.last = KeepCount::UpTo(2);
        policy.yearly = KeepCount::Unlimited;
        policy.tags = vec![
            TagList(vec!["a".into(), "b".into()]),
            TagList(vec!["c".into()]),
        ];
        assert_eq!(
            policy.to_string(),
            "keep 2 latest, all yearly snapshots, daily snapshots within 1m and all snapshots with tags [[a, b] [c]] \
             and all snapshots within 7d of the newest"
        );
    }

    #[test]
    fn removing_everything_must_be_meant() {
        let empty = RetentionPolicy::default();
        assert_eq!(empty.check(false, false), Err(PolicyError::Empty));
        assert_eq!(empty.check(false, true), Err(PolicyError::Empty));
        assert_eq!(empty.check(true, true), Err(PolicyError::WholeRepository));
        assert_eq!(empty.check(true, false), Ok(()));
        let nothing = RetentionPolicy {
            within: "0d".parse().unwrap(),
            ..RetentionPolicy::default()
        };
        assert_eq!(nothing.check(false, false), Err(PolicyError::Empty));
        let some = RetentionPolicy {
            tags: vec![TagList::default()],
            ..RetentionPolicy::default()
        };
        assert_eq!(some.check(false, true), Ok(()));
    }
}
