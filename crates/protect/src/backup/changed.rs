//! What a watcher says has changed since the parent snapshot: which directories are looked at, and which are taken over.
//! It must never leave a named path out, nor take over what could be another thing than it was.

use std::collections::HashSet;

use lifeboat_flow::EntryPath;

/// Paths that may differ from the parent snapshot. Everything else is as it was there.
#[derive(Clone, Debug, Default)]
pub struct ChangedPaths {
    named: HashSet<EntryPath>,
    /// The directories above them.
    above: HashSet<EntryPath>,
}

impl ChangedPaths {
    /// These paths, with all that lies below those that are directories. What is above a target is always looked at: which
    /// of its entries are targets may have changed.
    #[must_use]
    pub fn new(named: impl IntoIterator<Item = EntryPath>, targets: &[EntryPath]) -> Self {
        let named: HashSet<EntryPath> = named.into_iter().collect();
        let mut above = HashSet::new();
        for path in named.iter().chain(targets) {
            let mut dir = path.parent();
            while let Some(path) = dir {
                let next = path.parent();
                if !above.insert(path) {
                    break;
                }
                dir = next;
            }
        }
        Self { named, above }
    }

    /// Whether something in this directory may differ. What is directly in a directory on the way to a named path is
    /// looked at too: that costs little, and finds what else happened there.
    pub(super) fn concerns(&self, dir: &EntryPath) -> bool {
        if self.above.contains(dir) {
            return true;
        }
        let mut path = Some(dir.clone());
        while let Some(at) = path {
            if self.named.contains(&at) {
                return true;
            }
            path = at.parent();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_a_path_and_all_below_it_is_looked_at() {
        let path = |text: &str| EntryPath(text.as_bytes().to_vec());
        let changed = ChangedPaths::new([path("srv/a/file"), path("srv/b")], &[path("var/lib/x")]);
        for (dir, concerned) in [
            ("", true),
            ("srv", true),
            ("srv/a", true),
            ("srv/a/file", true),
            ("srv/a/other", false),
            ("srv/b", true),
            ("srv/b/deep/er", true),
            ("srv/bb", false),
            ("etc", false),
            ("var/lib", true),
            ("var/lib/x", false),
        ] {
            assert_eq!(changed.concerns(&path(dir)), concerned, "{dir}");
        }
        assert!(!ChangedPaths::default().concerns(&path("")));
        assert!(ChangedPaths::new([path("")], &[]).concerns(&path("etc")));
    }
}
