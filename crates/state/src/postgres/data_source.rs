//! The data directory of a server in backup mode as a source: what a recovery needs of it, tablespaces at their place below it.
//! It must never give what belongs to the running server alone, nor take a file that vanished for a loss.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use lifeboat_flow::{
    Cancel, ChunkRule, Content, Entry, EntryKind, EntryPath, Listing, Problem, Source, SourceError,
};

use super::control::Control;
use super::page::PAGE_BYTES;
use super::relation::{Fork, RelationFile, number};
use super::relation_content::{PageCheck, RelationContent};
use super::rules::{Fate, fate, has_checksums};
use crate::volume::{VolumeError, VolumeOptions, VolumeSource};

/// Below it, links lead to tablespaces.
const SPACES_DIR: &[u8] = b"pg_tblspc";
/// What the server lets nobody else into.
const OWNER_ONLY: u32 = 0o700;
/// The file that says where a recovery stands; a capture takes it last.
pub(super) const CONTROL_PATH: &[u8] = b"global/pg_control";

/// A place on this machine, as a source of its own.
pub(super) struct Root {
    source: VolumeSource,
    at: EntryPath,
}

impl Root {
    pub(super) fn new(path: &Path) -> Result<Self, VolumeError> {
        let at = path.as_os_str().as_bytes();
        let at = at.strip_prefix(b"/").unwrap_or(at);
        Ok(Self {
            source: VolumeSource::new(vec![path.to_path_buf()], VolumeOptions::default())?,
            at: EntryPath(at.to_vec()),
        })
    }

    fn path(&self, below: &[u8]) -> EntryPath {
        match below {
            b"" => self.at.clone(),
            below => self.at.join(below),
        }
    }

    /// The entry of the place itself.
    pub(super) fn entry(&self) -> Result<Option<Entry>, SourceError> {
        let above = self.source.list(&self.at.parent().unwrap_or_default())?;
        if let Some(problem) = above.problems.into_iter().next() {
            return Err(SourceError::Fatal {
                reason: problem.to_string(),
            });
        }
        Ok(above.entries.into_iter().next())
    }

    pub(super) fn open(&self, below: &[u8]) -> Result<crate::volume::FileContent, SourceError> {
        self.source.open_file(&self.path(below))
    }
}

/// A tablespace: its number, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tablespace {
    /// The number that its link is named by.
    pub oid: u32,
    /// Where the link leads.
    pub location: PathBuf,
}

/// The data directory of a server, but for what a capture adds when the backup mode has ended.
pub struct DataSource {
    dir: PathBuf,
    data: Root,
    spaces: BTreeMap<u32, (Root, PathBuf)>,
    /// How directories of this server in tablespaces are named.
    version_dir: Vec<u8>,
    has_checksums: bool,
    file_pages: u32,
    rule: ChunkRule,
    cancel: Cancel,
}

impl DataSource {
    /// The directory of a server that is in backup mode already, its pages cut into chunks of so many bytes.
    ///
    /// # Errors
    /// When it or one of its tablespaces can't be looked at.
    pub fn new(
        data: &Path,
        major: u32,
        control: &Control,
        chunk_bytes: usize,
        cancel: &Cancel,
    ) -> Result<Self, VolumeError> {
        let spaces = tablespaces(data).map_err(|cause| VolumeError::Unreadable {
            path: data.join(OsStr::from_bytes(SPACES_DIR)),
            cause,
        })?;
        let roots = spaces.into_iter().map(|space| {
            let root = Root::new(&space.location)?;
            Ok((space.oid, (root, space.location)))
        });
        Ok(Self {
            dir: data.to_path_buf(),
            data: Root::new(data)?,
            spaces: roots.collect::<Result<_, VolumeError>>()?,
            version_dir: format!("PG_{major}_{}", control.catalog_version).into_bytes(),
            // Of pages of another size nothing is known here.
            has_checksums: control.has_checksums && control.page_bytes as usize == PAGE_BYTES,
            file_pages: control.file_pages,
            rule: ChunkRule::Aligned { bytes: chunk_bytes },
            cancel: cancel.clone(),
        })
    }

    /// The tablespaces that it includes.
    #[must_use]
    pub fn tablespaces(&self) -> Vec<Tablespace> {
        let spaces = self.spaces.iter();
        let spaces = spaces.map(|(oid, (_, location))| Tablespace {
            oid: *oid,
            location: location.clone(),
        });
        spaces.collect()
    }

    /// The bytes of the directory that holds most, of those that hold relations.
    ///
    /// # Errors
    /// When a directory can't be read.
    pub fn largest_dir_bytes(&self) -> Result<u64, SourceError> {
        let (mut dirs, mut largest) = (vec![EntryPath::top()], 0);
        while let Some(dir) = dirs.pop() {
            let mut bytes = 0;
            for entry in self.list(&dir)?.entries {
                match entry.kind {
                    EntryKind::Dir => dirs.push(dir.join(&entry.name)),
                    _ => bytes += entry.size_bytes,
                }
            }
            largest = largest.max(bytes);
        }
        Ok(largest)
    }

