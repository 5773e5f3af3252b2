//! A node is one entry of a tree: a file, directory or other item with its metadata, byte for byte as Go writes it.
//! It must never drop or change what it read: `restic rewrite` compares every tree with its own encoding.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::go_json::{base64_bytes, push_base64, push_lossy, push_number, push_string};
use crate::go_quote::{quote, unquote};
use crate::{FormatError, Id, Timestamp};

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A block device.
    Dev,
    /// A character device.
    CharDev,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// Something another program wrote: kept, but it can't be restored.
    Other(Box<str>),
}

impl NodeKind {
    /// The word in a tree.
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            Self::File => "file",
            Self::Dir => "dir",
            Self::Symlink => "symlink",
            Self::Dev => "dev",
            Self::CharDev => "chardev",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::Other(word) => word,
        }
    }

    fn from_word(word: &str) -> Self {
        match word {
            "file" => Self::File,
            "dir" => Self::Dir,
            "symlink" => Self::Symlink,
            "dev" => Self::Dev,
            "chardev" => Self::CharDev,
            "fifo" => Self::Fifo,
            "socket" => Self::Socket,
            other => Self::Other(other.into()),
        }
    }
}

/// Permissions and type as Go's `os.FileMode` has them; they are not `st_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Mode(pub u32);

impl Mode {
    const SETUID: u32 = 1 << 23;
    const SETGID: u32 = 1 << 22;
    const STICKY: u32 = 1 << 20;

    /// From what a node is and `st_mode & 0o7777`.
    #[must_use]
    pub fn new(kind: &NodeKind, permissions: u32) -> Self {
        let kind_bits = match kind {
            NodeKind::File | NodeKind::Other(_) => 0,
            NodeKind::Dir => 1 << 31,
            NodeKind::Symlink => 1 << 27,
            NodeKind::Dev => 1 << 26,
            NodeKind::CharDev => 1 << 26 | 1 << 21,
            NodeKind::Fifo => 1 << 25,
            NodeKind::Socket => 1 << 24,
        };
        let mut bits = kind_bits | permissions & 0o777;
        for (unix, go) in [
            (0o4000, Self::SETUID),
            (0o2000, Self::SETGID),
            (0o1000, Self::STICKY),
        ] {
            if permissions & unix != 0 {
                bits |= go;
            }
        }
        Self(bits)
    }

    /// `st_mode & 0o7777`.
    #[must_use]
    pub fn permissions(self) -> u32 {
        let mut permissions = self.0 & 0o777;
        for (unix, go) in [
            (0o4000, Self::SETUID),
            (0o2000, Self::SETGID),
            (0o1000, Self::STICKY),
        ] {
            if self.0 & go != 0 {
                permissions |= unix;
            }
        }
        permissions
    }
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeXattr {
    /// Its name with the name space.
    pub name: String,
    /// Its value; `None` is what Go writes for a value that it never read.
    pub value: Option<Vec<u8>>,
}

/// An attribute of another operating system, kept as it is.
#[derive(Clone, Debug)]
pub struct GenericAttribute {
    /// Its name, as `windows.creation_time`.
    pub name: String,
    /// Its value as JSON.
    pub value: Box<RawValue>,
}

impl PartialEq for GenericAttribute {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.value.get() == other.value.get()
    }
}

/// One entry of a tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The name, as bytes.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: NodeKind,
    /// Permissions and type.
    pub mode: Mode,
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
    /// The owner's name.
    pub user: String,
    /// The group's name.
    pub group: String,
    /// Inode number.
    pub inode: u64,
    /// The device that holds it.
    pub device_id: u64,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Number of hard links.
    pub links: u64,
    /// Where a symbolic link points, as bytes.
    pub link_target: Vec<u8>,
    /// Extended attributes.
    pub xattrs: Vec<NodeXattr>,
    /// Attributes of other systems, sorted by name.
    pub generic: Vec<GenericAttribute>,
    /// The device that a device node stands for.
    pub device: u64,
    /// The blobs of a file, in order; `None` for anything else.
    pub content: Option<Vec<Id>>,
    /// The tree of a directory.
    pub subtree: Option<Id>,
    /// What could not be read when it was backed up.
    pub error: String,
}

impl Node {
    /// A node of which nothing but name and kind is known.
    #[must_use]
    pub fn bare(name: &[u8], kind: NodeKind) -> Self {
        Self {
            name: name.to_vec(),
            mode: Mode::new(&kind, 0),
            kind,
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
            xattrs: Vec::new(),
            generic: Vec::new(),
            device: 0,
            content: None,
            subtree: None,
            error: String::new(),
        }
    }

