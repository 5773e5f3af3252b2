//! How people name a snapshot and a folder in it: `latest`, `latest~2`, `3ec79977`, `latest:/home/me`.
//! It must never settle on one of several snapshots that a name could mean.

use std::fmt;

use lifeboat_format::Id;

/// A snapshot's name, and a folder in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPath {
    /// The snapshot.
    pub name: SnapshotName,
    /// The folder, as it was written; empty for the snapshot's root.
    pub subfolder: Vec<u8>,
}

/// How a snapshot is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotName {
    /// The newest that passes a filter, or the one so many before it.
    Latest {
        /// How many newer ones there are.
        back: usize,
    },
    /// The first digits of its ID, in lower case; all 64 are the whole ID.
    Prefix(String),
}

/// A text names no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotNameError {
    /// Neither `latest` nor digits of an ID.
    #[error(
        "{0:?} names no snapshot: write \"latest\" or the first hexadecimal digits of an ID, at most 64"
    )]
    NotAnId(String),
    /// `latest~` without a number.
    #[error(
        "{0:?} names no snapshot: write a whole number behind \"latest~\", such as latest~1 for the one before the newest"
    )]
    NotANumber(String),
}

impl SnapshotPath {
    /// Takes `SNAPSHOT` or `SNAPSHOT:SUBFOLDER` apart, at the first colon as restic does.
    ///
    /// `latest~N` is an addition to restic's names; `latest~0` is `latest`. Digits may be upper case.
    ///
    /// # Errors
    /// [`SnapshotNameError`] when what is before the colon can't name a snapshot.
    pub fn parse(text: &[u8]) -> Result<Self, SnapshotNameError> {
        let mut halves = text.splitn(2, |byte| *byte == b':');
        let name = halves.next().unwrap_or_default();
        let subfolder = halves.next().unwrap_or_default().to_vec();
        let name = parse_name(&String::from_utf8_lossy(name))?;
        Ok(Self { name, subfolder })
    }
}

fn parse_name(name: &str) -> Result<SnapshotName, SnapshotNameError> {
    let shown = || name.chars().take(80).collect();
    if name == "latest" {
        return Ok(SnapshotName::Latest { back: 0 });
    }
    if let Some(back) = name.strip_prefix("latest~") {
        let back = back
            .parse()
            .map_err(|_| SnapshotNameError::NotANumber(shown()))?;
        return Ok(SnapshotName::Latest { back });
    }
    let is_hex = name.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex && (1..=Id::BYTES * 2).contains(&name.len()) {
        Ok(SnapshotName::Prefix(name.to_ascii_lowercase()))
    } else {
        Err(SnapshotNameError::NotAnId(shown()))
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest { back: 0 } => f.write_str("latest"),
            Self::Latest { back } => write!(f, "latest~{back}"),
            Self::Prefix(digits) => f.write_str(digits),
        }
    }
}

/// What the first digits of an ID mean among those that exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// This one.
    Unique(Id),
    /// One of these, in order.
    Ambiguous(Vec<Id>),
    /// None.
    Missing,
}

/// The IDs that begin with these hexadecimal digits.
#[must_use]
pub fn resolve_prefix(digits: &str, ids: impl IntoIterator<Item = Id>) -> Resolution {
    let digits = digits.to_ascii_lowercase();
    let mut found: Vec<Id> = ids
        .into_iter()
        .filter(|id| id.hex().starts_with(digits.as_bytes()))
        .collect();
    found.sort_unstable();
    found.dedup();
    match found.as_slice() {
        [] => Resolution::Missing,
        [id] => Resolution::Unique(*id),
        _ => Resolution::Ambiguous(found),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<(String, Vec<u8>), SnapshotNameError> {
        SnapshotPath::parse(text.as_bytes()).map(|path| (path.name.to_string(), path.subfolder))
    }

    #[test]
    fn names_and_folders_are_taken_apart() {
        for (text, name, subfolder) in [
            ("latest", "latest", ""),
            ("latest:", "latest", ""),
            ("latest:/a:b", "latest", "/a:b"),
            ("latest~0", "latest", ""),
            ("latest~12:x", "latest~12", "x"),
            ("3EC7", "3ec7", ""),
            ("3:é", "3", "é"),
        ] {
            assert_eq!(
                parse(text),
                Ok((name.to_owned(), subfolder.as_bytes().to_vec())),
                "{text}"
            );
        }
        let path = SnapshotPath::parse(b"latest:/\xff").unwrap();
        assert_eq!(path.subfolder, b"/\xff");
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            ":",
            ":/a",
            "Latest",
            "lates",
            "3g",
            " 3",
            "/home",
            "\u{fffd}",
            &"a".repeat(65),
        ] {
            assert!(
                matches!(parse(text), Err(SnapshotNameError::NotAnId(_))),
                "{text}"
            );
        }
        for text in [
            "latest~",
            "latest~x",
            "latest~-1",
            "latest~1.5",
            "latest~99999999999999999999",
        ] {
            assert!(
                matches!(parse(text), Err(SnapshotNameError::NotANumber(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn a_prefix_means_one_or_several_or_none() {
        let [first, second, third] = [Id([0x12; 32]), Id([0x1f; 32]), Id([0x99; 32])];
        let resolve = |digits: &str| resolve_prefix(digits, [second, first, third, first]);
        assert_eq!(resolve("12"), Resolution::Unique(first));
        assert_eq!(resolve("121"), Resolution::Unique(first));
        assert_eq!(resolve("1"), Resolution::Ambiguous(vec![first, second]));
        assert_eq!(resolve("1F"), Resolution::Unique(second));
        assert_eq!(resolve("13"), Resolution::Missing);
        assert_eq!(resolve(&third.to_string()), Resolution::Unique(third));
    }

    proptest! {
        #[test]
        fn no_text_panics(text: Vec<u8>) {
            let _ = SnapshotPath::parse(&text);
        }

        #[test]
        fn enough_digits_always_find_their_snapshot(seeds in proptest::collection::btree_set(any::<u64>(), 1..30)) {
            let ids: Vec<Id> = seeds.iter().map(|seed| Id::of(&seed.to_le_bytes())).collect();
            for id in &ids {
                prop_assert_eq!(resolve_prefix(&id.to_string(), ids.clone()), Resolution::Unique(*id));
                let short = resolve_prefix(&id.to_string()[..1], ids.clone());
                let holds = match short {
                    Resolution::Unique(found) => found == *id,
                    Resolution::Ambiguous(found) => found.contains(id),
                    Resolution::Missing => false,
                };
                prop_assert!(holds);
            }
        }
    }
}
