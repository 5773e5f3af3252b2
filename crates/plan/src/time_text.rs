//! A point in time as people write it, as `--time` takes it.
//! It must never look at a clock or at the machine's zone: both are passed in.

use jiff::tz::TimeZone;
use lifeboat_format::Timestamp;

use crate::civil::{Civil, Place, date_of, days_of, offset_at};

/// A text is no point in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot read {0:?} as a time: write \"2006-01-02 15:04:05\" or \"2006-01-02\" in local time, an RFC 3339 time such as 2006-01-02T15:04:05+01:00, or \"now\""
)]
pub struct TimeTextError(String);

/// The point in time that a text names, with the offset that `zone` has then.
///
/// `2006-01-02 15:04:05`, also without seconds or with a fraction of them, and `2006-01-02` (its first moment) are
/// read in `zone`; where the clock shows a time twice or never, the choice is Go's and thus restic's. An RFC 3339
/// time keeps its own offset. `now` is `now`.
///
/// # Errors
/// [`TimeTextError`] for everything else and for dates that don't exist.
pub fn parse_time(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, TimeTextError> {
    let text = text.trim();
    if text == "now" {
        return Ok(shown_in(zone, now.seconds, now.nanoseconds));
    }
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let (civil, nanoseconds) =
        local(text).ok_or_else(|| TimeTextError(text.chars().take(80).collect()))?;
    Ok(shown_in(
        zone,
        Place::Zone(zone).instant(&civil),
        nanoseconds,
    ))
}

fn shown_in(zone: &TimeZone, seconds: i64, nanoseconds: u32) -> Timestamp {
    Timestamp {
        seconds,
        nanoseconds,
        offset_seconds: offset_at(zone, seconds),
    }
}

/// Date and clock of a local time, and its nanoseconds.
fn local(text: &str) -> Option<(Civil, u32)> {
    let (date, clock) = text.split_once(' ').unwrap_or((text, "00:00:00"));
    let mut parts = date.split('-');
    let year = number(parts.next()?, 4..=4)?;
    let month = number(parts.next()?, 2..=2)?;
    let day = number(parts.next()?, 2..=2)?;
    if parts.next().is_some() || date_of(days_of(year, month, day)) != (year, month, day) {
        return None;
    }
    let (clock, fraction) = match clock.split_once('.') {
        Some((clock, fraction)) => (clock, Some(nanoseconds(fraction)?)),
        None => (clock, None),
    };
    let mut parts = clock.split(':');
    let hour = number(parts.next()?, 1..=2).filter(|hour| *hour < 24)?;
    let minute = number(parts.next()?, 2..=2).filter(|minute| *minute < 60)?;
    let second = match (parts.next(), fraction) {
        (Some(second), _) => number(second, 2..=2).filter(|second| *second < 60)?,
        (None, None) => 0,
        // Only seconds have a fraction.
        (None, Some(_)) => return None,
    };
    if parts.next().is_some() {
        return None;
    }
    let second_of_day = hour * 3600 + minute * 60 + second;
    Some((
        Civil {
            year,
            month,
            day,
            second_of_day,
        },
        fraction.unwrap_or_default(),
    ))
}

fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<i64> {
    let plain = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// Nanoseconds of the digits behind a point; what is finer is cut off.
fn nanoseconds(fraction: &str) -> Option<u32> {
    const DIGITS: usize = 9;
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.get(..DIGITS).unwrap_or(fraction);
    format!("{digits:0<DIGITS$}").parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<String, TimeTextError> {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let now = "2024-07-01T12:00:00.5Z".parse().unwrap();
        parse_time(text, now, &zone).map(|time| time.to_string())
    }

    #[test]
    fn local_times_get_the_offset_of_their_day() {
        for (text, expected) in [
            ("2024-01-02 03:04:05", "2024-01-02T03:04:05+01:00"),
            ("2024-07-02 03:04:05", "2024-07-02T03:04:05+02:00"),
            ("2024-07-02 3:04:05", "2024-07-02T03:04:05+02:00"),
            ("2024-07-02 03:04", "2024-07-02T03:04:00+02:00"),
            ("2024-07-02 03:04:05.25", "2024-07-02T03:04:05.25+02:00"),
            (
                "2024-07-02 03:04:05.1234567891",
                "2024-07-02T03:04:05.123456789+02:00",
            ),
            (" 2024-02-29\n", "2024-02-29T00:00:00+01:00"),
            ("now", "2024-07-01T14:00:00.5+02:00"),
            ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z"),
            ("2024-01-02T03:04:05.5-08:00", "2024-01-02T03:04:05.5-08:00"),
            // Never shown, and shown twice.
            ("2024-03-31 02:30:00", "2024-03-31T03:30:00+02:00"),
            ("2024-10-27 02:30:00", "2024-10-27T02:30:00+01:00"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "yesterday",
            "Now",
            "2024",
            "2024-1-02",
            "2024-13-01",
            "2023-02-29",
            "2024-01-00",
            "2024-01-02 3",
            "2024-01-02 24:00:00",
            "2024-01-02 03:60:00",
            "2024-01-02 03:04:60",
            "2024-01-02 03:04:05.",
            "2024-01-02 03:04.5",
            "2024-01-02 03:04:05:06",
            "2024-01-02  03:04:05",
            "2024-01-02 03:04:05 +0100",
            "02.01.2024",
            "2024-01-02-03",
            "2024-01-02T03:04:05",
            "+024-01-02",
            "2024-01-02 -3:04:05",
            "٢٠٢٤-01-02",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = parse(&text);
        }

        #[test]
        fn every_second_can_be_named(seconds in -62_135_596_800i64..253_402_300_799) {
            let text = Timestamp::utc(seconds, 0).to_string();
            let local = text.replace('T', " ").replace('Z', "");
            let time = parse_time(&local, Timestamp::ZERO, &TimeZone::UTC).unwrap();
            prop_assert_eq!(time.seconds, seconds);
        }
    }
}
