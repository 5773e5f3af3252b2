//! Answers the kernel's questions about a mounted repository (FUSE).
//! It must never block all of its threads on one file, and never answer with less than what is there.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyXattr, Request,
};
use lifeboat_flow::{Event, EventSink, Problem};
use lifeboat_format::{Node, NodeKind, Timestamp};
use lifeboat_plan::check_node_name;

use super::content::{Blobs, Content};
use super::inode::{Entry, Inodes, TOP};
use super::view::{Look, View};

/// How long the kernel may believe an answer about a snapshot's entries, which never change.
const ENTRY_TTL: Duration = Duration::from_secs(3600);
/// How long it may believe which snapshots there are.
const NAMES_TTL: Duration = Duration::from_secs(10);
/// The unit of sizes on disks, in bytes.
const BLOCK_BYTES: u64 = 512;
/// What programs should read at once, in bytes.
const READ_BYTES: u32 = 128 * 1024;
/// Entries of one directory that are held for one reader of it.
const GENERATION: Generation = Generation(0);

/// An entry of a directory as the kernel is told of it.
struct Listed {
    name: Vec<u8>,
    kind: FileType,
    inode: u64,
}

/// The other end of the kernel's questions.
pub(super) struct Kernel {
    view: View,
    events: Arc<dyn EventSink>,
    inodes: Inodes,
    blobs: Blobs,
    next_handle: AtomicU64,
    files: Mutex<HashMap<u64, Arc<OpenFile>>>,
    dirs: Mutex<HashMap<u64, Arc<Vec<Listed>>>>,
}

