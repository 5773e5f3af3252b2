//! Dates and clocks of the proleptic Gregorian calendar, and the way from them to an instant in a time zone.
//! It must never fail or ask what time it is: every number of seconds has a date here.

use jiff::tz::TimeZone;
use lifeboat_format::Timestamp;
pub(crate) use lifeboat_format::civil::{date_of, days_of};

const SECONDS_PER_DAY: i64 = 86_400;

/// What clock and calendar showed where a time was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    /// 1 to 12.
    pub(crate) month: i64,
    /// 1 to 31.
    pub(crate) day: i64,
    pub(crate) second_of_day: i64,
}

impl Civil {
    /// At a time, by its own UTC offset.
    pub(crate) fn of(time: &Timestamp) -> Self {
        let local = time.seconds.saturating_add(i64::from(time.offset_seconds));
        let (year, month, day) = date_of(local.div_euclid(SECONDS_PER_DAY));
        Self {
            year,
            month,
            day,
            second_of_day: local.rem_euclid(SECONDS_PER_DAY),
        }
    }

    pub(crate) fn hour(&self) -> i64 {
        self.second_of_day / 3600
    }

    /// The year and week of ISO 8601: the week with a year's first Thursday is its first.
    pub(crate) fn iso_week(&self) -> (i64, i64) {
        let days = days_of(self.year, self.month, self.day);
        // 1970-01-01 was a Thursday, and the week of a date is the week of its Thursday.
        let thursday = (days + 3).div_euclid(7) * 7;
        let (year, _, _) = date_of(thursday);
        (year, (thursday - days_of(year, 1, 1)) / 7 + 1)
    }

    /// Seconds since 1970 as if the clock showed UTC. Months and days beyond their ranges carry over.
    pub(crate) fn as_if_utc(&self) -> i64 {
        let months = self.month - 1;
        let year = self.year.saturating_add(months.div_euclid(12));
        let days = days_of(year, months.rem_euclid(12) + 1, 1).saturating_add(self.day - 1);
        days.saturating_mul(SECONDS_PER_DAY)
            .saturating_add(self.second_of_day)
    }
}

/// The zone in which a time is counted.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    /// An offset that knows no daylight saving, in seconds east of UTC.
    Offset(i32),
    /// A zone with its rules.
    Zone(&'a TimeZone),
}

impl<'a> Place<'a> {
    /// Where Go places a time that it reads: in the local zone if that had this offset then, else at the offset
    /// alone. What was written as UTC stays UTC.
    pub(crate) fn of(time: &Timestamp, local: &'a TimeZone) -> Self {
        if time.offset_seconds != 0 && offset_at(local, time.seconds) == time.offset_seconds {
            Self::Zone(local)
        } else {
            Self::Offset(time.offset_seconds)
        }
    }

    /// The instant at which the clock shows `civil` here, in seconds since 1970.
    ///
    /// Where the clock shows it twice or never, the choice is that of Go's `time.Date`.
    pub(crate) fn instant(self, civil: &Civil) -> i64 {
        let clock = civil.as_if_utc();
        let offset = match self {
            Self::Offset(offset) => offset,
            Self::Zone(zone) => match offset_at(zone, clock) {
                0 => 0,
                guess => offset_at(zone, clock.saturating_sub(i64::from(guess))),
            },
        };
        clock.saturating_sub(i64::from(offset))
    }
}