    /// Appends it as Go's encoder writes it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut quoted = String::with_capacity(self.name.len() + 8);
        quote(&self.name, &mut quoted);
        out.extend_from_slice(b"{\"name\":");
        push_string(out, &quoted);
        out.extend_from_slice(b",\"type\":");
        push_string(out, self.kind.word());
        self.push_nonzero(out, "mode", u64::from(self.mode.0));
        for (name, time) in [
            ("mtime", self.modified),
            ("atime", self.accessed),
            ("ctime", self.changed),
        ] {
            push_name(out, name);
            push_time(out, time.confined());
        }
        for (name, id) in [("uid", self.uid), ("gid", self.gid)] {
            push_name(out, name);
            push_number(out, u64::from(id));
        }
        push_text(out, "user", &self.user);
        push_text(out, "group", &self.group);
        self.push_nonzero(out, "inode", self.inode);
        self.push_nonzero(out, "device_id", self.device_id);
        self.push_nonzero(out, "size", self.size_bytes);
        self.push_nonzero(out, "links", self.links);
        if !self.link_target.is_empty() {
            push_name(out, "linktarget");
            push_lossy(out, &self.link_target);
            if std::str::from_utf8(&self.link_target).is_err() {
                push_name(out, "linktarget_raw");
                push_base64(out, &self.link_target);
            }
        }
        if !self.xattrs.is_empty() {
            push_name(out, "extended_attributes");
            push_list(out, b"[", &self.xattrs, |out, xattr| {
                out.extend_from_slice(b"{\"name\":");
                push_string(out, &xattr.name);
                out.extend_from_slice(b",\"value\":");
                match &xattr.value {
                    Some(value) => push_base64(out, value),
                    None => out.extend_from_slice(b"null"),
                }
                out.push(b'}');
            });
            out.push(b']');
        }
        if !self.generic.is_empty() {
            push_name(out, "generic_attributes");
            push_list(out, b"{", &self.generic, |out, attribute| {
                push_string(out, &attribute.name);
                out.push(b':');
                out.extend_from_slice(attribute.value.get().as_bytes());
            });
            out.push(b'}');
        }
        self.push_nonzero(out, "device", self.device);
        push_name(out, "content");
        match &self.content {
            None => out.extend_from_slice(b"null"),
            Some(ids) => {
                push_list(out, b"[", ids, push_id);
                out.push(b']');
            }
        }
        if let Some(subtree) = &self.subtree {
            push_name(out, "subtree");
            push_id(out, subtree);
        }
        push_text(out, "error", &self.error);
        out.push(b'}');
    }

    fn push_nonzero(&self, out: &mut Vec<u8>, name: &str, value: u64) {
        if value != 0 {
            push_name(out, name);
            push_number(out, value);
        }
    }
}

fn push_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn push_text(out: &mut Vec<u8>, name: &str, text: &str) {
    if !text.is_empty() {
        push_name(out, name);
        push_string(out, text);
    }
}

fn push_time(out: &mut Vec<u8>, time: Timestamp) {
    use std::io::Write;
    out.push(b'"');
    // Writing to memory does not fail.
    let _ = write!(out, "{time}");
    out.push(b'"');
}

fn push_id(out: &mut Vec<u8>, id: &Id) {
    out.push(b'"');
    out.extend_from_slice(&id.hex());
    out.push(b'"');
}

fn push_list<T>(
    out: &mut Vec<u8>,
    open: &[u8],
    items: &[T],
    mut push: impl FnMut(&mut Vec<u8>, &T),
) {
    out.extend_from_slice(open);
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        push(out, item);
    }
}

/// A node as JSON has it.
#[derive(Deserialize)]
pub(crate) struct RawNode<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    mode: u32,
    #[serde(default)]
    mtime: Option<Timestamp>,
    #[serde(default)]
    atime: Option<Timestamp>,
    #[serde(default)]
    ctime: Option<Timestamp>,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(default)]
    user: String,
    #[serde(default)]
    group: String,
    #[serde(default)]
    inode: u64,
    #[serde(default)]
    device_id: u64,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    links: u64,
    #[serde(borrow, default)]
    linktarget: Cow<'a, str>,
    #[serde(default, with = "base64_bytes")]
    linktarget_raw: Option<Vec<u8>>,
    #[serde(default)]
    extended_attributes: Option<Vec<RawXattr>>,
    #[serde(default)]
    generic_attributes: Option<std::collections::BTreeMap<String, Box<RawValue>>>,
    #[serde(default)]
    device: u64,
    #[serde(default)]
    content: Option<Vec<Id>>,
    #[serde(default)]
    subtree: Option<Id>,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
struct RawXattr {
    name: String,
    #[serde(default)]
    value: Option<String>,
}

