//! The safety law of restores: which names in a tree may become names in a directory.
//! It must never let a name through that could lead outside the directory it is in: a snapshot may be hostile.

use std::collections::HashSet;

/// A node's name can't be the name of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeNameError {
    /// The name has no bytes.
    #[error("cannot restore an entry without a name: it would stand for its own directory")]
    Empty,
    /// The name is `.` or `..`.
    #[error("cannot restore an entry named {0:?}: it would lead out of its directory")]
    Relative(String),
    /// The name contains a slash.
    #[error("cannot restore an entry named {0:?}: the slash would lead into another directory")]
    Slash(String),
    /// The name contains a NUL byte.
    #[error("cannot restore an entry named {0:?}: no file name can contain a NUL byte")]
    Nul(String),
}

/// Lets a name pass that can only mean an entry of the directory it is in.
///
/// restic refuses the same names but for NUL, which the system then refuses. Whether an entry of this name is there
/// already, and what it is, must be looked at without following links.
///
/// # Errors
/// [`NodeNameError`] for `""`, `.`, `..` and names with a slash or NUL; the name is shown with U+FFFD where it is no
/// UTF-8.
pub fn check_node_name(name: &[u8]) -> Result<(), NodeNameError> {
    let shown = || String::from_utf8_lossy(name).into_owned();
    match name {
        b"" => Err(NodeNameError::Empty),
        b"." | b".." => Err(NodeNameError::Relative(shown())),
        _ if name.contains(&b'/') => Err(NodeNameError::Slash(shown())),
        _ if name.contains(&0) => Err(NodeNameError::Nul(shown())),
        _ => Ok(()),
    }
}

/// The places of names that occurred before in the listing of one directory, in their order.
///
/// A second entry of a name must not be restored: it could be a link that leads what follows astray. Listings are
/// ordered by name in sound trees, which takes no memory to check; others are checked as well.
#[must_use]
pub fn repeated_names<'a>(names: impl Iterator<Item = &'a [u8]> + Clone) -> Vec<usize> {
    if names.clone().is_sorted_by(|earlier, later| earlier < later) {
        return Vec::new();
    }
    let mut seen = HashSet::new();
    let repeated = names.enumerate().filter(|(_, name)| !seen.insert(*name));
    repeated.map(|(place, _)| place).collect()
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        assert_eq!(check_node_name(b""), Err(NodeNameError::Empty));
        for name in [".", ".."] {
            assert_eq!(
                check_node_name(name.as_bytes()),
                Err(NodeNameError::Relative(name.to_owned()))
            );
        }
        for name in ["/", "a/b", "/etc", "../x", "a/"] {
            assert_eq!(
                check_node_name(name.as_bytes()),
                Err(NodeNameError::Slash(name.to_owned()))
            );
        }
        assert_eq!(
            check_node_name(b"a\0"),
            Err(NodeNameError::Nul("a\0".to_owned()))
        );
        for name in [
            b"a".as_slice(),
            b"...",
            b"..a",
            b" ",
            b"\\",
            b"~",
            b"-rf",
            b"\n",
            b"\xff",
            b"C:",
        ] {
            assert_eq!(check_node_name(name), Ok(()));
        }
        assert_eq!(
            check_node_name(b"..").unwrap_err().to_string(),
            "cannot restore an entry named \"..\": it would lead out of its directory"
        );
    }

    #[test]
    fn repeated_names_are_found_in_any_order() {
        let places = |names: &[&str]| repeated_names(names.iter().map(|name| name.as_bytes()));
        assert_eq!(places(&[]), [0; 0]);
        assert_eq!(places(&["a", "b", "c"]), [0; 0]);
        assert_eq!(places(&["b", "a", "c"]), [0; 0]);
        assert_eq!(places(&["a", "a", "b", "a"]), [1, 3]);
        assert_eq!(places(&["b", "a", "b"]), [2]);
    }

    proptest! {
        #[test]
        fn what_passes_is_one_component(name in proptest::collection::vec(prop_oneof![Just(b'.'), Just(b'/'), Just(0), any::<u8>()], 0..5)) {
            use std::os::unix::ffi::OsStrExt;
            let path = Path::new(std::ffi::OsStr::from_bytes(&name));
            let parts: Vec<_> = path.components().collect();
            let is_one = matches!(parts.as_slice(), [Component::Normal(part)] if part.as_bytes() == name);
            prop_assert_eq!(check_node_name(&name).is_ok(), is_one && !name.contains(&0));
        }

        #[test]
        fn each_name_is_left_once(names in proptest::collection::vec("[abc]{1,2}", 0..12)) {
            let repeated = repeated_names(names.iter().map(String::as_bytes));
            for (place, name) in names.iter().enumerate() {
                let before = names[..place].contains(name);
                prop_assert_eq!(repeated.contains(&place), before);
            }
        }
    }
}
