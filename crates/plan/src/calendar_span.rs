//! A span in years, months, days and hours, as `--keep-within 1y5m7d2h` takes it.
//! It must never be turned into seconds on its own: how long a month is depends on the day it is counted from.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use lifeboat_format::Timestamp;

use crate::civil::{Civil, Place};

/// A span of the calendar. All zero means that none was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CalendarSpan {
    /// Years.
    pub years: u32,
    /// Months.
    pub months: u32,
    /// Days.
    pub days: u32,
    /// Hours of 60 minutes.
    pub hours: u32,
}

impl CalendarSpan {
    /// Whether it spans nothing, which stands for "not asked for".
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// The instant this much before `time`, in seconds since 1970; the nanoseconds are those of `time`.
    ///
    /// Years, months and days go back on the calendar, in `zone` if `time` carries its offset and else at that
    /// offset: what would be 31 February is 3 March. Hours go back after that. So does Go's `AddDate`.
    pub(crate) fn seconds_before(&self, time: &Timestamp, zone: &TimeZone) -> i64 {
        let mut civil = Civil::of(time);
        civil.year = civil.year.saturating_sub(i64::from(self.years));
        civil.month -= i64::from(self.months);
        civil.day -= i64::from(self.days);
        let instant = Place::of(time, zone).instant(&civil);
        instant.saturating_sub(i64::from(self.hours) * 3600)
    }
}

/// A text is no span.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot read {0:?} as a span of the calendar: write whole numbers, each with one of the units y, m, d, h for years, months, days and hours, such as 1y5m7d2h"
)]
pub struct CalendarSpanError(String);

impl FromStr for CalendarSpan {
    type Err = CalendarSpanError;

    /// Units may come in any order; of a unit given twice the last counts, as with restic. An empty text spans
    /// nothing.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text.trim()).ok_or_else(|| CalendarSpanError(text.chars().take(80).collect()))
    }
}

fn parse(mut text: &str) -> Option<CalendarSpan> {
    let mut span = CalendarSpan::default();
    while !text.is_empty() {
        let digits = text.find(|character: char| !character.is_ascii_digit())?;
        let (number, rest) = text.split_at_checked(digits)?;
        let number: u32 = number.parse().ok()?;
        let mut units = rest.chars();
        match units.next()? {
            'y' => span.years = number,
            'm' => span.months = number,
            'd' => span.days = number,
            'h' => span.hours = number,
            _ => return None,
        }
        text = units.as_str();
    }
    Some(span)
}

impl fmt::Display for CalendarSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.years, 'y'),
            (self.months, 'm'),
            (self.days, 'd'),
            (self.hours, 'h'),
        ];
        for (number, unit) in parts.into_iter().filter(|(number, _)| *number != 0) {
            write!(f, "{number}{unit}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(years: u32, months: u32, days: u32, hours: u32) -> CalendarSpan {
        CalendarSpan {
            years,
            months,
            days,
            hours,
        }
    }

    #[test]
    fn spans_are_read_as_by_restic() {
        for (text, expected) in [
            ("1y5m7d2h", span(1, 5, 7, 2)),
            ("2h7d", span(0, 0, 7, 2)),
            (" 3m\n", span(0, 3, 0, 0)),
            ("1d2d", span(0, 0, 2, 0)),
            ("0007d", span(0, 0, 7, 0)),
            ("0d", CalendarSpan::default()),
            ("", CalendarSpan::default()),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in [
            "7",
            "d",
            "7w",
            "7 d",
            "1.5d",
            "-7d",
            "7D",
            "7dd",
            "4294967296h",
            "99999999999999999999d",
            "٧d",
        ] {
            assert!(text.parse::<CalendarSpan>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_calendar_is_gone_back_on() {
        let before = |time: &str, span: &str| {
            let time: Timestamp = time.parse().unwrap();
            let span: CalendarSpan = span.parse().unwrap();
            Timestamp::utc(span.seconds_before(&time, &TimeZone::UTC), 0).to_string()
        };
        assert_eq!(before("2024-03-31T12:00:00Z", "1m"), "2024-03-02T12:00:00Z");
        assert_eq!(before("2024-02-29T12:00:00Z", "1y"), "2023-03-01T12:00:00Z");
        assert_eq!(before("2024-01-01T00:00:00Z", "1h"), "2023-12-31T23:00:00Z");
        assert_eq!(
            before("2024-03-01T00:30:00+01:00", "1m1d1h"),
            "2024-01-30T22:30:00Z"
        );
        assert_eq!(
            before("2024-05-15T00:00:00Z", "1y14m"),
            "2022-03-15T00:00:00Z"
        );
    }

    #[test]
    fn a_day_that_is_longer_counts_as_one_in_its_zone() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let time: Timestamp = "2024-04-01T12:00:00+02:00".parse().unwrap();
        let two_days = span(0, 0, 2, 0);
        assert_eq!(
            Timestamp::utc(two_days.seconds_before(&time, &zone), 0).to_string(),
            "2024-03-30T11:00:00Z"
        );
        assert_eq!(
            Timestamp::utc(two_days.seconds_before(&time, &TimeZone::UTC), 0).to_string(),
            "2024-03-30T10:00:00Z"
        );
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(years: u32, months: u32, days: u32, hours: u32) {
            let span = span(years, months, days, hours);
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }

        #[test]
        fn no_span_overflows(years: u32, months: u32, days: u32, hours: u32, seconds: i64) {
            span(years, months, days, hours).seconds_before(&Timestamp::utc(seconds, 0), &TimeZone::UTC);
        }
    }
}
