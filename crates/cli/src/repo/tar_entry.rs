//! The header of an entry in a tar archive, POSIX.1-2001 ("pax"), with GNU's long names where bytes are no UTF-8.
//! It must never cut a value short: what has no room in the old header goes into records before it.

use std::collections::HashMap;

use lifeboat_format::{Id, Node, NodeKind, Timestamp};
use tar::{EntryType, Header};

use super::posix_acl::acl_text;

/// Everything in an archive begins at a multiple of this.
const BLOCK_BYTES: u64 = 512;
const ZEROS: [u8; 1024] = [0; 1024];
/// Room for a name in the old header.
const NAME_BYTES: usize = 100;
/// Room for a user's or group's name, with the zero behind it.
const OWNER_BYTES: usize = 32;
/// The first user or group that has no room in the old header.
const OWNER_LIMIT: u64 = 1 << 21;
/// The first size that has no room there.
const SIZE_LIMIT: u64 = 1 << 33;

/// The entries of one archive: it remembers files with several names.
#[derive(Default)]
pub struct TarEntries {
    /// By inode and device.
    first: HashMap<(u64, u64), FirstName>,
}

/// The first path of a file with several, and its content.
type FirstName = (Vec<u8>, Option<Vec<Id>>);

/// What comes before an entry's content.
pub struct Head {
    /// Headers, to be written as they are.
    pub bytes: Vec<u8>,
    /// How long the content is that must follow, with its padding.
    pub content_bytes: u64,
}

impl TarEntries {
    /// What comes at the end of an archive.
    pub const END: &[u8] = &ZEROS;

    /// What must follow content of this length.
    pub fn padding(content_bytes: u64) -> &'static [u8] {
        let missing = content_bytes.next_multiple_of(BLOCK_BYTES) - content_bytes;
        usize::try_from(missing)
            .ok()
            .and_then(|missing| ZEROS.get(..missing))
            .unwrap_or_default()
    }

    /// The header of an entry; none if an archive can't hold such a one. The path has no slash at its beginning.
    pub fn head(&mut self, path: &[u8], node: &Node) -> Option<Head> {
        let mut link = None;
        let mut content_bytes = 0;
        let kind = match &node.kind {
            NodeKind::File => match self.earlier_name(path, node) {
                Some(earlier) => {
                    link = Some(earlier);
                    EntryType::Link
                }
                None => {
                    content_bytes = node.size_bytes;
                    EntryType::Regular
                }
            },
            NodeKind::Dir => EntryType::Directory,
            NodeKind::Symlink => {
                link = Some(node.link_target.clone());
                EntryType::Symlink
            }
            NodeKind::Dev => EntryType::Block,
            NodeKind::CharDev => EntryType::Char,
            NodeKind::Fifo => EntryType::Fifo,
            NodeKind::Socket | NodeKind::Other(_) => return None,
        };
        let mut name = path.to_vec();
        if kind == EntryType::Directory {
            name.push(b'/');
        }
        let mut parts = Parts::new(kind, content_bytes);
        parts.name(&name);
        parts.link(link.as_deref().unwrap_or_default());
        parts.owner(node);
        parts.time(node.modified);
        parts.header.set_mode(node.mode.permissions());
        if matches!(kind, EntryType::Block | EntryType::Char) {
            // A header of this form has room for both.
            let _ = parts
                .header
                .set_device_major(rustix::fs::major(node.device));
            let _ = parts
                .header
                .set_device_minor(rustix::fs::minor(node.device));
        }
        if kind != EntryType::Link {
            parts.attributes(node);
        }
        Some(Head {
            bytes: parts.finish(),
            content_bytes,
        })
    }

    /// The path under which the same file is in the archive already.
    fn earlier_name(&mut self, path: &[u8], node: &Node) -> Option<Vec<u8>> {
        if node.links < 2 || node.inode == 0 {
            return None;
        }
        let (earlier, content) = self
            .first
            .entry((node.device_id, node.inode))
            .or_insert_with(|| (path.to_vec(), node.content.clone()));
        (earlier.as_slice() != path && *content == node.content).then(|| earlier.clone())
    }
}

/// A header with the records that come before it.
struct Parts {
    header: Header,
    records: Vec<u8>,
    /// Entries of GNU's own kind for names that are no UTF-8.
    gnu: Vec<u8>,
}

