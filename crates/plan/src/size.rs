//! A size in bytes, as command lines write it.
//! It must never round: restic takes no fractions, and neither does this.

/// A text is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot read {0:?} as a size: write a whole number below 8 EiB, if need be with one of the suffixes B, K, M, G, T for powers of 1024, such as 512M"
)]
pub struct SizeError(String);

/// Bytes of a text such as `10`, `10B`, `10k` or `4G`; suffixes stand for powers of 1024 and may be lower case.
///
/// # Errors
/// [`SizeError`] for fractions, signs of minus, other suffixes, and for more than restic can count (2⁶³ − 1).
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    parse(text).ok_or_else(|| SizeError(text.chars().take(80).collect()))
}

fn parse(text: &str) -> Option<u64> {
    let (number, shift) = match text.char_indices().next_back()? {
        (at, 'b' | 'B') => (text.get(..at)?, 0),
        (at, 'k' | 'K') => (text.get(..at)?, 10),
        (at, 'm' | 'M') => (text.get(..at)?, 20),
        (at, 'g' | 'G') => (text.get(..at)?, 30),
        (at, 't' | 'T') => (text.get(..at)?, 40),
        _ => (text, 0),
    };
    // As in Go, a plus sign is fine, and so is minus nothing.
    let number: i64 = number.parse().ok()?;
    let bytes = number.checked_mul(1 << shift)?;
    u64::try_from(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn suffixes_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("10", 10),
            ("10b", 10),
            ("10B", 10),
            ("+10k", 10_240),
            ("010K", 10_240),
            ("3m", 3 << 20),
            ("3M", 3 << 20),
            ("5g", 5 << 30),
            ("2T", 2 << 40),
            ("-0", 0),
            ("9223372036854775807", i64::MAX as u64),
            ("8388607T", 8_388_607 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_restic_refuses_is_refused() {
        for text in [
            "",
            "K",
            "1.5G",
            "1 G",
            " 1",
            "1KB",
            "1KiB",
            "1P",
            "-1",
            "-1k",
            "0x10",
            "1_000",
            "١",
            "9223372036854775808",
            "8388608T",
            "99999999999999999999",
            "1é",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(
            parse_size("1.5G").unwrap_err().to_string(),
            "cannot read \"1.5G\" as a size: write a whole number below 8 EiB, if need be with one of the suffixes \
             B, K, M, G, T for powers of 1024, such as 512M"
        );
    }

    proptest! {
        #[test]
        fn numbers_survive(bytes in 0..=i64::MAX as u64) {
            prop_assert_eq!(parse_size(&bytes.to_string()), Ok(bytes));
        }
    }
}
