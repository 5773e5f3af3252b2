//! Whether a capture looks as if its source had been lost: emptied, or much smaller than before.
//! It never judges without a capture to compare with, nor calls ordinary tidying up a loss.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Less than this share of what was there is a loss, in percent.
pub const SHRUNK_BELOW_PERCENT: u64 = 50;
/// With fewer files than that before, their number says nothing.
pub const SHRUNK_FILES_MIN: u64 = 20;
/// With fewer bytes than that before, their number says nothing.
pub const SHRUNK_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// How much a capture holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Files.
    pub files: u64,
    /// What is in them, in bytes.
    pub bytes: u64,
}

/// What is suspicious about a capture. It is stored, and takes no slot of what retention keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flag {
    /// There was something, and nothing is there any more.
    Emptied,
    /// Less than half is left of what was there.
    Shrunk,
}

/// What a tag begins with that says it of a snapshot.
const FLAG_TAG: &str = "flag=";

impl Flag {
    /// Its name in records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Emptied => "emptied",
            Self::Shrunk => "shrunk",
        }
    }

    /// The tag of a snapshot that it is said of.
    #[must_use]
    pub fn tag(self) -> String {
        format!("{FLAG_TAG}{}", self.name())
    }

    /// What tags say of a snapshot.
    pub fn of_tags<T: AsRef<str>>(tags: &[T]) -> Option<Self> {
        [Self::Emptied, Self::Shrunk]
            .into_iter()
            .find(|flag| tags.iter().any(|tag| tag.as_ref() == flag.tag()))
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is suspicious about what there is now, beside the newest capture that nothing was suspicious about.
#[must_use]
pub fn guard(before: Extent, now: Extent) -> Option<Flag> {
    if now.bytes == 0 && (before.bytes > 0 || now.files == 0 && before.files > 0) {
        return Some(Flag::Emptied);
    }
    let is_below = |now: u64, before: u64, from: u64| {
        before >= from
            && u128::from(now) * 100 < u128::from(before) * u128::from(SHRUNK_BELOW_PERCENT)
    };
    let is_shrunk = is_below(now.files, before.files, SHRUNK_FILES_MIN)
        || is_below(now.bytes, before.bytes, SHRUNK_BYTES_MIN);
    is_shrunk.then_some(Flag::Shrunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(files: u64, bytes: u64) -> Extent {
        Extent { files, bytes }
    }

    #[test]
    fn what_is_gone_or_halved_is_told() {
        let mebibyte = 1 << 20;
        let cases = [
            (extent(3, 100), extent(0, 0), Some(Flag::Emptied)),
            (extent(3, 100), extent(3, 0), Some(Flag::Emptied)),
            (extent(3, 0), extent(0, 0), Some(Flag::Emptied)),
            (extent(0, 0), extent(0, 0), None),
            (extent(3, 0), extent(2, 0), None),
            (extent(100, 100), extent(49, 100), Some(Flag::Shrunk)),
            (extent(100, 100), extent(50, 100), None),
            (extent(19, 100), extent(1, 100), None),
            (
                extent(1, 16 * mebibyte),
                extent(1, 7 * mebibyte),
                Some(Flag::Shrunk),
            ),
            (extent(1, 15 * mebibyte), extent(1, mebibyte), None),
            (
                extent(1, u64::MAX),
                extent(1, u64::MAX / 2 - 1),
                Some(Flag::Shrunk),
            ),
        ];
        for (before, now, expected) in cases {
            assert_eq!(guard(before, now), expected, "{before:?} {now:?}");
        }
    }
}
