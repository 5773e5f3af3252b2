//! A point in time with the UTC offset it was written with, in the form Go's `time.RFC3339Nano` gives it.
//! It must never lose the offset or a nanosecond: a tree that is decoded and encoded again must not change.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use crate::civil::{date_of, days_of};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const SECONDS_PER_DAY: i64 = 86_400;
/// 0000-01-01T00:00:00Z, the earliest time that Go's JSON encoder accepts (in UTC).
const MIN_SECONDS: i64 = -62_167_219_200;
/// 9999-12-31T23:59:59Z, the latest.
const MAX_SECONDS: i64 = 253_402_300_799;

/// A point in time. Equality and order look at the instant alone, not at the offset, as Go's `Time.Equal` does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// Nanoseconds within the second, below 1,000,000,000.
    pub nanoseconds: u32,
    /// Seconds east of UTC of the written form; whole minutes are kept, as RFC 3339 has no seconds there.
    pub offset_seconds: i32,
}

impl Timestamp {
    /// Go's zero time, 0001-01-01T00:00:00Z, which restic writes where it knows no time.
    pub const ZERO: Self = Self {
        seconds: -62_135_596_800,
        nanoseconds: 0,
        offset_seconds: 0,
    };

    /// An instant, shown in UTC.
    #[must_use]
    pub fn utc(seconds: i64, nanoseconds: u32) -> Self {
        Self {
            seconds,
            nanoseconds,
            offset_seconds: 0,
        }
    }

    /// The same instant, with its written form confined to the years 0 to 9999 which JSON can hold.
    /// restic's `FixTime` keeps month and day; such times only come from broken clocks, so the nearest will do.
    #[must_use]
    pub fn confined(self) -> Self {
        let local = self.seconds.saturating_add(i64::from(self.offset_seconds));
        if local < MIN_SECONDS {
            Self {
                seconds: MIN_SECONDS,
                nanoseconds: 0,
                offset_seconds: 0,
            }
        } else if local > MAX_SECONDS {
            Self {
                seconds: MAX_SECONDS,
                nanoseconds: 999_999_999,
                offset_seconds: 0,
            }
        } else {
            self
        }
    }

    /// Nanoseconds since 1970, for comparing and subtracting.
    #[must_use]
    pub fn unix_nanoseconds(&self) -> i128 {
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanoseconds)
    }
}

impl PartialEq for Timestamp {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Timestamp {}
impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timestamp {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.seconds, self.nanoseconds).cmp(&(other.seconds, other.nanoseconds))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset_minutes = self.offset_seconds / 60;
        let local = self.seconds.saturating_add(i64::from(offset_minutes) * 60);
        let (year, month, day) = date_of(local.div_euclid(SECONDS_PER_DAY));
        let second = local.rem_euclid(SECONDS_PER_DAY);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )?;
        if self.nanoseconds != 0 {
            let digits = format!("{:09}", self.nanoseconds);
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        if offset_minutes == 0 {
            return f.write_str("Z");
        }
        let sign = if offset_minutes < 0 { '-' } else { '+' };
        let minutes = offset_minutes.abs();
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

/// A text is no RFC 3339 time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time in RFC 3339 form")]
pub struct TimestampError(String);

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text.as_bytes()).ok_or_else(|| TimestampError(text.chars().take(80).collect()))
    }
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
    fn expect(&mut self, allowed: &[u8]) -> Option<u8> {
        self.byte().filter(|byte| allowed.contains(byte))
    }
    fn number(&mut self, digits: usize) -> Option<i64> {
        let mut value = 0;
        for _ in 0..digits {
            value = value * 10 + i64::from(self.byte().filter(u8::is_ascii_digit)? - b'0');
        }
        Some(value)
    }
}

fn parse(text: &[u8]) -> Option<Timestamp> {
    let mut c = Cursor(text);
    let year = c.number(4)?;
    c.expect(b"-")?;
    let month = c.number(2).filter(|m| (1..=12).contains(m))?;
    c.expect(b"-")?;
    let day = c.number(2).filter(|d| (1..=31).contains(d))?;
    c.expect(b"T")?;
    let hour = c.number(2).filter(|h| *h < 24)?;
    c.expect(b":")?;
    let minute = c.number(2).filter(|m| *m < 60)?;
    c.expect(b":")?;
    let second = c.number(2).filter(|s| *s < 60)?;
    let mut zone = c.expect(b".,Z+-")?;
    let mut nanoseconds = 0u32;
    if matches!(zone, b'.' | b',') {
        let mut scale = 100_000_000;
        let mut digits = 0;
        zone = loop {
            let byte = c.byte()?;
            if !byte.is_ascii_digit() {
                break byte;
            }
            nanoseconds += u32::from(byte - b'0') * scale;
            scale /= 10;
            digits += 1;
        };
        if digits == 0 {
            return None;
        }
    }
    let offset_seconds = match zone {
        b'Z' => 0,
        b'+' | b'-' => {
            let hours = c.number(2).filter(|h| *h < 24)?;
            c.expect(b":")?;
            let minutes = c.number(2).filter(|m| *m < 60)?;
            let seconds = i32::try_from(hours * 3600 + minutes * 60).ok()?;
            if zone == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    if !c.0.is_empty() || date_of(days_of(year, month, day)) != (year, month, day) {
        return None;
    }
    let local = days_of(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second;
    Some(Timestamp {
        seconds: local - i64::from(offset_seconds),
        nanoseconds,
        offset_seconds,
    })
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_forms_survive_a_round_trip() {
        for text in [
            "2024-02-29T23:59:59.123456789+01:00",
            "1970-01-01T00:00:00Z",
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999999Z",
            "1969-12-31T23:59:59.5-03:30",
            "0000-01-01T00:00:00Z",
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn impossible_times_are_refused() {
        for text in [
            "",
            "2023-02-29T00:00:00Z",
            "2023-01-01T24:00:00Z",
            "2023-01-01T00:00:00",
            "2023-01-01T00:00:00.Z",
            "2023-01-01T00:00:00Zx",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    #[test]
    fn order_ignores_the_offset() {
        let berlin: Timestamp = "2024-01-01T01:00:00+01:00".parse().unwrap();
        let utc: Timestamp = "2024-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(berlin, utc);
    }

    #[test]
    fn absurd_times_are_confined_to_what_json_can_hold() {
        for seconds in [i64::MIN, i64::MAX, -62_167_219_201, 253_402_300_800] {
            let text = Timestamp::utc(seconds, 5).confined().to_string();
            assert!(text.parse::<Timestamp>().is_ok(), "{text}");
        }
    }
}