impl Parts {
    fn new(kind: EntryType, size_bytes: u64) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(size_bytes);
        let mut parts = Self {
            header,
            records: Vec::new(),
            gnu: Vec::new(),
        };
        if size_bytes >= SIZE_LIMIT {
            parts.record("size", size_bytes.to_string().as_bytes());
        }
        parts
    }

    /// A record: its length, counting itself, a key and a value.
    fn record(&mut self, key: &str, value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        self.records
            .extend_from_slice(format!("{length} {key}=").as_bytes());
        self.records.extend_from_slice(value);
        self.records.push(b'\n');
    }

    fn name(&mut self, name: &[u8]) {
        let room = &mut self.header.as_old_mut().name;
        room.iter_mut()
            .zip(name)
            .for_each(|(room, byte)| *room = *byte);
        self.long(name, "path", b'L');
    }

    fn link(&mut self, link: &[u8]) {
        let room = &mut self.header.as_old_mut().linkname;
        room.iter_mut()
            .zip(link)
            .for_each(|(room, byte)| *room = *byte);
        self.long(link, "linkpath", b'K');
    }

    /// What has no room in the header, whole.
    fn long(&mut self, value: &[u8], key: &str, gnu_kind: u8) {
        if value.len() <= NAME_BYTES {
            return;
        }
        if std::str::from_utf8(value).is_ok() {
            self.record(key, value);
        } else {
            let mut header = Header::new_gnu();
            header
                .as_old_mut()
                .name
                .iter_mut()
                .zip(b"././@LongLink")
                .for_each(|(room, byte)| *room = *byte);
            push_entry(
                &mut self.gnu,
                header,
                EntryType::new(gnu_kind),
                &[value, b"\0"].concat(),
            );
        }
    }

    fn owner(&mut self, node: &Node) {
        self.header.set_uid(node.uid.into());
        self.header.set_gid(node.gid.into());
        for (key, id) in [("uid", node.uid), ("gid", node.gid)] {
            if u64::from(id) >= OWNER_LIMIT {
                self.record(key, id.to_string().as_bytes());
            }
        }
        if node.user.len() < OWNER_BYTES {
            // It fits.
            let _ = self.header.set_username(&node.user);
        } else {
            self.record("uname", node.user.as_bytes());
        }
        if node.group.len() < OWNER_BYTES {
            let _ = self.header.set_groupname(&node.group);
        } else {
            self.record("gname", node.group.as_bytes());
        }
    }

    fn time(&mut self, time: Timestamp) {
        let seconds = u64::try_from(time.seconds).unwrap_or(0);
        self.header.set_mtime(seconds);
        if time.nanoseconds != 0 || time.seconds < 0 || seconds >= SIZE_LIMIT {
            self.record("mtime", decimal(time).as_bytes());
        }
    }

    fn attributes(&mut self, node: &Node) {
        for xattr in &node.xattrs {
            let value = xattr.value.as_deref().unwrap_or_default();
            let acl = match xattr.name.as_str() {
                "system.posix_acl_access" => {
                    acl_text(value).map(|text| ("SCHILY.acl.access", text))
                }
                "system.posix_acl_default" => {
                    acl_text(value).map(|text| ("SCHILY.acl.default", text))
                }
                _ => None,
            };
            match acl {
                Some((key, text)) => self.record(key, text.as_bytes()),
                // As GNU tar writes them: an equals sign would end the key.
                None => self.record(
                    &format!(
                        "SCHILY.xattr.{}",
                        xattr.name.replace('%', "%25").replace('=', "%3D")
                    ),
                    value,
                ),
            }
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let mut out = self.gnu;
        if !self.records.is_empty() {
            let mut header = Header::new_ustar();
            header
                .as_old_mut()
                .name
                .iter_mut()
                .zip(b"././@PaxHeader")
                .for_each(|(room, byte)| *room = *byte);
            push_entry(&mut out, header, EntryType::XHeader, &self.records);
        }
        self.header.set_cksum();
        out.extend_from_slice(self.header.as_bytes());
        out
    }
}

/// Appends an entry that belongs to the one after it.
fn push_entry(out: &mut Vec<u8>, mut header: Header, kind: EntryType, content: &[u8]) {
    let content_bytes = content.len() as u64;
    header.set_entry_type(kind);
    header.set_size(content_bytes);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(content);
    out.extend_from_slice(TarEntries::padding(content_bytes));
}

/// Seconds since 1970 with their fraction.
fn decimal(time: Timestamp) -> String {
    let nanoseconds = time.unix_nanoseconds();
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let (seconds, fraction) = (
        nanoseconds.unsigned_abs() / 1_000_000_000,
        nanoseconds.unsigned_abs() % 1_000_000_000,
    );
    if fraction == 0 {
        format!("{sign}{seconds}")
    } else {
        format!("{sign}{seconds}.{fraction:09}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_their_own_length() {
        let record = |value: usize| {
            let mut parts = Parts::new(EntryType::Regular, 0);
            parts.record("path", &vec![b'x'; value]);
            parts.records
        };
        for value in [0, 1, 2, 90, 91, 92, 93, 990, 991, 992] {
            let record = record(value);
            assert!(
                record.starts_with(format!("{} path=", record.len()).as_bytes()),
                "{value}"
            );
        }
    }

    #[test]
    fn times_before_1970_keep_their_fraction() {
        for (seconds, nanoseconds, text) in [
            (-2, 500_000_000, "-1.500000000"),
            (-1, 999_999_999, "-0.000000001"),
            (0, 1, "0.000000001"),
            (7, 0, "7"),
            (-7, 0, "-7"),
        ] {
            assert_eq!(decimal(Timestamp::utc(seconds, nanoseconds)), text);
        }
    }

    #[test]
    fn padding_fills_the_last_block() {
        assert_eq!(
            [0, 1, 511, 512, 513].map(|bytes| TarEntries::padding(bytes).len()),
            [0, 511, 1, 0, 511]
        );
    }
}