    /// Where a path below the data directory is.
    fn place<'a>(&'a self, path: &'a [u8]) -> (&'a Root, &'a [u8]) {
        let space = path.strip_prefix(SPACES_DIR).and_then(|rest| {
            let rest = rest.strip_prefix(b"/")?;
            let end = rest
                .iter()
                .position(|byte| *byte == b'/')
                .unwrap_or(rest.len());
            let (oid, below) = rest.split_at_checked(end)?;
            let (root, _) = self.spaces.get(&oid_of(oid)?)?;
            Some((root, below.strip_prefix(b"/").unwrap_or(below)))
        });
        space.unwrap_or((&self.data, path))
    }

    fn leads_to_file(&self, path: &EntryPath) -> bool {
        self.dir.join(OsStr::from_bytes(&path.0)).is_file()
    }

    /// The links to tablespaces, as the directories that they lead to.
    fn list_spaces(&self, listing: &mut Listing) -> Result<(), SourceError> {
        let entries = std::mem::take(&mut listing.entries);
        for entry in entries {
            let space = oid_of(&entry.name).and_then(|oid| self.spaces.get(&oid));
            match space {
                Some((root, _)) => listing.entries.extend(root.entry()?.map(|place| Entry {
                    name: entry.name,
                    ..place
                })),
                // One that was made since: the log makes it again.
                None if entry.kind == EntryKind::Symlink => {}
                None => listing.entries.push(entry),
            }
        }
        Ok(())
    }
}

impl Source for DataSource {
    fn list(&self, dir: &EntryPath) -> Result<Listing, SourceError> {
        if fate(&dir.0, |_| false) == Fate::Empty {
            return Ok(Listing::default());
        }
        let (root, below) = self.place(&dir.0);
        let is_space = below.is_empty() && !dir.0.is_empty();
        let mut listing = match root.source.list(&root.path(below)) {
            Ok(listing) => listing,
            // Its database was dropped.
            Err(SourceError::Unreadable { cause, .. })
                if cause.kind() == io::ErrorKind::NotFound && !dir.0.is_empty() =>
            {
                return Ok(Listing::default());
            }
            Err(error) => return Err(error),
        };
        if dir.0 == SPACES_DIR {
            self.list_spaces(&mut listing)?;
            return Ok(listing);
        }
        if is_space {
            // Servers of other versions may share it.
            listing
                .entries
                .retain(|entry| entry.name == self.version_dir);
            if listing.entries.is_empty() {
                // Each tablespace of a server has one: this is a place that only has its path.
                listing.problems.push(Problem {
                    path: dir.display(),
                    doing: "read the tablespace".to_owned(),
                    why: format!(
                        "there is no {} in the directory that its link leads to from here",
                        String::from_utf8_lossy(&self.version_dir)
                    ),
                });
            }
            return Ok(listing);
        }
        let files = listing.entries.iter();
        let files = files.filter_map(|entry| RelationFile::parse(&entry.name));
        let unlogged: HashSet<u32> = files
            .filter(|file| file.fork == Fork::Init)
            .map(|file| file.relation.number)
            .collect();
        let entries = std::mem::take(&mut listing.entries);
        for mut entry in entries {
            let path = dir.join(&entry.name);
            let is_unlogged = |file: RelationFile| unlogged.contains(&file.relation.number);
            match fate(&path.0, is_unlogged) {
                Fate::Leave => continue,
                Fate::Empty if entry.kind == EntryKind::Symlink => {
                    entry.kind = EntryKind::Dir;
                    entry.permissions = OWNER_ONLY;
                    entry.link_target.clear();
                    entry.links = 0;
                }
                _ if path.0 == CONTROL_PATH => continue,
                // Configuration may be one, and is taken along by itself.
                _ if entry.kind == EntryKind::Symlink
                    && !(dir.0.is_empty() && self.leads_to_file(&path)) =>
                {
                    listing.problems.push(Problem {
                        path: path.display(),
                        doing: "read".to_owned(),
                        why: "it is a symbolic link, and what it leads to would be missing in a recovery".to_owned(),
                    });
                    continue;
                }
                _ => {}
            }
            listing.entries.push(entry);
        }
        Ok(listing)
    }

    fn open(&self, path: &EntryPath) -> Result<Box<dyn Content>, SourceError> {
        let (root, below) = self.place(&path.0);
        let inner = match root.open(below) {
            Ok(inner) => inner,
            Err(SourceError::Unreadable { cause, path, .. })
                if cause.kind() == io::ErrorKind::NotFound =>
            {
                return Err(SourceError::Gone { path });
            }
            Err(error) => return Err(error),
        };
        let relation = has_checksums(&path.0);
        let rule = match relation {
            Some(_) => self.rule,
            None => ChunkRule::Restic,
        };
        let check = relation
            .filter(|_| self.has_checksums)
            .map(|file| PageCheck {
                first_block: file.part.wrapping_mul(self.file_pages),
                cancel: self.cancel.clone(),
            });
        Ok(Box::new(RelationContent::new(inner, rule, check)))
    }
}

