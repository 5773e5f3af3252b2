//! One entry of a member's tree: a file, directory, link or special file with its metadata, without its content.
//! It must never lose what a POSIX system knows about an entry: what is not here can't be restored.

use lifeboat_format::Timestamp;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharDevice,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
}

/// An extended attribute; POSIX ACLs are `system.posix_acl_access` and `system.posix_acl_default`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xattr {
    /// Its name with the name space, as `user.comment`.
    pub name: String,
    /// Its value.
    pub value: Vec<u8>,
}

/// The metadata of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The last component of its path, as bytes.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// `st_mode & 0o7777`: permissions with setuid, setgid and sticky.
    pub permissions: u32,
    /// Time of the last change of content.
    pub modified: Timestamp,
    /// Time of the last access.
    pub accessed: Timestamp,
    /// Time of the last change of the inode.
    pub changed: Timestamp,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The owner's name, empty if unknown.
    pub user: String,
    /// The group's name, empty if unknown.
    pub group: String,
    /// Inode number.
    pub inode: u64,
    /// `st_dev`: with the inode it tells hard links apart.
    pub device_id: u64,
    /// Size of a file in bytes.
    pub size_bytes: u64,
    /// Number of hard links; 0 for directories, pipes and sockets, of which restic's format does not tell it.
    pub links: u64,
    /// Where a symbolic link points, as bytes.
    pub link_target: Vec<u8>,
    /// `st_rdev` of a device.
    pub device: u64,
    /// Extended attributes in the order that the system lists them.
    pub xattrs: Vec<Xattr>,
    /// What could not be read about it, empty if all was.
    pub error: String,
}

impl Entry {
    /// An entry of which nothing but name and kind is known.
    #[must_use]
    pub fn bare(name: &[u8], kind: EntryKind) -> Self {
        Self {
            name: name.to_vec(),
            kind,
            permissions: if kind == EntryKind::Dir { 0o755 } else { 0o644 },
            modified: Timestamp::ZERO,
            accessed: Timestamp::ZERO,
            changed: Timestamp::ZERO,
            uid: 0,
            gid: 0,
            user: String::new(),
            group: String::new(),
            inode: 0,
            device_id: 0,
            size_bytes: 0,
            links: 0,
            link_target: Vec::new(),
            device: 0,
            xattrs: Vec::new(),
            error: String::new(),
        }
    }
}

/// A path inside a member: components joined by `/`, no leading or trailing slash; empty is the top.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct EntryPath(pub Vec<u8>);

impl EntryPath {
    /// The top of the tree.
    #[must_use]
    pub fn top() -> Self {
        Self::default()
    }

    /// The path of an entry in this directory.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Self {
        let mut path = Vec::with_capacity(self.0.len() + 1 + name.len());
        path.extend_from_slice(&self.0);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Self(path)
    }

    /// The directory that holds this path, `None` for the top.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.0.is_empty() {
            return None;
        }
        let cut = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(Self(self.0.get(..cut).unwrap_or_default().to_vec()))
    }

    /// The last component, empty for the top.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.0
            .rsplit(|byte| *byte == b'/')
            .next()
            .unwrap_or_default()
    }

    /// For people: `/` in front, bytes that are no UTF-8 replaced.
    #[must_use]
    pub fn display(&self) -> String {
        format!("/{}", String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_join_and_come_apart() {
        let path = EntryPath::top().join(b"srv").join(b"memos");
        assert_eq!(path.0, b"srv/memos");
        assert_eq!(path.name(), b"memos");
        assert_eq!(path.parent(), Some(EntryPath(b"srv".to_vec())));
        assert_eq!(
            path.parent().and_then(|p| p.parent()),
            Some(EntryPath::top())
        );
        assert_eq!(EntryPath::top().parent(), None);
    }
}
