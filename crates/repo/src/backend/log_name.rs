//! The name of an object of the log, which lies beside the files that restic knows.
//! It must never lead out of the log's folder, nor have a sign in it that some place would change.

use std::fmt;
use std::str::FromStr;

use super::{Backend, BackendError, Trouble};

/// The folder of a repository that holds the log.
pub const LOG_FOLDER: &str = "lifeboat";
/// How many parts a name may have.
const PARTS_MAX: usize = 8;
/// How long a part may be, in bytes: while it is written, a file has a longer name, and most systems allow 255.
const PART_MAX_BYTES: usize = 128;
/// How long a name may be, in bytes: S3 allows 1024 with all that comes before it.
pub(super) const NAME_MAX_BYTES: usize = 512;

/// The name of an object of the log: parts of ASCII letters, digits, `.`, `_` and `-` with slashes between them, each
/// beginning with a letter or digit, as `wal/7412/00000001/000000010000000000000042`.
///
/// No object may lie below another: who chooses names takes care of that, because in a directory the second would fail.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogName(String);

impl LogName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path from the repository on: `lifeboat/…`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{LOG_FOLDER}/{}", self.0)
    }

    /// The parts from the first to the last.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Whether it lies below that name, at any depth; everything lies below none.
    #[must_use]
    pub fn is_below(&self, above: Option<&Self>) -> bool {
        above.is_none_or(|above| {
            let rest = self.0.strip_prefix(&above.0);
            rest.is_some_and(|rest| rest.starts_with('/'))
        })
    }

    /// The name of something below `above`, if a place may call it so.
    pub(super) fn below(above: Option<&Self>, part: &str) -> Option<Self> {
        match above {
            Some(above) => format!("{}/{part}", above.0).parse().ok(),
            None => part.parse().ok(),
        }
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text is no name of an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} can't be the name of an object of the log: that has up to {PARTS_MAX} parts of up to {PART_MAX_BYTES} letters, digits, '.', '_' and '-', each beginning with a letter or digit, and {NAME_MAX_BYTES} bytes at most"
)]
pub struct LogNameError(String);

impl FromStr for LogName {
    type Err = LogNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_part = |part: &str| {
            let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            let begins_well = part
                .bytes()
                .next()
                .is_some_and(|b| b.is_ascii_alphanumeric());
            begins_well && part.len() <= PART_MAX_BYTES && part.bytes().all(is_sign)
        };
        let is_name = text.len() <= NAME_MAX_BYTES
            && text.split('/').count() <= PARTS_MAX
            && text.split('/').all(is_part);
        match is_name {
            true => Ok(Self(text.to_owned())),
            false => Err(LogNameError(text.chars().take(NAME_MAX_BYTES).collect())),
        }
    }
}

/// What came of a wish to create an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// An object of this name with exactly this content is there.
    Created,
    /// An object of this name with other content is there, and was left alone.
    Exists,
}

/// What it means that a name is taken: if exactly this content is kept under it, we were there before, and the answer
/// was lost.
pub(super) fn taken(
    backend: &dyn Backend,
    name: &LogName,
    data: &[&[u8]],
) -> Result<Creation, BackendError> {
    let length_bytes = data.iter().map(|piece| piece.len() as u64).sum();
    match backend.log_load(name, length_bytes) {
        Ok(kept) if is_same(&kept, data) => Ok(Creation::Created),
        Ok(_) | Err(BackendError::ObjectTooLong { .. }) => Ok(Creation::Exists),
        Err(error) if error.is_missing() => Err(BackendError::Remote {
            doing: "create",
            what: name.path(),
            location: backend.location(),
            trouble: Trouble::Transient,
            why: "it was there, and somebody removed it at this moment".into(),
            retry_after: None,
        }),
        Err(error) => Err(error),
    }
}

fn is_same(kept: &[u8], data: &[&[u8]]) -> bool {
    let mut rest = kept;
    let begins = data.iter().all(|piece| match rest.strip_prefix(*piece) {
        Some(tail) => {
            rest = tail;
            true
        }
        None => false,
    });
    begins && rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> LogName {
        text.parse().unwrap()
    }

    #[test]
    fn names_stay_in_their_folder() {
        let long = "a".repeat(PART_MAX_BYTES);
        for good in ["a", "wal/1/00000001.history", "A-b_c.d/0", long.as_str()] {
            assert_eq!(name(good).to_string(), good);
        }
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/..",
            "a/../b",
            ".a",
            "-a",
            "_a",
            "a b",
            "a\\b",
            "a\0",
            "ä",
            "a:b",
            "a%2f",
            "a/b/c/d/e/f/g/h/i",
            "a\n",
        ] {
            assert!(bad.parse::<LogName>().is_err(), "{bad:?}");
        }
        assert!(format!("{long}a").parse::<LogName>().is_err());
        let four = [long.as_str(); 4].join("/");
        assert!(four.parse::<LogName>().is_err(), "longer than a key may be");
        assert!(
            "x/".repeat(10_000)
                .parse::<LogName>()
                .unwrap_err()
                .to_string()
                .len()
                < 1000
        );
    }

    #[test]
    fn what_lies_below_is_told_by_whole_parts() {
        let wal = name("wal/1");
        assert!(name("wal/1/2").is_below(Some(&wal)) && name("wal/1/2/3").is_below(Some(&wal)));
        for other in ["wal/1", "wal/12", "wal/12/3", "wal", "x/wal/1/2"] {
            assert!(!name(other).is_below(Some(&wal)), "{other}");
        }
        assert!(name("anything").is_below(None));
        assert_eq!(LogName::below(Some(&wal), "7"), Some(name("wal/1/7")));
        assert_eq!(LogName::below(None, ".tmp"), None);
    }

    #[test]
    fn content_is_compared_over_the_edges_of_pieces() {
        assert!(is_same(b"abcd", &[b"a", b"", b"bcd"]) && is_same(b"", &[]));
        for (kept, data) in [
            (&b"abc"[..], &b"abcd"[..]),
            (b"abcd", b"abc"),
            (b"abce", b"abcd"),
        ] {
            assert!(!is_same(kept, &[data]));
        }
    }
}
