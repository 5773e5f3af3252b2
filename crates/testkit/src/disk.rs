//! A disk in memory that loses its power: what was not synchronised is there afterwards, or not, or in part.
//! It must never keep more order than POSIX promises, except that one rename happens whole or not at all.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lifeboat_repo::backend::{Disk, DiskFile, DiskStat};

use crate::random::Random;

/// What is lost together of a file's content, in bytes.
const SECTOR_BYTES: usize = 512;

type Inode = usize;
const ROOT: Inode = 0;

/// A disk in memory. Clones are handles of the same disk. Paths are absolute and there are no links.
///
/// Its faults: content that was not synchronised is lost, cut or full of holes; creations, renames and removals that
/// were not synchronised are each lost or kept, in any combination; an operation fails; the disk is full; the power
/// goes at any operation that writes.
#[derive(Clone, Debug)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    nodes: Vec<Node>,
    operations: u64,
    power_until: Option<u64>,
    failures: BTreeMap<u64, ErrorKind>,
    free_bytes: u64,
    unique: u64,
}

#[derive(Clone, Debug)]
struct Node {
    permissions: u32,
    modified: SystemTime,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    File {
        content: Vec<u8>,
        /// Files only grow, so that what was synchronised is a beginning.
        durable_bytes: usize,
    },
    Dir {
        names: BTreeMap<OsString, Inode>,
        durable_names: BTreeMap<OsString, Inode>,
        pending: Vec<Change>,
    },
}

/// A change of a folder that is not durable yet.
#[derive(Clone, Debug)]
enum Change {
    Set(OsString, Inode),
    Unset(OsString),
    Rename(OsString, OsString, Inode),
}

impl SimulatedDisk {
    /// An empty disk with nothing but `/`.
    #[must_use]
    pub fn new() -> Self {
        Self::of(vec![Node::dir(0o755)], 0)
    }

    fn of(nodes: Vec<Node>, unique: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            nodes,
            operations: 0,
            power_until: None,
            failures: BTreeMap::new(),
            free_bytes: u64::MAX,
            unique,
        })))
    }

    /// How many operations that change something were asked for.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Cuts the power after so many more operations that change something: all that follow fail, and reads too.
    pub fn cut_power_after(&self, operations: u64) {
        let mut state = self.lock();
        state.power_until = Some(state.operations + operations);
    }

    /// Whether the power is gone.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        let state = self.lock();
        state
            .power_until
            .is_some_and(|until| state.operations > until)
    }

    /// Lets one operation fail, counted from the next one that changes something as 0.
    pub fn fail_after(&self, operations: u64, kind: ErrorKind) {
        let mut state = self.lock();
        let number = state.operations + operations;
        state.failures.insert(number, kind);
    }

    /// Leaves room for so many more bytes.
    pub fn limit_free_bytes(&self, free_bytes: u64) {
        self.lock().free_bytes = free_bytes;
    }

    /// The disk as it may be found when the power is back; each seed makes other choices. This one is left as it is.
    #[must_use]
    pub fn after_power_loss(&self, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let state = self.lock();
        let nodes = state
            .nodes
            .iter()
            .map(|node| node.after_power_loss(&mut random));
        Self::of(nodes.collect(), state.unique)
    }

    /// Puts a file there as another tool would, durably.
    ///
    /// # Errors
    /// If its folder is missing.
    pub fn plant(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut file = self.create_new(path)?;
        file.write_all(content)?;
        file.sync()?;
        self.sync_dir(path.parent().unwrap_or(path))
    }

    /// The names in a folder, in order.
    ///
    /// # Errors
    /// If there is no such folder.
    pub fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        self.list(path, &mut |name| names.push(name.to_owned()))?;
        Ok(names)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state for an operation that changes something, unless a fault comes before it.
    fn write(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        let number = state.operations;
        state.operations += 1;
        if state.power_until.is_some_and(|until| number >= until) {
            return Err(io::Error::other("the power is gone"));
        }
        match state.failures.remove(&number) {
            Some(kind) => Err(kind.into()),
            None => Ok(state),
        }
    }

    fn read(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.lock();
        match state.power_until {
            Some(until) if state.operations > until => Err(io::Error::other("the power is gone")),
            _ => Ok(state),
        }
    }
}

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl Node {
    fn new(permissions: u32, what: What) -> Self {
        Self {
            permissions,
            modified: UNIX_EPOCH,
            what,
        }
    }

    fn dir(permissions: u32) -> Self {
        let what = What::Dir {
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
        };
        Self::new(permissions, what)
    }

    fn after_power_loss(&self, random: &mut Random) -> Self {
        let what = match &self.what {
            What::File {
                content,
                durable_bytes,
            } => {
                let content = torn(content, *durable_bytes, random);
                What::File {
                    durable_bytes: content.len(),
                    content,
                }
            }
            What::Dir {
                durable_names,
                pending,
                ..
            } => {
                let mut names = durable_names.clone();
                // Sometimes everything was written in time, or nothing, which coins alone would seldom give.
                let kept_percent = *random.pick(&[0, 50, 50, 100]);
                for change in pending {
                    if random.chance(kept_percent) {
                        change.apply(&mut names);
                    }
                }
                What::Dir {
                    durable_names: names.clone(),
                    names,
                    pending: Vec::new(),
                }
            }
        };
        Self {
            what,
            ..self.clone()
        }
    }
}

