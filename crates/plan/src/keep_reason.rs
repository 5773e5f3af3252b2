//! Why a snapshot is kept.
//! It must never be a bare text: reasons are compared and counted, and only shown in restic's words.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::calendar_span::CalendarSpan;
use crate::tags::TagList;

/// What a rule keeps one snapshot of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// Each snapshot on its own.
    Last,
    /// An hour.
    Hourly,
    /// A day.
    Daily,
    /// A week of ISO 8601.
    Weekly,
    /// A month.
    Monthly,
    /// A year.
    Yearly,
}

/// Why a snapshot is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeepReason {
    /// It has all tags of a list.
    HasTags(TagList),
    /// It is less than this older than the newest.
    Within(CalendarSpan),
    /// It is the newest of its period, and the count of such periods was not used up.
    Newest(Period),
    /// The count was not used up when the snapshots were, so the oldest takes a place as well.
    Oldest(Period),
    /// It is the newest of its period and within the span.
    NewestWithin(Period, CalendarSpan),
    /// The oldest of all, within the span, though not the newest of its period.
    OldestWithin(Period, CalendarSpan),
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Last => "last",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        })
    }
}

impl fmt::Display for KeepReason {
    /// In restic's words: scripts read them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HasTags(tags) => write!(f, "has tags {tags}"),
            Self::Within(span) => write!(f, "within {span}"),
            Self::Newest(period) => write!(f, "{period} snapshot"),
            Self::Oldest(period) => write!(f, "oldest {period} snapshot"),
            Self::NewestWithin(period, span) => write!(f, "{period} within {span}"),
            Self::OldestWithin(period, span) => write!(f, "oldest {period} within {span}"),
        }
    }
}

impl Serialize for KeepReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_in_restic_s_words() {
        let span = "7d".parse().unwrap();
        for (reason, words) in [
            (
                KeepReason::HasTags(TagList(vec!["a".into(), "b".into()])),
                "has tags [a, b]",
            ),
            (KeepReason::Within(span), "within 7d"),
            (KeepReason::Newest(Period::Last), "last snapshot"),
            (KeepReason::Oldest(Period::Weekly), "oldest weekly snapshot"),
            (
                KeepReason::NewestWithin(Period::Daily, span),
                "daily within 7d",
            ),
            (
                KeepReason::OldestWithin(Period::Yearly, span),
                "oldest yearly within 7d",
            ),
        ] {
            assert_eq!(reason.to_string(), words);
            assert_eq!(
                serde_json::to_string(&reason).unwrap(),
                format!("{words:?}")
            );
        }
    }
}
