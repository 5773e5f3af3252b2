//! A position in the write-ahead log, and the number of a timeline.
//! It must never confuse positions of different timelines: a position alone says nothing of which history it is in.

use std::fmt;
use std::str::FromStr;

/// A position in the write-ahead log, in bytes from its beginning; written `16/B374D848` (PostgreSQL manual, `pg_lsn`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// Something that is no position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no WAL position such as 16/B374D848")]
pub struct LsnError(pub String);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & u64::from(u32::MAX))
    }
}

impl FromStr for Lsn {
    type Err = LsnError;

    fn from_str(text: &str) -> Result<Self, LsnError> {
        let half = |text: &str| {
            // What `from_str_radix` takes beyond digits is a sign.
            let is_hex =
                (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
            is_hex.then(|| u64::from_str_radix(text, 16).ok()).flatten()
        };
        text.split_once('/')
            .and_then(|(high, low)| Some(Self(half(high)? << 32 | half(low)?)))
            .ok_or_else(|| LsnError(text.to_owned()))
    }
}

/// The number of a timeline: a new one begins with each recovery that ends and each promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeline(pub u32);

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_written_as_the_server_does() {
        for (text, number) in [
            ("0/0", 0),
            ("0/1500060", 0x150_0060),
            ("16/B374D848", 0x16_B374_D848),
            ("FFFFFFFF/FFFFFFFF", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(Lsn(number)));
            assert_eq!(Lsn(number).to_string(), text);
        }
        assert_eq!("0/0a".parse(), Ok(Lsn(10)));
        for wrong in [
            "",
            "/",
            "0",
            "0/",
            "/0",
            "0/0/0",
            "0/+1",
            "0/123456789",
            "0/G",
            " 0/0",
        ] {
            assert_eq!(wrong.parse::<Lsn>(), Err(LsnError(wrong.to_owned())));
        }
    }
}
