//! A length of time as the fleet file writes it: `90s`, `15m`, `2h`, `14d`, `6w`.
//! It must never be nothing, and knows no months, which are not all the same.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::refusal::Refusal;

/// Units and their seconds, longest first.
const UNITS: [(char, u64); 5] = [
    ('w', 7 * 86_400),
    ('d', 86_400),
    ('h', 3_600),
    ('m', 60),
    ('s', 1),
];
/// No longer time makes sense here: a hundred years.
const SECONDS_MAX: u64 = 100 * 366 * 86_400;
/// [`TimeSpan`] for editors.
pub(crate) const TIME_SPAN_PATTERN: &str = "^([0-9]+[wdhms])+$";
const HINT: &str = "write whole numbers with the units w, d, h, m (minutes), s: `90s`, `15m`, `2h`, `14d`, `1d12h`";

/// A length of time in whole seconds, at least one; days have 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeSpan {
    seconds: u64,
}

impl TimeSpan {
    /// Of `seconds`, if that is a length of time that a file may name.
    pub(crate) fn of_seconds(seconds: u64) -> Option<Self> {
        (1..=SECONDS_MAX)
            .contains(&seconds)
            .then_some(Self { seconds })
    }

    /// Its seconds.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.seconds
    }

    /// The same for the standard library.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

impl FromStr for TimeSpan {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let seconds = parse(text).ok_or_else(|| Refusal::unlike(text, "length of time", HINT))?;
        if seconds == 0 {
            return Err(Refusal::new("a length of time can't be zero", HINT));
        }
        Self::of_seconds(seconds)
            .ok_or_else(|| Refusal::new("this is more than a hundred years", HINT))
    }
}

fn parse(mut text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    if text.is_empty() {
        return None;
    }
    while !text.is_empty() {
        let digits = text.find(|character: char| !character.is_ascii_digit())?;
        let (number, rest) = text.split_at_checked(digits)?;
        // What overflows is too long, not badly written.
        let number: u64 = match number {
            "" => return None,
            number => number.parse().unwrap_or(u64::MAX),
        };
        let mut units = rest.chars();
        let unit = units.next()?;
        let (_, seconds) = UNITS.iter().find(|(known, _)| *known == unit)?;
        total = total.saturating_add(number.saturating_mul(*seconds));
        text = units.as_str();
    }
    Some(total)
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.seconds;
        // Nobody thinks of two weeks as 2w who wrote 14d.
        for (unit, seconds) in UNITS.into_iter().filter(|(unit, _)| *unit != 'w') {
            if left >= seconds {
                write!(f, "{}{unit}", left / seconds)?;
                left %= seconds;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_units() {
        for (text, seconds, shown) in [
            ("90s", 90, "1m30s"),
            ("15m", 900, "15m"),
            ("2h", 7_200, "2h"),
            ("14d", 14 * 86_400, "14d"),
            ("6w", 42 * 86_400, "42d"),
            ("1d12h", 129_600, "1d12h"),
        ] {
            let span: TimeSpan = text.parse().unwrap();
            assert_eq!(
                (span.seconds(), span.to_string().as_str()),
                (seconds, shown)
            );
        }
        for (text, what) in [
            ("", "\"\" is no length of time"),
            ("5", "\"5\" is no length of time"),
            ("d", "\"d\" is no length of time"),
            ("1.5h", "\"1.5h\" is no length of time"),
            ("-1d", "\"-1d\" is no length of time"),
            ("2 h", "\"2 h\" is no length of time"),
            ("1y", "\"1y\" is no length of time"),
            ("0d", "a length of time can't be zero"),
            ("99999999999999999999w", "this is more than a hundred years"),
        ] {
            assert_eq!(text.parse::<TimeSpan>().unwrap_err().to_string(), what);
        }
    }
}
