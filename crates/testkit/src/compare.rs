//! Compares two trees of files, with nothing but the standard library and the kernel's word.
//! It must never use code of what it judges, and never take what it could not read for equal.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Bytes that are compared at a time.
const PIECE_BYTES: usize = 64 << 10;

/// What differs at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Only the left tree has it.
    OnlyLeft,
    /// Only the right tree has it.
    OnlyRight,
    /// One is a file and the other a folder, for example.
    Kind(&'static str, &'static str),
    /// `st_mode & 0o7777`.
    Permissions(u32, u32),
    /// User and group.
    Owner((u32, u32), (u32, u32)),
    /// Time of change: seconds since 1970 and nanoseconds.
    Modified((i64, i64), (i64, i64)),
    /// Size of a file in bytes.
    Size(u64, u64),
    /// The first byte that differs, by its offset.
    Content(u64),
    /// Target of a symbolic link.
    LinkTarget(PathBuf, PathBuf),
    /// Paths in the tree that are the same file.
    HardLinks(BTreeSet<PathBuf>, BTreeSet<PathBuf>),
    /// An extended attribute with its values.
    Attribute(OsString, Option<Vec<u8>>, Option<Vec<u8>>),
    /// Device number.
    Device(u64, u64),
    /// It could not be compared.
    Unreadable(String),
}

/// A difference between two trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where, below the roots; empty for the roots.
    pub path: PathBuf,
    /// What.
    pub what: What,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:?}", self.path, self.what)
    }
}

/// How two trees are compared.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    owner: bool,
    dir_times: bool,
    times: bool,
    attributes: bool,
    sockets: bool,
    root: bool,
    links: bool,
}

impl Comparison {
    /// Everything must be the same, but times of access and of the inode, which nobody can set, and holes.
    #[must_use]
    pub fn exact() -> Self {
        Self {
            owner: true,
            dir_times: true,
            times: true,
            attributes: true,
            sockets: true,
            root: true,
            links: true,
        }
    }

    /// As [`Comparison::exact`], without what only root can restore if this is somebody else.
    #[must_use]
    pub fn as_user() -> Self {
        if rustix::process::geteuid().is_root() {
            Self::exact()
        } else {
            Self::exact().ignoring_owner()
        }
    }

    /// Owners may differ.
    #[must_use]
    pub fn ignoring_owner(self) -> Self {
        Self {
            owner: false,
            ..self
        }
    }

    /// Times of folders may differ.
    #[must_use]
    pub fn ignoring_dir_times(self) -> Self {
        Self {
            dir_times: false,
            ..self
        }
    }

    /// All times may differ.
    #[must_use]
    pub fn ignoring_times(self) -> Self {
        Self {
            times: false,
            ..self
        }
    }

    /// Extended attributes may differ.
    #[must_use]
    pub fn ignoring_attributes(self) -> Self {
        Self {
            attributes: false,
            ..self
        }
    }

    /// Sockets may be missing: restic restores none.
    #[must_use]
    pub fn ignoring_sockets(self) -> Self {
        Self {
            sockets: false,
            ..self
        }
    }

    /// The metadata of the two roots may differ.
    #[must_use]
    pub fn ignoring_root(self) -> Self {
        Self {
            root: false,
            ..self
        }
    }

    /// Hard links may have become files of their own.
    #[must_use]
    pub fn ignoring_hard_links(self) -> Self {
        Self {
            links: false,
            ..self
        }
    }

    /// All differences, in the order of paths.
    ///
    /// # Errors
    /// If a root or the list of a folder can't be read. What else can't be read is a difference.
    pub fn differences(&self, left: &Path, right: &Path) -> io::Result<Vec<Difference>> {
        let trees = (Tree::read(left)?, Tree::read(right)?);
        let mut found = Vec::new();
        let paths: BTreeSet<&PathBuf> = trees
            .0
            .entries
            .keys()
            .chain(trees.1.entries.keys())
            .collect();
        for path in paths {
            let mut add = |what| {
                found.push(Difference {
                    path: path.clone(),
                    what,
                });
            };
            let is_ignored = |entry: &Metadata| !self.sockets && entry.file_type().is_socket();
            match (trees.0.entries.get(path), trees.1.entries.get(path)) {
                (Some(left), Some(right)) => {
                    let full = (trees.0.root.join(path), trees.1.root.join(path));
                    self.compare(path, (&full.0, left), (&full.1, right), &mut add);
                    let links = (trees.0.links(path, left), trees.1.links(path, right));
                    if self.links && links.0 != links.1 {
                        add(What::HardLinks(links.0, links.1));
                    }
                }
                (Some(left), None) if !is_ignored(left) => add(What::OnlyLeft),
                (None, Some(right)) if !is_ignored(right) => add(What::OnlyRight),
                _ => {}
            }
        }
        Ok(found)
    }

    /// Fails the test if the trees differ.
    ///
    /// # Panics
    /// If they do; the first differences are named.
    pub fn assert_same(&self, left: &Path, right: &Path) {
        const SHOWN: usize = 20;
        let found = self
            .differences(left, right)
            .unwrap_or_else(|error| panic!("{} and {}: {error}", left.display(), right.display()));
        let shown: Vec<String> = found.iter().take(SHOWN).map(ToString::to_string).collect();
        assert!(
            found.is_empty(),
            "{} and {} differ in {} ways:\n{}",
            left.display(),
            right.display(),
            found.len(),
            shown.join("\n")
        );
    }

