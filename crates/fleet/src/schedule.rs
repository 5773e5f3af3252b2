//! When something is due: `hourly`, `daily`, `every 6h`, or a cron expression, in the fleet's time zone.
//! It never runs twice for one wall time that comes twice, nor leaves one out that the clock skips.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::cron::Cron;
use crate::refusal::Refusal;
use crate::time_span::TimeSpan;

const HOUR_SECONDS: u64 = 3_600;
const DAY_SECONDS: u64 = 86_400;
const DAY_MINUTES: usize = 1_440;
/// 29 February falls on a given day of the week after at most 40 years.
const SEARCH_MONTHS_MAX: usize = 41 * 12;
/// From a Monday, so that `every 1w` is `weekly`.
const FIRST_DAY: Date = Date::constant(1970, 1, 5);
const HINT: &str = "write `hourly`, `daily`, `weekly`, `monthly`, `every 6h`, or five fields as cron has them: `0 3 * * *`";

/// A schedule. Days begin at midnight, weeks on Mondays and months on the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    form: Form,
    rule: Rule,
    period_seconds: u64,
}

/// How it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A word or `every`: the exact time does not matter to whoever wrote it.
    Loose,
    /// A cron expression, which names times.
    Exact,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    /// Each so many real seconds from the midnight of each day; they divide an hour.
    Steps(u64),
    /// At these minutes of each so many days.
    Days {
        every: i32,
        minutes: Vec<u16>,
    },
    Cron(Cron),
}

impl Schedule {
    /// The first instant after `instant` at which it is due; none if the calendar ends before (in the year 9999).
    #[must_use]
    pub fn next_after(&self, instant: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        // Where the clock is set back over midnight, times of two days are mixed: the day after may have an earlier one.
        let after = |date: Date| {
            let days = [Some(date), date.tomorrow().ok()].into_iter().flatten();
            let found = days.flat_map(|date| self.instants_of(date, zone));
            found.filter(|found| *found > instant).min()
        };
        let today = zone.to_datetime(instant).date();
        let mut date = self.day_from(today.yesterday().unwrap_or(today))?;
        loop {
            if let Some(found) = after(date) {
                return Some(found);
            }
            date = self.day_from(date.tomorrow().ok()?)?;
        }
    }

    /// The last instant, not after `instant`, at which it was due; none if the calendar begins later.
    #[must_use]
    pub fn last_before(&self, instant: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let before = |date: Date| {
            let days = [Some(date), date.yesterday().ok()].into_iter().flatten();
            let found = days.flat_map(|date| self.instants_of(date, zone));
            found.filter(|found| *found <= instant).max()
        };
        let today = zone.to_datetime(instant).date();
        let mut date = self.day_until(today.tomorrow().unwrap_or(today))?;
        loop {
            if let Some(found) = before(date) {
                return Some(found);
            }
            date = self.day_until(date.yesterday().ok()?)?;
        }
    }

    /// The time between two runs; the shortest, where they differ.
    #[must_use]
    pub fn period(&self) -> Duration {
        Duration::from_secs(self.period_seconds)
    }

    /// Whether it names times, as cron expressions do, so that it is not shifted unless asked for.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.form == Form::Exact
    }

    /// The first day that fits, from `date` on.
    fn day_from(&self, mut date: Date) -> Option<Date> {
        match &self.rule {
            Rule::Steps(_) => Some(date),
            Rule::Days { every, .. } => {
                let since = days_since_first(date).rem_euclid(*every);
                let missing = if since == 0 { 0 } else { every - since };
                date.checked_add(missing.days()).ok()
            }
            Rule::Cron(cron) => {
                let mut months = 0;
                while months < SEARCH_MONTHS_MAX {
                    if !cron.has_month(date) || date.day() == 1 {
                        months += 1;
                    }
                    if cron.fits(date) {
                        return Some(date);
                    }
                    date = if cron.has_month(date) {
                        date.tomorrow().ok()?
                    } else {
                        date.last_of_month().tomorrow().ok()?
                    };
                }
                None
            }
        }
    }

    /// The last day that fits, up to `date`.
    fn day_until(&self, mut date: Date) -> Option<Date> {
        match &self.rule {
            Rule::Steps(_) => Some(date),
            Rule::Days { every, .. } => {
                let since = days_since_first(date).rem_euclid(*every);
                date.checked_sub(since.days()).ok()
            }
            Rule::Cron(cron) => {
                let mut months = 0;
                while months < SEARCH_MONTHS_MAX {
                    if !cron.has_month(date) || date.day() == 1 {
                        months += 1;
                    }
                    if cron.fits(date) {
                        return Some(date);
                    }
                    date = if cron.has_month(date) {
                        date.yesterday().ok()?
                    } else {
                        date.first_of_month().yesterday().ok()?
                    };
                }
                None
            }
        }
    }

    /// The instants at which it is due on a day.
    fn instants_of(&self, date: Date, zone: &TimeZone) -> Vec<Timestamp> {
        let minutes = match &self.rule {
            Rule::Steps(seconds) => return steps_of(date, *seconds, zone).unwrap_or_default(),
            Rule::Days { every, minutes } => match days_since_first(date).rem_euclid(*every) {
                0 => minutes.clone(),
                _ => return Vec::new(),
            },
            Rule::Cron(cron) if cron.fits(date) => cron.minutes_of_day(),
            Rule::Cron(_) => return Vec::new(),
        };
        // What runs in every hour runs in an hour that comes twice as well: an hour without a run would be a gap.
        let twice = matches!(&self.rule, Rule::Cron(cron) if cron.is_every_hour());
        let mut found = Vec::with_capacity(minutes.len());
        for minute in minutes {
            let hour = i8::try_from(minute / 60).unwrap_or_default();
            let time = date.at(hour, i8::try_from(minute % 60).unwrap_or_default(), 0, 0);
            let (first, second) = instants_at(time, zone);
            found.extend(first);
            found.extend(second.filter(|_| twice));
        }
        found
    }
}