impl TryFrom<RawNode<'_>> for Node {
    type Error = FormatError;

    fn try_from(raw: RawNode<'_>) -> Result<Self, FormatError> {
        let xattrs = raw
            .extended_attributes
            .unwrap_or_default()
            .into_iter()
            .map(|xattr| {
                let value = xattr.value.map(|text| STANDARD.decode(text)).transpose();
                let value = value.map_err(|e| FormatError::Invalid {
                    what: "extended attribute",
                    why: e.to_string(),
                })?;
                Ok(NodeXattr {
                    name: xattr.name,
                    value,
                })
            });
        Ok(Self {
            name: unquote(&raw.name)?,
            kind: NodeKind::from_word(&raw.kind),
            mode: Mode(raw.mode),
            modified: raw.mtime.unwrap_or(Timestamp::ZERO),
            accessed: raw.atime.unwrap_or(Timestamp::ZERO),
            changed: raw.ctime.unwrap_or(Timestamp::ZERO),
            uid: raw.uid,
            gid: raw.gid,
            user: raw.user,
            group: raw.group,
            inode: raw.inode,
            device_id: raw.device_id,
            size_bytes: raw.size,
            links: raw.links,
            link_target: raw
                .linktarget_raw
                .unwrap_or_else(|| raw.linktarget.into_owned().into_bytes()),
            xattrs: xattrs.collect::<Result<_, FormatError>>()?,
            generic: raw
                .generic_attributes
                .unwrap_or_default()
                .into_iter()
                .map(|(name, value)| GenericAttribute { name, value })
                .collect(),
            device: raw.device,
            content: raw.content,
            subtree: raw.subtree,
            error: raw.error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(json: &str) -> Result<Node, FormatError> {
        let raw: RawNode<'_> = serde_json::from_str(json).map_err(|cause| FormatError::Json {
            what: "node",
            cause,
        })?;
        raw.try_into()
    }

    #[test]
    fn nodes_of_restic_survive_unchanged() {
        let id = "3ec79977ef0cf5de7b08cd12b874cd0f62bbaf7f07f3497a5b1bbcc8cb39b1ce";
        for json in [
            format!(r#"{{"name":"file.txt","type":"file","mode":420,"mtime":"2024-01-02T03:04:05.678+01:00","atime":"2024-01-02T03:04:05.678+01:00","ctime":"2024-01-02T03:04:05.6789Z","uid":1000,"gid":100,"user":"me","group":"users","inode":77,"device_id":64769,"size":5,"links":1,"content":["{id}"]}}"#),
            r#"{"name":"empty","type":"file","mtime":"0001-01-01T00:00:00Z","atime":"0001-01-01T00:00:00Z","ctime":"0001-01-01T00:00:00Z","uid":0,"gid":0,"content":[]}"#.to_owned(),
            format!(r#"{{"name":"dir","type":"dir","mode":2147484141,"mtime":"2024-01-02T03:04:05Z","atime":"2024-01-02T03:04:05Z","ctime":"2024-01-02T03:04:05Z","uid":0,"gid":0,"content":null,"subtree":"{id}","error":"1 entry could not be read"}}"#),
            r#"{"name":"a\\xff\\n\u003c","type":"symlink","mode":134218239,"mtime":"2024-01-02T03:04:05Z","atime":"2024-01-02T03:04:05Z","ctime":"2024-01-02T03:04:05Z","uid":0,"gid":0,"links":1,"linktarget":"x\ufffd","linktarget_raw":"eP8=","content":null}"#.to_owned(),
            r#"{"name":"x","type":"file","mtime":"2024-01-02T03:04:05Z","atime":"2024-01-02T03:04:05Z","ctime":"2024-01-02T03:04:05Z","uid":0,"gid":0,"extended_attributes":[{"name":"user.a","value":"AAE="},{"name":"user.b","value":null},{"name":"user.c","value":""}],"generic_attributes":{"windows.creation_time":"abc","windows.file_attributes":32},"content":[]}"#.to_owned(),
            r#"{"name":"sda","type":"dev","mode":67109296,"mtime":"2024-01-02T03:04:05Z","atime":"2024-01-02T03:04:05Z","ctime":"2024-01-02T03:04:05Z","uid":0,"gid":6,"links":1,"device":2048,"content":null}"#.to_owned(),
            r#"{"name":"odd","type":"irregular","mode":524288,"mtime":"2024-01-02T03:04:05Z","atime":"2024-01-02T03:04:05Z","ctime":"2024-01-02T03:04:05Z","uid":0,"gid":6,"content":null}"#.to_owned(),
        ] {
            let mut out = Vec::new();
            decode(&json).unwrap().encode(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), json);
        }
    }

    #[test]
    fn modes_translate_both_ways() {
        for kind in [
            NodeKind::File,
            NodeKind::Dir,
            NodeKind::Symlink,
            NodeKind::Dev,
            NodeKind::CharDev,
            NodeKind::Fifo,
            NodeKind::Socket,
        ] {
            for permissions in [0, 0o644, 0o777, 0o4755, 0o2755, 0o1777, 0o7777] {
                assert_eq!(Mode::new(&kind, permissions).permissions(), permissions);
            }
        }
        assert_eq!(Mode::new(&NodeKind::Dir, 0o755).0, 2_147_484_141);
        assert_eq!(Mode::new(&NodeKind::CharDev, 0o666).0, 0x0420_01b6);
    }

    #[test]
    fn malformed_nodes_are_errors() {
        for json in [
            "{}",
            r#"{"name":"a"}"#,
            r#"{"name":"\\q","type":"file"}"#,
            r#"{"name":"a","type":"file","mtime":"yesterday"}"#,
            r#"{"name":"a","type":"file","content":["12"]}"#,
        ] {
            assert!(decode(json).is_err(), "{json}");
        }
    }
}
