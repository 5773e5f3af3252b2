//! How far back one wants to be able to recover: a fixed length of time such as `14d`.
//! It must never take `m`, which is minutes to some and months to others, nor a window of nothing.

use std::fmt;
use std::str::FromStr;

use lifeboat_format::Timestamp;

/// Units and their seconds.
const UNITS: [(char, i64); 4] = [('w', 7 * 86_400), ('d', 86_400), ('h', 3_600), ('s', 1)];

/// The length of a recovery window, in whole seconds, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    seconds: i64,
}

impl Window {
    /// Where the window begins that ends `now`.
    #[must_use]
    pub fn before(self, now: Timestamp) -> Timestamp {
        Timestamp {
            seconds: now.seconds.saturating_sub(self.seconds),
            ..now
        }
    }
}

/// A text is no window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot read {0:?} as a recovery window: write whole numbers, each with one of the units w, d, h, s for weeks, days of 24 hours, hours and seconds, such as 14d"
)]
pub struct WindowError(String);

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let seconds = parse(text).filter(|seconds| *seconds > 0);
        let seconds = seconds.ok_or_else(|| WindowError(text.chars().take(80).collect()))?;
        Ok(Self { seconds })
    }
}

fn parse(mut text: &str) -> Option<i64> {
    let mut total: i64 = 0;
    while !text.is_empty() {
        let digits = text.find(|character: char| !character.is_ascii_digit())?;
        let (number, rest) = text.split_at_checked(digits)?;
        let number: i64 = number.parse().ok()?;
        let mut units = rest.chars();
        let unit = units.next()?;
        let (_, seconds) = UNITS.iter().find(|(known, _)| *known == unit)?;
        total = total.checked_add(number.checked_mul(*seconds)?)?;
        text = units.as_str();
    }
    Some(total)
}

impl fmt::Display for Window {
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
    fn windows_are_fixed_lengths() {
        let now = Timestamp::utc(10_000_000, 5);
        for (text, seconds, shown) in [
            ("14d", 14 * 86_400, "14d"),
            ("2w", 14 * 86_400, "14d"),
            ("1d12h", 36 * 3_600, "1d12h"),
            ("36h", 36 * 3_600, "1d12h"),
            ("2s", 2, "2s"),
        ] {
            let window: Window = text.parse().unwrap();
            let begins = Timestamp::utc(10_000_000 - seconds, 5);
            assert_eq!(
                (window.before(now), window.to_string()),
                (begins, shown.to_owned())
            );
        }
        for text in [
            "",
            "14",
            "d",
            "0d",
            "0s",
            "6m",
            "1y",
            "-1d",
            "1.5d",
            "14D",
            "14 d",
            "99999999999999999w",
        ] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
    }
}
