//! Where the targets of a command line appear in a snapshot, by restic's rules: absolute targets under their own components.
//! It must never place two different directories under one name, nor drop a target without saying so.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use lifeboat_flow::EntryPath;

use super::VolumeError;

/// A directory that exists only to lead to targets, or a target itself if `path` is set.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// By name in the snapshot; empty for a target.
    pub(crate) nodes: BTreeMap<Vec<u8>, Node>,
    /// What is stored here with all its content, as the user wrote it but cleaned.
    pub(crate) path: Option<PathBuf>,
    /// The directory whose metadata this one takes when only parts of it are stored.
    pub(crate) metadata: Option<PathBuf>,
    /// The user named it: exclusions don't apply to it.
    pub(crate) explicit: bool,
    /// Where its first component starts (`/`, `.`, `..`): tells `/a` from `./a`.
    root: PathBuf,
}

/// What an entry path means.
#[derive(Debug)]
pub(crate) enum Place<'a> {
    /// A directory that leads to targets.
    Virtual(&'a Node),
    /// A target or something below it.
    Real {
        /// The target.
        target: &'a Path,
        /// How many bytes of the entry path lead to the target.
        target_len: usize,
        /// The rest of the entry path, relative to the target; empty for the target itself.
        rest: &'a [u8],
    },
}

impl Node {
    /// The tree that these targets make. Targets without a component of their own (`.`, `..`, `/`) stand for what is in them.
    pub(crate) fn from_targets(targets: &[PathBuf]) -> Result<Self, VolumeError> {
        let mut top = Self::default();
        let mut seen = HashSet::new();
        for target in targets {
            let target = clean(target);
            if components(&target).is_empty() {
                for name in names_in(&target)? {
                    let path = join(&target, name.as_bytes());
                    if seen.insert(path.clone()) {
                        top.insert(path, false);
                    }
                }
            } else if seen.insert(target.clone()) {
                top.insert(target, true);
            }
        }
        top.expand()?;
        Ok(top)
    }

    fn insert(&mut self, target: PathBuf, explicit: bool) {
        let components = components(&target);
        let Some((first, rest)) = components.split_first() else {
            return;
        };
        let root = root_of(&target);
        let mut name = first.clone();
        let mut number = 0;
        // `/a` and `./a` are different directories: the second to come is stored as `a-1`.
        while self
            .nodes
            .get(&name)
            .is_some_and(|other| other.root != root)
        {
            number += 1;
            name = [first.as_slice(), format!("-{number}").as_bytes()].concat();
        }
        let mut metadata = join(&root, first);
        let mut node = self.nodes.entry(name).or_default();
        node.root = root;
        for component in rest {
            node.metadata = Some(metadata.clone());
            metadata = join(&metadata, component);
            node = node.nodes.entry(component.clone()).or_default();
        }
        node.path = Some(target);
        node.explicit = explicit;
    }

    /// A target with other targets inside becomes a virtual directory of all that is in it, so that only the deepest are real.
    fn expand(&mut self) -> Result<(), VolumeError> {
        if !self.nodes.is_empty()
            && let Some(path) = self.path.take()
        {
            self.explicit = false;
            for name in names_in(&path)? {
                let child = self.nodes.entry(name.as_bytes().to_vec()).or_default();
                child
                    .path
                    .get_or_insert_with(|| join(&path, name.as_bytes()));
            }
        }
        self.nodes.values_mut().try_for_each(Self::expand)
    }

    /// Every target with its entry path.
    pub(crate) fn targets(&self) -> Vec<(EntryPath, &Path)> {
        let mut found = Vec::new();
        let mut open = vec![(EntryPath::top(), self)];
        while let Some((at, node)) = open.pop() {
            found.extend(node.path.as_deref().map(|path| (at.clone(), path)));
            let below = node.nodes.iter();
            open.extend(below.map(|(name, node)| (at.join(name), node)));
        }
        found
    }

    /// What an entry path means, `None` if nothing has it.
    pub(crate) fn find<'a>(&'a self, path: &'a EntryPath) -> Option<Place<'a>> {
        let mut node = self;
        let mut done = 0;
        loop {
            if let Some(target) = node.path.as_deref() {
                let rest = path.0.get(done..).unwrap_or_default();
                let rest = rest.strip_prefix(b"/").unwrap_or(rest);
                return Some(Place::Real {
                    target,
                    target_len: done,
                    rest,
                });
            }
            if done >= path.0.len() {
                return Some(Place::Virtual(node));
            }
            let start = if done == 0 { 0 } else { done + 1 };
            let component = path.0.get(start..)?.split(|byte| *byte == b'/').next()?;
            node = node.nodes.get(component)?;
            done = start + component.len();
        }
    }
}

