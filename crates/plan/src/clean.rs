//! The shortest form of a path, by its text alone, as Go's `filepath.Clean` gives it.
//! It must never ask the file system: `a/../b` is `b` even where `a` is a symbolic link.

/// The shortest equivalent of `path`: no empty and no `.` parts, `..` resolved where it can be, no slash at the end.
///
/// An empty path gives `.`, and `..` at the root stays at the root (documentation of Go's `path/filepath`).
/// restic cleans patterns and targets by this rule, so both programs name the same path by the same text.
#[must_use]
pub fn clean_path(path: &[u8]) -> Vec<u8> {
    let rooted = path.first() == Some(&b'/');
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match parts.last() {
                Some(&last) if last != b".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(part),
            },
            _ => parts.push(part),
        }
    }
    let mut out = Vec::with_capacity(path.len().max(1));
    if rooted {
        out.push(b'/');
    }
    out.extend_from_slice(&parts.join(&b'/'));
    if out.is_empty() {
        out.push(b'.');
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_rule_is_kept() {
        for (path, cleaned) in [
            ("", "."),
            (".", "."),
            ("./", "."),
            ("/", "/"),
            ("//", "/"),
            ("/.", "/"),
            ("/..", "/"),
            ("/../a", "/a"),
            ("a/", "a"),
            ("a//b", "a/b"),
            ("./a", "a"),
            ("a/./b", "a/b"),
            ("a/../b", "b"),
            ("a/..", "."),
            ("../a", "../a"),
            ("../../a/..", "../.."),
            ("a/../../b", "../b"),
            ("/a/b/../../../c/", "/c"),
            (".../a", ".../a"),
            ("!a", "!a"),
        ] {
            assert_eq!(clean_path(path.as_bytes()), cleaned.as_bytes(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn cleaning_twice_changes_nothing(path in "[a./\\*]{0,20}") {
            let once = clean_path(path.as_bytes());
            prop_assert_eq!(clean_path(&once), once.clone());
            prop_assert!(!once.windows(2).any(|pair| pair == b"//"));
            prop_assert_eq!(once.first() == Some(&b'/'), path.starts_with('/'));
            prop_assert!(once.len() == 1 || once.last() != Some(&b'/'));
        }
    }
}
