//! Sizes and rates as the fleet file writes them: `500MiB`, `10MiB/s`.
//! They must never be guessed: the unit says whether it counts by 1000 or by 1024.

use std::str::FromStr;

use crate::refusal::Refusal;

/// Units and their bytes.
const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];
/// [`Size`] for editors.
pub(crate) const SIZE_PATTERN: &str = "^[0-9]+([KMGT]i?)?B$";
/// [`Rate`] for editors.
pub(crate) const RATE_PATTERN: &str = "^[0-9]+([KMGT]i?)?B/s$";

/// A size in bytes, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    /// The bytes.
    pub bytes: u64,
}

/// A rate, at least a byte a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate {
    /// Bytes in a second.
    pub bytes_per_second: u64,
}

impl FromStr for Size {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let hint = "write a whole number with one of the units B, KiB, MiB, GiB, TiB, KB, MB, GB, TB: `500MiB`";
        let bytes = parse(text).ok_or_else(|| Refusal::unlike(text, "size", hint))?;
        Ok(Self { bytes })
    }
}

impl FromStr for Rate {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let hint = "write a size for a second: `10MiB/s`";
        let bytes = text.strip_suffix("/s").and_then(parse);
        let bytes_per_second = bytes.ok_or_else(|| Refusal::unlike(text, "rate", hint))?;
        Ok(Self { bytes_per_second })
    }
}

fn parse(text: &str) -> Option<u64> {
    let (number, unit) = UNITS
        .iter()
        .find_map(|(name, bytes)| Some((text.strip_suffix(name)?, *bytes)))?;
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let bytes = number.parse::<u64>().ok().filter(|_| digits)?;
    bytes.checked_mul(unit).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_say_what_they_count_by() {
        for (text, bytes) in [
            ("1B", 1),
            ("2KiB", 2048),
            ("2KB", 2000),
            ("500MiB", 500 << 20),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(text.parse(), Ok(Size { bytes }), "{text}");
            let rate = format!("{text}/s").parse();
            assert_eq!(
                rate,
                Ok(Rate {
                    bytes_per_second: bytes
                }),
                "{text}"
            );
            assert!(text.parse::<Rate>().is_err());
        }
        for text in [
            "",
            "5",
            "5M",
            "5 MB",
            "1.5GB",
            "-1B",
            "+1B",
            "0B",
            "5mb",
            "99999999999TB",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