/// What is left of a file whose content was synchronised up to a point.
fn torn(content: &[u8], durable_bytes: usize, random: &mut Random) -> Vec<u8> {
    let mut left = content.to_vec();
    let fresh_bytes = content.len() - durable_bytes;
    match random.below(4) {
        0 => left.truncate(durable_bytes),
        1 => left.truncate(durable_bytes + random.index(fresh_bytes + 1)),
        2 => {
            for sector in left[durable_bytes..].chunks_mut(SECTOR_BYTES) {
                if random.chance(50) {
                    sector.fill(0);
                }
            }
        }
        _ => {}
    }
    left
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<OsString, Inode>) {
        match self {
            Self::Set(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Self::Unset(name) => {
                names.remove(name);
            }
            Self::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }
}

impl State {
    fn find(&self, path: &Path) -> io::Result<Inode> {
        let mut at = ROOT;
        for component in path.components() {
            match component {
                Component::RootDir => at = ROOT,
                Component::Normal(name) => {
                    at = *self.names(at)?.get(name).ok_or(ErrorKind::NotFound)?;
                }
                _ => return Err(ErrorKind::InvalidInput.into()),
            }
        }
        Ok(at)
    }

    fn names(&self, inode: Inode) -> io::Result<&BTreeMap<OsString, Inode>> {
        match &self.nodes[inode].what {
            What::Dir { names, .. } => Ok(names),
            What::File { .. } => Err(ErrorKind::NotADirectory.into()),
        }
    }

    /// The folder around a path and the last name of the path.
    fn place(&self, path: &Path) -> io::Result<(Inode, OsString)> {
        let (folder, name) = path
            .parent()
            .zip(path.file_name())
            .ok_or(ErrorKind::InvalidInput)?;
        let folder = self.find(folder)?;
        self.names(folder)?;
        Ok((folder, name.to_owned()))
    }

    fn change(&mut self, folder: Inode, change: Change) {
        if let What::Dir { names, pending, .. } = &mut self.nodes[folder].what {
            change.apply(names);
            pending.push(change);
        }
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<Inode> {
        let (folder, name) = self.place(path)?;
        if self.names(folder)?.contains_key(&name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.nodes.push(node);
        let inode = self.nodes.len() - 1;
        self.nodes[inode].modified = self.now();
        self.change(folder, Change::Set(name, inode));
        Ok(inode)
    }

    /// Time passes by a second with each operation.
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.operations)
    }

    fn file(&self, path: &Path) -> io::Result<Inode> {
        let inode = self.find(path)?;
        match self.nodes[inode].what {
            What::File { .. } => Ok(inode),
            What::Dir { .. } => Err(ErrorKind::IsADirectory.into()),
        }
    }
}

impl Disk for SimulatedDisk {
    type File = SimulatedFile;

    fn lists_at_once(&self, _: &Path) -> bool {
        true
    }

    fn create_new(&self, path: &Path) -> io::Result<SimulatedFile> {
        let what = What::File {
            content: Vec::new(),
            durable_bytes: 0,
        };
        let inode = self.write()?.add(path, Node::new(0o600, what))?;
        Ok(SimulatedFile {
            disk: self.clone(),
            inode,
        })
    }

    fn open(&self, path: &Path) -> io::Result<SimulatedFile> {
        let inode = self.read()?.file(path)?;
        Ok(SimulatedFile {
            disk: self.clone(),
            inode,
        })
    }

    /// Only within one folder: across two, no disk promises that both change together.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.write()?;
        let inode = state.find(from)?;
        let (from_folder, from_name) = state.place(from)?;
        let (to_folder, to_name) = state.place(to)?;
        if from_folder != to_folder {
            return Err(ErrorKind::CrossesDevices.into());
        }
        if let Some(old) = state.names(to_folder)?.get(&to_name)
            && matches!(state.nodes[*old].what, What::Dir { .. })
        {
            return Err(ErrorKind::IsADirectory.into());
        }
        state.change(to_folder, Change::Rename(from_name, to_name, inode));
        Ok(())
    }

    /// Only within one folder, as [`rename`](Disk::rename).
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.write()?;
        let inode = state.file(from)?;
        let (from_folder, _) = state.place(from)?;
        let (to_folder, to_name) = state.place(to)?;
        if from_folder != to_folder {
            return Err(ErrorKind::CrossesDevices.into());
        }
        if state.names(to_folder)?.contains_key(&to_name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.change(to_folder, Change::Set(to_name, inode));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.write()?;
        state.file(path)?;
        let (folder, name) = state.place(path)?;
        state.change(folder, Change::Unset(name));
        Ok(())
    }

    fn make_dir(&self, path: &Path, permissions: u32) -> io::Result<()> {
        self.write()?.add(path, Node::dir(permissions)).map(|_| ())
    }

    fn list(&self, path: &Path, each: &mut dyn FnMut(&OsStr)) -> io::Result<()> {
        // `each` runs without the lock, because it may use this disk.
        let names: Vec<OsString> = {
            let state = self.read()?;
            state.names(state.find(path)?)?.keys().cloned().collect()
        };
        names.iter().for_each(|name| each(name));
        Ok(())
    }

    fn stat(&self, path: &Path) -> io::Result<DiskStat> {
        let state = self.read()?;
        let node = &state.nodes[state.find(path)?];
        let (is_file, size_bytes) = match &node.what {
            What::File { content, .. } => (true, content.len() as u64),
            What::Dir { .. } => (false, 0),
        };
        Ok(DiskStat {
            is_file,
            size_bytes,
            permissions: node.permissions,
            modified: node.modified,
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.write()?;
        let inode = state.find(path)?;
        match &mut state.nodes[inode].what {
            What::Dir {
                names,
                durable_names,
                pending,
            } => {
                durable_names.clone_from(names);
                pending.clear();
                Ok(())
            }
            What::File { .. } => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn unique(&self) -> io::Result<u64> {
        let mut state = self.lock();
        state.unique += 1;
        Ok(state.unique)
    }
}

/// An open file of a [`SimulatedDisk`].
#[derive(Clone, Debug)]
pub struct SimulatedFile {
    disk: SimulatedDisk,
    inode: Inode,
}

impl DiskFile for SimulatedFile {
    fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        let mut state = self.disk.write()?;
        let room_bytes = usize::try_from(state.free_bytes).unwrap_or(usize::MAX);
        let written = &data[..data.len().min(room_bytes)];
        state.free_bytes -= written.len() as u64;
        let now = state.now();
        let node = &mut state.nodes[self.inode];
        node.modified = now;
        if let What::File { content, .. } = &mut node.what {
            content.extend_from_slice(written);
        }
        // As on a real disk, what fitted stays.
        if written.len() < data.len() {
            Err(ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }

    fn restrict(&mut self, permissions: u32) -> io::Result<()> {
        self.disk.write()?.nodes[self.inode].permissions = permissions;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if let What::File {
            content,
            durable_bytes,
        } = &mut self.disk.write()?.nodes[self.inode].what
        {
            *durable_bytes = content.len();
        }
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        match &self.disk.read()?.nodes[self.inode].what {
            What::File { content, .. } => Ok(content.len() as u64),
            What::Dir { .. } => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn read_at(&self, offset_bytes: u64, buf: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.read()?;
        let What::File { content, .. } = &state.nodes[self.inode].what else {
            return Err(ErrorKind::IsADirectory.into());
        };
        let from = usize::try_from(offset_bytes)
            .unwrap_or(usize::MAX)
            .min(content.len());
        let length = buf.len().min(content.len() - from);
        buf[..length].copy_from_slice(&content[from..from + length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader finds under `/d/name` for many seeds: all contents, and `None` for no file.
    fn found(disk: &SimulatedDisk, name: &str) -> Vec<Option<Vec<u8>>> {
        let path = Path::new("/d").join(name);
        let mut found: Vec<Option<Vec<u8>>> = (0..200)
            .map(|seed| {
                let file = disk.after_power_loss(seed).open(&path).ok()?;
                let mut content = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
                file.read_at(0, &mut content).unwrap();
                Some(content)
            })
            .collect();
        found.sort();
        found.dedup();
        found
    }

    fn disk_with_folder() -> SimulatedDisk {
        let disk = SimulatedDisk::new();
        disk.make_dir(Path::new("/d"), 0o700).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        disk
    }

    fn write(disk: &SimulatedDisk, name: &str) -> SimulatedFile {
        let mut file = disk.create_new(&Path::new("/d").join(name)).unwrap();
        file.write_all(b"whole").unwrap();
        file
    }

    #[test]
    fn what_was_synchronised_stays() {
        let disk = disk_with_folder();
        write(&disk, "a").sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        assert_eq!(found(&disk, "a"), [Some(b"whole".to_vec())]);
    }

    #[test]
    fn content_that_was_not_synchronised_may_be_cut() {
        let disk = disk_with_folder();
        write(&disk, "a");
        disk.sync_dir(Path::new("/d")).unwrap();
        let found = found(&disk, "a");
        assert!(
            found.len() > 2 && found.contains(&Some(Vec::new())),
            "{found:?}"
        );
    }

    #[test]
    fn a_rename_may_be_lost_and_may_outlive_the_creation_before_it() {
        let disk = disk_with_folder();
        write(&disk, "a").sync().unwrap();
        disk.rename(Path::new("/d/a"), Path::new("/d/b")).unwrap();
        assert_eq!(found(&disk, "b"), [None, Some(b"whole".to_vec())]);
        let both = (0..200).any(|seed| {
            disk.after_power_loss(seed)
                .names(Path::new("/d"))
                .unwrap()
                .len()
                > 1
        });
        assert!(!both, "a rename happens whole");
    }

    #[test]
    fn a_link_takes_no_name_that_is_taken_and_may_be_lost() {
        let disk = disk_with_folder();
        write(&disk, "a").sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        let link = |to: &str| disk.link(Path::new("/d/a"), &Path::new("/d").join(to));
        assert_eq!(link("a").unwrap_err().kind(), ErrorKind::AlreadyExists);
        link("b").unwrap();
        assert_eq!(link("b").unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(found(&disk, "b"), [None, Some(b"whole".to_vec())]);
        assert_eq!(found(&disk, "a"), [Some(b"whole".to_vec())]);
        disk.remove(Path::new("/d/a")).unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        assert_eq!(found(&disk, "b"), [Some(b"whole".to_vec())]);
    }

    #[test]
    fn a_removal_may_be_undone_until_it_is_synchronised() {
        let disk = disk_with_folder();
        write(&disk, "a").sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.remove(Path::new("/d/a")).unwrap();
        assert_eq!(found(&disk, "a").len(), 2);
        disk.sync_dir(Path::new("/d")).unwrap();
        assert_eq!(found(&disk, "a"), [None]);
    }

    #[test]
    fn a_folder_that_was_not_synchronised_takes_its_files_along() {
        let disk = SimulatedDisk::new();
        disk.make_dir(Path::new("/d"), 0o700).unwrap();
        write(&disk, "a").sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        assert_eq!(found(&disk, "a"), [None, Some(b"whole".to_vec())]);
    }

    #[test]
    fn without_power_nothing_works() {
        let disk = disk_with_folder();
        disk.cut_power_after(1);
        let mut file = disk.create_new(Path::new("/d/a")).unwrap();
        assert!(!disk.is_dead());
        assert!(file.write_all(b"x").is_err() && disk.is_dead());
        assert!(disk.open(Path::new("/d/a")).is_err());
    }

    #[test]
    fn a_full_disk_keeps_what_fitted() {
        let disk = disk_with_folder();
        disk.limit_free_bytes(3);
        let mut file = disk.create_new(Path::new("/d/a")).unwrap();
        assert_eq!(
            file.write_all(b"whole").unwrap_err().kind(),
            ErrorKind::StorageFull
        );
        assert_eq!(file.size().unwrap(), 3);
    }
}
