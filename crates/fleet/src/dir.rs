//! A directory by its parts, to tell whether one lies in another as far as names tell.
//! It never looks at a file system, so that links are not followed.

/// A directory; absolute, or from where nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dir {
    is_absolute: bool,
    parts: Vec<String>,
}

impl Dir {
    /// The directory that `path` means in the fleet file at `file`.
    pub(crate) fn of(file: &str, path: &str) -> Self {
        let base = if path.starts_with('/') {
            ""
        } else {
            file.rsplit_once('/').map_or("", |(dir, _)| dir)
        };
        // The file of a root directory has an empty base, and is absolute still.
        let is_absolute = path.starts_with('/') || file.starts_with('/');
        let mut parts: Vec<String> = Vec::new();
        for part in base.split('/').chain(path.split('/')) {
            match part {
                "" | "." => {}
                ".." if parts.last().is_some_and(|last| last != "..") => drop(parts.pop()),
                ".." if is_absolute => {}
                part => parts.push(part.to_owned()),
            }
        }
        Self { is_absolute, parts }
    }

    /// Whether it is `other` or lies in it.
    pub(crate) fn is_in(&self, other: &Self) -> bool {
        self.is_absolute == other.is_absolute && self.parts.starts_with(&other.parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_lies_in_what() {
        let dir = |path: &str| Dir::of("/etc/lifeboat/lifeboat.yaml", path);
        for (inner, outer, expected) in [
            ("/srv/a", "/srv", true),
            ("/srv", "/srv/a", false),
            ("/srv//./a/../b/", "/srv/b", true),
            ("/srv/ab", "/srv/a", false),
            ("data", "/etc/lifeboat", true),
            ("../x", "/etc/x", true),
            ("/../srv", "/srv", true),
            ("/srv", "/", true),
        ] {
            assert_eq!(
                dir(inner).is_in(&dir(outer)),
                expected,
                "{inner} in {outer}"
            );
        }
        assert!(!Dir::of("lifeboat.yaml", "srv").is_in(&Dir::of("lifeboat.yaml", "/")));
        assert!(Dir::of("lifeboat.yaml", "./srv/a").is_in(&Dir::of("lifeboat.yaml", "srv")));
    }
}
