//! A length of time as Go's `time.ParseDuration` reads it, such as `1h30m5s`: what `--retry-lock` takes.
//! It must never accept a length below zero: nothing here waits backwards.

use std::time::Duration;

/// Units and their nanoseconds; the micro sign and the Greek letter mu both occur.
const UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
];

/// A text is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot read {0:?} as a length of time: write numbers, each with one of the units ns, us, ms, s, m, h, such as 1h30m, up to 292 years"
)]
pub struct GoDurationError(String);

/// A length of time: numbers with units, fractions allowed, `0` needs no unit.
///
/// # Errors
/// [`GoDurationError`] for anything else, for less than zero and for more than Go can count (2⁶³ − 1 nanoseconds).
pub fn parse_go_duration(text: &str) -> Result<Duration, GoDurationError> {
    parse(text).ok_or_else(|| GoDurationError(text.chars().take(80).collect()))
}

fn parse(text: &str) -> Option<Duration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    while rest != "0" && !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let is_number = |character: char| character.is_ascii_digit() || character == '.';
        let (unit, after) = after.split_at_checked(after.find(is_number).unwrap_or(after.len()))?;
        let nanoseconds = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        let whole: u64 = if whole.is_empty() {
            0
        } else {
            whole.parse().ok()?
        };
        total = total.checked_add(whole.checked_mul(nanoseconds)?)?;
        total = total.checked_add(part_of(fraction, nanoseconds))?;
        // A lone zero without a unit only counts when nothing stands before it.
        if after == "0" {
            return None;
        }
        rest = after;
    }
    let in_range = i64::try_from(total).is_ok() && (!negative || total == 0);
    in_range.then(|| Duration::from_nanos(total))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// The fraction's share of a unit, cut off below a nanosecond.
fn part_of(fraction: &str, unit_nanoseconds: u64) -> u64 {
    /// Digits behind the point that can matter for the largest unit.
    const DIGITS_MAX: usize = 18;
    let mut value: u128 = 0;
    let mut scale: u128 = 1;
    for digit in fraction.bytes().take(DIGITS_MAX) {
        value = value * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    u64::try_from(value * u128::from(unit_nanoseconds) / scale).unwrap_or(unit_nanoseconds)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn go_s_examples_hold() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("-0", 0),
            ("+0", 0),
            ("5s", 5_000_000_000),
            ("30s", 30_000_000_000),
            ("+5s", 5_000_000_000),
            ("5.0s", 5_000_000_000),
            ("5.6s", 5_600_000_000),
            ("5.s", 5_000_000_000),
            (".5s", 500_000_000),
            ("1.004s", 1_004_000_000),
            ("100.00100s", 100_001_000_000),
            ("10ns", 10),
            ("11us", 11_000),
            ("12µs", 12_000),
            ("12μs", 12_000),
            ("13ms", 13_000_000),
            ("3h30m", 12_600_000_000_000),
            ("10.5s4m", 250_500_000_000),
            ("1h2m3s4ms5us6ns", 3_723_004_005_006),
            ("9007199254740993ns", 9_007_199_254_740_993),
            ("9223372036854775807ns", i64::MAX as u64),
            ("0.3333333333333333333h", 20 * 60_000_000_000 - 1),
            ("0.100000000000000000000h", 6 * 60_000_000_000),
        ] {
            assert_eq!(
                parse_go_duration(text),
                Ok(Duration::from_nanos(nanoseconds)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in [
            "",
            "3",
            "-",
            "+",
            "s",
            ".",
            "-.",
            ".s",
            "+.s",
            "1d",
            "5m3",
            "1h 2m",
            " 1h",
            "1H",
            "1s0",
            "00",
            "0s0",
            "--1s",
            "٣s",
            "1é",
            "9223372036854775808ns",
            "9223372036854775.808us",
            "3000000h",
        ] {
            assert!(parse_go_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn less_than_zero_is_refused() {
        assert!(parse_go_duration("-5s").is_err());
        assert_eq!(parse_go_duration("-0s"), Ok(Duration::ZERO));
    }

    proptest! {
        #[test]
        fn nanoseconds_survive(nanoseconds in 0..=i64::MAX as u64) {
            let text = format!("{}s{}ns", nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
            prop_assert_eq!(parse_go_duration(&text), Ok(Duration::from_nanos(nanoseconds)));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = parse_go_duration(&text);
        }
    }
}
