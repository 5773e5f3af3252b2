//! Whether two trees are the same in all that a backup keeps, found by walking both.
//! It shares no code with the program that it judges, and is never told what that program thinks.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::failure::{Result, While};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub entries: u64,
    pub bytes: u64,
    pub attributes: u64,
    pub hard_links: u64,
    /// One sentence each.
    pub differences: Vec<String>,
}

/// Compares what came back with what was there.
pub(super) fn compare(was: &Path, is: &Path) -> Result<Comparison> {
    let mut walk = Walk {
        was,
        is,
        seen: Comparison::default(),
        was_links: Links::default(),
        is_links: Links::default(),
    };
    walk.entry(Path::new(""))?;
    Ok(walk.finish())
}

/// The names of each file that has several.
#[derive(Default)]
struct Links(BTreeMap<(u64, u64), Vec<PathBuf>>);

impl Links {
    fn note(&mut self, path: &Path, meta: &Metadata) {
        if !meta.is_dir() && meta.nlink() > 1 {
            self.0
                .entry((meta.dev(), meta.ino()))
                .or_default()
                .push(path.to_owned());
        }
    }

    /// The groups by their names; a file whose other names lie outside of the tree stands alone and is no group.
    fn groups(self) -> Vec<Vec<PathBuf>> {
        let mut groups: Vec<_> = self
            .0
            .into_values()
            .filter(|names| names.len() > 1)
            .collect();
        groups.sort();
        groups
    }
}

struct Walk<'a> {
    was: &'a Path,
    is: &'a Path,
    seen: Comparison,
    was_links: Links,
    is_links: Links,
}

impl Walk<'_> {
    fn entry(&mut self, path: &Path) -> Result<()> {
        let (was, is) = (at(self.was, path), at(self.is, path));
        let was_meta = was
            .symlink_metadata()
            .doing(|| format!("cannot look at {}", was.display()))?;
        let Ok(is_meta) = is.symlink_metadata() else {
            self.differ(path, "is missing");
            return Ok(());
        };
        self.seen.entries += 1;
        self.was_links.note(path, &was_meta);
        self.is_links.note(path, &is_meta);
        self.metadata(path, &was_meta, &is_meta);
        if was_meta.file_type() != is_meta.file_type() {
            return Ok(());
        }
        self.extended_attributes(path)?;
        let kind = was_meta.file_type();
        if kind.is_dir() {
            self.directory(path)?;
        } else if kind.is_file() {
            self.content(path, was_meta.len())?;
        } else if kind.is_symlink() {
            let target = |link: &Path| {
                std::fs::read_link(link).doing(|| format!("cannot read {}", link.display()))
            };
            self.same(path, "points to", &target(&was)?, &target(&is)?);
        } else if kind.is_block_device() || kind.is_char_device() {
            self.same(path, "is the device", &was_meta.rdev(), &is_meta.rdev());
        }
        Ok(())
    }

    fn metadata(&mut self, path: &Path, was: &Metadata, is: &Metadata) {
        // The mode has the kind of the entry in it.
        self.same(
            path,
            "has the mode",
            &format!("{:o}", was.mode()),
            &format!("{:o}", is.mode()),
        );
        self.same(
            path,
            "belongs to",
            &(was.uid(), was.gid()),
            &(is.uid(), is.gid()),
        );
        self.same(
            path,
            "was modified at",
            &(was.mtime(), was.mtime_nsec()),
            &(is.mtime(), is.mtime_nsec()),
        );
    }

    fn extended_attributes(&mut self, path: &Path) -> Result<()> {
        let (was, is) = (
            attributes(&at(self.was, path))?,
            attributes(&at(self.is, path))?,
        );
        self.seen.attributes += was.len() as u64;
        self.same(path, "has the attributes", &was, &is);
        Ok(())
    }

    fn directory(&mut self, path: &Path) -> Result<()> {
        let (was, is) = (names(&at(self.was, path))?, names(&at(self.is, path))?);
        for extra in is.iter().filter(|name| was.binary_search(name).is_err()) {
            self.differ(&path.join(extra), "was not there");
        }
        for name in was {
            self.entry(&path.join(name))?;
        }
        Ok(())
    }

    fn content(&mut self, path: &Path, bytes: u64) -> Result<()> {
        let (was, is) = (at(self.was, path), at(self.is, path));
        let same =
            same_content(&was, &is).doing(|| format!("cannot compare {}", path.display()))?;
        self.seen.bytes += bytes;
        if !same {
            self.differ(path, "has another content");
        }
        Ok(())
    }

    fn same<T: PartialEq + std::fmt::Debug>(&mut self, path: &Path, what: &str, was: &T, is: &T) {
        if was != is {
            self.differ(path, &format!("{what} {is:?} and not {was:?}"));
        }
    }

    fn differ(&mut self, path: &Path, how: &str) {
        let shown = if path == Path::new("") {
            Path::new("the top directory")
        } else {
            path
        };
        self.seen
            .differences
            .push(format!("{} {how}", shown.display()));
    }

    fn finish(mut self) -> Comparison {
        let (was, is) = (self.was_links.groups(), self.is_links.groups());
        self.seen.hard_links = was.iter().map(|group| group.len() as u64).sum();
        for group in was.iter().filter(|group| !is.contains(group)) {
            self.seen
                .differences
                .push(format!("{group:?} are no longer one file"));
        }
        for group in is.iter().filter(|group| !was.contains(group)) {
            self.seen
                .differences
                .push(format!("{group:?} were not one file"));
        }
        self.seen
    }
}

