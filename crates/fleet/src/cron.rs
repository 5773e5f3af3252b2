//! Cron expressions of five fields, as crontab(5) describes them: minute, hour, day of month, month, day of week.
//! They must never name times that no calendar has, and never mean more than crontab(5) says: no seconds, no `L`, no `@daily`.

use jiff::civil::Date;

use crate::refusal::Refusal;

const HINT: &str =
    "write five fields: minute hour day month weekday, such as `0 3 * * *` for 03:00 every day";
const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// The days of the months in a leap year.
const MONTH_DAYS_MAX: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// When something runs: the minutes of the days that fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    /// Each set has a bit for each of its values.
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// If both days are restricted, one that fits is enough (crontab(5)).
    days_any: bool,
    weekdays_any: bool,
}

/// One of the five fields.
struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field {
        name: "minute",
        min: 0,
        max: 59,
        names: &[],
    },
    Field {
        name: "hour",
        min: 0,
        max: 23,
        names: &[],
    },
    Field {
        name: "day of the month",
        min: 1,
        max: 31,
        names: &[],
    },
    Field {
        name: "month",
        min: 1,
        max: 12,
        names: &MONTHS,
    },
    // Sunday is 0 and 7.
    Field {
        name: "day of the week",
        min: 0,
        max: 7,
        names: &WEEKDAYS,
    },
];

impl Cron {
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        let texts: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = texts[..] else {
            return Err(Refusal::unlike(text, "cron expression", HINT));
        };
        let [minutes, hours, days, months, weekdays] = [
            FIELDS[0].read(minute)?,
            FIELDS[1].read(hour)?,
            FIELDS[2].read(day)?,
            FIELDS[3].read(month)?,
            FIELDS[4].read(weekday)?,
        ];
        let cron = Self {
            minutes,
            hours,
            days,
            months,
            weekdays: (weekdays | (weekdays >> 7)) & 0x7f,
            // A field that begins with a star counts as not restricted, also with a step.
            days_any: day.starts_with('*'),
            weekdays_any: weekday.starts_with('*'),
        };
        if cron.is_impossible() {
            let what = format!("{text:?} never happens: no month of it has such a day");
            return Err(Refusal::new(what, HINT));
        }
        Ok(cron)
    }

    fn is_impossible(&self) -> bool {
        let days_alone = self.weekdays_any || self.days_any;
        let fits = MONTH_DAYS_MAX.iter().zip(1..).any(|(last, month)| {
            has(self.months, month) && (1..=*last).any(|day| has(self.days, day))
        });
        days_alone && !fits
    }

    /// Whether it runs on a day.
    pub(crate) fn fits(&self, date: Date) -> bool {
        let month = u32::from(date.month().unsigned_abs());
        let day = u32::from(date.day().unsigned_abs());
        let weekday = u32::from(date.weekday().to_sunday_zero_offset().unsigned_abs());
        let of_month = has(self.days, day);
        let of_week = has(self.weekdays, weekday);
        let is_day = if self.days_any || self.weekdays_any {
            of_month && of_week
        } else {
            of_month || of_week
        };
        has(self.months, month) && is_day
    }

    /// Whether it may never find a month again, so that its whole rest can be passed over.
    pub(crate) fn has_month(&self, date: Date) -> bool {
        has(self.months, u32::from(date.month().unsigned_abs()))
    }

    /// The minutes of a day at which it runs, in order.
    pub(crate) fn minutes_of_day(&self) -> Vec<u16> {
        let hours = (0..24).filter(|hour| has(self.hours, u32::from(*hour)));
        let minutes = |hour: u16| {
            let minutes = (0..60).filter(|minute| has(self.minutes, u32::from(*minute)));
            minutes.map(move |minute| hour * 60 + minute)
        };
        hours.flat_map(minutes).collect()
    }

    /// Whether it runs in each hour, so that it is meant to run often and not at one time.
    pub(crate) fn is_every_hour(&self) -> bool {
        self.hours == (1 << 24) - 1
    }
}

fn has(set: u64, value: u32) -> bool {
    set & (1 << value) != 0
}

impl Field {
    fn read(&self, text: &str) -> Result<u64, Refusal> {
        let mut set = 0;
        for part in text.split(',') {
            set |= self.part(part).ok_or_else(|| {
                let what = format!(
                    "{text:?} is no {} of a cron expression: it goes from {} to {}",
                    self.name, self.min, self.max
                );
                Refusal::new(what, HINT)
            })?;
        }
        Ok(set)
    }

    /// `*`, `5`, `1-5`, and the first and last with a step, as `*/15`.
    fn part(&self, part: &str) -> Option<u64> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(number(step)?)),
            None => (part, None),
        };
        let (first, last) = match (range, range.split_once('-')) {
            ("*", _) => (self.min, self.max),
            (_, Some((first, last))) => (self.value(first)?, self.value(last)?),
            // One value has no steps (crontab(5)); some take it for the beginning of a range, others do not.
            (_, None) if step.is_some() => return None,
            (one, None) => (self.value(one)?, self.value(one)?),
        };
        let step = step.unwrap_or(1);
        if first > last || step == 0 || step > self.max {
            return None;
        }
        let step = usize::try_from(step).ok()?;
        Some(
            (first..=last)
                .step_by(step)
                .fold(0, |set, value| set | (1 << value)),
        )
    }

    fn value(&self, text: &str) -> Option<u32> {
        let named = self.names.iter().zip(self.min..);
        let mut named = named.filter(|(name, _)| name.eq_ignore_ascii_case(text));
        if let Some((_, value)) = named.next() {
            return Some(value);
        }
        number(text).filter(|value| (self.min..=self.max).contains(value))
    }
}

/// Of at most two digits.
fn number(text: &str) -> Option<u32> {
    let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_calendar_has_is_refused() {
        for text in ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 31 4 */2"] {
            let refusal = Cron::parse(text).unwrap_err();
            assert!(refusal.what.contains("never happens"), "{text}: {refusal}");
        }
        for text in ["0 0 29 2 *", "0 0 30 2 mon", "0 0 31 1-4 *"] {
            assert!(Cron::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn fields_are_those_of_crontab() {
        for text in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "*/0 * * * *",
            "5/10 * * * *",
            "5-1 * * * *",
            "a * * * *",
            "* * * * fri-mon",
            "* * L * *",
            "@daily",
            "+5 * * * *",
            "1,,2 * * * *",
            "* * * * 1#2",
            "005 * * * *",
            "*/99 * * * *",
        ] {
            assert!(Cron::parse(text).is_err(), "{text}");
        }
        let cron = Cron::parse("5,10-12,*/30 2 * jan,MAR-4 sun-2,7").unwrap();
        assert_eq!(cron.minutes_of_day(), [120, 125, 130, 131, 132, 150]);
        let ones = |set: u64| (0..64).filter(|bit| has(set, *bit)).collect::<Vec<u32>>();
        assert_eq!(ones(cron.months), [1, 3, 4]);
        assert_eq!(ones(cron.weekdays), [0, 1, 2]);
    }
}