struct OpenFile {
    look: Arc<Look>,
    content: Content,
    name: String,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kernel {
    pub(super) fn new(view: View, events: Arc<dyn EventSink>) -> Self {
        Self {
            view,
            events,
            inodes: Inodes::new(),
            blobs: Blobs::default(),
            next_handle: AtomicU64::new(1),
            files: Mutex::default(),
            dirs: Mutex::default(),
        }
    }

    fn problem(&self, name: &str, doing: &str, error: &dyn std::error::Error) {
        let problem = Problem::from_error(name, doing, error);
        self.events.event(Event::Problem(problem));
    }

    fn entry(&self, inode: INodeNo) -> Result<Entry, Errno> {
        self.inodes.get(inode.0).ok_or(Errno::ENOENT)
    }

    /// Everything in a directory.
    fn children(&self, entry: &Entry) -> Result<Vec<(Vec<u8>, Entry)>, Errno> {
        let tree = match entry {
            Entry::Names(path) => {
                let (look, error) = self.view.fresh();
                if let Some(error) = error {
                    self.problem("snapshots", "look for new ones", &error);
                }
                let names = look.names(path).ok_or(Errno::ENOENT)?;
                return Ok(names
                    .into_iter()
                    .map(|(name, entry)| (name.into_bytes(), entry))
                    .collect());
            }
            Entry::Snapshot { tree, .. } => *tree,
            Entry::Node(node) if node.kind == NodeKind::Dir => node.subtree.ok_or(Errno::EIO)?,
            Entry::Link(_) | Entry::Node(_) => return Err(Errno::ENOTDIR),
        };
        let look = self.view.now();
        let tree = self.view.tree(&look, tree).map_err(|error| {
            self.problem("directory", "read its tree", &error);
            Errno::EIO
        })?;
        Ok(tree
            .nodes
            .iter()
            .filter(|node| check_node_name(&node.name).is_ok() && file_type(node).is_some())
            .map(|node| (node.name.clone(), Entry::Node(Arc::new(node.clone()))))
            .collect())
    }

    fn child(&self, parent: &Entry, name: &[u8]) -> Result<Entry, Errno> {
        let tree = match parent {
            Entry::Snapshot { tree, .. } => *tree,
            Entry::Node(node) if node.kind == NodeKind::Dir => node.subtree.ok_or(Errno::EIO)?,
            other => {
                let children = self.children(other)?;
                let found = children.into_iter().find(|(known, _)| known == name);
                return found.map(|(_, entry)| entry).ok_or(Errno::ENOENT);
            }
        };
        let look = self.view.now();
        let tree = self.view.tree(&look, tree).map_err(|error| {
            self.problem("directory", "read its tree", &error);
            Errno::EIO
        })?;
        let node = tree
            .find(name)
            .filter(|node| check_node_name(&node.name).is_ok() && file_type(node).is_some());
        node.map(|node| Entry::Node(Arc::new(node.clone())))
            .ok_or(Errno::ENOENT)
    }

    fn attributes(&self, inode: u64, entry: &Entry) -> FileAttr {
        let mut attributes = FileAttr {
            ino: INodeNo(inode),
            size: 0,
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: FileType::Directory,
            perm: 0o555,
            nlink: 2,
            uid: self.owner().0,
            gid: self.owner().1,
            rdev: 0,
            flags: 0,
            blksize: READ_BYTES,
        };
        match entry {
            Entry::Names(_) => {}
            Entry::Link(to) => {
                attributes.kind = FileType::Symlink;
                attributes.perm = 0o777;
                attributes.nlink = 1;
                attributes.size = to.len() as u64;
            }
            Entry::Snapshot { seconds, .. } => {
                let time = system_time(Timestamp::utc(*seconds, 0));
                (attributes.atime, attributes.mtime, attributes.ctime) = (time, time, time);
            }
            Entry::Node(node) => {
                attributes.kind = file_type(node).unwrap_or(FileType::RegularFile);
                attributes.perm = u16::try_from(node.mode.permissions()).unwrap_or(0);
                attributes.atime = system_time(node.accessed);
                attributes.mtime = system_time(node.modified);
                attributes.ctime = system_time(node.changed);
                attributes.nlink = u32::try_from(node.links.max(1)).unwrap_or(u32::MAX);
                attributes.rdev = u32::try_from(node.device).unwrap_or(0);
                attributes.size = match node.kind {
                    NodeKind::Symlink => node.link_target.len() as u64,
                    _ => node.size_bytes,
                };
                attributes.blocks = attributes.size.div_ceil(BLOCK_BYTES);
                if !self.view.options.owner_root {
                    (attributes.uid, attributes.gid) = (node.uid, node.gid);
                }
            }
        }
        attributes
    }

    /// Who the directories of names belong to.
    fn owner(&self) -> (u32, u32) {
        if self.view.options.owner_root {
            (0, 0)
        } else {
            let who = lifeboat_repo::Identity::of_this_process();
            (who.uid, who.gid)
        }
    }

    fn open_file(&self, entry: &Entry) -> Result<OpenFile, Errno> {
        let Entry::Node(node) = entry else {
            return Err(Errno::EISDIR);
        };
        let name = String::from_utf8_lossy(&node.name).into_owned();
        let look = self.view.now();
        let blobs = node.content.as_deref().unwrap_or_default();
        let content = Content::new(&look.index, blobs).map_err(|error| {
            self.problem(&name, "open file", &error);
            Errno::EIO
        })?;
        Ok(OpenFile {
            look,
            content,
            name,
        })
    }

    fn handle(&self) -> u64 {
        self.next_handle.fetch_add(1, Ordering::Relaxed)
    }
}

impl Filesystem for Kernel {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.as_bytes();
        let found = self
            .entry(parent)
            .and_then(|above| self.child(&above, name));
        match found {
            Ok(entry) => {
                let ttl = ttl(&entry);
                let inode = self.inodes.look_up(parent.0, name, entry.clone());
                reply.entry(&ttl, &self.attributes(inode, &entry), GENERATION);
            }
            Err(error) => reply.error(error),
        }
    }

