//! Translates between what a source tells of an entry and what a tree of the repository keeps of it.
//! It must never lose a field on the way there and back.

use lifeboat_flow::{Entry, EntryKind, Xattr};
use lifeboat_format::{Mode, Node, NodeKind, NodeXattr};

/// The node for an entry; content and subtree are still unknown.
#[must_use]
pub fn node_of(entry: Entry) -> Node {
    let kind = match entry.kind {
        EntryKind::File => NodeKind::File,
        EntryKind::Dir => NodeKind::Dir,
        EntryKind::Symlink => NodeKind::Symlink,
        EntryKind::BlockDevice => NodeKind::Dev,
        EntryKind::CharDevice => NodeKind::CharDev,
        EntryKind::Fifo => NodeKind::Fifo,
        EntryKind::Socket => NodeKind::Socket,
    };
    Node {
        mode: Mode::new(&kind, entry.permissions),
        modified: entry.modified,
        accessed: entry.accessed,
        changed: entry.changed,
        uid: entry.uid,
        gid: entry.gid,
        user: entry.user,
        group: entry.group,
        inode: entry.inode,
        device_id: entry.device_id,
        size_bytes: if entry.kind == EntryKind::File {
            entry.size_bytes
        } else {
            0
        },
        // restic keeps no count for these kinds, and the bytes of a tree should be the same.
        links: if matches!(
            entry.kind,
            EntryKind::Dir | EntryKind::Fifo | EntryKind::Socket
        ) {
            0
        } else {
            entry.links
        },
        link_target: entry.link_target,
        xattrs: entry
            .xattrs
            .into_iter()
            .map(|xattr| NodeXattr {
                name: xattr.name,
                value: Some(xattr.value),
            })
            .collect(),
        device: if matches!(entry.kind, EntryKind::BlockDevice | EntryKind::CharDevice) {
            entry.device
        } else {
            0
        },
        error: entry.error,
        ..Node::bare(&entry.name, kind)
    }
}

/// The entry that a node describes; `None` for a kind that can't be restored.
#[must_use]
pub fn entry_of(node: &Node) -> Option<Entry> {
    let kind = match node.kind {
        NodeKind::File => EntryKind::File,
        NodeKind::Dir => EntryKind::Dir,
        NodeKind::Symlink => EntryKind::Symlink,
        NodeKind::Dev => EntryKind::BlockDevice,
        NodeKind::CharDev => EntryKind::CharDevice,
        NodeKind::Fifo => EntryKind::Fifo,
        NodeKind::Socket => EntryKind::Socket,
        NodeKind::Other(_) => return None,
    };
    Some(Entry {
        permissions: node.mode.permissions(),
        modified: node.modified,
        accessed: node.accessed,
        changed: node.changed,
        uid: node.uid,
        gid: node.gid,
        user: node.user.clone(),
        group: node.group.clone(),
        inode: node.inode,
        device_id: node.device_id,
        size_bytes: node.size_bytes,
        links: node.links,
        link_target: node.link_target.clone(),
        device: node.device,
        xattrs: node
            .xattrs
            .iter()
            .map(|xattr| Xattr {
                name: xattr.name.clone(),
                value: xattr.value.clone().unwrap_or_default(),
            })
            .collect(),
        error: node.error.clone(),
        ..Entry::bare(&node.name, kind)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::Timestamp;

    #[test]
    fn an_entry_survives_being_a_node() {
        for kind in [
            EntryKind::File,
            EntryKind::Dir,
            EntryKind::Symlink,
            EntryKind::BlockDevice,
            EntryKind::CharDevice,
            EntryKind::Fifo,
            EntryKind::Socket,
        ] {
            let counts_links =
                !matches!(kind, EntryKind::Dir | EntryKind::Fifo | EntryKind::Socket);
            let entry = Entry {
                permissions: 0o7751,
                modified: Timestamp {
                    seconds: 1,
                    nanoseconds: 2,
                    offset_seconds: 3600,
                },
                accessed: Timestamp::utc(4, 5),
                changed: Timestamp::utc(6, 7),
                uid: 8,
                gid: 9,
                user: "u".into(),
                group: "g".into(),
                inode: 10,
                device_id: 11,
                size_bytes: if kind == EntryKind::File { 12 } else { 0 },
                links: if counts_links { 13 } else { 0 },
                link_target: if kind == EntryKind::Symlink {
                    b"\xff".to_vec()
                } else {
                    Vec::new()
                },
                device: if matches!(kind, EntryKind::BlockDevice | EntryKind::CharDevice) {
                    14
                } else {
                    0
                },
                xattrs: vec![Xattr {
                    name: "user.x".into(),
                    value: vec![0, 1],
                }],
                error: "e".into(),
                ..Entry::bare(b"n\xff", kind)
            };
            assert_eq!(entry_of(&node_of(entry.clone())), Some(entry));
        }
        assert_eq!(
            entry_of(&Node::bare(b"x", NodeKind::Other("irregular".into()))),
            None
        );
    }
}