/// Joining an empty path would add a slash, which follows a link.
fn at(root: &Path, path: &Path) -> PathBuf {
    if path == Path::new("") {
        root.to_owned()
    } else {
        root.join(path)
    }
}

fn names(dir: &Path) -> Result<Vec<OsString>> {
    let names = crate::tree::list(dir)?
        .into_iter()
        .filter_map(|path| path.file_name().map(OsStr::to_owned));
    Ok(names.collect())
}

/// Access control lists are among them: the kernel shows them as attributes.
fn attributes(path: &Path) -> Result<BTreeMap<OsString, Vec<u8>>> {
    let read = || -> std::io::Result<_> {
        let mut found = BTreeMap::new();
        for name in xattr::list(path)? {
            let value = xattr::get(path, &name)?.unwrap_or_default();
            found.insert(name, value);
        }
        Ok(found)
    };
    match read() {
        Err(cause) if cause.kind() == std::io::ErrorKind::Unsupported => Ok(BTreeMap::new()),
        result => result.doing(|| format!("cannot read the attributes of {}", path.display())),
    }
}

fn same_content(was: &Path, is: &Path) -> std::io::Result<bool> {
    let (mut was, mut is) = (File::open(was)?, File::open(is)?);
    let (mut left, mut right) = (vec![0; 1 << 17], vec![0; 1 << 17]);
    loop {
        let (some, others) = (fill(&mut was, &mut left)?, fill(&mut is, &mut right)?);
        if left[..some] != right[..others] {
            return Ok(false);
        }
        if some == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends: two files may well be handed out in different pieces.
fn fill(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            more => filled += more,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::scratch::Scratch;

    /// Makes two equal trees, changes the second, and gives what is found.
    fn found(change: impl FnOnce(&Path)) -> Vec<String> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let scratch = Scratch::create(&format!(
            "compare-{}",
            NUMBER.fetch_add(1, Ordering::Relaxed)
        ))
        .unwrap();
        let (was, is) = (scratch.join("was"), scratch.join("is"));
        std::fs::create_dir_all(was.join("dir")).unwrap();
        std::fs::write(was.join("dir/file"), "content").unwrap();
        std::fs::hard_link(was.join("dir/file"), was.join("link")).unwrap();
        std::os::unix::fs::symlink("dir", was.join("symlink")).unwrap();
        super::super::copy(&was, &is).unwrap();
        change(&is);
        let comparison = compare(&was, &is).unwrap();
        assert!(comparison.entries >= 4 && comparison.hard_links == 2);
        comparison.differences
    }

    /// Changes something without its directory's time being what is noticed.
    fn keeping_time(path: &Path, change: impl FnOnce()) {
        let time = path.symlink_metadata().unwrap().modified().unwrap();
        change();
        File::open(path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn equal_trees_are_equal() {
        assert_eq!(found(|_| {}), [""; 0]);
    }

    /// Something done to the tree that came back.
    type Change = fn(&Path);

    #[test]
    fn each_change_is_found_and_nothing_else() {
        let changes: [(&str, Change); 6] = [
            ("has another content", |is| {
                let file = is.join("link");
                keeping_time(&file, || std::fs::write(&file, "CONTENT").unwrap());
            }),
            ("has the mode", |is| {
                std::fs::set_permissions(is.join("dir"), Permissions::from_mode(0o700)).unwrap()
            }),
            ("was modified at", |is| {
                File::open(is.join("dir"))
                    .unwrap()
                    .set_modified(std::time::UNIX_EPOCH)
                    .unwrap();
            }),
            ("was not there", |is| {
                keeping_time(is, || std::fs::write(is.join("extra"), "").unwrap())
            }),
            ("is missing", |is| {
                keeping_time(is, || std::fs::remove_file(is.join("symlink")).unwrap())
            }),
            ("has the attributes", |is| {
                xattr::set(is.join("dir"), "user.x", b"y").unwrap();
            }),
        ];
        for (what, change) in changes {
            let found = found(change);
            assert!(
                !found.is_empty() && found.iter().all(|said| said.contains(what)),
                "{what}: {found:?}"
            );
        }
    }

    #[test]
    fn a_hard_link_that_became_a_copy_is_found() {
        let found = found(|is| {
            keeping_time(is, || {
                std::fs::remove_file(is.join("link")).unwrap();
                super::super::copy(&is.join("dir/file"), &is.join("link")).unwrap();
            });
        });
        assert!(
            found.len() == 1 && found[0].contains("no longer one file"),
            "{found:?}"
        );
    }
}