/// The tablespaces that links below a data directory lead to.
///
/// # Errors
/// When a link can't be followed.
pub fn tablespaces(data: &Path) -> io::Result<Vec<Tablespace>> {
    let mut spaces = Vec::new();
    let dir = data.join(OsStr::from_bytes(SPACES_DIR));
    for entry in std::fs::read_dir(&dir)? {
        let entry = entry?;
        let Some(oid) = oid_of(entry.file_name().as_bytes()) else {
            continue;
        };
        if entry.file_type()?.is_symlink() {
            let location = std::fs::canonicalize(entry.path())?;
            spaces.push(Tablespace { oid, location });
        }
    }
    Ok(spaces)
}

fn oid_of(name: &[u8]) -> Option<u32> {
    std::str::from_utf8(name).ok().and_then(number)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::postgres::checksum;

    const FILE_PAGES: u32 = 131_072;

    /// A page that belongs to a block.
    fn page(block: u32, fill: u8) -> [u8; PAGE_BYTES] {
        let mut page = [fill; PAGE_BYTES];
        let sum = checksum(&page, block).to_le_bytes();
        page[8..10].copy_from_slice(&sum);
        page
    }

    fn source(dir: &Path) -> DataSource {
        DataSource {
            dir: dir.to_path_buf(),
            data: Root::new(dir).expect("a directory"),
            spaces: BTreeMap::new(),
            version_dir: b"PG_15_202209061".to_vec(),
            has_checksums: true,
            file_pages: FILE_PAGES,
            rule: ChunkRule::Restic,
            cancel: Cancel::new(),
        }
    }

    /// What is read through buffers of a size, and what is wrong with it.
    fn read(source: &DataSource, path: &str, buffer_bytes: usize) -> (Vec<u8>, Vec<String>) {
        let mut content = source.open(&EntryPath(path.into())).expect("a file");
        let (mut all, mut buffer) = (Vec::new(), vec![0; buffer_bytes]);
        loop {
            match content.read(&mut buffer).expect("content") {
                0 => break,
                got => all.extend_from_slice(&buffer[..got]),
            }
        }
        content.finish().expect("an end");
        (all, content.faults())
    }

    #[test]
    fn blocks_are_counted_through_the_files_of_a_relation_however_they_are_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = dir.path().join("base/5");
        std::fs::create_dir_all(&folder).expect("a folder");
        let first = [page(0, 1), page(1, 2), page(2, 3)].concat();
        // Caught while it grew.
        let second = [&page(FILE_PAGES, 4)[..], &[7; 100]].concat();
        std::fs::write(folder.join("16384"), &first).expect("a file");
        std::fs::write(folder.join("16384.1"), &second).expect("a file");
        let source = source(dir.path());
        for buffer_bytes in [100, 8191, 8192, 8193, 20_000, 100_000] {
            for (path, content) in [("base/5/16384", &first), ("base/5/16384.1", &second)] {
                let (all, faults) = read(&source, path, buffer_bytes);
                assert!(
                    all == *content && faults.is_empty(),
                    "{path}, {buffer_bytes}: {faults:?}"
                );
            }
        }
        // A page at the place of another is damage as well.
        std::fs::write(
            folder.join("16384"),
            [page(0, 1), page(2, 3), page(1, 2)].concat(),
        )
        .expect("a file");
        let (_, faults) = read(&source, "base/5/16384", 8192);
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].starts_with("block 1 is damaged"), "{faults:?}");
    }

    #[test]
    fn a_tablespace_that_is_only_a_path_here_is_no_empty_one() {
        let (dir, elsewhere) = (
            tempfile::tempdir().expect("a directory"),
            tempfile::tempdir().expect("another"),
        );
        let links = dir.path().join("pg_tblspc");
        std::fs::create_dir(&links).expect("a folder");
        std::os::unix::fs::symlink(elsewhere.path(), links.join("16385")).expect("a link");
        let mut source = source(dir.path());
        let location = elsewhere.path().to_path_buf();
        source.spaces.insert(
            16_385,
            (Root::new(&location).expect("a directory"), location),
        );
        let listing = source
            .list(&EntryPath(b"pg_tblspc/16385".to_vec()))
            .expect("a listing");
        assert_eq!(listing.problems.len(), 1, "{:?}", listing.problems);
        std::fs::create_dir(elsewhere.path().join("PG_15_202209061")).expect("a folder");
        let listing = source
            .list(&EntryPath(b"pg_tblspc/16385".to_vec()))
            .expect("a listing");
        assert!(listing.problems.is_empty() && listing.entries.len() == 1);
    }
}