    fn forget(&self, _: &Request, inode: INodeNo, lookups: u64) {
        self.inodes.forget(inode.0, lookups);
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.entry(inode) {
            Ok(entry) => reply.attr(&ttl(&entry), &self.attributes(inode.0, &entry)),
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&self, _: &Request, inode: INodeNo, reply: ReplyData) {
        match self.entry(inode) {
            Ok(Entry::Link(to)) => reply.data(to.as_bytes()),
            Ok(Entry::Node(node)) if node.kind == NodeKind::Symlink => {
                reply.data(&node.link_target);
            }
            Ok(_) => reply.error(Errno::EINVAL),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.entry(inode).and_then(|entry| self.open_file(&entry)) {
            Ok(file) => {
                let handle = self.handle();
                locked(&self.files).insert(handle, Arc::new(file));
                // What was read once stays right: snapshots don't change.
                reply.opened(FileHandle(handle), FopenFlags::FOPEN_KEEP_CACHE);
            }
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let file = locked(&self.files).get(&handle.0).map(Arc::clone);
        let Some(file) = file else {
            reply.error(Errno::EBADF);
            return;
        };
        let place = (&*self.view.repository, &file.look.index);
        match file.content.read(&self.blobs, place, offset, size as usize) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => {
                self.problem(&file.name, "read file", &error);
                reply.error(Errno::EIO);
            }
        }
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        locked(&self.files).remove(&handle.0);
        reply.ok();
    }

    fn opendir(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let listed = self.entry(inode).and_then(|entry| self.children(&entry));
        match listed {
            Ok(children) => {
                let listed = children.into_iter().map(|(name, entry)| Listed {
                    kind: entry_type(&entry),
                    // Only a hint for programs: real numbers come with a look-up.
                    inode: hint(inode.0, &name),
                    name,
                });
                let handle = self.handle();
                locked(&self.dirs).insert(handle, Arc::new(listed.collect()));
                reply.opened(FileHandle(handle), FopenFlags::empty());
            }
            Err(error) => reply.error(error),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = locked(&self.dirs).get(&handle.0).map(Arc::clone);
        let Some(listed) = listed else {
            reply.error(Errno::EBADF);
            return;
        };
        let dots = [(&b"."[..], inode.0), (b"..", TOP)];
        let dots = dots.map(|(name, inode)| (name, FileType::Directory, inode));
        let entries = listed
            .iter()
            .map(|entry| (entry.name.as_slice(), entry.kind, entry.inode));
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (at, (name, kind, inode)) in dots.into_iter().chain(entries).enumerate().skip(from) {
            let name = OsStr::from_bytes(name);
            if reply.add(INodeNo(inode), at as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        locked(&self.dirs).remove(&handle.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let blocks = self.view.now().stored_bytes().div_ceil(BLOCK_BYTES);
        let block_bytes = u32::try_from(BLOCK_BYTES).unwrap_or(512);
        reply.statfs(blocks, 0, 0, 0, 0, block_bytes, 255, block_bytes);
    }

    fn getxattr(&self, _: &Request, inode: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let Ok(Entry::Node(node)) = self.entry(inode) else {
            reply.error(Errno::ENODATA);
            return;
        };
        let found = node
            .xattrs
            .iter()
            .find(|xattr| xattr.name.as_bytes() == name.as_bytes());
        match found {
            Some(xattr) => answer(reply, size, xattr.value.as_deref().unwrap_or_default()),
            None => reply.error(Errno::ENODATA),
        }
    }

    fn listxattr(&self, _: &Request, inode: INodeNo, size: u32, reply: ReplyXattr) {
        let mut names = Vec::new();
        if let Ok(Entry::Node(node)) = self.entry(inode) {
            for xattr in &node.xattrs {
                names.extend_from_slice(xattr.name.as_bytes());
                names.push(0);
            }
        }
        answer(reply, size, &names);
    }
}

/// The kernel first asks how long an answer is, then for the answer.
fn answer(reply: ReplyXattr, size: u32, bytes: &[u8]) {
    match u32::try_from(bytes.len()) {
        Ok(length) if size == 0 => reply.size(length),
        Ok(length) if length <= size => reply.data(bytes),
        _ => reply.error(Errno::ERANGE),
    }
}

fn ttl(entry: &Entry) -> Duration {
    match entry {
        Entry::Node(_) | Entry::Snapshot { .. } => ENTRY_TTL,
        Entry::Names(_) | Entry::Link(_) => NAMES_TTL,
    }
}

fn entry_type(entry: &Entry) -> FileType {
    match entry {
        Entry::Names(_) | Entry::Snapshot { .. } => FileType::Directory,
        Entry::Link(_) => FileType::Symlink,
        Entry::Node(node) => file_type(node).unwrap_or(FileType::RegularFile),
    }
}

/// What the kernel calls it; nothing for what other systems have.
fn file_type(node: &Node) -> Option<FileType> {
    Some(match node.kind {
        NodeKind::File => FileType::RegularFile,
        NodeKind::Dir => FileType::Directory,
        NodeKind::Symlink => FileType::Symlink,
        NodeKind::Dev => FileType::BlockDevice,
        NodeKind::CharDev => FileType::CharDevice,
        NodeKind::Fifo => FileType::NamedPipe,
        NodeKind::Socket => FileType::Socket,
        NodeKind::Other(_) => return None,
    })
}

fn system_time(time: Timestamp) -> SystemTime {
    let nanoseconds = Duration::from_nanos(time.nanoseconds.into());
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole = if time.seconds < 0 {
        UNIX_EPOCH.checked_sub(seconds)
    } else {
        UNIX_EPOCH.checked_add(seconds)
    };
    whole
        .and_then(|time| time.checked_add(nanoseconds))
        .unwrap_or(UNIX_EPOCH)
}

/// A number for a name in a directory that is most likely no other's.
fn hint(parent: u64, name: &[u8]) -> u64 {
    // FNV-1a: spread, not secrecy.
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let start = name.iter().fold(0xcbf2_9ce4_8422_2325 ^ parent, mix);
    start.max(TOP + 1)
}