/// The shortest path that means the same without looking at the file system, as Go's `filepath.Clean`.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let bytes = path.as_os_str().as_bytes();
    let rooted = bytes.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in bytes.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => {
                parts.pop();
            }
            b".." if rooted => {}
            _ => parts.push(part),
        }
    }
    let mut cleaned = if rooted { b"/".to_vec() } else { Vec::new() };
    cleaned.extend_from_slice(&parts.join(&b'/'));
    if cleaned.is_empty() {
        cleaned.push(b'.');
    }
    PathBuf::from(OsString::from_vec(cleaned))
}

/// A name in a directory, cleaned; the directory may be `.`.
fn join(dir: &Path, name: &[u8]) -> PathBuf {
    clean(&dir.join(std::ffi::OsStr::from_bytes(name)))
}

/// The components that a cleaned path has in a snapshot: those of a relative one without its leading `..`.
fn components(path: &Path) -> Vec<Vec<u8>> {
    let parts = path.as_os_str().as_bytes().split(|byte| *byte == b'/');
    parts
        .filter(|part| !matches!(*part, b"" | b"." | b".."))
        .map(<[u8]>::to_vec)
        .collect()
}

/// The directory that a cleaned path starts from: `/`, `.`, or as many `..` as it has.
fn root_of(path: &Path) -> PathBuf {
    if path.is_absolute() {
        return PathBuf::from("/");
    }
    let parts = path.as_os_str().as_bytes().split(|byte| *byte == b'/');
    let ups: PathBuf = parts
        .take_while(|part| *part == b"..")
        .map(|_| "..")
        .collect();
    clean(&ups)
}

fn names_in(dir: &Path) -> Result<Vec<OsString>, VolumeError> {
    let unreadable = |cause| VolumeError::Unreadable {
        path: dir.to_path_buf(),
        cause,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        names.push(entry.map_err(unreadable)?.file_name());
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(node: &Node) -> String {
        let one = |(name, child): (&Vec<u8>, &Node)| {
            let name = String::from_utf8_lossy(name).into_owned();
            match &child.path {
                Some(path) => format!("{name}={}", path.display()),
                None => format!("{name}({})", shape(child)),
            }
        };
        node.nodes.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn of(targets: &[&str]) -> String {
        let targets: Vec<PathBuf> = targets.iter().map(PathBuf::from).collect();
        shape(&Node::from_targets(&targets).expect("no directory is read"))
    }

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, cleaned) in [
            ("", "."),
            ("./", "."),
            ("a//b/./c/", "a/b/c"),
            ("a/../..", ".."),
            ("../../x/..", "../.."),
            ("/..", "/"),
            ("/a/../../b", "/b"),
        ] {
            assert_eq!(clean(Path::new(path)), Path::new(cleaned), "{path:?}");
        }
    }

    #[test]
    fn targets_appear_where_restic_puts_them() {
        assert_eq!(of(&["/a/b"]), "a(b=/a/b)");
        assert_eq!(of(&["x", "./x", "x/"]), "x=x");
        assert_eq!(of(&["../x/y"]), "x(y=../x/y)");
        assert_eq!(of(&["/a", "a", "../a"]), "a=/a a-1=a a-2=../a");
        assert_eq!(of(&["/a/b", "/a/c", "/a/b/"]), "a(b=/a/b c=/a/c)");
        assert_eq!(of(&["/a/b", "a/b"]), "a(b=/a/b) a-1(b=a/b)");
    }

    #[test]
    fn a_target_inside_another_makes_it_virtual() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for name in ["one", "two", "two/deep"] {
            std::fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        let root = dir.path().to_path_buf();
        let top = Node::from_targets(&[root.join("two"), root.clone()]).expect("readable");
        let path = EntryPath(
            root.as_os_str()
                .as_bytes()
                .get(1..)
                .expect("absolute")
                .to_vec(),
        );
        let Some(Place::Virtual(node)) = top.find(&path) else {
            panic!("{top:?}")
        };
        assert!(!node.nodes[b"one".as_slice()].explicit);
        assert!(node.nodes[b"two".as_slice()].explicit);
        let deep = path.join(b"two").join(b"deep");
        assert!(matches!(
            top.find(&deep),
            Some(Place::Real { rest: b"deep", .. })
        ));
        assert!(top.find(&path.join(b"three")).is_none());
    }
}