/// The zone's UTC offset at an instant, in seconds; beyond the years that are known the nearest counts.
pub(crate) fn offset_at(zone: &TimeZone, seconds: i64) -> i32 {
    let known = jiff::Timestamp::MIN.as_second()..=jiff::Timestamp::MAX.as_second();
    let seconds = seconds.clamp(*known.start(), *known.end());
    match jiff::Timestamp::from_second(seconds) {
        Ok(instant) => zone.to_offset(instant).seconds(),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::{Date, date};
    use proptest::prelude::*;

    use super::*;

    fn berlin() -> TimeZone {
        // The rule in force since 1996, which needs no database of zones.
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    fn civil(year: i64, month: i64, day: i64, hour: i64, minute: i64) -> Civil {
        Civil {
            year,
            month,
            day,
            second_of_day: hour * 3600 + minute * 60,
        }
    }

    #[test]
    fn iso_weeks_turn_with_the_thursday() {
        for (year, month, day, week) in [
            (2021, 1, 3, (2020, 53)),
            (2021, 1, 4, (2021, 1)),
            (2018, 12, 31, (2019, 1)),
            (2016, 1, 3, (2015, 53)),
            (2024, 12, 30, (2025, 1)),
        ] {
            assert_eq!(civil(year, month, day, 0, 0).iso_week(), week);
        }
    }

    #[test]
    fn months_and_days_carry_over() {
        let same = |a: Civil, b: Civil| assert_eq!(a.as_if_utc(), b.as_if_utc());
        same(civil(2023, 2, 31, 0, 0), civil(2023, 3, 3, 0, 0));
        same(civil(2024, 0, 1, 0, 0), civil(2023, 12, 1, 0, 0));
        same(civil(2024, -11, 1, 0, 0), civil(2023, 1, 1, 0, 0));
        same(civil(2024, 3, 0, 0, 0), civil(2024, 2, 29, 0, 0));
        same(civil(2024, 1, -30, 0, 0), civil(2023, 12, 1, 0, 0));
    }

    #[test]
    fn clocks_that_jump_are_read_as_by_go() {
        let zone = berlin();
        let instant = |civil| {
            jiff::Timestamp::from_second(Place::Zone(&zone).instant(&civil))
                .unwrap()
                .to_string()
        };
        assert_eq!(instant(civil(2024, 1, 1, 12, 0)), "2024-01-01T11:00:00Z");
        assert_eq!(instant(civil(2024, 7, 1, 12, 0)), "2024-07-01T10:00:00Z");
        // Shown never, and twice.
        assert_eq!(instant(civil(2024, 3, 31, 2, 30)), "2024-03-31T01:30:00Z");
        assert_eq!(instant(civil(2024, 10, 27, 2, 30)), "2024-10-27T01:30:00Z");
    }

    #[test]
    fn a_time_is_local_only_with_the_local_offset() {
        let zone = berlin();
        let is_local =
            |text: &str| matches!(Place::of(&text.parse().unwrap(), &zone), Place::Zone(_));
        assert!(is_local("2024-07-01T00:00:00+02:00"));
        assert!(!is_local("2024-07-01T00:00:00+01:00"));
        assert!(is_local("2024-01-01T00:00:00+01:00"));
        assert!(!is_local("2024-01-01T00:00:00Z"));
    }

    proptest! {
        #[test]
        fn dates_are_those_of_jiff(days in -4_000_000i64..2_900_000) {
            let epoch = date(1970, 1, 1);
            let there: Date = epoch.checked_add(jiff::Span::new().days(days)).unwrap();
            let (year, month, day) = date_of(days);
            prop_assert_eq!((year, month, day), (i64::from(there.year()), i64::from(there.month()), i64::from(there.day())));
            prop_assert_eq!(days_of(year, month, day), days);
            let week = there.iso_week_date();
            let civil = Civil { year, month, day, second_of_day: 0 };
            prop_assert_eq!(civil.iso_week(), (i64::from(week.year()), i64::from(week.week())));
        }

        #[test]
        fn no_time_overflows(seconds: i64, offset_seconds: i32) {
            let time = Timestamp { seconds, nanoseconds: 0, offset_seconds };
            let civil = Civil::of(&time);
            civil.iso_week();
            Place::Zone(&berlin()).instant(&civil);
        }

        #[test]
        fn an_instant_has_the_clock_that_leads_to_it(seconds in -10_000_000_000i64..10_000_000_000) {
            let zone = berlin();
            let time = Timestamp { seconds, nanoseconds: 0, offset_seconds: offset_at(&zone, seconds) };
            let back = Place::Zone(&zone).instant(&Civil::of(&time));
            // An hour that the clock shows twice has two instants.
            prop_assert!(back == seconds || (back - seconds).abs() == 3600);
        }
    }
}