    fn compare(
        &self,
        path: &Path,
        left: (&Path, &Metadata),
        right: (&Path, &Metadata),
        add: &mut dyn FnMut(What),
    ) {
        let ((left_path, left), (right_path, right)) = (left, right);
        let kinds = (kind(left), kind(right));
        if kinds.0 != kinds.1 {
            return add(What::Kind(kinds.0, kinds.1));
        }
        match kinds.0 {
            "file" if left.len() != right.len() => add(What::Size(left.len(), right.len())),
            "file" => match first_difference(left_path, right_path) {
                Ok(None) => {}
                Ok(Some(offset_bytes)) => add(What::Content(offset_bytes)),
                Err(error) => add(What::Unreadable(error.to_string())),
            },
            "symlink" => match (fs::read_link(left_path), fs::read_link(right_path)) {
                (Ok(left), Ok(right)) if left == right => {}
                (Ok(left), Ok(right)) => add(What::LinkTarget(left, right)),
                (Err(error), _) | (_, Err(error)) => add(What::Unreadable(error.to_string())),
            },
            "block device" | "character device" if left.rdev() != right.rdev() => {
                add(What::Device(left.rdev(), right.rdev()));
            }
            _ => {}
        }
        if !self.root && path.as_os_str().is_empty() {
            return;
        }
        // The permissions of a symbolic link mean nothing and can't be set.
        let permissions = (left.mode() & 0o7777, right.mode() & 0o7777);
        if permissions.0 != permissions.1 && kinds.0 != "symlink" {
            add(What::Permissions(permissions.0, permissions.1));
        }
        let owners = ((left.uid(), left.gid()), (right.uid(), right.gid()));
        if self.owner && owners.0 != owners.1 {
            add(What::Owner(owners.0, owners.1));
        }
        let times = (
            (left.mtime(), left.mtime_nsec()),
            (right.mtime(), right.mtime_nsec()),
        );
        if self.times && (self.dir_times || kinds.0 != "dir") && times.0 != times.1 {
            add(What::Modified(times.0, times.1));
        }
        if self.attributes {
            match (attributes(left_path), attributes(right_path)) {
                (Ok(left), Ok(right)) => compare_attributes(&left, &right, add),
                (Err(error), _) | (_, Err(error)) => add(What::Unreadable(error.to_string())),
            }
        }
    }
}

struct Tree {
    root: PathBuf,
    entries: BTreeMap<PathBuf, Metadata>,
    by_inode: BTreeMap<(u64, u64), BTreeSet<PathBuf>>,
}

impl Tree {
    fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self {
            root: root.to_path_buf(),
            entries: BTreeMap::new(),
            by_inode: BTreeMap::new(),
        };
        let mut left = vec![PathBuf::new()];
        while let Some(path) = left.pop() {
            let full = tree.full(&path);
            let found = full.symlink_metadata()?;
            if found.is_dir() {
                for entry in fs::read_dir(&full)? {
                    left.push(path.join(entry?.file_name()));
                }
            } else {
                let inode = (found.dev(), found.ino());
                tree.by_inode.entry(inode).or_default().insert(path.clone());
            }
            tree.entries.insert(path, found);
        }
        Ok(tree)
    }

    /// To join an empty path would end in a slash, and follow a link.
    fn full(&self, path: &Path) -> PathBuf {
        if path.as_os_str().is_empty() {
            self.root.clone()
        } else {
            self.root.join(path)
        }
    }

    fn links(&self, path: &Path, entry: &Metadata) -> BTreeSet<PathBuf> {
        let same = self.by_inode.get(&(entry.dev(), entry.ino()));
        same.cloned()
            .unwrap_or_else(|| BTreeSet::from([path.to_path_buf()]))
    }
}

fn kind(entry: &Metadata) -> &'static str {
    let kind = entry.file_type();
    if kind.is_file() {
        "file"
    } else if kind.is_dir() {
        "dir"
    } else if kind.is_symlink() {
        "symlink"
    } else if kind.is_fifo() {
        "fifo"
    } else if kind.is_socket() {
        "socket"
    } else if kind.is_block_device() {
        "block device"
    } else {
        "character device"
    }
}

fn first_difference(left: &Path, right: &Path) -> io::Result<Option<u64>> {
    let (mut left, mut right) = (File::open(left)?, File::open(right)?);
    let mut pieces = (Vec::new(), Vec::new());
    let mut offset_bytes = 0;
    loop {
        pieces.0.clear();
        pieces.1.clear();
        (&mut left)
            .take(PIECE_BYTES as u64)
            .read_to_end(&mut pieces.0)?;
        (&mut right)
            .take(PIECE_BYTES as u64)
            .read_to_end(&mut pieces.1)?;
        if pieces.0 != pieces.1 {
            let same = pieces.0.iter().zip(&pieces.1).take_while(|(a, b)| a == b);
            return Ok(Some(offset_bytes + same.count() as u64));
        }
        if pieces.0.is_empty() {
            return Ok(None);
        }
        offset_bytes += pieces.0.len() as u64;
    }
}

type Attributes = BTreeMap<OsString, Vec<u8>>;

fn attributes(path: &Path) -> io::Result<Attributes> {
    let mut found = Attributes::new();
    let names = match xattr::list(path) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(found),
        names => names?,
    };
    for name in names {
        if let Some(value) = xattr::get(path, &name)? {
            found.insert(name, value);
        }
    }
    Ok(found)
}

fn compare_attributes(left: &Attributes, right: &Attributes, add: &mut dyn FnMut(What)) {
    let names: BTreeSet<&OsString> = left.keys().chain(right.keys()).collect();
    for name in names {
        let values = (left.get(name), right.get(name));
        if values.0 != values.1 {
            add(What::Attribute(
                name.clone(),
                values.0.cloned(),
                values.1.cloned(),
            ));
        }
    }
}