fn days_since_first(date: Date) -> i32 {
    date.duration_since(FIRST_DAY)
        .as_hours()
        .div_euclid(24)
        .try_into()
        .unwrap_or_default()
}

/// The instants from a day's midnight to the next, each so many real seconds.
fn steps_of(date: Date, seconds: u64, zone: &TimeZone) -> Option<Vec<Timestamp>> {
    let midnight = |date: Date| instants_at(date.at(0, 0, 0, 0), zone).0;
    let step = SignedDuration::from_secs(seconds.try_into().ok()?);
    let (mut at, end) = (midnight(date)?, midnight(date.tomorrow().ok()?)?);
    let mut found = Vec::new();
    while at < end {
        found.push(at);
        at = at.checked_add(step).ok()?;
    }
    Some(found)
}

/// The instants that have a wall time: one, two where the clock is set back, and where it skips the time the first
/// instant after the gap.
fn instants_at(time: DateTime, zone: &TimeZone) -> (Option<Timestamp>, Option<Timestamp>) {
    match zone.to_ambiguous_timestamp(time).offset() {
        AmbiguousOffset::Unambiguous { offset } => (offset.to_timestamp(time).ok(), None),
        AmbiguousOffset::Fold { before, after } => (
            before.to_timestamp(time).ok(),
            after.to_timestamp(time).ok(),
        ),
        AmbiguousOffset::Gap { before, after } => {
            let ends = [after, before].map(|offset| offset.to_timestamp(time).ok());
            let [Some(still), Some(already)] = ends else {
                return (None, None);
            };
            (end_of_gap(still, already, zone), None)
        }
    }
}

/// The first second at which the clock goes as it does at `already`, and not as at `still`.
fn end_of_gap(still: Timestamp, already: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let before = zone.to_offset(still);
    let (mut still, mut already) = (still.as_second(), already.as_second());
    while already - still > 1 {
        let middle = still + (already - still) / 2;
        if zone.to_offset(Timestamp::from_second(middle).ok()?) == before {
            still = middle;
        } else {
            already = middle;
        }
    }
    Timestamp::from_second(already).ok()
}

impl FromStr for Schedule {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let daily = |every: i32| Rule::Days {
            every,
            minutes: vec![0],
        };
        let day = DAY_SECONDS;
        let (form, rule, period_seconds) = match text {
            "hourly" => (Form::Loose, Rule::Steps(HOUR_SECONDS), HOUR_SECONDS),
            "daily" => (Form::Loose, daily(1), day),
            "weekly" => (Form::Loose, daily(7), 7 * day),
            "monthly" => (Form::Loose, Rule::Cron(Cron::parse("0 0 1 * *")?), 28 * day),
            text => match text.strip_prefix("every ") {
                Some(span) => {
                    let (rule, period) = every(span.trim_start())?;
                    (Form::Loose, rule, period)
                }
                None if text.split_ascii_whitespace().count() <= 1 => {
                    return Err(Refusal::unlike(text, "schedule", HINT));
                }
                None => {
                    let cron = Cron::parse(text)?;
                    let period = shortest(&cron.minutes_of_day());
                    (Form::Exact, Rule::Cron(cron), period)
                }
            },
        };
        Ok(Self {
            text: text.to_owned(),
            form,
            rule,
            period_seconds,
        })
    }
}

/// The shortest time between two of a day's minutes, the day after included.
fn shortest(minutes: &[u16]) -> u64 {
    let first = minutes
        .first()
        .map(|first| u64::from(*first) + DAY_SECONDS / 60);
    let after = minutes
        .iter()
        .skip(1)
        .map(|minute| u64::from(*minute))
        .chain(first);
    let between = minutes
        .iter()
        .zip(after)
        .map(|(one, next)| next - u64::from(*one));
    between.min().unwrap_or(DAY_SECONDS / 60) * 60
}

fn every(text: &str) -> Result<(Rule, u64), Refusal> {
    let span: TimeSpan = text.parse()?;
    let seconds = span.seconds();
    if seconds.is_multiple_of(60) && HOUR_SECONDS.is_multiple_of(seconds) {
        return Ok((Rule::Steps(seconds), seconds));
    }
    if seconds.is_multiple_of(60) && DAY_SECONDS.is_multiple_of(seconds) {
        let step = usize::try_from(seconds / 60).unwrap_or(DAY_MINUTES);
        let minutes = (0..1_440_u16).step_by(step).collect();
        return Ok((Rule::Days { every: 1, minutes }, seconds));
    }
    match i32::try_from(seconds / DAY_SECONDS) {
        Ok(days) if days > 0 && seconds.is_multiple_of(DAY_SECONDS) => {
            let minutes = vec![0];
            Ok((
                Rule::Days {
                    every: days,
                    minutes,
                },
                seconds,
            ))
        }
        _ => {
            let what =
                format!("{text} neither divides a day into equal parts nor is a number of days");
            let hint = "write 5m, 10m, 15m, 30m, 1h, 2h, 3h, 4h, 6h, 8h, 12h, or days such as 2d; or a cron expression";
            Err(Refusal::new(what, hint))
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests;
