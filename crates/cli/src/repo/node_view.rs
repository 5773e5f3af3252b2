//! How an entry of a snapshot is shown: a line for people, or restic's JSON for programs.
//! It must never send what a name holds to a terminal unescaped, and never change a byte of it for anybody else.

use std::borrow::Cow;

use jiff::tz::TimeZone;
use lifeboat_format::{Mode, Node, NodeKind, Timestamp, quote};
use serde_json::{Map, Value, json};

use crate::format;

/// The columns of a long listing.
pub struct LongForm {
    /// Whether sizes have units.
    pub human_readable: bool,
    /// The zone of the times.
    pub zone: TimeZone,
}

impl LongForm {
    /// Sizes and times as this machine's user reads them.
    pub fn new(human_readable: bool) -> Self {
        Self {
            human_readable,
            zone: TimeZone::system(),
        }
    }
}

/// A line for people. On a terminal, names are quoted.
pub fn line(path: &[u8], node: &Node, long: Option<&LongForm>, is_terminal: bool) -> Vec<u8> {
    let Some(long) = long else {
        return shown(path, is_terminal).into_owned();
    };
    let mode = permissions(Mode(node.mode.0 | Mode::new(&node.kind, 0).0));
    let size = if long.human_readable {
        format!("{:>11}", format::bytes(node.size_bytes))
    } else {
        format!("{:6}", node.size_bytes)
    };
    let mut line = format!(
        "{mode} {:5} {:5} {size} {} ",
        node.uid,
        node.gid,
        local_time(node.modified, &long.zone)
    )
    .into_bytes();
    line.extend_from_slice(&shown(path, is_terminal));
    if node.kind == NodeKind::Symlink {
        line.extend_from_slice(b" -> ");
        line.extend_from_slice(&shown(&node.link_target, is_terminal));
    }
    line
}

/// Bytes as they are, or without anything that could steer a terminal.
pub fn shown(bytes: &[u8], is_terminal: bool) -> Cow<'_, [u8]> {
    if !is_terminal {
        return Cow::Borrowed(bytes);
    }
    Cow::Owned(named(bytes).into_bytes())
}

/// A path as a message names it, which may reach a terminal at any time.
pub fn named(path: &[u8]) -> String {
    let mut quoted = String::with_capacity(path.len());
    quote(path, &mut quoted);
    quoted
}

/// A time on the clock of a zone, to the second.
pub fn local_time(time: Timestamp, zone: &TimeZone) -> String {
    let instant = jiff::Timestamp::new(time.seconds, 0);
    instant.map_or_else(
        |_| time.to_string(),
        |instant| {
            instant
                .to_zoned(zone.clone())
                .strftime("%Y-%m-%d %H:%M:%S")
                .to_string()
        },
    )
}

/// Type and permissions as Go's `FileMode` shows them, which restic prints.
pub fn permissions(mode: Mode) -> String {
    const KINDS: &[u8] = b"dalTLDpSugct?";
    const BITS: &[u8] = b"rwxrwxrwx";
    let mut text = String::with_capacity(12);
    for (at, letter) in KINDS.iter().enumerate() {
        if mode.0 & 1 << (31 - at) != 0 {
            text.push(char::from(*letter));
        }
    }
    if text.is_empty() {
        text.push('-');
    }
    for (at, letter) in BITS.iter().enumerate() {
        text.push(if mode.0 & 1 << (8 - at) != 0 {
            char::from(*letter)
        } else {
            '-'
        });
    }
    text
}

/// Bytes as Go puts them into JSON: every byte that is no part of UTF-8 becomes U+FFFD.
pub fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

/// The object of `ls --json`.
pub fn ls_object(path: &[u8], node: &Node) -> Value {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.into(), value);
    put("name", text(&node.name).into());
    put("type", node.kind.word().into());
    put("path", text(path).into());
    put("uid", node.uid.into());
    put("gid", node.gid.into());
    if node.kind == NodeKind::File {
        put("size", node.size_bytes.into());
    }
    put_nonzero(&mut object, "mode", node.mode.0.into());
    object.insert("permissions".into(), permissions(node.mode).into());
    put_times(&mut object, node);
    put_nonzero(&mut object, "inode", node.inode);
    object.insert("message_type".into(), "node".into());
    object.insert("struct_type".into(), "node".into());
    Value::Object(object)
}

/// The object of a match in `find --json`.
pub fn find_object(path: &[u8], node: &Node) -> Value {
    let mut object = Map::new();
    object.insert("path".into(), text(path).into());
    object.insert("permissions".into(), permissions(node.mode).into());
    object.insert("type".into(), node.kind.word().into());
    put_nonzero(&mut object, "mode", node.mode.0.into());
    put_times(&mut object, node);
    object.insert("uid".into(), node.uid.into());
    object.insert("gid".into(), node.gid.into());
    for (key, value) in [
        ("user", Cow::from(&node.user)),
        ("group", Cow::from(&node.group)),
        ("linktarget", text(&node.link_target).into()),
        ("error", Cow::from(&node.error)),
    ] {
        if !value.is_empty() {
            object.insert(key.into(), json!(value));
        }
    }
    for (key, value) in [
        ("inode", node.inode),
        ("device_id", node.device_id),
        ("size", node.size_bytes),
        ("links", node.links),
    ] {
        put_nonzero(&mut object, key, value);
    }
    Value::Object(object)
}

fn put_nonzero(object: &mut Map<String, Value>, key: &str, value: u64) {
    if value != 0 {
        object.insert(key.into(), value.into());
    }
}

fn put_times(object: &mut Map<String, Value>, node: &Node) {
    for (key, time) in [
        ("mtime", node.modified),
        ("atime", node.accessed),
        ("ctime", node.changed),
    ] {
        object.insert(key.into(), time.confined().to_string().into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_read_as_in_go() {
        for (kind, bits, text) in [
            (NodeKind::File, 0o644, "-rw-r--r--"),
            (NodeKind::Dir, 0o1777, "dtrwxrwxrwx"),
            (NodeKind::File, 0o6755, "ugrwxr-xr-x"),
            (NodeKind::CharDev, 0o620, "Dcrw--w----"),
            (NodeKind::Symlink, 0o777, "Lrwxrwxrwx"),
            (NodeKind::Fifo, 0, "p---------"),
        ] {
            assert_eq!(permissions(Mode::new(&kind, bits)), text);
        }
    }

    #[test]
    fn names_can_not_steer_a_terminal_and_are_left_alone_elsewhere() {
        let name = b"a\x1b[2J\xff\n";
        assert_eq!(shown(name, true).as_ref(), b"a\\x1b[2J\\xff\\n");
        assert_eq!(shown(name, false).as_ref(), name);
        assert_eq!(
            shown("ünïcödé".as_bytes(), true).as_ref(),
            "ünïcödé".as_bytes()
        );
    }

    #[test]
    fn each_byte_that_is_no_text_becomes_one_character_as_in_go() {
        assert_eq!(text(b"a\xf0\x9f\x9a"), "a\u{fffd}\u{fffd}\u{fffd}");
    }
}
